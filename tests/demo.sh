#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Starts a local hub and the daemon, each command shown as it would be typed.
#
#     tests/demo.sh BUILD-DIR demo    sends two messages, shows them arrive, and takes everything down again
#     tests/demo.sh BUILD-DIR run     keeps both running until Ctrl-C or SIGTERM
#
# Everything lies in a temporary directory, only the files of `run` do not: they are in /run/iothub, for users in
# $XDG_RUNTIME_DIR/iothub, or in $IOTHUB_MOUNT when that is set. Exit code: 0 done, 1 failed.
#
# Nothing is waited for by the clock: a program tells on a pipe that it is ready and keeps the pipe open as long
# as it lives. The time limits are for what hangs.
set -u

limit_s=20
build=$(cd "$1" && pwd) || exit 1
mode=$2
device=demo
emulator_pid=
daemon_pid=
monitor_pid=

say()
{
	printf '%s\n' "$*"
}

# Shows a command and runs it.
show()
{
	printf '$ %s\n' "$1"
	eval "$1"
}

fail()
{
	exec >&2
	say "$mode failed: $*"
	for log in "$dir"/*.log; do
		[ ! -s "$log" ] || { say "--- ${log##*/}"; tail -n 20 "$log"; }
	done
	exit 1
}

# start NAME COMMAND: in a session of its own, for Ctrl-C is meant for this script.
start()
{
	mkfifo "$1.pipe"
	printf '$ %s &\n' "$2"
	(
		# Those who watch `run` want to see what the two have to say.
		[ "$mode" = run ] || exec 2>"$1.log"
		# shellcheck disable=SC2086 # a command and its words
		exec setsid $2 --ready-fd 3
	) 3>"$1.pipe" 4>&3 >"$1.out" &
}

# ready NAME DESCRIPTOR: prints the line with which it tells.
ready()
{
	timeout "$limit_s" head -n 1 <&"$2" | grep . || fail "$1 did not start"
}

# stop NAME PID DESCRIPTOR
stop()
{
	kill -TERM "$2" 2>/dev/null
	if ! timeout "$limit_s" cat <&"$3" >/dev/null; then
		say "$1 does not stop, killing it" >&2
		kill -KILL "$2"
	fi
	wait "$2"
}

# Runs once, whatever ended the script. The daemon goes first: it says good-bye to the hub.
clean_up()
{
	status=$?
	trap '' EXIT INT TERM HUP
	[ -z "$monitor_pid" ] || { kill -TERM "$monitor_pid" 2>/dev/null; wait "$monitor_pid"; }
	[ -z "$daemon_pid" ] || stop iothubd "$daemon_pid" 6 || status=1
	[ -z "$emulator_pid" ] || stop iothub-emulator "$emulator_pid" 5 || [ "$mode" = run ] || status=1
	cd /
	if [ -n "${files:-}" ] && grep -q " $files fuse" /proc/self/mounts; then
		say "$files is still mounted" >&2
		umount --lazy "$files" 2>/dev/null || fusermount3 -u -z "$files"
		status=1
	fi
	rm -rf "$dir"
	exit "$status"
}

write_configuration()
{
	cat > iothubd.json <<END
{
  "connection-string-file": "hub/devices/$device.connection-string",
  "ca-file": "hub/ca.pem",
  "mount": "$1",
  "state-directory": "state"
}
END
}

start_hub_and_daemon()
{
	start emulator "iothub-emulator --port 0 --state hub --device $device"
	emulator_pid=$!
	exec 5<emulator.pipe
	port=$(ready iothub-emulator 5) || exit 1
	show 'cat iothubd.json'
	start iothubd 'iothubd --config iothubd.json'
	daemon_pid=$!
	exec 6<iothubd.pipe
	ready iothubd 6 >/dev/null
}

demo()
{
	files=$dir/iothub
	cd "$dir" || exit 1
	write_configuration iothub
	start_hub_and_daemon
	start hubctl "timeout $limit_s hubctl monitor --count 1 --connection-string-file hub/service.connection-string"
	monitor_pid=$!
	exec 7<hubctl.pipe
	ready 'hubctl monitor' 7 >/dev/null
	show "echo '{\"temperature\":21}' > iothub/telemetry"
	wait "$monitor_pid" || fail "the message did not reach hubctl monitor within $limit_s seconds"
	monitor_pid=
	cat hubctl.out
	grep -q '"device-id":"demo".*{\\"temperature\\":21}' hubctl.out || fail "that is not the message"
	say '# With oflag=sync, write() returns when the hub has acknowledged.'
	show 'echo "any bytes" | dd of=iothub/telemetry.raw oflag=sync status=none' || fail "dd failed"
	show 'cat iothub/status'
	grep -qx 'acknowledged: 2' iothub/status || fail "two messages were sent, and not two acknowledged"
}

run()
{
	if [ -n "${IOTHUB_MOUNT:-}" ]; then
		files=$(realpath -s "$IOTHUB_MOUNT")
	elif [ "$(id -u)" -eq 0 ]; then
		files=/run/iothub
	else
		files=${XDG_RUNTIME_DIR:-$dir}/iothub
	fi
	cd "$dir" || exit 1
	write_configuration "$files"
	start_hub_and_daemon
	cat <<-END

		The files are in $files. In another terminal, be the hub's user:

		  export PATH="$build:\$PATH" IOTHUB_SERVICE_CONNECTION_STRING_FILE=$dir/hub/service.connection-string
		  hubctl monitor

		and while that runs, in a third one, the device's:

		  cat $files/status

		  echo '{"temperature":21}' > $files/telemetry
		  cp README.md $files/telemetry.file
		  echo 'until the hub has it' | dd of=$files/telemetry.raw oflag=sync

		Take the hub away, write, look at the status, and bring it back:

		  kill $emulator_pid
		  $build/iothub-emulator --state $dir/hub --port $port

		Ctrl-C here ends it all.

	END
	wait "$daemon_pid"
	fail "iothubd has ended"
}

case $mode in
demo | run) ;;
*)
	say "usage: tests/demo.sh BUILD-DIR demo|run" >&2
	exit 1
	;;
esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/iothub-$mode.XXXXXX") || exit 1
trap clean_up EXIT
trap 'exit 1' INT TERM HUP
[ "$mode" != run ] || trap 'say; exit 0' INT TERM HUP
PATH=$build:$PATH
"$mode"
