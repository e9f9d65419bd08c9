#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What the first minutes of a new user are made of: `make demo` and `make run`, as root and as a user.
set -u
build=$(cd "${IOTHUB_BUILD:-build}" && pwd)
repository=$PWD
tmp=$(mktemp -d)
chmod 755 "$tmp"
trap 'rm -rf "$tmp"' EXIT
. tests/support/tap.sh

explain()
{
	cat "$tmp/out"
}

# Nothing is left: no mount and no directory.
nothing_left()
{
	! grep -q " $tmp/" /proc/self/mounts && [ -z "$(ls "$tmp/tmp")" ]
}

# Where a user can reach them, whatever the modes of the directories above the repository are.
copy_what_a_user_needs()
{
	mkdir "$tmp/user" "$tmp/user/build" && cp tests/demo.sh "$tmp/user" &&
		cp "$build/iothubd" "$build/iothub-emulator" "$build/hubctl" "$tmp/user/build" &&
		chmod -R a+rX "$tmp/user"
}

# As nobody, in a mount namespace where /dev/fuse is for everybody, as udev makes it on an ordinary machine.
demo_as_user()
{
	# shellcheck disable=SC2016 # for the inner shell
	TMPDIR=$tmp/tmp unshare --mount sh -c '
		mkdir "$1/dev" && mount -t tmpfs none "$1/dev" && mknod -m 0666 "$1/dev/fuse" c 10 229 &&
			mount --bind "$1/dev/fuse" /dev/fuse &&
			cd "$1/user" && exec setpriv --reuid 65534 --regid 65534 --clear-groups ./demo.sh build demo' sh "$tmp"
}

test_demo_as_root()
{
	TMPDIR=$tmp/tmp tests/demo.sh "$build" demo > "$tmp/out" 2>&1 < /dev/null &&
		grep -q '^{"device-id":"demo".*\\"temperature\\":21' "$tmp/out" &&
		grep -qx 'state: connected' "$tmp/out" && nothing_left
}

test_demo_as_user()
{
	copy_what_a_user_needs && demo_as_user > "$tmp/out" 2>&1 < /dev/null &&
		grep -q '^{"device-id":"demo".*\\"temperature\\":21' "$tmp/out" && nothing_left
}

# The script prints to a pipe, which ends when all that it has started have ended.
test_run()
{
	mkfifo "$tmp/pipe"
	TMPDIR=$tmp/tmp IOTHUB_MOUNT=$tmp/files tests/demo.sh "$build" run > "$tmp/pipe" 2> "$tmp/out" < /dev/null &
	pid=$!
	{
		while read -r line && [ "$line" != 'Ctrl-C here ends it all.' ]; do :; done
		echo hello | dd of="$tmp/files/telemetry.raw" oflag=sync status=none
		written=$?
		kill -TERM "$pid"
		cat > /dev/null
	} < "$tmp/pipe"
	wait "$pid" && [ "$written" -eq 0 ] && nothing_left && [ ! -e "$tmp/files" ]
}

# A program that ends at once is no reason to wait for it.
test_failure_is_told()
{
	mkdir "$tmp/broken"
	cp "$build/iothub-emulator" "$build/hubctl" "$tmp/broken"
	printf '#!/bin/sh\necho "iothubd: no luck" >&2\nexit 1\n' > "$tmp/broken/iothubd"
	chmod 755 "$tmp/broken/iothubd"
	TMPDIR=$tmp/tmp tests/demo.sh "$tmp/broken" demo > "$tmp/out" 2>&1 < /dev/null
	[ $? -eq 1 ] && grep -q 'demo failed: iothubd did not start' "$tmp/out" &&
		grep -q 'iothubd: no luck' "$tmp/out" && nothing_left
}

mkdir -m 1777 "$tmp/tmp"
cd "$repository" || exit 1
echo 'TAP version 13'
echo '1..4'
if [ ! -e /dev/fuse ]; then
	for name in demo_as_root demo_as_user run; do skip "$name" 'there is no /dev/fuse'; done
else
	if [ "$(id -u)" -eq 0 ]; then
		test_demo_as_root
		report $? demo_as_root
		test_demo_as_user
		report $? demo_as_user
	else
		skip demo_as_root 'needs root'
		test_demo_as_root
		report $? demo_as_user
	fi
	test_run
	report $? run
fi
test_failure_is_told
report $? failure_is_told
exit "$failed"
