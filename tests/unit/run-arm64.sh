#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# run-arm64.sh TOP DIR: zero.c as arm64 has it, built by a cross compiler and run under qemu-user.
set -eu
top=$1 dir=$2
command -v aarch64-linux-gnu-gcc >/dev/null || { echo "no aarch64-linux-gnu-gcc"; exit 77; }
command -v qemu-aarch64 >/dev/null || { echo "no qemu-aarch64"; exit 77; }
aarch64-linux-gnu-gcc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static \
        -I"$top/src/shared" -I"$top/src/egmd" -o "$dir/test-zero-arm64" \
        "$top/tests/unit/zero-arm64.c" "$top/src/egmd/zero.c"
exec qemu-aarch64 "$dir/test-zero-arm64"
