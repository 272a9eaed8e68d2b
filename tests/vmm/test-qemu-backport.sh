#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-qemu-backport.sh ARGS...: test-qemu.sh with a QEMU that has offset=, if the one that is installed has not.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if qemu-system-x86_64 -object memory-backend-file,help 2>/dev/null | grep -q offset=; then
        echo "the installed QEMU has offset="
        exit 0
fi
qemu=$("$here/get-backport" qemu)
exec sh "$here/test-qemu.sh" "$@" "$qemu"
