#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs TAP programs and scripts under prove and ends with one line: N passed, N failed[, N skipped].
# usage: tests/run.sh BUILD-DIR TEST...
set -u
build=$1
shift
log=$build/check.log
export IOTHUB_BUILD="$build"
# Sanitizers and slow machines: every time limit times this.
export TEST_TIMEOUT_FACTOR="${TEST_TIMEOUT_FACTOR:-2}"

# The programs mount, count requests and race on purpose: one at a time.
prove --verbose --merge --timer --exec '' "$@" > "$log" 2>&1
status=$?

# Shown: one line a program, and for what failed or was skipped all of it.
grep -E '^not ok|# SKIP|^# .*(still running|ended with)' "$log"
sed -n '/^Test Summary Report/,$p' "$log"
[ "$status" -eq 0 ] || { echo "--- comments of failed tests ($log has everything)"; grep -B30 '^not ok' "$log" | grep -E '^(#|not ok|==)' ; }

awk -v status="$status" '
	/^ok .*# SKIP/ { skipped++; next }
	/^ok / { passed++ }
	/^not ok / { failed++ }
	END {
		if (status && !failed) failed = 1
		printf "%d passed, %d failed", passed, failed
		if (skipped) printf ", %d skipped", skipped
		printf "\n"
	}' "$log"
exit "$status"
