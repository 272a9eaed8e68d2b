#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# A small VMM that opens its memory by path, as QEMU does, on the device itself: egm-probe opens, maps, writes and compares.
. "$LIB"
size=67108864 slice=8388608
sim_load "size=$size,$size" || bail
check "the daemon starts" egmd_start || bail
check "the regions are ready" wait_until 60 region_settled egm4 || bail
wait_until 60 region_settled egm5

acquire() { # acquire LABEL OPTION...: prints its number
        egmctl lease --persistent --label="$1" "${@:2}" -p Id --value
}
vmm() { # vmm LEASE OPTION... -- ARGUMENT...: egm-probe on it
        local lease=$1 options=()
        shift
        while [ "$1" != -- ]; do
                options+=("$1")
                shift
        done
        egmctl run --lease="$lease" --inject "${options[@]}" -- egm-probe "${@:2}"
}
gone() { ! egmctl show-lease "$1"; }

if [ "$VARIANT" = K2 ]; then
        # Offsets are ignored: one lease of a region, from its start.
        lease=$(acquire vmm --size=$slice --region=egm4)
        leases=$lease
else
        before=$(acquire before --size=$slice --region=egm4)
        lease=$(acquire vmm --size=$slice --region=egm4)
        behind=$(acquire behind --size=$slice --region=egm4)
        leases="$before $lease $behind"
        is "it does not start at 0" "$(egmctl show-lease "$lease" -p Slices --value)" "egm4:$slice:$slice"
fi
like "leases are out" "$leases" '^[0-9 ]+$' || bail

check "a VMM that knows its offset finds zeros" vmm "$lease" -- expect '{0.path}' '{0.offset}' '{0.size}' 0
check "and writes" vmm "$lease" -- fill '{0.path}' '{0.offset}' '{0.size}' 7
check "one that knows none sees the same" vmm "$lease" --shift=on -- expect '{0.path}' 0 '{0.size}' 7
check "and writes" vmm "$lease" --shift=on -- fill '{0.path}' 0 '{0.size}' 9
check "which the first sees" vmm "$lease" -- expect '{0.path}' '{0.offset}' '{0.size}' 9
check "one that opens the region's own path" vmm "$lease" --as=/dev/egm4 -- expect /dev/egm4 '{0.offset}' '{0.size}' 9
for i in ${before-} ${behind-}; do
        check "the neighbour $i is untouched" vmm "$i" -- expect '{0.path}' '{0.offset}' '{0.size}' 0
done
check_fails "not a byte more" "" vmm "$lease" -- map '{0.path}' '{0.offset}' $((slice + 65536))
check_fails "not a page further" "" vmm "$lease" --shift=on -- map '{0.path}' 65536 '{0.size}'
[ "$VARIANT" = K2 ] || check_fails "not the neighbour's" "" vmm "$lease" --shift=off -- map '{0.path}' 0 $slice

# Somebody who may not open the node (and whom the bus knows), and owns a lease of the other region.
id=$(acquire theirs --size=$slice --region=egm5 --owner=65534)
as_vmm="setpriv --reuid=65534 --regid=65534 --clear-groups"
check_fails "who may not open the node" "EACCES" $as_vmm egm-probe open /dev/egm5
check "runs on its lease all the same" $as_vmm egmctl run --lease="$id" --inject -- \
        egm-probe fill '{0.path}' '{0.offset}' '{0.size}' 5
check "and finds it again" $as_vmm egmctl run --lease="$id" --inject -- \
        egm-probe expect '{0.path}' '{0.offset}' '{0.size}' 5
check_fails "but not on another's" "belongs to" $as_vmm egmctl run --lease="$lease" --inject -- true

for i in $leases $id; do
        check "$i is released" egmctl release "$i"
        check "and over" wait_until 60 gone "$i"
done
check "all is clean again" wait_until 60 region_settled egm4
lease=$(acquire next --size=$slice --region=egm4)
check "the next one finds zeros" vmm "$lease" -- expect '{0.path}' '{0.offset}' '{0.size}' 0
check "it is released" egmctl release "$lease"
finish
