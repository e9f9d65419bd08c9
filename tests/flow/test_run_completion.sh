#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of iothub-run's command lines, without a terminal.
set -u
build=${IOTHUB_BUILD:-build}
# shellcheck source=/dev/null
source packaging/completions/iothub-run
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
	COMP_WORDS=(iothub-run "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_iothub_run
}

# offers WANT WORD...
offers()
{
	local want=$1
	shift
	complete_line "$@"
	[[ "${COMPREPLY[*]}" == "$want" ]]
	report $? "iothub-run $*"
}

offers 'methods commands' ''
offers methods m
offers commands --jobs 2 c
offers commands --jobs = 2 c
offers '' --jobs ''
offers --max-deliveries commands --max
offers 'packaging/completions' --mount packaging/c
offers 'packaging/completions' --mount = packaging/c
offers 'packaging/completions' methods packaging/c
offers packaging/install-deps commands packaging/i
offers packaging/install-deps commands packaging/install-deps packaging/i
offers packaging/install-deps commands packaging/install-deps --jobs packaging/i

missing=
for option in $("$build/iothub-run" --help | grep -o -- ' --[a-z-]*' | tr -d ' '); do
	[[ $option == -- ]] && continue
	complete_line "$option"
	[[ " ${COMPREPLY[*]} " == *" $option "* ]] || missing+=" $option"
done
COMPREPLY=("without$missing")
[ -z "$missing" ]
report $? 'every option of the help'

echo "1..$n"
exit $failed
