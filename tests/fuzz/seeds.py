#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes first inputs for fuzz_mqtt_decode: the good packets of the unit tests' tables.

usage: tests/fuzz/seeds.py DIRECTORY

Reads rows of the form {"wire text", level, side, 0, ...} (tests/support/wire_text.h) and writes each as one file:
control byte, split byte, packet. The kept corpus is these, and what a run from them found, thinned out by
-set_cover_merge=1 -use_counters=0.
"""

import hashlib
import pathlib
import re
import sys

ROW = re.compile(r'\{((?:\s*"[^"]*")+),\s*([45]),\s*([CS]),\s*0,')
TOKEN = re.compile(r"\s*(?:'([^']*)'|([()\[\]|])|([0-9a-fA-F]{2}))")


def varint(n):
    out = bytearray()
    while True:
        out.append(n % 128 | (128 if n > 127 else 0))
        n //= 128
        if not n:
            return bytes(out)


def parse(text, pos=0, close=None):
    """Returns the bytes up to @close and the position after it."""
    out = b""
    while pos < len(text.rstrip()):
        m = TOKEN.match(text, pos)
        pos = m.end()
        if m[1] is not None:
            out += m[1].encode()
        elif m[3]:
            out += bytes.fromhex(m[3])
        elif m[2] == close:
            return out, pos
        elif m[2] == "|":
            inner, pos = parse(text, pos, close)
            return out + varint(len(inner)) + inner, pos
        elif m[2] == "(":
            inner, pos = parse(text, pos, ")")
            out += len(inner).to_bytes(2, "big") + inner
        else:
            inner, pos = parse(text, pos, "]")
            out += varint(len(inner)) + inner
    return out, pos


def main():
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    unit = pathlib.Path(__file__).resolve().parent.parent / "unit"
    for source in sorted(unit.glob("test_mqtt_*.c")):
        for m in ROW.finditer(source.read_text()):
            text = "".join(re.findall(r'"([^"]*)"', m[1]))
            control = (m[2] == "4") | (m[3] == "S") << 1
            data = bytes([control, len(text) % 256]) + parse(text)[0]
            (target / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)


main()
