#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of iothub-journal's command lines, without a terminal: every command and every option its help names.
set -u
build=${IOTHUB_BUILD:-build}
# shellcheck source=/dev/null
source packaging/completions/iothub-journal
n=0
failed=0

# report OK NAME
report()
{
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n - $2"
	else
		echo "# got: ${COMPREPLY[*]}"
		echo "not ok $n - $2"
		failed=1
	fi
}

# A `compopt` needs a completion under way.
# shellcheck disable=SC2317
compopt()
{
	return 0
}

# complete_line WORD...: the last one is being typed.
complete_line()
{
	COMP_WORDS=("$build/iothub-journal" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_iothub_journal
}

sorted()
{
	printf '%s\n' "$@" | sort | tr '\n' ' '
}

# offers WANT WORD...: in any order
offers()
{
	local want=$1
	shift
	complete_line "$@"
	# shellcheck disable=SC2086
	[[ "$(sorted "${COMPREPLY[@]}")" == "$(sorted $want)" ]]
	report $? "iothub-journal $*"
}

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
	offers "$("$build/iothub-journal" "$command" --help | grep -o -- '--[a-z]*' | sort -u | tr '\n' ' ')" "$command" --
done
words=$("$build/iothub-journal" --help | awk '/^  [a-z]/ { print $1 }')
# shellcheck disable=SC2086
offers "$words" ''
echo "1..$n"
exit "$failed"
