#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: S4
# seconds: 300
# kernel: preempt=full
# A fully preemptible kernel: since Linux 6.2 as good as any; before, the programs may find nothing where there is something, so
# that nothing is called enforced there.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail

like "it is one" "$(cat /sys/kernel/debug/sched/preempt)" '\(full\)'
check "the daemon starts" egmd_start || bail
check "the region is ready" wait_until 60 region_settled egm4 || bail
if kernel_is 6.2; then
        is "enforced" "$(region egm4 Isolation)" enforced
        is "without a but" "$(region egm4 IsolationReason)" ""
else
        is "cooperative" "$(region egm4 Isolation)" cooperative
        like "and why" "$(region egm4 IsolationReason)" 'Linux 6.2.*preemptible'
        is "nothing is in the kernel" "$(ls -A /sys/fs/bpf/egm 2>/dev/null)" ""
fi
check "somebody gets memory" vm_start one 3 --size=8M --region=egm4
check "and it is his own" vm_stop one
finish
