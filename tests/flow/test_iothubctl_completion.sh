#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of iothubctl's command lines, without a terminal: every command and every option its help names, and what
# is in the files.
set -u
build=${IOTHUB_BUILD:-build}
# shellcheck source=/dev/null
source packaging/completions/iothubctl
n=0
failed=0
mount=$(mktemp -d)
trap 'rm -rf "$mount"' EXIT
mkdir -p "$mount/twin/desired/wifi" "$mount/twin/reported" "$mount/commands/7" "$mount/commands/12"
touch "$mount/twin/desired/wifi/name" "$mount/twin/desired/width" "$mount/commands/next"
export IOTHUB_MOUNT=$mount

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
	COMP_WORDS=(iothubctl "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_iothubctl
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
	report $? "iothubctl $*"
}

offers 'status events twin command' ''
offers 'get patch wait watch' twin ''
offers 'list complete abandon reject' --mount /x command ''
offers '' status ''
offers 'desired/' twin get d
offers 'desired/width desired/wifi/' twin wait desired/wi
offers 'desired/wifi/name' twin wait --timeout 5 desired/wifi/
offers '' twin get desired/width ''
offers '12 7' command complete ''
offers '' --mount /nothing command complete ''
offers '' --mount = /nothing twin wait desired/
offers '' twin wait desired/x --value ''
offers packaging/completions --mount packaging/c
offers packaging/install-deps twin patch --file packaging/i
offers packaging/install-deps twin patch --file = packaging/i

# every_option [WORD]...: those its help names
every_option()
{
	local option missing=
	for option in $("$build/iothubctl" "$@" --help | grep -o -- ' --[a-z][a-z-]*' | tr -d ' '); do
		complete_line "$@" "$option"
		[[ " ${COMPREPLY[*]} " == *" $option "* ]] || missing+=" $option"
	done
	COMPREPLY=("without$missing")
	[ -z "$missing" ]
	report $? "every option of the help: $*"
}

while read -r command; do
	read -ra words <<< "$command"
	complete_line "${words[@]}"
	[[ "${COMPREPLY[*]}" == "${words[-1]}" ]]
	report $? "the command $command"
	every_option "${words[@]}"
done < <("$build/iothubctl" --help | sed -n 's/^  \([a-z]\+\( [a-z]\+\)\?\)  .*/\1/p')
[ "$n" -eq $((15 + 20)) ]
report $? 'all ten commands'

echo "1..$n"
exit $failed
