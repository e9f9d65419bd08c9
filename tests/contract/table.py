#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""The contract as a table: every rule, the tests that prove it at the device and at the hub, and their results.

tests/contract/rules names the rules and their tests; the results are those of a run's check.log. As a test of its own
(TAP) it fails when a test that is named is not there, failed or was skipped, when a side of a rule has neither a test nor
a reason, or when tests/contract.md is not what the run gives. With --write it writes tests/contract.md instead.
usage: tests/contract/table.py [--write] CHECK-LOG
"""

import os
import re
import sys

HERE = os.path.dirname(__file__)
RULES = os.path.join(HERE, "rules")
TABLE = os.path.join(HERE, "..", "contract.md")
SIDES = ("device", "hub")
EXCUSE = "not a rule for this side: "

HEAD = """\
# The rules of the hub contract and their tests

One row per rule of the contract between device and hub, numbered by its sections: the tests that prove it on the
device's side and on the hub's, and how they ended. `make contract` writes this from the last `make check`; what is
named where is in `tests/contract/rules`. `a.b` is the test `b` of `tests/*/test_a.*`.

"""


class Rule:
    def __init__(self, number, text):
        self.number = number
        self.text = text
        self.sides = {}


def read_rules(problems):
    """Rules start in the first column with number and text; below, each side: its tests, or why it has none."""
    rules, side = [], None
    with open(RULES, encoding="utf-8") as file:
        for line_number, line in enumerate(file, 1):
            where = f"{RULES}:{line_number}"
            if not line.strip() or line.startswith("#"):
                continue
            rule = re.match(r"(\d+\.\d+) (.+)", line)
            start = re.match(r"\t(device|hub): *(.*)", line)
            if rule:
                rules.append(Rule(*rule.groups()))
                side = None
            elif start and rules:
                side = start.group(1)
                rules[-1].sides[side] = start.group(2).strip()
            elif line.startswith("\t\t") and side:
                rules[-1].sides[side] += " " + line.strip()
            else:
                problems.append(f"{where}: not understood")
    numbers = [rule.number for rule in rules]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        problems.append(f"{number} is there twice")
    return rules


def read_results(log):
    """{(program, test): result}; program without directory, `test_` and suffix, test without its fixture."""
    results, program = {}, None
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            start = re.match(r"== (\S+)", line)
            test = re.match(r"(ok|not ok) \d+ - (\S+)( # SKIP)?", line)
            if start:
                program = re.sub(r"^test_|\.\w+$", "", os.path.basename(start.group(1)))
            elif test and program:
                result = "skipped" if test.group(3) else {"ok": "ok", "not ok": "failed"}[test.group(1)]
                key = (program, test.group(2).split(".")[-1])
                # The worst counts where two fixtures have a test of one name.
                if results.get(key) in (None, "ok"):
                    results[key] = result
    return results


def judge(rule, side, results, problems):
    """The cell's text and its result."""
    cell = rule.sides.get(side, "")
    if cell.startswith(EXCUSE) and cell[len(EXCUSE):].strip():
        return cell, "–"
    worst = "ok" if cell else "empty"
    if cell.startswith(EXCUSE.strip()) or not cell:
        problems.append(f"{rule.number}, {side}: no test and no reason")
        return cell, "empty"
    for name in cell.split():
        result = results.get(tuple(name.split(".", 1)), "not there")
        if result != "ok":
            problems.append(f"{rule.number}, {side}: {name}: {result}")
            worst = result
    return "<br>".join(f"`{name}`" for name in cell.split()), worst


def make_table(rules, results, problems):
    lines = [HEAD, "| rule | | device | | hub | |\n", "| --- | --- | --- | --- | --- | --- |\n"]
    for rule in rules:
        cells = [rule.number, rule.text.replace("|", "\\|")]
        for side in SIDES:
            cells += judge(rule, side, results, problems)
        lines.append("| " + " | ".join(cells) + " |\n")
    lines.append(f"\n{len(rules)} rules.\n")
    return "".join(lines)


def report(n_rules, problems, current):
    print("1..2")
    for problem in problems:
        print("#", problem)
    print("ok" if not problems else "not ok", f"1 - each_of_{n_rules}_rules_is_proved")
    if not current:
        print("# run make contract, and look at what changed")
    print("ok" if current else "not ok", "2 - contract_md_is_up_to_date")


def main(arguments):
    problems = []
    write = "--write" in arguments
    (log,) = [argument for argument in arguments if argument != "--write"]
    rules = read_rules(problems)
    table = make_table(rules, read_results(log), problems)
    if write:
        with open(TABLE, "w", encoding="utf-8") as file:
            file.write(table)
        for problem in problems:
            print(problem, file=sys.stderr)
        return 1 if problems else 0
    try:
        with open(TABLE, encoding="utf-8") as file:
            current = file.read() == table
    except FileNotFoundError:
        current = False
    report(len(rules), problems, current)
    return 1 if problems or not current else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
