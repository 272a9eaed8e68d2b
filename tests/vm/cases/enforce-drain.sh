#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: K2 S4
# seconds: 900
# Enforced leases that are over: whoever maps their memory is found, by what the kernel lists.
. "$LIB"
size=67108864 slice=8388608 page=65536 at=0
sim_load "size=$size,$size" || bail
lease_property() { egmctl show-lease "$1" -p "$2" --value; }
gone() { ! egmctl show-lease "$1"; }
held_up() { lease_property "$id" HeldUpBy | grep -q egm-attempt; }
looks() { journalctl --sync; egmd_said | grep -o 'Looked for holders.*'; }
let_go() { # let_go HOW
        case $1 in
        hold) pkill -KILL -P "$pid" -x egm-attempt ;;
        *) echo >&7 ;;
        esac
}

check "the daemon starts" egmd_start || bail
check "the region is ready" wait_until 60 region_settled egm4 || bail
is "it is enforced" "$(region egm4 Isolation)" enforced || bail
check "egmd tells how it looks" systemctl service-log-level egmd.service debug
for what in hold moved dodge forked; do
        id=$(egmctl lease --persistent --size=$slice --region=egm4 -p Id --value)
        check "$what: somebody runs on a lease" inside_start "$id" || bail
        check "$what: a mapping is there" inside_stays $what $at $page
        check "$what: it is released" egmctl release "$id"
        check "$what: the mapping holds it up" wait_until 30 held_up
        sleep 2
        is "$what: still" "$(lease_property "$id" State)" draining
        check "$what: it is let go of" let_go $what
        check "$what: and the lease is over" wait_until 60 gone "$id"
        inside_stop
        check "$what: all is clean" wait_until 60 region_settled egm4
done
# Before Linux 6.4 it does not count changes of memory; a program of ours does then.
like "the kernel listed them" "$(looks)" 'in the kernel'
like "who has descriptors is known from /proc" "$(looks)" 'in /proc'
looks | awk -F': ' '{ n[$1]++; s[$1] += $2; if (!m[$1] || $2 + 0 < m[$1]) m[$1] = $2 + 0 }
        END { for (i in n) printf "# %s: %d times, %d us, at best %d\n", i, n[i], s[i] / n[i], m[i] }'
finish
