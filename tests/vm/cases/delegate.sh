#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# A whole region, handed over by path to a user of its own, as libvirt and KubeVirt take it.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail
# shellcheck disable=SC2209
as_vmm="setpriv --reuid=12345 --regid=12345 --clear-groups"

owner() { stat -c %u /dev/egm4; }
lease_is() { # lease_is ID PROPERTY PATTERN
        [[ $(egmctl show-lease "$1" -p "$2" --value) =~ $3 ]]
}
lease_gone() { ! egmctl show-lease "$1"; }

check "the daemon starts" egmd_start || bail
check "the region is ready" wait_until 60 region_settled egm4 || bail
check_fails "nobody else opens it" "EACCES" $as_vmm egm-probe open /dev/egm4
check_fails "not a part of it" "only a single whole region" egmctl lease --size=2M --persistent --delegate=12345
check_fails "not for a user that is none" "neither" egmctl lease --whole --persistent --delegate=no-such-user
is "nothing has changed" "$(region egm4 Free) $(owner)" "$size 0"

id=$(egmctl lease --whole --region=egm4 --persistent --label=path --delegate=12345 -p Id --value)
like "it is handed over" "$id" '^[0-9]+$' || bail
is "its state" "$(region egm4 State)" delegated
is "all of it is leased" "$(region egm4 Leased)" "$size"
is "the node's owner" "$(owner)" 12345
check_fails "nothing else is lent of it" "" egmctl run --size=2M --region=egm4 -- true
check "its user writes" $as_vmm egm-probe fill /dev/egm4 0 "$size" 7
check_fails "somebody else cannot open it" "EACCES" setpriv --reuid=54321 --clear-groups egm-probe open /dev/egm4

check "its user keeps it open" hold_open /dev/egm4 $as_vmm

pid=$(systemctl show -P MainPID egmd)
kill -9 "$pid"
check "a daemon that is killed comes back" wait_until 60 eval '[ "$(systemctl show -P MainPID egmd)" -gt 0 ] && [ "$(systemctl show -P MainPID egmd)" != "$pid" ] && egmctl status'
is "it is handed over still" "$(region egm4 State)" delegated
check "the lease is there" lease_is "$id" State active
check "systemctl restart" systemctl restart egmd
is "and again" "$(region egm4 State) $(owner)" "delegated 12345"

check "it is released" egmctl release "$id"
is "the node is taken back" "$(owner)" 0
check_fails "nobody comes in any more" "EACCES" $as_vmm egm-probe open /dev/egm4
check "who has it holds it up" wait_until 60 lease_is "$id" HeldUpBy "$holder"
check "restarted once more" systemctl restart egmd
check "who has it holds it up still" wait_until 60 lease_is "$id" HeldUpBy "$holder"
is "not opened beside him" "$(region egm4 State)" delegated
check "he leaves" hold_close
check "it is taken over and cleaned" wait_until 60 region_settled egm4
check "the lease is over" wait_until 60 lease_gone "$id"
is "all of it is free" "$(region egm4 Free)" "$size"
check "whoever comes next finds zeros" vm_start next 9 --whole --region=egm4
check "nobody touches it" vm_stop next

# A lease that lives by its descriptor ends with it.
rm -f /run/lease.in
mkfifo /run/lease.in
egmctl lease --whole --region=egm5 --delegate=12345 --wait=60 <>/run/lease.in >/run/lease.out &
lease=$!
check "another one" wait_until 60 region_is egm5 State delegated
kill "$lease"
wait "$lease"
check "comes back by itself" wait_until 60 region_settled egm5
is "to the last byte" "$(region egm5 Free)" "$size"
finish
