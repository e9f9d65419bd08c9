#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of hubctl's command lines, without a terminal: every command and every option its help names.
set -u
build=${IOTHUB_BUILD:-build}
# shellcheck source=/dev/null
source packaging/completions/hubctl
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

# complete_line WORD...: the last one is being typed. A `compopt` needs a completion under way.
# shellcheck disable=SC2317
compopt()
{
	return 0
}

program=$build/hubctl
complete_line()
{
	COMP_WORDS=("$program" "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_hubctl
}

# offers WANT WORD...
offers()
{
	local want=$1
	shift
	complete_line "$@"
	[[ "${COMPREPLY[*]}" == "$want" ]]
	report $? "hubctl $*"
}

offers 'devices monitor twin command method fault --help --version' ''
offers 'monitor method' m
offers 'add list show remove keys --help' devices ''
offers 'show patch watch --help' twin ''
offers call method c
offers --device monitor --d
offers 'primary secondary both' devices keys dev1 --regenerate ''
offers 'queued dead-lettered' command purge dev1 --state = ''
offers every= fault set cut e
offers 'before unanswered after either' fault set cut when =
offers 'twin-get twin-patch' fault set delay operation = twin
offers packaging/completions/hubctl command send dev1 --file packaging/completions/hu

# Devices come from the hub: here, from what prints the arguments it was asked with.
program='echo'
offers devices twin show dev
offers 'hub/service' twin show --connection-string-file hub/service hub
offers 'hub/service' method call --connection-string-file = hub/service hub
offers '' method call dev1 hub
program=$build/hubctl

# All commands of the help, and all long options of each.
commands=$("$build/hubctl" --help | sed -n '/^  -/q; s/^  \([a-z]*\( [a-z]*\)\{0,1\}\)  *.*/\1/p')
while read -ra command; do
	missing=
	for option in $("$build/hubctl" "${command[@]}" --help | grep -o -- '^  --[a-z0-9-]*\|, --[a-z0-9-]* ' | tr -d ', '); do
		complete_line "${command[@]}" "$option"
		[[ " ${COMPREPLY[*]} " == *" $option "* ]] || missing+=" $option"
	done
	COMPREPLY=("without$missing")
	[ -z "$missing" ]
	report $? "every option of ${command[*]}"
done <<< "$commands"
[ "$(wc -l <<< "$commands")" -eq 17 ]
report $? 'all commands are looked at'

echo "1..$n"
exit $failed
