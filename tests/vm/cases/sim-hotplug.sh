#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# Regions and GPUs that come and go while the module is loaded, also under open files.
. "$LIB"

events_start() {
        rm -f /run/events
        udevadm monitor --kernel --subsystem-match=egm >/run/events &
        monitor=$!
        wait_until 60 grep -q KERNEL /run/events
}

events_stop() { # sequence of "add egm4 remove egm4 ..."
        udevadm settle --timeout=240
        wait_until 60 events_are "$1"
        kill "$monitor"
        wait "$monitor" 2>/dev/null
        is "events" "$(events)" "$1"
}

events() {
        sed -nE 's|^KERNEL\[[^]]*\] *(\S+) .*/(egm[0-9]+) \(egm\)|\1 \2|p' /run/events | tr '\n' ' '
}

events_are() {
        [ "$(events)" = "$1" ]
}

gpu_count() {
        if [ "$VARIANT" = K2 ]; then
                wc -l <"/sys/class/egm/egm$1/gpu_devices"
        else
                find "/sys/class/egm/egm$1/" -name '????:??:??.?' | wc -l
        fi
}

sim_load size=0x4000000,0x4000000 || bail
driver=/sys/bus/pci/drivers/nvgrace-gpu-vfio-pci

# A region that goes away under an open file and a mapping.
check "a file is open" hold_open /dev/egm4
events_start
sim_present 4 0
udevadm settle
check "the node goes" test ! -e /dev/egm4
check "the other one stays" test -e /dev/egm5
check_fails "the module is in use" "in use" rmmod egmsim
sim_present 4 1
udevadm settle
check "it comes back" egm-probe expect /dev/egm4 0 0x4000000 0
is "as a new one, scrubbed once" "$(sim_state 4 scrubs)" 1
check "the old file is closed" hold_close
is "which counts nowhere" "$(sim_state 4 opens)" 0
events_stop "remove egm4 add egm4 "

# GPUs that are plugged in later and pulled out.
events_start
sim_gpus 4 3
udevadm settle
check "a third GPU" test -e /sys/bus/pci/devices/000a:01:00.0/driver
case $VARIANT in
K2 | R2) is "joins the region" "$(gpu_count 4)" 3 ;;
*) is "is not noticed" "$(gpu_count 4)" 2 ;;
esac
sim_gpus 4 1
udevadm settle
check "pulled out" test ! -e /sys/bus/pci/devices/0009:01:00.0
case $VARIANT in
K2 | R2) is "it leaves the region" "$(gpu_count 4)" 1 ;;
*)
        is "its link stays" "$(gpu_count 4)" 2
        check "and dangles" test ! -e /sys/class/egm/egm4/0009:01:00.0
        ;;
esac
events_stop ""

# Unbinding: the older versions' regions live by it.
events_start
echo 0018:01:00.0 >$driver/unbind
if [ "$VARIANT" = R2 ]; then
        # the parent's GPU: the region moves to the other one
        udevadm settle
        like "the region moved" "$(readlink -f /sys/class/egm/egm5)" /0019:01:00.0/
else
        check "one unbound: the region stays" test -e /sys/class/egm/egm5
fi
echo 0019:01:00.0 >$driver/unbind
udevadm settle
case $VARIANT in
K2 | R2)
        check "both unbound: it goes" test ! -e /sys/class/egm/egm5
        echo 0019:01:00.0 >$driver/bind
        echo 0018:01:00.0 >$driver/bind
        udevadm settle
        check "bound again: it is back" egm-probe expect /dev/egm5 0 0x4000000 0
        [ "$VARIANT" != K2 ] || is "in the order of binding" \
                "$(tr '\n' ' ' </sys/class/egm/egm5/gpu_devices)" "0019:01:00.0 0018:01:00.0 "
        ;;
*) is "it is nobody's business" "$(gpu_count 5)" 2 ;;
esac
case $VARIANT in
K2) events_stop "remove egm5 add egm5 " ;;
R2) events_stop "remove egm5 add egm5 remove egm5 add egm5 " ;;
*) events_stop "" ;;
esac

# From none to one: the older versions' region appears with it.
sim_gpus 5 0
udevadm settle
case $VARIANT in
K2 | R2) check "no GPU: no region" test ! -e /dev/egm5 ;;
*) check "no GPU: the region stays" test -e /dev/egm5 ;;
esac
sim_gpus 5 1
udevadm settle
check "a GPU: a region" test -e /dev/egm5

# Again and again; something may be lost on the way.
for i in 1 2 3 4 5; do
        sim_present 4 0
        sim_present 5 0
        sim_present 5 1
        sim_present 4 1
        sim_gpus 4 "$i"
done
udevadm settle
check "after some rounds both are there" test -e /dev/egm4 -a -e /dev/egm5
finish
