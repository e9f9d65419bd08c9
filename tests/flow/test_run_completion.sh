#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Completion of iothub-run's command lines.
set -u
source tests/support/completion.sh iothub-run

offers 'methods commands' ''
offers methods m
offers commands --jobs 2 c
offers commands --jobs = 2 c
offers '' --jobs ''
offers --max-deliveries commands --max
offers 'packaging/completions' --mount packaging/c
offers 'packaging/completions' --mount = packaging/c
offers 'packaging/completions' methods packaging/c
offers packaging/install-deps commands packaging/i
offers packaging/install-deps commands packaging/install-deps packaging/i
offers packaging/install-deps commands packaging/install-deps --jobs packaging/i
every_option

echo "1..$n"
exit "$failed"
