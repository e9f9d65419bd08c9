#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The examples of README.md, as they stand. A comment in front of an indented block says what it is:
#
#     <!-- check: NAME device -->        what the device's user types; runs until the end of NAME, or its own
#     <!-- check: NAME hub -->           what the hub's user types
#     <!-- check: NAME prints -->        what the block before it prints
#     <!-- check: NAME shows FILE -->    the first line that comes into a file of the device's user
#
# The two are set up as `make run` says. A mount namespace puts the files where the page has them.
set -u
build=$(cd "${IOTHUB_BUILD:-build}" && pwd)
repository=$PWD
tmp=$(mktemp -d)
limit_s=60
mount=$tmp/files
. tests/support/tap.sh

clean_up()
{
	[ -z "${device:-}" ] || kill -KILL -- "-$device" 2>/dev/null
	[ -z "${demo:-}" ] || { kill -TERM "$demo" && wait "$demo"; } 2>/dev/null
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

explain()
{
	cat "$tmp/out"
}

# block TITLE: the text after the comment with that title, with its indentation removed
block()
{
	awk -v title="<!-- check: $1 -->" '
		$0 == title { on = 1; next }
		on && /^    / { print substr($0, 5); found = 1; next }
		on && /^$/ { if (found) print ""; next }
		on { exit }
	' "$repository/README.md"
}

titles()
{
	sed -n 's/^<!-- check: \(.*\) -->$/\1/p' "$repository/README.md"
}

# The script in $2 as somebody types it, with the files in their place; -s gives it a session of its own.
type_in()
{
	# shellcheck disable=SC2016 # for the shell in the namespace
	exec unshare --mount --propagation slave -- bash -c '
		mount -t tmpfs tmpfs /run && mkdir /run/iothub && mount --bind "$1" /run/iothub && cd "$2" && exec bash "$3"
	' bash "$mount" "$tmp/home" "$1"
}

device_start()
{
	block "$1 device" > "$tmp/$1.device"
	set -m
	type_in "$tmp/$1.device" > "$tmp/device.out" 2>&1 &
	device=$!
	set +m
}

device_stop()
{
	[ -n "${device:-}" ] || return 0
	kill -KILL -- "-$device" 2>/dev/null
	wait "$device" 2>/dev/null
	device=
}

# A method is there when the hub has taken its subscription: the caller is told to try again until then.
hub_run()
{
	block "$1 hub" > "$tmp/$1.hub"
	until (type_in "$tmp/$1.hub") > "$tmp/out" 2>&1; do
		grep -q 'Target Unavailable' "$tmp/out" || return 1
		[ "$SECONDS" -lt "$limit_s" ] || return 1
	done
}

# What is different each time.
same_text()
{
	sed -e 's/"sequence-no":[0-9]*/"sequence-no":1/' -e 's/"enqueued-time":"[^"]*"/"enqueued-time":"then"/'
}

shows()
{
	timeout "$limit_s" tail -n +1 -F "$tmp/home/$2" 2>/dev/null | head -n 1 | same_text > "$tmp/out"
	[ "$(block "$1 shows $2" | same_text)" = "$(cat "$tmp/out")" ]
}

prints()
{
	# A terminal shows the same with and without a newline at the end.
	[ "$(block "$1 prints")" = "$(cat "$tmp/out")" ]
}

# Every command is settled: the device's directory tells.
settled()
{
	until ! ls -d "$mount"/commands/[0-9]* > "$tmp/out" 2>/dev/null; do
		[ "$SECONDS" -lt "$limit_s" ] || return 1
	done
}

# A block that decides about commands comes when there is one.
await_command()
{
	until ls -d "$mount"/commands/[0-9]* > "$tmp/out" 2>/dev/null; do
		[ "$SECONDS" -lt "$limit_s" ] || return 1
	done
}

# example NAME: its blocks in the order of the page
example()
{
	SECONDS=0
	while read -r title; do
		case $title in
		"$1 device")
			[ "$previous" != "$1 hub" ] || await_command || return 1
			device_start "$1"
			;;
		"$1 hub") hub_run "$1" || return 1 ;;
		"$1 prints") prints "$1" || return 1 ;;
		"$1 shows "*) shows "$1" "${title#"$1 shows "}" || return 1 ;;
		esac
		previous=$title
	done < "$tmp/titles"
	settled
}

echo 'TAP version 13'
titles > "$tmp/titles"
names=$(cut -d ' ' -f 1 "$tmp/titles" | uniq)
count=$(printf '%s\n' "$names" | grep -c .)
echo "1..$count"
if [ ! -c /dev/fuse ] || [ "$(id -u)" -ne 0 ]; then
	for name in $names; do
		skip "$name" 'needs /dev/fuse and root'
	done
	exit 0
fi
mkdir "$tmp/home" "$tmp/tmp"
mkfifo "$tmp/pipe"
TMPDIR=$tmp/tmp IOTHUB_MOUNT=$mount tests/demo.sh "$build" run > "$tmp/pipe" 2> "$tmp/log" < /dev/null &
demo=$!
exec 5< "$tmp/pipe"
while read -r line <&5 && [ "$line" != 'Ctrl-C here ends it all.' ]; do
	case $line in
	'export PATH'*) eval "$line" ;;
	esac
done
for name in $names; do
	previous=
	example "$name"
	report $? "$name"
	device_stop
done
[ "$failed" -eq 0 ]
