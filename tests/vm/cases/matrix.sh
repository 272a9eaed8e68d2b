#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: R2 S4
# seconds: 1500
# Everything that somebody could try to get at another tenant's memory, as docs/security-attempts.md says it ends; and all of
# it once more without the gate, where what the gate alone refuses must get through.
. "$LIB"
table=/job/security-attempts.md
config=/etc/egmd/egmd.conf.d/matrix.conf

sim_load size=6291456,6291456 dmabuf_mmap=Y || bail

# Dead means dead, until it is started again.
mkdir -p /run/systemd/system/egmd.service.d /etc/egmd/egmd.conf.d
printf '[Service]\nRestartSec=600\n' >/run/systemd/system/egmd.service.d/matrix.conf
systemctl daemon-reload
# Device nodes work on it, and anybody may try to make one.
mkdir -p /run/egm-attempts
mount -t tmpfs -o mode=1777,dev attempt /run/egm-attempts || bail
trap 'umount /run/egm-attempts; rm -f "$config" /run/systemd/system/egmd.service.d/matrix.conf; systemctl daemon-reload' EXIT

both_settled() {
        region_settled egm4 && region_settled egm5
}

play() { # play ISOLATION
        check "$1: egmd starts" egmd_start || bail
        check "$1: the regions are ready" wait_until 60 both_settled || bail
        is "$1: what it says of the regions" \
                "$(region egm4 Isolation) $(region egm5 Isolation)" "$1 $1" || bail
        egm-attempts play "$1" >"/run/rig-out/attempts-$VARIANT-$1" 2>&1
        report $? "$1: everything was tried, and no tenant's bytes have changed" \
                "$(grep '^#' "/run/rig-out/attempts-$VARIANT-$1")" || bail
}

judge_by() { # judge_by COLUMN [OUTCOMES]
        awk -v variant="$VARIANT" -v kernel="$(uname -r)" -v column="$1" -f /job/judge.awk "$table" ${2:+"$2"}
}

judge() { # judge ISOLATION COLUMN
        judge_by "$2" "/run/rig-out/attempts-$VARIANT-$1"
}

play enforced
relay "enforced: every attempt ends as the table says" judge enforced enforced

systemctl stop egmd
printf '[Egmd]\nEnforcement=off\n' >"$config"
play cooperative
relay "cooperative: every attempt ends as the table says" judge cooperative cooperative

# What only the gate refuses: the same table cannot be met without it.
wrong=$(judge cooperative enforced | grep -cE '^not ok - .*: (own|other|zeros); the table says E')
gate=$(judge_by gate)
is "without the gate as many attempts get through as it refuses" "$wrong" "$gate"
check "which are many" [ "$gate" -ge 40 ]
echo "# $gate attempts are refused by the gate alone"
finish
