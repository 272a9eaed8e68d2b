#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# qemu-on-lease.sh EGMCTL BUS FDS HOST LEAVE_OUT FORMAT_ARGS...: under `egmctl run`, QEMU with the words of `egmctl format` for
# this lease, stopped before its first instruction; says what it knows of its memory. LEAVE_OUT: the type of object that this
# version of QEMU does not know, or nothing.
set -eu
egmctl=$1 bus=$2 fds=$3 host=$4 leave_out=$5
shift 5
# shellcheck disable=SC2046 # words
set -- $("$egmctl" --bus="$bus" format "$EGM_LEASE" --node-directory="$host" --fd="$fds" "$@")
n=$#
while [ "$n" -gt 0 ]; do
        option=$1 value=$2
        shift 2
        [ "${value%%,*}" = "${leave_out:--}" ] || set -- "$@" "$option" "$value"
        n=$((n - 2))
done
printf 'info numa\ninfo memdev\nquit\n' |
        timeout 240 qemu-system-aarch64 -machine virt,accel=tcg -cpu max -smp 4,sockets=2 -S -nodefaults -display none \
                -monitor stdio -device pci-testdev,id=dev0 -device pci-testdev,id=dev1 -device pci-testdev,id=dev2 \
                -device pci-testdev,id=dev3 "$@"
