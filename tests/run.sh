#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs TAP programs and scripts under prove and ends with one line: N passed, N failed[, N skipped].
# A program that crashed or ended early counts as a failed test, and so does one that prints no TAP at all.
# The TAP of all of them is in BUILD-DIR/check.log afterwards.
# Programs of others that a test was made with stand above that line: it calls them "# judge: NAME VERSION".
# With CONTRACT=1 the last test is that the contract's rules are proved by the others.
# usage: tests/run.sh BUILD-DIR TEST...
set -u
build=$1
shift
log=$build/check.log
tap=$build/check.tap
export IOTHUB_BUILD="$build"
# Sanitizers and slow machines: every time limit times this.
export TEST_TIMEOUT_FACTOR="${TEST_TIMEOUT_FACTOR:-2}"

# The programs mount, count requests and race on purpose: one at a time. Beside them, one at a time too, those that
# wait for a clock nearly all of their time: signatures that run out, connections that are tried again.
waiting=$build/tests/flow/test_link,$build/tests/flow/test_link_auth,$build/tests/flow/test_hubctl_device
rm -rf "$tap"
PERL_TEST_HARNESS_DUMP_TAP="$tap" prove --merge --timer --jobs 2 --rules "seq={$waiting}" --rules 'seq=**' \
	--exec '' "$@"
status=$?

: > "$log"
for test; do
	printf '== %s\n' "$test" >> "$log"
	[ ! -f "$tap/$test" ] || cat "$tap/$test" >> "$log"
done
rm -rf "$tap"
if [ -n "${CONTRACT:-}" ]; then
	proved=$(tests/contract/table.py "$log")
	printf '== tests/contract/table.py\n%s\n' "$proved" >> "$log"
fi
sed -n 's/^# \(judge: \)/\1/p' "$log" | sort -u

awk -v status="$status" -v log_file="$log" '
	function end_of_program() {
		if (program != "" && (planned < 0 || seen < planned)) {
			printf "--- %s: ended after %d of its tests\n%s", program, seen, comments
			failed++
		}
	}
	/^== / {
		end_of_program()
		program = $2
		planned = -1
		seen = 0
		comments = ""
	}
	/^1\.\.[0-9]+/ { planned = substr($1, 4) + 0 }
	/^(ok|not ok) / { seen++ }
	/^(ok|not ok) .*# SKIP/ {
		skipped++
		printf "--- %s: %s\n", program, $0
	}
	/^ok / && !/# SKIP/ { passed++ }
	/^not ok / && !/# SKIP/ {
		failed++
		printf "--- %s: %s\n%s", program, $0, comments
	}
	/^(ok|not ok) / {
		comments = ""
		next
	}
	# What a test says comes before its result.
	!/^(==|TAP version|1\.\.)/ { comments = comments "    " $0 "\n" }
	END {
		end_of_program()
		# A sanitizer may have complained at the end of a program, or the plan was wrong.
		if (status && !failed)
			failed = 1
		if (failed)
			printf "all that was said is in %s\n", log_file
		printf "%d passed, %d failed", passed, failed
		if (skipped)
			printf ", %d skipped", skipped
		printf "\n"
		exit failed > 0
	}' "$log" && [ "$status" -eq 0 ]
