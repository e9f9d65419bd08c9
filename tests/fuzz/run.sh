#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs fuzz targets, as many at a time as there are processors, each with its corpus as a start. What libFuzzer
# finds on the way goes to a temporary directory; inputs that break a rule stay in BUILD-DIR/findings.
# Prints one line a target; exit code 1 when there was a finding.
# usage: tests/fuzz/run.sh BUILD-DIR RUNS TARGET...
set -u

# What happens to one target; the script calls itself for that.
fuzz_one()
{
	build=$1 runs=$2 target=$3
	corpus=tests/fuzz/corpus/$target
	findings=$build/findings
	log=$build/$target.log
	fresh=$(mktemp -d) || exit 1
	trap 'rm -rf "$fresh"' EXIT
	mkdir -p "$findings"
	start=$(date +%s%N)
	before=$(find "$findings" -name "$target-*" | wc -l)
	# No input is longer than 16 KiB, so nothing needs 64 MiB: a length that was believed unseen would show.
	"$build/$target" -runs="$runs" -max_len=16384 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=64 \
		-print_final_stats=1 -artifact_prefix="$findings/$target-" "$fresh" "$corpus" > "$log" 2>&1
	status=$?
	found=$(($(find "$findings" -name "$target-*" | wc -l) - before))
	awk -v target="$target" -v found="$found" -v time_ns=$(($(date +%s%N) - start)) '
		/^stat::number_of_executed_units:/ { n = $2 }
		END { printf "%-16s %10d runs  %7d/s  %d findings\n", target, n, n * 1e9 / time_ns, found }' "$log"
	[ "$status" -eq 0 ] || {
		tail -n 30 "$log"
		exit 1
	}
}

if [ "$1" = --one ]; then
	shift
	fuzz_one "$@"
	exit 0
fi
build=$1
runs=$2
shift 2
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$0" --one "$build" "$runs"
