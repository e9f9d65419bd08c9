# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Completes command lines as bash would, without a terminal. To be sourced, with the name of the program.
# shellcheck source=tests/support/tap.sh
source tests/support/tap.sh
# shellcheck source=/dev/null
source "packaging/completions/$1"
completed=$1
program=${IOTHUB_BUILD:-build}/$1

explain()
{
	echo "got: ${COMPREPLY[*]}"
}

# A `compopt` needs a completion under way.
compopt()
{
	return 0
}

# complete_line WORD...: the last one is being typed.
complete_line()
{
	COMP_WORDS=("$program" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	"_${completed//-/_}"
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
	report $? "$completed $*"
}

# every_option [WORD]...: those its help names
every_option()
{
	local option missing=
	for option in $("$program" "$@" --help | grep -oE '(^ *|, )--[a-z0-9-]+' | tr -d ', '); do
		complete_line "$@" "$option"
		[[ " ${COMPREPLY[*]} " == *" $option "* ]] || missing+=" $option"
	done
	COMPREPLY=("without$missing")
	[ -z "$missing" ]
	report $? "every option of $completed${*:+ $*}"
}

# every_command N: those the help names, which are that many, and the options of each
every_command()
{
	local command words n_commands=0
	while read -r command; do
		n_commands=$((n_commands + 1))
		read -ra words <<< "$command"
		complete_line "${words[@]}"
		[[ "${COMPREPLY[*]}" == "${words[-1]}" ]]
		report $? "the command $command"
		every_option "${words[@]}"
	done < <("$program" --help | sed -n 's/^  \([a-z]\+\( [a-z]\+\)\?\)  .*/\1/p')
	[ "$n_commands" -eq "$1" ]
	report $? "all $1 commands"
}
