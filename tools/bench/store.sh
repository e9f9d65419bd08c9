#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures the queue on the disk. First, how many messages a second writers get stored, one at a time each: at a
# telemetry file with O_DSYNC, side by side with SQLite (synchronous=FULL, WAL) and Redis (appendfsync always) in the
# same run and on the same file system, and with fdatasync(2) of a preallocated file for each writer. Then what happens
# when the hub is away for long: messages are queued, the daemon is killed and started again, and the hub comes back.
# A machine's figures mean little; the ratios are what to look at. usage: tools/bench/store.sh BUILD-DIR
#
#   BENCH_STORE_DIR      a directory on the disk to measure, not in memory (/var/tmp)
#   BENCH_STORE_ROUNDS   rounds (3)
#   BENCH_STORE_MS       milliseconds for each cell of a round (1000)
#   BENCH_STORE_WRITERS  numbers of writers ("1 64 256")
#   BENCH_BACKLOG        messages queued while the hub is away (200000); 5000000 is three days of 19 a second
set -u

build=$(cd "$1" && pwd) || exit 1
rounds=${BENCH_STORE_ROUNDS:-3}
cell_ms=${BENCH_STORE_MS:-1000}
writers=${BENCH_STORE_WRITERS:-1 64 256}
backlog=${BENCH_BACKLOG:-200000}
size=128
kinds='iothubd sqlite redis file'
dir=$(mktemp -d "${BENCH_STORE_DIR:-/var/tmp}/iothub-store-XXXXXX") || exit 1
state=$dir/state
# A record has properties besides.
queue_bytes=$((backlog * 512 + 1073741824))

# --- processes

# shellcheck source=tools/bench/processes.sh
. "$(dirname "$0")/processes.sh"

clean_up()
{
	trap '' EXIT INT TERM HUP PIPE
	for name in order monitor daemon redis emulator; do
		stop "$name"
	done
	unmount hub
	rm -rf --one-file-system "$dir"
}

# start_daemon PORT
start_daemon()
{
	cat >"$dir/daemon.json" <<-END
		{"connection-string-file": "$state/devices/daemon.connection-string", "ca-file": "$state/ca.pem",
		 "mount": "$dir/hub", "port": $1, "state-directory": "$dir/daemon.state", "queue-bytes": $queue_bytes,
		 "ack-timeout": 86400, "log-level": "warning"}
	END
	start daemon "$build/iothubd" --config "$dir/daemon.json" --ready-fd 3
}

start_emulator()
{
	start emulator "$build/iothub-emulator" --state "$state" --port "$port" --quiet --ready-fd 3 --device daemon
}

# No snapshots, and no rewriting of the log in the middle of a round.
start_redis()
{
	mkdir "$dir/redis.state"
	cat >"$dir/redis.conf" <<-END
		port 0
		unixsocket $dir/redis.socket
		dir $dir/redis.state
		save ""
		appendonly yes
		appendfsync always
		auto-aof-rewrite-percentage 0
		maxclients 2000
	END
	redis-server "$dir/redis.conf" >"$dir/redis.log" 2>&1 &
	echo $! >"$dir/redis.pid"
	timeout 20 sh -c 'until redis-cli -s "$1" ping 2>/dev/null | grep -q PONG; do :; done' sh "$dir/redis.socket" ||
		fail 'redis does not start'
}

# --- the rate

path_of()
{
	case $1 in
	iothubd) echo "$dir/hub/telemetry.raw" ;;
	sqlite) echo "$dir/sqlite.db" ;;
	redis) echo "$dir/redis.socket" ;;
	file) echo "$dir/file" ;;
	esac
}

# Every cell once a round, so that what the machine does meanwhile hits all of them.
measure_rates()
{
	round=1
	while [ "$round" -le "$rounds" ]; do
		for n in $writers; do
			for kind in $kinds; do
				"$build/bench/store" "$kind" -w "$n" -s "$size" -t "$cell_ms" "$(path_of "$kind")" \
					>"$dir/cell" 2>>"$dir/store.log" || fail "$kind with $n writers failed"
				awk -v cell="$kind $n" '{ value[$1] = $2 }
					END { print cell, value["rate"], value["median"], value["p99"] }' "$dir/cell" >>"$dir/cells"
			done
		done
		round=$((round + 1))
	done
}

print_rates()
{
	printf 'stored, %d bytes each, messages a second (and median, 99th percentile of one write), %d rounds\n\n' \
		"$size" "$rounds"
	sort -k1,1 -k2,2n -k3,3n "$dir/cells" | awk -v kinds="$kinds" -v writers="$writers" '
		{
			cell = $1 " " $2
			rate[cell, ++n[cell]] = $3
			median[cell, n[cell]] = $4
			p99[cell, n[cell]] = $5
		}
		function middle(cell) { return int((n[cell] + 1) / 2) }
		function text(cell,   i) {
			i = middle(cell)
			return sprintf("%9.0f (%.2f, %.2f ms)", rate[cell, i], median[cell, i] / 1e6, p99[cell, i] / 1e6)
		}
		END {
			n_kinds = split(kinds, kind, " ")
			printf "%-8s", "writers"
			for (i = 1; i <= n_kinds; i++)
				printf "  %-26s", kind[i]
			print "  sqlite: x  redis: x"
			for (i = split(writers, w, " ") + 1; --i > 0;)
				order[++rows] = w[i]
			for (row = rows; row > 0; row--) {
				printf "%-8s", order[row]
				for (i = 1; i <= n_kinds; i++)
					printf "  %-26s", text(kind[i] " " order[row])
				own = "iothubd " order[row]
				own = rate[own, middle(own)]
				for (i = 2; i <= 3; i++) {
					cell = kind[i] " " order[row]
					printf "  %9.1f", own / rate[cell, middle(cell)]
				}
				print ""
			}
		}'
}

# --- the hub is away for long

# What the daemon has in memory of its own, and with the files it maps, in KiB.
memory()
{
	awk '$1 == "RssAnon:" { own = $2 } $1 == "VmRSS:" { all = $2 } END { print own, all }' \
		"/proc/$(pid_of daemon)/status"
}

now()
{
	date +%s.%N
}

since()
{
	awk -v start="$1" -v end="$(now)" 'BEGIN { printf "%.2f", end - start }'
}

disk_use()
{
	du -sk "$dir/daemon.state" | cut -f 1
}

# Numbers from 1 on, in 64 bytes each.
messages()
{
	seq -f '%.0f ............................................' 1 "$backlog" | cut -c 1-64
}

start_monitor()
{
	mkfifo "$dir/monitor.out" "$dir/monitor.pipe"
	"$build/hubctl" monitor --quiet --ready-fd 3 --connection-string-file "$state/service.connection-string" \
		3>"$dir/monitor.pipe" >"$dir/monitor.out" 2>"$dir/monitor.log" &
	echo $! >"$dir/monitor.pid"
	"$build/bench/store" order "$backlog" <"$dir/monitor.out" >"$dir/order" 2>>"$dir/store.log" &
	echo $! >"$dir/order.pid"
	head -n 1 <"$dir/monitor.pipe" | grep -q . || fail 'the monitor did not start'
}

measure_backlog()
{
	stop daemon
	rm -rf "$dir/daemon.state"
	start_daemon 1
	before=$(memory)
	begin=$(now)
	messages >"$dir/hub/telemetry" || fail 'cannot queue'
	queued_s=$(since "$begin")
	after=$(memory)
	kib=$(disk_use)
	stop daemon KILL
	begin=$(now)
	start_daemon "$port"
	recovered_s=$(since "$begin")
	stop daemon KILL
	start_emulator
	start_monitor
	begin=$(now)
	start_daemon "$port"
	# One behind all others.
	echo end | dd of="$dir/hub/telemetry" oflag=sync status=none || fail 'the hub does not take it'
	drained_s=$(since "$begin")
	drained=$(memory)
	kib_drained=$(disk_use)
	# A monitor that does not keep up may have missed that one, and hears of what it missed with the next.
	n=0
	until timeout 1 tail --pid="$(pid_of order)" -s 0.1 -f /dev/null; do
		n=$((n + 1))
		[ "$n" -lt 300 ] || fail 'the monitor does not come to an end'
		echo end >"$dir/hub/telemetry"
	done
}

print_backlog()
{
	printf '\n%d messages queued while the hub was away\n\n' "$backlog"
	awk -v n="$backlog" -v before="$before" -v after="$after" -v drained="$drained" -v queued="$queued_s" \
		-v recovered="$recovered_s" -v sent="$drained_s" -v kib="$kib" -v kib_drained="$kib_drained" '
		{ seen[$1] = $2 }
		END {
			split(before " " after " " drained, m, " ")
			printf "queued        %8.2f s   %9.0f a second, %.0f MiB on the disk\n", queued, n / queued, kib / 1024
			printf "memory        %8d KiB before, %d KiB with all of them, %d KiB when they were sent\n", m[1], m[3], m[5]
			printf "with mapped   %8d KiB before, %d KiB with all of them, %d KiB when they were sent\n", m[2], m[4], m[6]
			printf "killed, ready %8.2f s\n", recovered
			printf "sent, acked   %8.2f s   %9.0f a second, %.0f MiB left on the disk\n", sent, n / sent, kib_drained / 1024
			printf "seen by the hub in order: %d, again: %d, lost: %d, missed by the monitor: %d\n", seen["seen"],
				seen["again"], seen["lost"], seen["missed"]
			exit seen["lost"] > 0
		}' "$dir/order"
}

type=$(stat -f -c %T "$dir")
case $type in
tmpfs | ramfs) echo "bench: $dir is in memory; BENCH_STORE_DIR says where the disk is" >&2; rmdir "$dir"; exit 1 ;;
esac
for program in redis-server redis-cli; do
	command -v "$program" >/dev/null || { echo "bench: there is no $program" >&2; rmdir "$dir"; exit 1; }
done
trap clean_up EXIT
trap 'exit 1' INT TERM HUP PIPE

port=0
start_emulator
port=$(cat "$dir/emulator.ready")
stop emulator
start_daemon 1
start_redis
printf 'on %s: ' "$type"
measure_rates
print_rates
stop redis
measure_backlog
print_backlog
