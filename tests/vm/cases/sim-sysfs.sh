#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# What sysfs shows of the regions and their GPUs, and when.
. "$LIB"

names() { # what is in egmN/, without what only the stand-in has
        find "/sys/class/egm/egm$1/" -mindepth 1 -maxdepth 1 ! -name 'sim_*' -printf '%f\n' |
                sort | tr '\n' ' '
}

case $VARIANT in
K2)
        contents="dev egm_size gpu_devices power subsystem uevent "
        bare="dev power subsystem uevent "
        path4=/sys/devices/virtual/egm/egm4
        path5=/sys/devices/virtual/egm/egm5
        ;;
R2)
        contents="dev device egm_size power subsystem uevent "
        bare=$contents
        path4=/sys/devices/pci0008:00/0008:00:00.0/0008:01:00.0/nvgrace_gpu_vfio_pci.egm.4/egm/egm4
        path5=/sys/devices/pci0018:00/0018:00:00.0/0018:01:00.0/nvgrace_gpu_vfio_pci.egm.5/egm/egm5
        ;;
S3 | S4)
        contents="dev egm_size power subsystem uevent "
        bare=$contents
        path4=/sys/devices/virtual/egm/egm4
        path5=/sys/devices/virtual/egm/egm5
        ;;
esac

gpus_of() { # the GPUs of egmN, in whichever way this version tells them
        if [ "$VARIANT" = K2 ]; then
                tr '\n' ' ' <"/sys/class/egm/egm$1/gpu_devices"
        else
                (cd "/sys/class/egm/egm$1" && ls -d ????:??:??.? 2>/dev/null | tr '\n' ' ')
        fi
}

sim_load size=0x4000000,0x3ff0000 || bail
is "egm4 holds" "$(names 4 | sed -E 's/[0-9]{4}:01:00\.0 //g')" "$contents"
is "egm4 is at" "$(readlink -f /sys/class/egm/egm4)" "$path4"
is "egm5 is at" "$(readlink -f /sys/class/egm/egm5)" "$path5"
is "egm4's size" "$(cat /sys/class/egm/egm4/egm_size)" 0x4000000
is "egm5's size" "$(cat /sys/class/egm/egm5/egm_size)" 0x3ff0000
is "egm_size is" "$(stat -c %A /sys/class/egm/egm4/egm_size)" -r--r--r--
is "egm4's GPUs" "$(gpus_of 4)" "0008:01:00.0 0009:01:00.0 "
is "egm5's GPUs" "$(gpus_of 5)" "0018:01:00.0 0019:01:00.0 "
like "egm4's number" "$(cat /sys/class/egm/egm4/dev)" '^[0-9]+:4$'
like "/proc/devices has the name" "$(cat /proc/devices)" '[0-9]+ egm'
for property in SUBSYSTEM=egm DEVNAME=/dev/egm4 MINOR=4; do
        check "udev: $property" grep -qx "E: $property" <(udevadm info /dev/egm4)
done
like "uevent: mode" "$(cat /sys/class/egm/egm4/uevent)" DEVMODE=0600

pci=/sys/bus/pci/devices
for gpu in 0008:0 0009:0 0018:1 0019:1; do
        device=$pci/${gpu%:*}:01:00.0
        is "${gpu%:*} is" "$(cat "$device/vendor" "$device/device" "$device/class" | tr '\n' ' ')" \
                "0x10de 0x2941 0x030200 "
        is "${gpu%:*}'s node" "$(cat "$device/numa_node")" "${gpu#*:}"
        is "${gpu%:*}'s driver" "$(basename "$(readlink -f "$device/driver")")" nvgrace-gpu-vfio-pci
done
sim_unload

# Late: the event comes first, the rest when the kernel gets round to it.
gpus_are() {
        [ "$(gpus_of 4)" = "$*" ]
}
sim_load late_ms=600000 || bail
is "at once egm4 holds" "$(names 4)" "$bare"
sim_publish 4
is "later egm4's GPUs are" "$(gpus_of 4)" "0008:01:00.0 0009:01:00.0 "
is "and the size" "$(cat /sys/class/egm/egm4/egm_size)" 0x10000000
is "egm5 still holds" "$(names 5)" "$bare"
check "gone before that ever came" sim_unload
sim_load late_ms=1 || bail
check "it also comes by itself" wait_until 60 gpus_are "0008:01:00.0 0009:01:00.0 "
sim_unload

# Unbound GPUs, and GPUs that are somebody else's.
sim_load driver= || bail
check "unbound" test ! -e $pci/0008:01:00.0/driver
case $VARIANT in
K2 | R2) check "no driver, no region" test ! -e /sys/class/egm/egm4 ;;
*) is "no driver, the same GPUs" "$(gpus_of 4)" "0008:01:00.0 0009:01:00.0 " ;;
esac
sim_unload
sim_load driver=other-driver node=-1,-1 || bail
is "another driver" "$(basename "$(readlink -f $pci/0008:01:00.0/driver)")" other-driver
is "no NUMA node" "$(cat $pci/0008:01:00.0/numa_node)" -1
sim_unload

# No EGM at all, and a region of nothing.
sim_load regions=0 || bail
if [ "$VARIANT" = S4 ]; then
        check "no EGM: no class" test ! -e /sys/class/egm
else
        is "no EGM: an empty class" "$(ls /sys/class/egm)" ""
fi
sim_unload
sim_load size=0,0x4000000 || bail
is "size zero" "$(cat /sys/class/egm/egm4/egm_size)" 0x0
case $VARIANT in
K2) check_fails "opening it" "open: EINVAL" egm-probe open /dev/egm4 ;;
R2) check_fails "opening it" "open: ENOMEM" egm-probe open /dev/egm4 ;;
*) check_fails "mapping it" "mmap: EINVAL" egm-probe map /dev/egm4 0 4096 ;;
esac
sim_unload

check_fails "a version that does not exist" "Invalid parameters" insmod /job/egmsim.ko variant=X9
check_fails "the kernel's own memory" "Device or resource busy" \
        insmod /job/egmsim.ko "variant=$VARIANT" phys=0x8000000
check "nothing is left of that" test ! -e /sys/class/egm
finish
