#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 600
# variants: S4 K2
# A whole region is handed over by path, and egmd dies right before or behind each step of that: the node is given, the
# node is taken back, the region is opened again.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail
# shellcheck disable=SC2209
as_vmm="setpriv --reuid=12345 --regid=12345 --clear-groups"

owner() { stat -c %u /dev/egm4; }
owner_is() { [ "$(owner)" = "$1" ]; }
lease_of() { egmctl list-leases --no-legend | awk -v name="$1" '$2 == name { print $1 }'; }
held_up_by() { # held_up_by ID PID
        [[ $(egmctl show-lease "$1" -p HeldUpBy --value) =~ $2 ]]
}
no_lease() { [ -z "$(lease_of "$1")" ]; }
lease_gone() { ! egmctl show-lease "$1"; }

traced() { # every thread
        ! grep -qs '^TracerPid:[[:space:]]*0$' "/proc/$pid"/task/*/status
}

tamper() { # tamper OPTION...: of strace, with egmd
        pid=$(systemctl show -P MainPID egmd)
        rm -f /run/strace.out
        strace -f -qq -o /run/strace.out -p "$pid" "$@" &
        tracer=$!
        check "egmd is watched" wait_until 60 traced || bail
}

dies_before_chown() { tamper -e trace=fchownat -e inject=fchownat:signal=SIGKILL; }
# It stands behind the call until it is killed there.
stands_behind_chown() { tamper -e trace=fchownat -e inject=fchownat:delay_exit=120000000; }

is_back() {
        local now
        now=$(systemctl show -P MainPID egmd)
        [ "$now" -gt 0 ] && [ "$now" != "$pid" ] && egmctl status
}

ended() { ! kill -0 "$1"; }

died() { # died AT PATTERN: of its last call; and is there again
        check "it died $1" wait_until 60 ended "$tracer" || bail
        like "at this call" "$(tail -n 20 /run/strace.out)" "$2"
        check "it is back" wait_until 60 is_back || bail
}

# strace sees the end of its delay first.
kill_both() { # kill_both AT
        kill -9 "$pid" "$tracer"
        wait "$tracer"
        check "it died $1, and is back" wait_until 60 is_back || bail
}

hears_nothing() {
        wait_until 60 ended "$lease" && ! wait "$lease"
}

give() { # give LABEL OPTION...: in the background
        local label=$1
        shift
        rm -f /run/lease.in
        mkfifo /run/lease.in
        egmctl lease --whole --region=egm4 --label="$label" --delegate=12345 "$@" \
                <>/run/lease.in >/run/lease.out 2>&1 &
        lease=$!
}

as_new() { # as_new ID
        check "it is taken over and cleaned" wait_until 60 region_settled egm4
        check "the lease is over" wait_until 60 lease_gone "$1"
        is "all of it is free, the node ours" "$(region egm4 Free) $(owner)" "$size 0"
        check_fails "nobody else opens it" "EACCES" $as_vmm egm-probe open /dev/egm4
}

check "the daemon starts" egmd_start || bail
check "the region is ready" wait_until 60 region_settled egm4 || bail

# ---- the node is given ----

dies_before_chown
give never-told --wait=60
died "before the node was given" "fchownat.*12345.*"
check "its caller hears no number" hears_nothing
check "a lease that nobody ever had ends" wait_until 60 no_lease never-told
as_new 0

dies_before_chown
give path --persistent
died "before the node was given for good" "fchownat.*12345"
check "its caller hears nothing" hears_nothing
id=$(lease_of path)
like "a persistent one stays" "$id" '^[0-9]+$' || bail
is "with all of the region" "$(region egm4 State) $(region egm4 Leased) $(region egm4 Free)" "delegated $size 0"
is "the node is ours still" "$(owner)" 0
check "it is released" egmctl release "$id"
as_new "$id"

stands_behind_chown
give path --persistent
check "the node is given" wait_until 60 owner_is 12345
kill_both "behind that"
check "its caller hears nothing" hears_nothing
id=$(lease_of path)
like "the lease is there" "$id" '^[0-9]+$' || bail
is "handed over" "$(region egm4 State) $(region egm4 Leased) $(owner)" "delegated $size 12345"
check "its user writes" $as_vmm egm-probe fill /dev/egm4 0 "$size" 7

# ---- and taken back ----

check "its user keeps it open" hold_open /dev/egm4 $as_vmm
dies_before_chown
timeout 60 egmctl release "$id" >/run/release.out 2>&1
died "before the node was taken back" "fchownat"
is "it is taken back at the start" "$(owner)" 0
check_fails "nobody comes in any more" "EACCES" $as_vmm egm-probe open /dev/egm4
check "who has it holds it up" wait_until 60 held_up_by "$id" "$holder"
is "not opened beside him" "$(region egm4 State) $(region egm4 Free)" "delegated 0"

tamper -P /dev/egm4 -e trace=openat -e inject=openat:signal=SIGKILL
check "he leaves" hold_close
died "as it opened the region again" "openat.*/dev/egm4"
as_new "$id"
check "whoever comes next finds zeros" vm_start next 9 --whole --region=egm4
check "nobody touches it" vm_stop next
check "clean again" wait_until 60 region_settled egm4

# One that lives by its descriptor.
give lifetime --wait=60
check "another one" wait_until 60 region_is egm4 State delegated
id=$(lease_of lifetime)
check "its user writes" $as_vmm egm-probe fill /dev/egm4 0 "$size" 11
stands_behind_chown
kill "$lease"
check "the node is taken back" wait_until 60 owner_is 0
kill_both "behind that"
as_new "$id"
check "zeros, again" vm_start next 9 --whole --region=egm4
check "nobody touches it" vm_stop next
finish
