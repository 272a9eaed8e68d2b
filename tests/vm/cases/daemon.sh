#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 600
# The installed daemon under systemd: regions come up, are lent, come back clean.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail

accounts() { # accounts STEP: every byte of every region is in one state
        local name problem='' free leased draining dirty scrubbing retired total
        for name in egm4 egm5; do
                # One reading of all: they change together.
                egmctl show-region "$name" >/run/region.out
                total=$(field Size) free=$(field Free) leased=$(field Leased)
                draining=$(field Draining) dirty=$(field Dirty) scrubbing=$(field Scrubbing)
                retired=$(field Retired)
                if [ "$total" != "$size" ] ||
                        ((total != free + leased + draining + dirty + scrubbing + retired)); then
                        problem+="$name: $(tr '\n' ' ' </run/region.out)"
                fi
        done
        is "accounts: $1" "$problem" ""
        check "status: $1" egmctl status
}

field() {
        sed -n "s/^$1=//p" /run/region.out
}

both_settled() {
        region_settled egm4 && region_settled egm5
}

check "the daemon starts" egmd_start || bail
is "it is active" "$(systemctl is-active egmd)" active
check "both regions are ready and clean" wait_until 60 both_settled || {
        egmctl show-region
        bail
}
accounts "at first"
for name in egm4 egm5; do
        is "$name: all is free" "$(region $name Free)" "$size"
        is "$name: device" "$(region $name DevicePath)" "/dev/$name"
done
case $VARIANT in
K2) wanted=whole-only ;;
*) wanted=full ;;
esac
is "what of it can be lent" "$(region egm4 Partitioning)" $wanted
driver=nvgrace-gpu-vfio-pci
like "the GPUs' drivers" "$(region egm4 GpuDrivers)" \
        "0008:01:00.0.*$driver.*0009:01:00.0.*$driver"
is "by node" "$(readlink -f /dev/egm/by-node/0) $(readlink -f /dev/egm/by-node/1)" \
        "/dev/egm4 /dev/egm5"
for gpu in 0008:4 0009:4 0018:5 0019:5; do
        is "by GPU" "$(readlink -f "/dev/egm/by-gpu/${gpu%:*}:01:00.0")" "/dev/egm${gpu#*:}"
done
is "the node's mode" "$(stat -c '%a %U %G' /dev/egm4)" "600 root egm"

# Two at once, on different sockets.
check "one has memory of its own GPU's" vm_start one 165 --size=16M --gpu=0009:01:00.0
accounts "one out"
check "the other of the other socket's" vm_start two 90 --size=16M --gpu=0019:01:00.0
accounts "two out"
first=$(vm_slice one)
is "where the one's is" "$first" egm4:0:16777216
is "where the other's is" "$(vm_slice two)" egm5:0:16777216
is "what is leased" "$(region egm4 Leased) $(region egm5 Leased)" "16777216 16777216"
if [ "$VARIANT" = K2 ]; then
        check_fails "no second while it is out" "serves one lease at a time and is in use" \
                egmctl run --size=16M --region=egm4 -- true
else
        check "a third beside the first" vm_start three 7 --size=16M --region=egm4
        is "where the third's is" "$(vm_slice three)" egm4:16777216:16777216
        accounts "three out"
        check "the third found its own" vm_stop three
fi
check "the one found its own" vm_stop one
accounts "one is back"
check "it is cleaned" wait_until 60 region_settled egm4
is "and free" "$(region egm4 Free)" "$size"

# The next one checks that it is zero.
check "the next one finds zeros" vm_start next 17 --size=16M --region=egm4
is "in the same place" "$(vm_slice next)" "$first"
check "and its own at the end" vm_stop next
check "a whole region is clean, too" vm_start all 33 --whole --region=egm4
accounts "a whole one out"
is "all is leased" "$(region egm4 Leased)" "$size"
check "all of it is its own" vm_stop all
check "the other's is still as he left it" vm_stop two
check "all is cleaned again" wait_until 60 both_settled
accounts "all are back"

# Others than root; the daemon has to see into their processes to know that they are gone.
nobody=(setpriv --reuid=nobody --regid=nogroup)
check "anybody may look" "${nobody[@]}" --clear-groups egmctl status
check "and introspect" "${nobody[@]}" --clear-groups \
        busctl introspect org.nvidia.Egm1 /org/nvidia/Egm1
check_fails "but not acquire" "" "${nobody[@]}" --clear-groups egmctl run --size=2M -- true
said=$("${nobody[@]}" --clear-groups busctl call org.nvidia.Egm1 /org/nvidia/Egm1 \
        org.nvidia.Egm1.Manager AcquireLease 'a{sv}' 1 Slices 'aa{sv}' 1 1 Size t 2097152 2>&1)
like "and hears why" "$said" '[Aa]ccess.*denied|AccessDenied|[Rr]ejected|Permission denied'
check "the group may" vm_start_as "${nobody[*]} --groups=egm" member 51 --size=8M --region=egm5
lease=$(vm_lease member)
check "released under it" egmctl release "$lease"
is "it drains" "$(egmctl show-lease "$lease" -p State --value)" draining
held_up() {
        egmctl show-lease "$lease" -p HeldUpBy --value | grep -q pretend-vm
}
check "and is told who has it" wait_until 60 held_up
is "no byte of it is free" "$(region egm5 Draining)" 8388608
accounts "one drains"
check "nobody touched it" vm_stop member
check "it comes back when that is gone" wait_until 60 region_settled egm5
is "all of it" "$(region egm5 Free)" "$size"

# A region comes and goes.
sim_present 5 0
check "unplugged: gone" wait_until 60 region_is egm5 State gone
check "status with a region gone" egmctl status
sim_present 5 1
check "back: ready" wait_until 60 region_settled egm5
accounts "back"

is "still the first process" "$(systemctl show -P NRestarts egmd)" 0
journalctl --sync
is "nothing failed for want of rights, nor by opening twice" \
        "$(egmd_said | grep -iE 'denied|not permitted|held|busy|assert')" ""
check "it stops" systemctl stop egmd
is "quietly" "$(systemctl show -P Result egmd)" success

finish
