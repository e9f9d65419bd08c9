# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# What the measuring scripts start, and how it ends. To be sourced when $dir is the directory all of it is in.

fail()
{
	echo "bench: $*" >&2
	for log in "$dir"/*.log; do
		[ ! -s "$log" ] || { echo "--- ${log##*/}"; tail -n 10 "$log"; }
	done >&2
	exit 1
}

# start NAME COMMAND...: waits for the line with which it tells on descriptor 3 that it is ready, and leaves it in
# NAME.ready, and its pid in NAME.pid.
start()
{
	name=$1
	shift
	mkfifo "$dir/$name.pipe"
	"$@" 3>"$dir/$name.pipe" >"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
	head -n 1 <"$dir/$name.pipe" >"$dir/$name.ready"
	[ -s "$dir/$name.ready" ] || fail "$name did not start"
	rm "$dir/$name.pipe"
}

pid_of()
{
	cat "$dir/$1.pid"
}

# stop NAME [SIGNAL]
stop()
{
	[ -s "$dir/$1.pid" ] || return 0
	pid=$(pid_of "$1")
	rm "$dir/$1.pid"
	kill "-${2:-TERM}" "$pid" 2>/dev/null || return 0
	timeout 20 tail --pid="$pid" -s 0.1 -f /dev/null || kill -KILL "$pid"
}

# unmount NAME...: what has not gone with its daemon
unmount()
{
	for mount; do
		grep -q " $dir/$mount fuse" /proc/self/mounts || continue
		umount --lazy "$dir/$mount" 2>/dev/null || fusermount3 -u -z "$dir/$mount"
	done
}
