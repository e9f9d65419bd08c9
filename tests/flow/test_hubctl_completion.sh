#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of hubctl's command lines: every command and every option its help names.
set -u
source tests/support/completion.sh hubctl

offers 'devices monitor twin command method fault --help --version' ''
offers 'monitor method' m
offers 'add list show remove keys --help' devices ''
offers 'show patch watch --help' twin ''
offers call method c
offers --device monitor --d
offers 'primary secondary both' devices keys dev1 --regenerate ''
offers 'queued dead-lettered' command purge dev1 --state = ''
offers every= fault set cut e
offers 'before unanswered after either' fault set cut when =
offers 'twin-get twin-patch' fault set delay operation = twin
offers packaging/completions/hubctl command send dev1 --file packaging/completions/hu

# Devices come from the hub: here, from what prints the arguments it was asked with.
hubctl=$program
program='echo'
offers devices twin show dev
offers 'hub/service' twin show --connection-string-file hub/service hub
offers 'hub/service' method call --connection-string-file = hub/service hub
offers '' method call dev1 hub
program=$hubctl
every_command 17

echo "1..$n"
exit "$failed"
