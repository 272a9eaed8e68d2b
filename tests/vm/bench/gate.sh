#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: S4
# seconds: 1800
# What the gate costs: the same with and without it, taking turns. For scripts/bench, which boots it on a machine whose clock counts
# instructions.
. "$LIB"
rounds=5 maps=300
config=/etc/egmd/egmd.conf.d/gate.conf
trap 'rm -f "$config"' EXIT

sim_load size=6291456,6291456 || bail
mkdir -p /etc/egmd/egmd.conf.d

turn() { # turn ISOLATION
        rm -f "$config"
        [ "$1" = enforced ] || printf '[Egmd]\nEnforcement=off\n' >"$config"
        systemctl stop egmd
        egmd_start && wait_until 120 region_settled egm4 && region_is egm4 Isolation "$1" || return 1
        egmctl run --region=egm4 --size=2M --wait=60 -- \
                bench-gate "$1" /root/bench-gate '{0.fd}' '{0.offset}' $maps >>/run/rig-out/gate.json
}

for ((i = 0; i < rounds; i++)); do
        order=(enforced cooperative)
        ((i % 2)) && order=(cooperative enforced)
        for isolation in "${order[@]}"; do
                check "round $i: $isolation" turn "$isolation" || bail
        done
done
is "all are there" "$(wc -l </run/rig-out/gate.json)" $((rounds * 2 * 4))
finish
