#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: K2 S4
# seconds: 1800
# Enforced leases, and that they stay so: whatever happens to egmd, the gate is closed.
. "$LIB"
size=67108864 slice=8388608 page=65536
pins=/sys/fs/bpf/egm
sim_load "size=$size,$size" || bail
mkdir -p /run/systemd/system/egmd.service.d /etc/egmd/egmd.conf.d
configure() { # configure LINE...: egmd's, from its next start
        printf '[Egmd]\nPollRetiredSec=1s\n' >/etc/egmd/egmd.conf.d/test.conf
        printf '%s\n' "$@" >>/etc/egmd/egmd.conf.d/test.conf
}
configure
trap 'rm -f /etc/egmd/egmd.conf.d/test.conf; systemctl daemon-reload' EXIT
lease_property() { egmctl show-lease "$1" -p "$2" --value; }
lease_is() { [ "$(lease_property "$1" "$2")" = "$3" ]; }
gone() { ! egmctl show-lease "$1"; }
said() { journalctl --sync; egmd_said | grep -qE "$1"; }
both_settled() { region_settled egm4 && region_settled egm5; }

# ---- first light ----

check "the daemon starts" egmd_start || bail
check "the regions are ready" wait_until 60 both_settled || bail
is "a region is enforced" "$(region egm4 Isolation)" enforced || {
        egmctl show-region
        mount | grep bpf
        bail
}
is "without a but" "$(region egm4 IsolationReason)" ""
is "the other, too" "$(region egm5 Isolation)" enforced
is "what keeps it so is for root alone" "$(stat -c '%a %u' $pins)" "700 0"
is "and complete" "$(cd $pins && echo *)" "bearers devices exec fork forked highest ioctl ioctl-compat leases mmap mprotect"

at=0
if [ "$VARIANT" != K2 ]; then
        first=$(egmctl lease --persistent --label=first --size=$slice --region=egm4 -p Id --value)
        at=$slice
fi
id=$(egmctl lease --persistent --label=second --size=$slice --region=egm4 -p Id --value)
is "where it is" "$(lease_property "$id" Slices)" "egm4:$at:$slice"
is "a lease is enforced" "$(lease_property "$id" Isolation)" enforced
check "somebody runs on it" inside_start "$id" || bail
gate_is_closed "at first"
is "what a thread executes maps it" "$(inside exec "$at" $slice)" mapped
is "and no more" "$(inside exec "$at" $((slice + page)))" EACCES
is "not even a private mapping" "$(inside private "$at" $page)" EACCES
[ "$VARIANT" = K2 ] || is "the neighbour's" "$(inside map 0 $page)" EACCES
[ "$VARIANT" = K2 ] || is "one that begins there" "$(inside map $((at - page)) $((2 * page)))" EACCES
truncate -s 64K /run/plain
exec 5<>/dev/zero 6<>/run/plain
is "files are nobody's business" "$(egm-attempt map 6 0 4096)" mapped
is "nor are other devices" "$(egm-attempt map 5 0 4096)" mapped

# ---- egmd dies, stops, comes back ----

printf '[Service]\nRestart=no\n' >/run/systemd/system/egmd.service.d/test.conf
systemctl daemon-reload
kill -9 "$(systemctl show -P MainPID egmd)"
check "it is dead" wait_until 20 systemctl is-failed egmd
gate_is_closed "while egmd is dead"
rm /run/systemd/system/egmd.service.d/test.conf
systemctl daemon-reload
systemctl reset-failed egmd
check "it starts" systemctl start egmd
is "enforced still" "$(region egm4 Isolation) $(lease_property "$id" Isolation)" "enforced enforced"
gate_is_closed "after its death"
check "it restarts" systemctl restart egmd
is "enforced still" "$(region egm4 Isolation) $(lease_property "$id" Isolation)" "enforced enforced"
gate_is_closed "after a restart"
check "it stops" systemctl stop egmd
gate_is_closed "while it is stopped"
check "it starts" systemctl start egmd
is "enforced still" "$(region egm4 Isolation) $(lease_property "$id" Isolation)" "enforced enforced"
gate_is_closed "after a stop"

# ---- somebody removes the pins ----

rm $pins/*
gate_is_closed "without pins"
check "they come back" wait_until 20 [ -e $pins/mmap ]
check "loudly" wait_until 20 said 'Somebody removed'
check "it restarts" systemctl restart egmd
is "enforced all the time" "$(lease_property "$id" Isolation)" enforced
gate_is_closed "after that"

rm -r $pins
reason_tells() { region egm4 IsolationReason | grep -q 'until egmd ends'; }
check "what is gone for good is told of" wait_until 20 reason_tells
is "while it is enforced" "$(region egm4 Isolation)" enforced
check "it stops" systemctl stop egmd
gate_is_open() { [ "$(outside map 0 $page)" = mapped ]; }
check "then the gate is open: this test can fail" wait_until 20 gate_is_open
check "it starts" systemctl start egmd
check "and says so" said 'Not enforced all the time'
is "the lease is not called enforced any more" "$(lease_property "$id" Isolation)" cooperative
gate_is_closed "again"
check "it restarts" systemctl restart egmd
is "nor later" "$(lease_property "$id" Isolation)" cooperative
gate_is_closed "and again"

# ---- a lease ends ----

# A descriptor alone holds nothing up, as nobody can do anything with it; a mapping does.
check "a mapping is there" inside_stays hold "$at" $page
check "it is released" egmctl release "$id"
is "nobody maps it any more" "$(outside map "$at" $page)" EACCES
held_up() { lease_property "$id" HeldUpBy | grep -q egm-attempt; }
check "the mapping holds it up" wait_until 30 held_up
is "all of it" "$(region egm4 Draining)" $slice
echo >&7
check "and the lease is over without" wait_until 60 gone "$id"
like "while its descriptor is open" "$(readlink "/proc/$pid/fd/$number")" '/egm4$'
is "its holder maps nothing" "$(inside map "$at" $page)" EACCES
check "all is clean" wait_until 60 region_settled egm4

# The same bytes are another's now.
next=$(egmctl lease --persistent --label=third --size=$slice --region=egm4 -p Id --value)
is "the next lease" "$(lease_property "$next" Slices) $(lease_property "$next" Isolation)" "egm4:$at:$slice enforced"
is "is not its predecessor's" "$(inside map "$at" $page)" EACCES
inside_stop
check "somebody runs on that" inside_start "$next"
gate_is_closed "for the next one"

# Who may only read gets no more when it is over.
timeout 300 cat /run/inside.out >/run/inside.said &
echo "protect $at $page" >&7
check "he reads" wait_until 20 grep -q mapped /run/inside.said
check "it is released" egmctl release "$next"
is "and drains" "$(lease_property "$next" State)" draining
echo >&7
check "he may not write" wait_until 20 grep -q EACCES /run/inside.said
check "and it is over" wait_until 60 gone "$next"
check "all is clean" wait_until 60 region_settled egm4
inside_stop

# Released under somebody who maps again and again.
next=$(egmctl lease --persistent --label=fourth --size=$slice --region=egm4 -p Id --value)
check "somebody runs on the next one" inside_start "$next"
check "he maps" inside_stays again "$at" $page
check "it is released" egmctl release "$next"
check "he is refused, and it is over" wait_until 60 gone "$next"
inside_stop
[ -z "${first-}" ] || check "the first is released" egmctl release "$first"
check "all is clean" wait_until 60 region_settled egm4

# ---- who admits himself ----

check "a tenant maps by itself" tenant_keep keep-whole whole egm4 8M
check "and one that is bound" tenant_keep keep-bound bound egm5 8M
is "they are enforced" "$(for i in keep-whole keep-bound; do lease_property "$(tenant_lease $i)" Isolation; done | sort -u)" enforced
check "egmd restarts" systemctl restart egmd
check "no byte has changed" tenant_stop keep-whole
check "nor there" tenant_stop keep-bound
check "all is clean" wait_until 60 both_settled

# ---- by path ----

# Once it is known that no former holder has it open.
hand_over() { egmctl lease --whole --region=egm4 --persistent --delegate=12345 -p Id --value >/run/handed; }
check "it can be handed over" wait_until 30 hand_over
lease=$(cat /run/handed)
is "handed over" "$(region egm4 State) $(region egm4 Isolation)" "delegated cooperative"
is "that lease is cooperative" "$(lease_property "$lease" Isolation)" cooperative
as_vmm="setpriv --reuid=12345 --regid=12345 --clear-groups"
check "its user maps it" $as_vmm egm-probe fill /dev/egm4 0 "$size" 7
check "egmd restarts" systemctl restart egmd
check "its user maps it still" $as_vmm egm-probe fill /dev/egm4 0 "$size" 8
check "it is released" egmctl release "$lease"
check "it comes back" wait_until 60 region_settled egm4
is "enforced" "$(region egm4 Isolation)" enforced

# A device that comes and goes.
sim_present 5 0
check "gone" wait_until 60 region_is egm5 State gone
is "not called enforced" "$(region egm5 Isolation)" cooperative
sim_present 5 1
check "back" wait_until 60 region_settled egm5
is "enforced" "$(region egm5 Isolation)" enforced

# ---- what the administrator wants ----

check "it stops without leases" systemctl stop egmd
is "and leaves nothing behind" "$(ls -A $pins)" ""
configure RequireEnforcement=yes
check "it starts" systemctl start egmd
check "enforcement is required" wait_until 60 both_settled
check "and there" vm_start one 3 --size=8M --region=egm4
check "but not by path" [ "$(egmctl lease --whole --region=egm5 --persistent --delegate=12345 2>&1 | grep -c RequireEnforcement)" = 1 ]
check "it ends" vm_stop one
check "it is clean" wait_until 60 both_settled
configure RequireEnforcement=yes Enforcement=off
check "it restarts" systemctl restart egmd
check "switched off" wait_until 60 both_settled
is "cooperative" "$(region egm4 Isolation)" cooperative
like "and why" "$(region egm4 IsolationReason)" Enforcement=
is "nothing is left in the kernel" "$(ls -A $pins)" ""
check_fails "nothing is lent" "RequireEnforcement" egmctl run --size=8M --region=egm4 -- true
configure Enforcement=off
check "it restarts" systemctl restart egmd
check "without that" wait_until 60 both_settled
id=$(egmctl lease --persistent --size=$slice --region=egm4 -p Id --value)
is "a lease is cooperative" "$(lease_property "$id" Isolation)" cooperative
check "somebody runs on it" inside_start "$id"
is "and nothing keeps others off" "$(outside map 0 $page)" mapped
inside_stop
check "it is released" egmctl release "$id"
check "all is clean" wait_until 60 both_settled
journalctl --sync
is "nothing was denied" "$(egmd_said | grep -iE 'denied|not permitted|assert')" ""
finish
