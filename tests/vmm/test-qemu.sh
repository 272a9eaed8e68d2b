#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-qemu.sh EGMCTL EGMD PATH_USER GUEST_A GUEST_B [QEMU-FOLDER]: a real QEMU, as it comes, whose whole RAM is a lease of a
# simulated region at an offset that is not 0. With a folder: that of unpacked packages.
set -eu
egmctl=$(realpath "$1") egmd=$(realpath "$2") path_user=$(realpath "$3") guest_a=$(realpath "$4") guest_b=$(realpath "$5")
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
. "$here/lib-vmm.sh"
[ "$(id -u)" -eq 0 ] || skip "not root: nobody to become"
qemu=qemu-system-x86_64 qemu_args='' qemu_offset='' wrapper='' mem_path=''
if [ -n "${6-}" ]; then
        # Where somebody without rights can read it.
        cp -r "$6" "$tmp/qemu"
        chmod -R a+rX "$tmp/qemu"
        qemu=$tmp/qemu/usr/bin/qemu-system-x86_64
        qemu_args="-L $tmp/qemu/usr/share/qemu -L /usr/share/seabios -L /usr/share/qemu"
fi
command -v "$qemu" >/dev/null || skip "no $qemu"
version=$("$qemu" --version | sed -n '1s/QEMU emulator version //p')
"$qemu" -object memory-backend-file,help | grep -q offset= && knows_offset=1 || knows_offset=''
[ -z "${6-}" ] || [ -n "$knows_offset" ] || die "QEMU $version has no offset="

start_bus
start_region
copy_for_nobody
as_nobody="setpriv --reuid=$nobody --regid=$nobody --clear-groups" as_user="setpriv --reuid=$nobody --regid=$nobody --groups=$group"
sandbox="-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
cases=0

# Each with QEMU that is not told of the offset, and with one that is, where it can be.
for qemu_offset in '' ${knows_offset:+",offset={0.offset}"}; do
        base=$qemu_args
        whole_life "$egmctl" --bus="$bus" run
        cases=$((cases + 1))
        # That is proven with a QEMU that has none.
        [ -n "$qemu_offset" ] || [ -z "$knows_offset" ] || continue
        qemu_args="$base $sandbox"
        whole_life "$egmctl" --bus="$bus" run
        # QEMU without rights, which root's egmctl starts; the region's name in the arguments.
        wrapper=$as_nobody mem_path=/dev/egm4
        whole_life "$egmctl" --bus="$bus" run --as=/dev/egm4
        wrapper='' mem_path='' qemu_args=$base
        # All of it without rights.
        whole_life $as_user env LD_LIBRARY_PATH="$for_nobody" "$for_nobody/egmctl" --bus="$bus" run
        qemu_args="$base $sandbox"
        whole_life $as_user env LD_LIBRARY_PATH="$for_nobody" "$for_nobody/egmctl" --bus="$bus" run
        qemu_args=$base
        cases=$((cases + 4))
done

# Two at once. The one that dies takes nothing from the other.
qemu_offset=''
start_guest a "$guest_a" "$egmctl" --bus="$bus" run
start_guest b "$guest_b" "$egmctl" --bus="$bus" run
bytes_are 0+$((16 * m))=17 "$(filled a "$a_offset" 65)" "$(filled b "$b_offset" 66)" $((80 * m))+=0
kill_guest "$a_run" "$a_pid"
eventually 60 free_is $((80 * m)) || die "not free again: $(ctl)"
bytes_are 0+$((16 * m))=17 "$a_offset+$((32 * m))=0" "$(filled b "$b_offset" 66)"
start_guest a "$guest_a" "$egmctl" --bus="$bus" run
bytes_are "$(filled a "$a_offset" 65)" "$(filled b "$b_offset" 66)"
# egmctl dies: the guest runs on, and keeps its memory.
kill -KILL "$b_run"
wait "$b_run" 2>/dev/null || :
kill_guest "$a_run" "$a_pid"
eventually 60 free_is $((80 * m)) || die "not free again: $(ctl)"
kill -0 "$b_pid" || die "the guest died with egmctl"
bytes_are "$(filled b "$b_offset" 66)"
kill -KILL "$b_pid"
forget "$b_pid"
settle

# Told wrong, it does not start, and says why.
for bad in share=off offset=0 readonly=on; do
        case $bad in
        offset=0) [ -n "$knows_offset" ] || continue ;;
        esac
        _got=0
        timeout 240 "$egmctl" --bus="$bus" run --size=32M --wait=60 --shift=$([ $bad = offset=0 ] && echo off || echo auto) -- "$qemu" $qemu_args -nodefaults \
                -no-user-config -display none -accel tcg -M pc,memory-backend=m -m 32M \
                -object "memory-backend-file,id=m,share=on,size=32M,mem-path={0.path},$bad" </dev/null 2>"$tmp/err" || _got=$?
        [ $_got -eq 1 ] || die "$bad: $_got: $(cat "$tmp/err")"
        case $bad in
        share=off) grep -q 'egmctl: .*share=on' "$tmp/err" ;;
        offset=0) grep -q 'egmctl: .*outside of the lease' "$tmp/err" ;;
        readonly=on) grep -q 'egmctl: .*without having opened' "$tmp/err" ;;
        esac || die "$bad: $(cat "$tmp/err")"
        settle
done

echo "QEMU $version, ${knows_offset:+with and }without offset=: $cases lives."
