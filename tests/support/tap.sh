# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# TAP for test scripts, to be sourced. A script defines explain(), which prints what a failed test has to say, and ends
# with the code in $failed.
n=0
failed=0

# report OK NAME
report()
{
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n - $2"
	else
		explain | sed 's/^/# /'
		echo "not ok $n - $2"
		failed=1
	fi
}

# skip NAME REASON
skip()
{
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}
