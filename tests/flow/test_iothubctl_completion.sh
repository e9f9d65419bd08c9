#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of iothubctl's command lines: every command and every option its help names, and what is in the files.
set -u
source tests/support/completion.sh iothubctl
mount=$(mktemp -d)
trap 'rm -rf "$mount"' EXIT
mkdir -p "$mount/twin/desired/wifi" "$mount/twin/reported" "$mount/commands/7" "$mount/commands/12"
touch "$mount/twin/desired/wifi/name" "$mount/twin/desired/width" "$mount/commands/next"
export IOTHUB_MOUNT=$mount

offers 'status events twin command' ''
offers 'get patch wait watch' twin ''
offers 'list complete abandon reject' --mount /x command ''
offers '' status ''
offers 'desired/' twin get d
offers 'desired/width desired/wifi/' twin wait desired/wi
offers 'desired/wifi/name' twin wait --timeout 5 desired/wifi/
offers '' twin get desired/width ''
offers '12 7' command complete ''
offers '' --mount /nothing command complete ''
offers '' --mount = /nothing twin wait desired/
offers '' twin wait desired/x --value ''
offers packaging/completions --mount packaging/c
offers packaging/install-deps twin patch --file packaging/i
offers packaging/install-deps twin patch --file = packaging/i
every_command 10

echo "1..$n"
exit "$failed"
