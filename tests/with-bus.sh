#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs a program with $EGM_TEST_BUS, the address of a private bus that ends with it.
set -eu
. "$(dirname "$0")/lib.sh"
start_bus
EGM_TEST_BUS=$bus "$@"
