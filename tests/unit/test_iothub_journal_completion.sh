#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of iothub-journal's command lines: every command and every option its help names.
set -u
source tests/support/completion.sh iothub-journal

offers 'list show verify export' ''
offers 'records lanes segments' list ''
offers 'lanes' list --dir /x l
offers 'lanes' list --dir = /x l
offers '' verify ''
offers '' list lanes ''
offers '' show --dir /nonexistent ''
offers '--all --channel --dir --help' list --
offers '--dir --help --version' --

# Every option the help of a command names is offered, and no other one.
for command in list show verify export; do
	# shellcheck disable=SC2046
	offers "$("$program" "$command" --help | grep -o -- '--[a-z]*' | sort -u | tr '\n' ' ')" "$command" --
done
offers "$("$program" --help | awk '/^  [a-z]/ { print $1 }')" ''
echo "1..$n"
exit "$failed"
