#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# Everything at once: whoever blames the daemon for an oops must not have to doubt the stand-in.
. "$LIB"
sim_load size=0x1000000,0x1000000 scrub_step=0x100000 late_ms=1 || bail
rounds=8

users() { # opens, maps, reads the list; what they get depends on the others
        local i
        for ((i = 0; i < rounds; i++)); do
                egm-probe fill "/dev/egm$1" 0 0x800000 7
                egm-probe list "/dev/egm$1"
                egm-probe map "/dev/egm$1" 0 4096
        done >/dev/null 2>&1
}

readers() {
        local i
        for ((i = 0; i < rounds * 4; i++)); do
                cat /sys/class/egm/egm*/{egm_size,gpu_devices,sim_state}
                ls -lR /sys/class/egm/ /sys/bus/pci/drivers/nvgrace-gpu-vfio-pci/
        done >/dev/null 2>&1
}

comers_and_goers() {
        local i
        for ((i = 0; i < rounds; i++)); do
                sim_present "$1" 0
                sim_poison "$1" $((i % 8 << 20))
                sim_present "$1" 1
                sim_poison "$1" $((i % 8 << 20))
                sim_retire "$1" "$((i << 16))*2"
        done 2>/dev/null
}

pluggers() {
        local i gpu=00$(($1 - 4))8:01:00.0 driver=/sys/bus/pci/drivers/nvgrace-gpu-vfio-pci
        for ((i = 0; i < rounds; i++)); do
                sim_gpus "$1" $((i % 3))
                echo "$gpu" >$driver/unbind
                sim_publish "$1"
                echo "$gpu" >$driver/bind
        done 2>/dev/null
}

pids=()
for id in 4 5; do
        for what in users users comers_and_goers pluggers; do
                $what $id &
                pids+=($!)
        done
done
readers &
pids+=($!)
wait "${pids[@]}"
udevadm settle --timeout=240

for id in 4 5; do
        sim_present $id 0
        sim_gpus $id 0
        sim_gpus $id 2
        sim_present $id 1
        udevadm settle --timeout=240
        is "egm$id: nobody has it open" "$(sim_state $id opens)" 0
        check "egm$id: new and clean" egm-probe expect /dev/egm$id 0 0x1000000 0
done
check "it lets go of everything" sim_unload
finish
