#!/bin/sh
# SPDX-License-Identifier: MIT
#
# All static checks. Each prints what it finds; in the end all that found something are named. Exit code 1 then.
# usage: tests/lint/run.sh BUILD-DIR C-FILE...
set -u
here=tests/lint
build=$1
shift
failed=

check()
{
	name=$1
	shift
	start=$(date +%s)
	if "$@"; then
		printf 'lint: %-10s ok    %3d s\n' "$name" $(($(date +%s) - start))
	else
		printf 'lint: %-10s FAILED\n' "$name"
		failed="$failed $name"
	fi
}

scripts()
{
	# What awk and an inner shell get stands in single quotes on purpose (SC2016).
	"$here/files" |
		while read -r file; do
			head -n 1 "$file" | grep -qE '^#!/bin/(ba)?sh' && printf '%s\n' "$file"
		done | xargs shellcheck --external-sources --exclude=SC2016
}

find_defects()
{
	cppcheck --quiet --error-exitcode=1 -j "$(nproc)" --std=c11 --language=c \
		--enable=warning,performance,portability --suppressions-list="$here/cppcheck-suppressions" \
		-D_GNU_SOURCE '-DIOTHUB_VERSION="0"' -Idaemon -Iuapi -I. "$@"
}

check format clang-format --dry-run -Werror "$@"
check layers "$here/layers"
check sizes "$here/sizes" "$@"
check licences "$here/licences"
check scripts scripts
check state "$here/state" "$build/libdaemon.a" "$build/libemulator.a" "$build/librun.a" "$build/libiothubctl.a" \
	"$build/libinspect.a"
check headers "$here/headers" "$@"
check cppcheck find_defects "$@"
check tidy "$here/tidy" "$@"

if [ -n "$failed" ]; then
	echo "lint: failed:$failed"
	exit 1
fi
echo "lint: all good"
