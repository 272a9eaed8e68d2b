#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-linux.sh EGMCTL EGMD PATH_USER GUEST_A GUEST_B INIT: a Debian kernel on QEMU as it comes, whose whole RAM is a lease.
set -eu
egmctl=$(realpath "$1") egmd=$(realpath "$2") path_user=$(realpath "$3") guest_b=$(realpath "$5") init=$(realpath "$6")
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
. "$here/lib-vmm.sh"
[ "$(id -u)" -eq 0 ] || skip "not root"
qemu=qemu-system-x86_64 qemu_args='' qemu_offset='' wrapper='' mem_path=''
command -v "$qemu" >/dev/null || skip "no $qemu"
# The one that scripts/test-vm boots, if it is here.
kernel=$(ls -t "${XDG_CACHE_HOME:-$HOME/.cache}"/egmd-rig/*/vmlinuz 2>/dev/null | head -n 1)
[ -n "$kernel" ] || kernel=$("$here/get-backport" kernel)

region_mib=512
start_bus
start_region
"$here/make-initramfs" "$init" "$tmp/initramfs"

mkfifo "$tmp/console"
# cx16=off: what QEMU 7.2 translates CMPXCHG16B to spoils the flags now and then, with any memory, and Linux panics.
"$egmctl" --bus="$bus" run --size=256M --label=linux --wait=60 -- "$qemu" -nodefaults -no-user-config -display none -accel tcg \
        -M pc,memory-backend=m -cpu max,cx16=off -m 256M -kernel "$kernel" -initrd "$tmp/initramfs" \
        -append 'console=ttyS0 panic=-1 no_timer_check' -no-reboot \
        -object 'memory-backend-file,id=m,share=on,size={0.size},mem-path={0.path}' \
        -chardev "file,id=c,path=$tmp/console" -serial chardev:c </dev/null 2>"$tmp/linux.err" &
run=$!
pids="$pids $run"
# All it says is kept, for when it is not what it should be.
while read -r line; do
        echo "$line" >>"$tmp/console.log"
        case $line in
        *egm-guest:*filled*) break ;;
        esac
done <"$tmp/console"
said=$(sed -n 's/.*egm-guest: //p' "$tmp/console.log" | tr -d '\r')
[ -n "$said" ] || die "the guest did not say that it is there: $(cat "$tmp/linux.err" "$tmp/console.log")"
id=$(ctl list-leases --no-legend | awk '$2 == "linux" { print $1 }')
pid=$(ctl show-lease "$id" -p HolderPid --value)
remember "$pid"
offset=$(ctl show-lease "$id" -p Slices --value | cut -d: -f2)
[ "$offset" -ge $((16 * m)) ] || die "at the start of the region"
[ "$(maps_of "$pid")" = "$(printf '%08x' "$offset")" ] || die "mapped at $(maps_of "$pid")"
# Its memory is in the lease, and nothing of it anywhere else.
mib=${said#*filled } mib=${mib% MiB}
[ "$mib" -ge 100 ] || die "it filled $mib MiB only"
found=$(tail -c +$((offset + 1)) "$region_file" | head -c $((256 * m)) | tr -cd E | wc -c)
[ "$found" -ge $((mib * m)) ] || die "$found bytes of $mib MiB are in the lease"
bytes_are 0+$((16 * m))=17 $((16 * m))+$((offset - 16 * m))=0 $((offset + 256 * m))+=0

kill_guest "$run" "$pid"
settle
# The next one, which has all that is left, finds nothing of it; nor does the next guest.
"$egmctl" --bus="$bus" run --size=$((region_mib - 16))M --wait=60 -- "$path_user" rw='{0.path}' \
        map=0+$(((region_mib - 16) * m)) expect=0 >/dev/null
settle
start_guest b "$guest_b" "$egmctl" --bus="$bus" run
kill_guest "$b_run" "$b_pid"
settle
echo "Linux $said."
