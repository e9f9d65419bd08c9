#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tests/lint/layers finds what it is there to find. Each test is a tree of one file with one include.
set -u
layers=$PWD/tests/lint/layers
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
. tests/support/tap.sh

explain()
{
	echo "said: $said"
}

# look FILE INCLUDE: sets $said and $code
look()
{
	rm -rf "${tree:?}"/*
	mkdir -p "$tree/$(dirname "$1")"
	printf '/* SPDX-License-Identifier: MIT */\n#include %s\n' "$2" > "$tree/$1"
	said=$("$layers" "$tree")
	code=$?
}

good()
{
	look "$1" "$2"
	[ "$code" -eq 0 ] && [ -z "$said" ]
	report $? "$1 may include $2"
}

# bad FILE INCLUDE WORDS: the complaint names the line and has these words in it
bad()
{
	look "$1" "$2"
	[ "$code" -ne 0 ] && case $said in "$1:2: "*"$3"*) true ;; *) false ;; esac
	report $? "$1 must not include $2"
}

echo 'TAP version 13'
good daemon/main.c '"app/app.h"'
good daemon/app/app.c '"flow/link.h"'
good daemon/flow/link.c '"net/conn.h"'
good daemon/flow/link.c '"flow/link.h"'
good daemon/config/config.c '"hub/sas.h"'
good daemon/net/conn.c '"loop/loop.h"'
good daemon/loop/loop.c '<liburing.h>'
good daemon/net/tls_verify.c '<openssl/ssl.h>'
good daemon/net/devca.c '<openssl/x509.h>'
good daemon/fuse/tree.c '"iothub.h"'
good tools/emulator/hub.c '"mqtt/packet.h"'
good tools/emulator/hub.c '"hub.h"'
good tools/hubctl/monitor.c '<mosquitto.h>'

bad daemon/base/buf.c '"loop/loop.h"' 'base must not know loop'
bad daemon/loop/loop.c '"mqtt/packet.h"' 'loop must not know mqtt'
bad daemon/hub/sas.c '"mqtt/packet.h"' 'hub must not know mqtt'
bad daemon/mqtt/session.c '"loop/loop.h"' 'mqtt must not know loop'
bad daemon/net/conn.c '"mqtt/packet.h"' 'net must not know mqtt'
bad daemon/net/conn.c '"journal/journal.h"' 'net must not know journal'
bad daemon/fuse/tree.c '"net/conn.h"' 'fuse must not know net'
bad daemon/journal/memory.c '"fuse/tree.h"' 'journal must not know fuse'
bad daemon/config/config.c '"flow/link.h"' 'config must not know flow'
bad daemon/net/conn.c '"config/config.h"' 'net must not know config'
bad daemon/flow/link.c '"app/app.h"' 'flow must not know app'
bad daemon/flow/link.c '"local/local.h"' 'flow must not know local'
bad daemon/main.c '"flow/link.h"' 'main must not know flow'
bad tools/emulator/hub.c '"mqtt/session.h"' 'emulator must not know mqtt'
bad tools/emulator/hub.c '"hub/contract.h"' 'emulator must not know hub'
bad tools/emulator/hub.c '"flow/link.h"' 'emulator must not know flow'
bad tools/hubctl/monitor.c '"loop/loop.h"' 'hubctl must not know loop'
bad daemon/flow/link.c '<liburing.h>' 'daemon/loop/'
bad daemon/net/conn.c '<openssl/ssl.h>' 'daemon/net/tls_openssl.c'
bad daemon/flow/link.c '<mosquitto.h>' 'tools/hubctl/'
bad daemon/flow/link.c '"tests/harness.h"' 'written from daemon/'
bad daemon/flow/link.c '"tools/emulator/hub.h"' 'written from daemon/'
bad daemon/flow/link.c '"../net/conn.h"' 'written from daemon/'
bad daemon/flow/link.c '"link.h"' 'no such module'
bad daemon/flow/link.c '"shiny/thing.h"' 'no such module'
bad daemon/shiny/thing.c '"base/buf.h"' 'no rule for module shiny'

said=$("$layers")
[ -z "$said" ]
report $? 'the tree as it is'
echo "1..$n"
exit "$failed"
