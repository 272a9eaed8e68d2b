#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# with-namespace.sh PROGRAM ARGS...: runs it as process 1 of a process namespace with a /proc of its own, with
# $EGM_TEST_BUS, the address of a private bus that ends with it.
set -eu
. "$(dirname "$0")/../lib.sh"

user=
[ "$(id -u)" -eq 0 ] || user=--map-root-user
# shellcheck disable=SC2086 # nothing or one word
unshare $user --pid --fork --kill-child --mount-proc true 2>/dev/null || skip "no namespaces here"
start_bus
# shellcheck disable=SC2086
EGM_TEST_BUS=$bus TMPDIR=$tmp unshare $user --pid --fork --kill-child --mount-proc "$@"
