#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: S4
# seconds: 400
# kernel: lsm=lockdown,capability,yama,apparmor
# A kernel whose list of security modules lacks bpf: nothing is called enforced, and it is said once how to get there.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail
both_settled() { region_settled egm4 && region_settled egm5; }
how='Isolation is cooperative: the kernel.s list of security modules lacks bpf: boot with lsm=[a-z,]+,bpf$'

check_fails "it is not there" "" grep -w bpf /sys/kernel/security/lsm
check "the daemon starts" egmd_start || bail
check "the regions are ready" wait_until 60 both_settled || bail
is "cooperative" "$(region egm4 Isolation) $(region egm5 Isolation)" "cooperative cooperative"
like "and why" "$(region egm4 IsolationReason)" 'lsm=[a-z,]*yama[a-z,]*,bpf$'
journalctl --sync
is "said once" "$(egmd_said | grep -cE "$how")" 1
is "and nothing else of it" "$(egmd_said | grep -ciE 'libbpf|denied|not permitted|assert')" 0
is "nothing is in the kernel" "$(ls -A /sys/fs/bpf/egm 2>/dev/null)" ""
check "it lends all the same" vm_start one 3 --size=8M --region=egm4
is "a lease is cooperative" "$(egmctl show-lease -p Isolation --value "$(vm_lease one)")" cooperative
check "it ends" vm_stop one
mkdir -p /etc/egmd/egmd.conf.d
printf '[Egmd]\nRequireEnforcement=yes\n' >/etc/egmd/egmd.conf.d/test.conf
trap 'rm -f /etc/egmd/egmd.conf.d/test.conf' EXIT
check "it restarts" systemctl restart egmd
check "enforcement is required" wait_until 60 both_settled
check_fails "nothing is lent" "RequireEnforcement" egmctl run --size=8M --region=egm4 -- true
finish
