#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Measures the daemon, always next to something else in the same run: a device written with libmosquitto, a
# file in tmpfs, a FUSE file that discards what is written. A machine's figures mean little; the ratios are
# what to look at. usage: tools/bench/run.sh BUILD-DIR
#
# Every cell is measured once a round, one after the other, so that what the machine does meanwhile hits all of
# them; the table has medians over the rounds, and smallest and largest ratio of a round. The daemon, the hub
# (iothub-emulator), TLS and the mounts are real, and all of them share this machine's processors.
#
#   BENCH_ROUNDS    rounds (5)
#   BENCH_MESSAGES  messages for each cell of throughput, over all rounds (200000)
#   BENCH_COMMANDS  commands for each cell of their rate, over all rounds (10000), or as many as end in the time for it
#   BENCH_PARTS     what to measure, of: write, twin, echo, handle (all of them)
#   BENCH_KEEP      not empty: keep the directory with the single results
set -u

build=$(cd "$1" && pwd) || exit 1
source=$(cd "$(dirname "$0")" && pwd)
rounds=${BENCH_ROUNDS:-5}
messages=$((${BENCH_MESSAGES:-200000} / rounds))
commands=$((${BENCH_COMMANDS:-10000} / rounds))
size=128
# What is long to a shell, which reads a byte at a time, is not the payload but the line around it.
command_size=32
all_cpus=$(taskset -c -p $$ | sed 's/.*: //')
one_cpu=${all_cpus%%[,-]*}
other_cpu=$(echo "$all_cpus" | awk -F '[,-]' 'NF > 1 { print /^[0-9]+-/ ? $1 + 1 : $2 }')
parts=${BENCH_PARTS:-write twin echo handle}
# Room for all that is written while the hub is away: four cells, each message with its properties.
away_bytes=$((messages * rounds * 4 * (size + 200)))
n_latency=1000
n_echo=1000
n_calls=500
n_processes=10
n_walks=15
n_walks_across=5
# About the time for a cell of commands or of calls in a round. A shell, which reads a byte at a time, has fewer in it.
cell_ms=750
n_first_commands=20
method=x

# --- processes

# shellcheck source=tools/bench/processes.sh
. "$source/processes.sh"

clean_up()
{
	trap '' EXIT INT TERM HUP PIPE
	for name in handler other daemon away floor emulator; do
		stop "$name"
	done
	unmount hub away.hub floor
	rm -f "$floor_file"
	rm -rf "$floor_tree"
	[ "$state" = "$dir/state" ] || rm -rf "$state"
	if [ -n "${BENCH_KEEP:-}" ]; then
		echo "results are in $dir" >&2
	else
		rm -rf --one-file-system "$dir"
	fi
}

# start_daemon NAME MOUNT CONNECTION-STRING-FILE QUEUE-BYTES [VARIABLE=VALUE...]
start_daemon()
{
	name=$1 mount=$2 connection=$3 queue=$4
	shift 4
	cat >"$dir/$name.json" <<-END
		{"connection-string-file": "$connection", "ca-file": "$state/ca.pem",
		 "mount": "$dir/$mount", "state-directory": "$dir/$name.state", "queue-bytes": $queue, "method-wait": 10,
		 "log-level": "warning"}
	END
	start "$name" env "$@" "$build/iothubd" --config "$dir/$name.json" --ready-fd 3
}

# Ends when the hub has acknowledged a message.
await_hub()
{
	echo hello | dd of="$dir/hub/telemetry" oflag=sync status=none || fail "the daemon does not reach the hub"
}

start_all()
{
	start emulator "$build/iothub-emulator" --state "$state" --port 0 --quiet --ready-fd 3 \
		--device daemon --device peer
	sed 's/Port=[0-9]*/Port=1/' "$state/devices/daemon.connection-string" >"$dir/away.connection-string"
	chmod 600 "$dir/away.connection-string"
	count_requests
	start_daemon daemon hub "$state/devices/daemon.connection-string" 16777216
	start_daemon away away.hub "$dir/away.connection-string" "$away_bytes"
	start floor sh -c 'exec "$1" "$2" >&3' sh "$build/bench/floor" "$dir/floor"
	mkdir "$dir/hub/methods/$method" || fail 'no method'
	await_hub
	cp -r "$dir/hub/twin/desired" "$floor_tree" || fail 'cannot copy the twin'
}

# --- the twin as a directory

# 1,000 leaves in 120 directories, of which 80 are below others; 32,320 bytes as the hub counts them.
print_twin()
{
	awk 'BEGIN {
		printf "{"
		for (group = 0; group < 40; group++) {
			printf "%s\"group-%02d\":{", (group ? "," : ""), group
			for (leaf = 0; leaf < 25; leaf++) {
				if (leaf == 20)
					printf ",\"inner\":{\"below\":{"
				else if (leaf)
					printf ","
				printf "\"leaf-%02d\":", leaf
				if (leaf % 5 == 3)
					printf "%d.5", group * 100 + leaf
				else if (leaf % 5 == 4)
					printf group % 2 ? "true" : "false"
				else
					printf "\"a text that has thirty-seven chars %02d\"", leaf
			}
			printf "}}}"
		}
		print "}"
	}'
}

# Another daemon, which counts, with the twin it leaves to the next. What is sent for an entry of find and for a leaf
# that is read: requests whose answer is waited for, and those that say that a file was closed.
count_requests()
{
	"${CC:-cc}" -D_GNU_SOURCE -O2 -shared -fPIC -o "$dir/count_requests.so" "$source/preload/count_requests.c" ||
		fail 'cannot build count_requests.so'
	start_daemon daemon hub "$state/devices/daemon.connection-string" 16777216 \
		LD_PRELOAD="$dir/count_requests.so" BENCH_REQUEST_COUNT="$dir/request_count"
	print_twin | service hubctl twin patch daemon >/dev/null || fail 'hubctl failed'
	timeout 20 "$build/iothubctl" --mount "$dir/hub" twin wait desired/group-39/leaf-19 >/dev/null ||
		fail 'the twin does not come'
	tree=$dir/hub/twin/desired
	n_leaves=$(find "$tree" -type f | wc -l)
	n_entries=$(find "$tree" -mindepth 1 | wc -l)
	[ "$n_leaves" -eq 1000 ] || fail "the twin has $n_leaves leaves"
	for action in list find read; do
		before=$(od -An -v -w512 -tu8 "$dir/request_count")
		"$build/bench/walk" "$action" "$action" "$tree" >/dev/null || fail 'walk failed'
		# What was sent before this one was read, too.
		stat -f "$tree" >/dev/null
		after=$(od -An -v -w512 -tu8 "$dir/request_count")
		echo "$action $before $after"
	done >"$dir/requests"
	stop daemon
	# LOOKUP, GETATTR, OPEN, READ, OPENDIR, READDIR; RELEASE, RELEASEDIR.
	awk -v n_entries="$n_entries" -v n_leaves="$n_leaves" '
		function sent(action, opcode) {
			return count[action, opcode]
		}
		{
			for (i = 0; i < 64; i++)
				count[$1, i] = $(i + 66) - $(i + 2)
		}
		END {
			for (i = split("1 3 14 15 27 28", opcodes, " "); i; i--) {
				find += sent("find", opcodes[i])
				leaf += sent("read", opcodes[i]) - sent("list", opcodes[i])
			}
			printf "%.3f %.3f %.3f %.3f\n", find / n_entries, sent("find", 29) / n_entries,
				leaf / n_leaves, sent("read", 18) / n_leaves
		}' "$dir/requests" >"$dir/requests_of"
	read -r find_waits find_closes read_waits read_closes <"$dir/requests_of"
	[ "${read_closes%%.*}" = 1 ] || fail "requests are not counted: $(cat "$dir/requests_of")"
}

# walk_twin SUFFIX N WRAPPER...: N times the twin, and the same in tmpfs. Of what is beyond the round trips a request that nobody
# waits for is no part either: its time is what open and close take on the FUSE file that discards, less one round trip
# and what they take in tmpfs.
walk_twin()
{
	suffix=$1 n=$2
	shift 2
	: >"$floor_file"
	measure "twin_$suffix" "$@" "$build/bench/walk" -n "$n" \
		find_tmpfs find "$floor_tree" find_twin find "$dir/hub/twin/desired" trip trip "$dir/floor/sink" \
		read_tmpfs read "$floor_tree" read_twin read "$dir/hub/twin/desired" \
		open_fuse open "$dir/floor/sink" open_tmpfs open "$floor_file"
	rm -f "$floor_file"
	awk -v find_waits="$find_waits" -v find_closes="$find_closes" -v read_waits="$read_waits" \
		-v read_closes="$read_closes" '
		{ ns[$1] = $2 }
		END {
			close_ns = ns["open_fuse"] - ns["trip"] - ns["open_tmpfs"]
			close_ns = close_ns > 0 ? close_ns : 0
			find = find_waits * ns["trip"] + find_closes * close_ns
			leaf = read_waits * ns["trip"] + read_closes * close_ns
			print "close", close_ns
			print "find_trips", find
			print "find_rest", ns["find_twin"] - find
			print "read_trips", leaf
			print "read_rest", ns["read_twin"] - leaf
		}' "$dir/out" >"$dir/rest"
	measure "twin_$suffix" cat "$dir/rest"
}

# --- measuring

record()
{
	echo "$round $1 $2" >>"$dir/results"
}

# measure KEY COMMAND...: the command prints names and values.
measure()
{
	key=$1
	shift
	"$@" >"$dir/out" || fail "$key: $* failed"
	while read -r name value; do
		record "$key.$name" "$value"
	done <"$dir/out"
}

# Nanoseconds a process has run.
cpu_ns()
{
	cut -d ' ' -f 1 "/proc/$1/schedstat" 2>/dev/null ||
		awk -v hz="$(getconf CLK_TCK)" '{ printf "%d", ($14 + $15) * 1e9 / hz }' "/proc/$1/stat"
}

# write_messages KEY OPTIONS-AND-FILE...: until acknowledged, with the daemon's processor time.
write_messages()
{
	key=$1
	shift
	before=$(cpu_ns "$(pid_of daemon)")
	measure "$key" "$build/bench/writer" -n "$messages" -s "$size" --acked "$@"
	after=$(cpu_ns "$(pid_of daemon)")
	record "$key.daemon" "$(((after - before) / messages))"
	awk -v d="$(((after - before) / messages))" '$1 == "cpu" { print $2 + d }' "$dir/out" >"$dir/sum"
	record "$key.all" "$(cat "$dir/sum")"
}

peer()
{
	"$build/bench/peer" -s "$size" --ca-file "$state/ca.pem" \
		--connection-string-file "$state/devices/peer.connection-string" "$@"
}

# echo_messages KEY SHELL FILE: nanoseconds of one echo with its open and close.
echo_messages()
{
	start_ns=$(date +%s%N)
	"$2" -c 'i=0; while [ $i -lt "$2" ]; do echo "{\"temperature\":21}" > "$1" || exit; i=$((i + 1)); done' \
		"$2" "$3" "$n_echo" || fail "$1: echo failed"
	record "$1" $((($(date +%s%N) - start_ns) / n_echo))
}

# run_servers_on CPUS: those of alone() and walk_twin(). Where a walk runs and where the daemon does decides what a round
# trip takes, so a walk is only compared with round trips of the same places: on one CPU, or of one with the other.
run_servers_on()
{
	for server in daemon away floor; do
		taskset -a -c -p "$1" "$(pid_of "$server")" >/dev/null || fail 'taskset failed'
	done
}

# alone SUFFIX WRAPPER...: nothing but write(2), the hub being away.
alone()
{
	suffix=$1
	shift
	set -- "$@" "$build/bench/writer" -n "$messages" -s "$size"
	measure "alone_raw_$suffix" "$@" "$dir/away.hub/telemetry.raw"
	measure "alone_fuse_$suffix" "$@" "$dir/floor/sink"
	measure "alone_lines_$suffix" "$@" --lines "$dir/away.hub/telemetry"
	measure "alone_tmpfs_$suffix" "$@" --regular "$floor_file"
}

# --- commands and methods

service()
{
	program=$1
	shift
	"$build/$program" "$@" --ca-file "$state/ca.pem" \
		--connection-string-file "$state/service.connection-string"
}

# send_batch N: by the pipes of send_commands(), until all are completed. Sets batch_ns.
send_batch()
{
	start_ns=$(date +%s%N)
	seq -f "%0${command_size}.0f" "$1" >&4 &
	# Two lines a command: it is queued, it is completed.
	completed=$(head -n $((2 * $1)) <&5 | grep -c 'completed, delivered 1 time$')
	batch_ns=$(($(date +%s%N) - start_ns))
	[ "$completed" = "$1" ] || fail "$key: $completed commands of $1 were completed"
}

# send_commands KEY DEVICE: many under way at a time, from the moment on when some have gone all the way, which leaves out
# the start of hubctl. More at a time as long as that takes little time; the last batch counts.
send_commands()
{
	key=$1
	mkfifo "$dir/lines" "$dir/ends"
	service hubctl command send "$2" --lines --wait <"$dir/lines" >"$dir/ends" &
	sender=$!
	exec 4>"$dir/lines" 5<"$dir/ends"
	send_batch 1
	n=$n_first_commands
	send_batch "$n"
	while [ "$n" -lt "$commands" ] && [ "$batch_ns" -lt $((cell_ms * 1000000 / 4)) ]; do
		n=$((n * 4))
		[ "$n" -le "$commands" ] || n=$commands
		send_batch "$n"
	done
	exec 4>&- 5<&-
	rm "$dir/lines" "$dir/ends"
	wait "$sender" || fail "$key: hubctl failed"
	record "$key.n" "$n"
	record "$key.done" $((batch_ns / n))
}

# call KEY OPTION...: one at a time.
call()
{
	key=$1
	shift
	measure "$key" service bench/caller -n "$n_calls" -t "$cell_ms" -s "$command_size" "$@"
}

# handle_commands NAME DEVICE HANDLER...
handle_commands()
{
	handled=$1 device=$2
	shift 2
	start handler "$@"
	send_commands "commands_$handled" "$device"
	call "command_$handled" --device "$device"
	stop handler
}

# handle_calls NAME DEVICE HANDLER...
handle_calls()
{
	handled=$1 device=$2
	shift 2
	start handler "$@"
	call "call_$handled" --device "$device" --method "$method"
	stop handler
}

while_read='exec <"$1"; echo ready >&3; exec 3>&-; n=0; while read -r line; do n=$((n + 1)); done'
answer='echo ready >&3; while exec 3<>"$1"; do request=$(cat <&3); echo "200 {}" >&3; exec 3>&-; done'

handle_all()
{
	stream=$dir/hub/commands/stream
	handle_commands c daemon "$build/bench/handler" --commands "$stream"
	for shell in bash dash; do
		handle_commands "$shell" daemon "$shell" -c "$while_read" "$shell" "$stream"
	done
	calls=$dir/hub/methods/$method/call
	handle_calls c daemon "$build/bench/handler" --calls "$calls"
	# While the one waits until its response is acknowledged, which is after the service has it, the other is there.
	start other "$build/bench/handler" --calls "$calls"
	handle_calls c2 daemon "$build/bench/handler" --calls "$calls"
	stop other
	handle_calls bash daemon bash -c "$answer" bash "$calls"
	set -- "$build/bench/peer" --handle "$method" --ca-file "$state/ca.pem" \
		--connection-string-file "$state/devices/peer.connection-string"
	handle_commands peer peer "$@"
	handle_calls peer peer "$@"
}

write_all()
{
	write_messages raw1 "$dir/hub/telemetry.raw"
	measure peer peer -n "$messages"
	write_messages raw4 -w 4 "$dir/hub/telemetry.raw"
	write_messages lines1 --lines "$dir/hub/telemetry"
	write_messages lines4 -w 4 --lines "$dir/hub/telemetry"
	write_messages block1 -b 32 --lines "$dir/hub/telemetry"
	alone free
	run_servers_on "$one_cpu"
	alone pinned taskset -c "$one_cpu"
	run_servers_on "$all_cpus"
	measure sync "$build/bench/writer" -n "$n_latency" -s "$size" --latency "$dir/hub/telemetry.raw"
	measure peer_sync peer -n "$n_latency" --latency
}

walk_all()
{
	run_servers_on "$one_cpu"
	walk_twin pinned "$n_walks" taskset -c "$one_cpu"
	if [ -n "$other_cpu" ]; then
		run_servers_on "$other_cpu"
		walk_twin across "$n_walks_across" taskset -c "$one_cpu"
	fi
	run_servers_on "$all_cpus"
}

echo_all()
{
	for shell in bash dash; do
		echo_messages "echo_$shell" "$shell" "$dir/hub/telemetry"
		echo_messages "echo_tmpfs_$shell" "$shell" "$floor_file"
		echo_messages "echo_fuse_$shell" "$shell" "$dir/floor/sink"
		rm -f "$floor_file"
	done
	measure pub peer -n "$n_processes" --processes
}

# has_part NAME
has_part()
{
	case " $parts " in
	*" $1 "*) return 0 ;;
	esac
	return 1
}

one_round()
{
	! has_part write || write_all
	! has_part twin || walk_all
	! has_part echo || echo_all
	! has_part handle || handle_all
}

# --- what a message costs besides time

memory()
{
	awk '$1 == "RssAnon:" { anon = $2 } $1 == "RssShmem:" { shmem = $2 }
	     END { printf "%d KiB of its own, %d KiB of the queue", anon, shmem }' "/proc/$(pid_of daemon)/status"
}

# Counts without slowing down what is counted.
has_tracepoints()
{
	perf stat -e raw_syscalls:sys_enter -e syscalls:sys_enter_io_uring_enter true >/dev/null 2>&1
}

count_system_calls()
{
	if ! has_tracepoints; then
		echo '  system calls: not counted (needs perf, and access to its tracepoints)'
		return
	fi
	for writers in 1 4; do
		perf stat -x ' ' -o "$dir/perf" -e raw_syscalls:sys_enter -e syscalls:sys_enter_read \
			-e syscalls:sys_enter_write -e syscalls:sys_enter_writev -e syscalls:sys_enter_io_uring_enter \
			-p "$(pid_of daemon)" "$build/bench/writer" -n "$messages" -w "$writers" -s "$size" --acked \
			"$dir/hub/telemetry.raw" >/dev/null || fail 'perf stat failed'
		awk -v n="$messages" -v writers="$writers" '
			match($0, /:sys_enter[a-z_]*/) { count[substr($0, RSTART + 10, RLENGTH - 10)] = $1 }
			END {
				printf "  system calls of the daemon, %d writer%s: %.2f", writers,
					(writers > 1 ? "s" : ""), count[""] / n
				printf " (read %.2f, write %.2f, io_uring_enter %.2f)\n", count["_read"] / n,
					(count["_write"] + count["_writev"]) / n, count["_io_uring_enter"] / n
			}' "$dir/perf"
	done
	perf stat -x ' ' -o "$dir/perf" -e raw_syscalls:sys_enter "$build/bench/peer" -n "$messages" -s "$size" \
		--ca-file "$state/ca.pem" \
		--connection-string-file "$state/devices/peer.connection-string" >/dev/null
	awk -v n="$messages" '/sys_enter/ { printf "  system calls of libmosquitto: %.2f\n", $1 / n }' "$dir/perf"
}

# Another daemon, with a counting allocator.
count_allocations()
{
	stop daemon
	"${CC:-cc}" -D_GNU_SOURCE -O2 -shared -fPIC -o "$dir/count_malloc.so" "$source/preload/count_malloc.c" ||
		fail 'cannot build count_malloc.so'
	start_daemon daemon hub "$state/devices/daemon.connection-string" 16777216 \
		LD_PRELOAD="$dir/count_malloc.so" BENCH_MALLOC_COUNT="$dir/malloc_count"
	await_hub
	"$build/bench/writer" -n "$messages" -w 4 -s "$size" --acked "$dir/hub/telemetry.raw" >/dev/null ||
		fail 'writer failed'
	before=$(od -An -tu8 "$dir/malloc_count")
	"$build/bench/writer" -n "$messages" -w 4 -s "$size" --acked "$dir/hub/telemetry.raw" >/dev/null ||
		fail 'writer failed'
	after=$(od -An -tu8 "$dir/malloc_count")
	# The program itself, and its libraries.
	echo "$before $after" | awk -v n="$messages" '{
		printf "  allocations of the daemon: %.4f, and of its libraries: %.4f\n", ($3 - $1) / n, ($4 - $2) / n
	}'
}

# --- the table

# Rows: label | our key | key compared with | what that is | how. Values are nanoseconds for one message.
# how: rate = shown as thousand/s, the ratio says how many times as fast; time = shown in us, likewise;
# cost = shown in us, the ratio says how many times as expensive. A row without values was not asked for.
rows()
{
	cat <<-END
		Until the hub has acknowledged all, $size bytes, thousand/s
		telemetry.raw, 1 writer|raw1.done|peer.done|libmosquitto|rate
		telemetry.raw, 4 writers|raw4.done|peer.done|libmosquitto|rate
		telemetry, 1 writer|lines1.done|peer.done|libmosquitto|rate
		telemetry, 4 writers|lines4.done|peer.done|libmosquitto|rate
		telemetry, 1 writer, 32 lines a write|block1.done|peer.done|libmosquitto|rate
		Processor time of a message, us (daemon and writers together)
		telemetry.raw, 1 writer|raw1.all|peer.cpu|libmosquitto|cost
		telemetry.raw, 4 writers|raw4.all|peer.cpu|libmosquitto|cost
		telemetry, 1 writer, 32 lines a write|block1.all|peer.cpu|libmosquitto|cost
		the daemon alone, telemetry.raw, 1 writer|raw1.daemon|peer.cpu|libmosquitto|cost
		A queued write(2) while the hub is away, us
		telemetry.raw|alone_raw_free.write|alone_fuse_free.write|FUSE that discards|cost
		telemetry|alone_lines_free.write|alone_fuse_free.write|FUSE that discards|cost
		telemetry.raw|alone_raw_free.write|alone_tmpfs_free.write|append in tmpfs|cost
		telemetry.raw, all on one CPU|alone_raw_pinned.write|alone_fuse_pinned.write|FUSE that discards|cost
		telemetry, all on one CPU|alone_lines_pinned.write|alone_fuse_pinned.write|FUSE that discards|cost
		telemetry.raw, all on one CPU|alone_raw_pinned.write|alone_tmpfs_pinned.write|append in tmpfs|cost
		O_SYNC write(2): the hub has it, us
		telemetry.raw, median|sync.median|peer_sync.median|libmosquitto|cost
		telemetry.raw, 99 of 100|sync.p99|peer_sync.p99|libmosquitto|cost
		echo x > file, us
		bash, telemetry|echo_bash|pub.done|mosquitto_pub|time
		dash, telemetry|echo_dash|pub.done|mosquitto_pub|time
		bash, telemetry|echo_bash|echo_tmpfs_bash|tmpfs|cost
		dash, telemetry|echo_dash|echo_tmpfs_dash|tmpfs|cost
		bash, telemetry|echo_bash|echo_fuse_bash|FUSE that discards|cost
		dash, telemetry|echo_dash|echo_fuse_dash|FUSE that discards|cost
		A twin of $n_leaves leaves, 32 KiB: find, and reading all leaves, us
		find, an entry, all on one CPU|twin_pinned.find_twin|twin_pinned.find_trips|its round trips|cost
		what is beyond them|twin_pinned.find_rest|twin_pinned.find_tmpfs|tmpfs|cost
		reading a leaf, all on one CPU|twin_pinned.read_twin|twin_pinned.read_trips|its round trips|cost
		what is beyond them|twin_pinned.read_rest|twin_pinned.read_tmpfs|tmpfs|cost
		find, an entry, the daemon on another CPU|twin_across.find_twin|twin_across.find_trips|its round trips|cost
		reading a leaf, the daemon on another CPU|twin_across.read_twin|twin_across.read_trips|its round trips|cost
		Commands until all are completed, $command_size bytes, thousand/s
		commands/stream, C|commands_c.done|commands_peer.done|libmosquitto|rate
		commands/stream, bash, while read|commands_bash.done|commands_peer.done|libmosquitto|rate
		commands/stream, dash, while read|commands_dash.done|commands_peer.done|libmosquitto|rate
		One command: from the service to the handler, and completed, back, us
		commands/stream, C, median|command_c.median|command_peer.median|libmosquitto|cost
		commands/stream, C, 99 of 100|command_c.p99|command_peer.p99|libmosquitto|cost
		commands/stream, bash, median|command_bash.median|command_peer.median|libmosquitto|cost
		commands/stream, bash, 99 of 100|command_bash.p99|command_peer.p99|libmosquitto|cost
		commands/stream, dash, median|command_dash.median|command_peer.median|libmosquitto|cost
		commands/stream, dash, 99 of 100|command_dash.p99|command_peer.p99|libmosquitto|cost
		One method call: from the service to the handler, and its response back, us
		methods/$method/call, C, 1 handler, median|call_c.median|call_peer.median|libmosquitto|cost
		methods/$method/call, C, 1 handler, 99 of 100|call_c.p99|call_peer.p99|libmosquitto|cost
		methods/$method/call, C, 2 handlers, median|call_c2.median|call_peer.median|libmosquitto|cost
		methods/$method/call, C, 2 handlers, 99 of 100|call_c2.p99|call_peer.p99|libmosquitto|cost
		methods/$method/call, bash, 1 handler, median|call_bash.median|call_peer.median|libmosquitto|cost
		methods/$method/call, bash, 1 handler, 99 of 100|call_bash.p99|call_peer.p99|libmosquitto|cost
	END
}

print_table()
{
	rows >"$dir/rows"
	awk -F '|' '
		function sort(a, n,    i, j, t) {
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && a[j] < a[j - 1]; j--) {
					t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
				}
		}
		function median(a, n) {
			sort(a, n)
			return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
		}
		function shown(key, how,    r, v) {
			for (r = 1; r <= rounds; r++)
				v[r] = value[r, key]
			return how == "rate" ? 1e6 / median(v, rounds) : median(v, rounds) / 1e3
		}
		FNR == NR {
			split($0, part, " ")
			value[part[1], part[2]] = part[3]
			rounds = part[1]
			next
		}
		NF == 1 {
			title = $1
			next
		}
		!((1, $2) in value) {
			next
		}
		title {
			printf "\n%s\n  %-42s %9s  %-28s %9s\n", title, "", "here", "compared with", "ratio"
			title = ""
		}
		{
			for (r = 1; r <= rounds; r++)
				ratio[r] = $5 == "cost" ? value[r, $2] / value[r, $3] : value[r, $3] / value[r, $2]
			m = median(ratio, rounds)
			printf "  %-42s %9.2f  %-18s %9.2f %8.2f  (%.2f-%.2f)%s\n", $1, shown($2, $5), $4, shown($3, $5),
				m, ratio[1], ratio[rounds], $5 == "cost" ? "" : " as fast"
		}
	' "$dir/results" "$dir/rows"
}

print_round_trips()
{
	printf '\nRequests of the twin whose answer is waited for, and closes, which are not\n'
	echo "  find, an entry: $find_waits and $find_closes; reading a leaf: $read_waits and $read_closes"
	for suffix in pinned ${other_cpu:+across}; do
		printf '  a round trip to the FUSE that discards: %.2f us, a close: %.2f us (%s)\n' \
			"$(median_of "twin_$suffix.trip" 1000)" "$(median_of "twin_$suffix.close" 1000)" "$suffix"
	done | sed 's/(pinned)/(all on one CPU)/; s/(across)/(the daemon on another CPU)/'
	[ -z "$other_cpu" ] || echo '  on another CPU what is beyond them is less than how much the round trips themselves scatter'
}

# median_of KEY UNIT: over the rounds.
median_of()
{
	awk -v key="$1" '$2 == key { print $3 }' "$dir/results" | sort -n |
		awk -v unit="$2" '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] / unit }'
}

# There is time for fewer where a shell handles them.
print_commands()
{
	printf '\nCommands, and commands or calls one at a time, in a round\n'
	for cell in commands_c commands_bash commands_dash commands_peer command_c command_bash command_dash \
		command_peer call_c call_c2 call_bash call_peer; do
		echo "$cell $(median_of "$cell.n" 1)"
	done | awk '{ printf "%s%s %d", (NR > 1 ? ", " : "  "), $1, $2 } END { print "" }'
}

print_machine()
{
	echo "kernel $(uname -r), $(nproc) CPUs: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
	echo "$(sed -n 's/^tls: /TLS /p' "$dir/hub/status"), libmosquitto $(mosquitto_version)," \
		"load before: $load"
	echo "$rounds rounds; $messages messages of $size bytes in a cell, $n_latency with O_SYNC, $n_echo echoes," \
		"$n_processes mosquitto_pub; $n_walks walks, $n_walks_across across CPUs; at most $commands commands, and $n_calls one at a time, or" \
		"as many as about $cell_ms ms are enough for"
}

mosquitto_version()
{
	mosquitto_pub --help 2>/dev/null | sed -n 's/.*libmosquitto \([0-9.]*[0-9]\).*/\1/p' | head -n 1
}

if [ "$away_bytes" -gt $((1 << 30)) ]; then
	echo "bench: BENCH_MESSAGES=$((messages * rounds)) needs a queue larger than the daemon may have" >&2
	exit 2
fi
[ "$away_bytes" -gt $((1 << 20)) ] || away_bytes=$((1 << 20))
load=$(cut -d ' ' -f 1-3 /proc/loadavg)
dir=$(mktemp -d "${TMPDIR:-/tmp}/iothub-bench.XXXXXX") || exit 1
floor_file=$dir/floor-file
# The hub acknowledges a command when it is on its disk, whose speed is none of what is measured here.
floor_tree=$dir/floor-tree
state=$dir/state
if [ -w /dev/shm ]; then
	floor_file=/dev/shm/${dir##*/}
	floor_tree=/dev/shm/${dir##*/}.tree
	state=/dev/shm/${dir##*/}.state
fi
trap clean_up EXIT
trap 'exit 1' INT TERM HUP PIPE

start_all
memory_before=$(memory)
round=1
while [ "$round" -le "$rounds" ]; do
	[ ! -t 2 ] || printf 'round %d of %d\r' "$round" "$rounds" >&2
	one_round
	round=$((round + 1))
done
print_machine
print_table
! has_part twin || print_round_trips
! has_part handle || print_commands
memory_after=$(memory)
if has_part write; then
	printf '\nFor one message of telemetry.raw\n'
	count_system_calls
	count_allocations
fi
printf '\nMemory of the daemon\n  started: %s\n  after all this: %s\n' "$memory_before" "$memory_after"
