#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 600
# Regions that go away with leases out, and come back, while egmd is there and while it is not.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail
driver=/sys/bus/pci/drivers/nvgrace-gpu-vfio-pci

both_settled() {
        region_settled egm4 && region_settled egm5
}

said_lost() { # said_lost NAME: its bus connection told the tenant
        grep -qx lost "/run/tenant-$1.out"
}

lease_is() { # lease_is NAME STATE
        [ "$(egmctl show-lease "$(tenant_lease "$1")" -p State --value)" = "$2" ]
}

no_lease() { # no_lease NAME
        [ -z "$(egmctl list-leases --no-legend | awk -v name="$1" '$2 == name')" ]
}

# What came back is dirty, and nobody's while somebody can still reach it by what he has of the old device.
unlent() { # unlent REGION
        is "$1: nothing of it is lent" "$(region "$1" Leased)" 0
        is "$1: nothing is free while the old tenant maps it" "$(region "$1" Free)" 0
        check_fails "$1: nobody gets any of it" "" egmctl run --region="$1" --size=2M -- true
}

# The tenant of the old device goes: its memory is as it was to the end. The region is as good as new.
usable_again() { # usable_again REGION NAME
        check "$2 goes, and nobody has changed a byte" tenant_stop "$2"
        check "$1 becomes clean" wait_until 60 region_settled "$1"
        is "$1: all of it is free" "$(region "$1" Free)" "$size"
        check "$2's lease is over" wait_until 60 no_lease "$2"
        check "$1: a new lease is all zero" vm_start next 77 --region="$1" --whole
        check "$1: and works" vm_stop next
        check "$1: clean again" wait_until 60 region_settled "$1"
}

check "the daemon starts" egmd_start || bail
check "both regions are ready and clean" wait_until 60 both_settled || bail
pid=$(systemctl show -P MainPID egmd)

# ---- the module ----

check_fails "the module stays while egmd is there" "in use" rmmod egmsim
check "one has a lease" tenant_keep keep-one whole egm4 8M || bail
check "egmd stops" systemctl stop egmd
check_fails "the module stays while the tenant is there" "in use" rmmod egmsim
check "egmd starts" systemctl start egmd
check "the lease is there" lease_is keep-one active
pid=$(systemctl show -P MainPID egmd)

# ---- the device ----

sim_present 4 0
check "gone: the tenant hears of it" wait_until 60 said_lost keep-one
check "gone: the lease is lost" lease_is keep-one lost
check "gone: so is the region" region_is egm4 State gone
check "gone: status" egmctl status
check "gone: one descriptor less" wait_until 60 descriptors_kept 1
is "the other region is as it was" "$(region egm5 Free)" "$size"
sim_present 4 1
seen_again() {
        [[ $(region egm4 State) =~ ^(ready|held-elsewhere|failed)$ ]]
}
check "back: it is seen" wait_until 60 seen_again
unlent egm4
check "a restart between" systemctl restart egmd
check "the lease is lost still" lease_is keep-one lost
pid=$(systemctl show -P MainPID egmd)
unlent egm4
usable_again egm4 keep-one

# ---- its GPUs ----

case $VARIANT in
K2 | R2)
        check "one has a lease" tenant_keep keep-two whole egm5 8M || bail
        echo 0018:01:00.0 >$driver/unbind
        echo 0019:01:00.0 >$driver/unbind
        check "unbound: the tenant hears of it" wait_until 60 said_lost keep-two
        check "unbound: the lease is lost" lease_is keep-two lost
        echo 0019:01:00.0 >$driver/bind
        echo 0018:01:00.0 >$driver/bind
        udevadm settle
        usable_again egm5 keep-two
        ;;
*)
        check "one has a lease" tenant_keep keep-two whole egm5 8M || bail
        echo 0018:01:00.0 >$driver/unbind
        echo 0019:01:00.0 >$driver/unbind
        udevadm settle
        check "unbound: the lease is what it was" lease_is keep-two active
        check "unbound: a restart" systemctl restart egmd
        check "unbound: the lease is there" lease_is keep-two active
        echo 0019:01:00.0 >$driver/bind
        echo 0018:01:00.0 >$driver/bind
        udevadm settle
        check "bound: no byte has changed" tenant_stop keep-two
        check "bound: clean again" wait_until 60 region_settled egm5
        pid=$(systemctl show -P MainPID egmd)
        ;;
esac

is "all the time the same process" "$(systemctl show -P MainPID egmd)" "$pid"

# ---- while egmd is not there ----

check "one has a lease" tenant_keep keep-three whole egm4 8M || bail
check "another has one" tenant_keep keep-four whole egm5 8M || bail
check "egmd stops" systemctl stop egmd
sim_present 4 0
sim_present 4 1
sim_present 5 0
udevadm settle
check "egmd starts" systemctl start egmd
check "gone and back: the lease is lost" lease_is keep-three lost
check "gone: the lease is lost" lease_is keep-four lost
check "gone and back: it is seen" wait_until 60 seen_again
unlent egm4
sim_present 5 1
usable_again egm4 keep-three
usable_again egm5 keep-four
check "a descriptor for each region" wait_until 60 descriptors_kept 2
journalctl --sync
is "nothing else happened" "$(egmd_said | grep -iE 'denied|not permitted|assert|damaged')" ""
finish
