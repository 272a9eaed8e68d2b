#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs a program where /proc shows nobody but it and its children, if the kernel lets us: the daemon looks through /proc
# whenever memory comes back, and here that is over and over.
set -eu
options='--pid --fork --mount-proc --kill-child'
[ "$(id -u)" -eq 0 ] || options="--user --map-root-user $options"
# shellcheck disable=SC2086
if unshare $options true 2>/dev/null; then
        exec unshare $options "$@"
fi
exec "$@"
