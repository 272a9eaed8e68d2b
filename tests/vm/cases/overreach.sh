#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: R2 S4
# seconds: 600
# Who maps more than he was lent, where the kernel does not see to it: found on the real driver's mappings, from within the unit.
. "$LIB"
size=67108864 slice=8388608 page=65536
sim_load "size=$size,$size" || bail
mkdir -p /run/systemd/system/egmd.service.d /etc/egmd/egmd.conf.d
configure() { # configure ACTION
        printf '[Egmd]\nEnforcement=off\nOverreachPollSec=1s\nOverreachAction=%s\n' "$1" >/etc/egmd/egmd.conf.d/test.conf
}
trap 'rm -f /etc/egmd/egmd.conf.d/test.conf /run/systemd/system/egmd.service.d/kill.conf; systemctl daemon-reload' EXIT
said() { journalctl --sync; egmd_said | grep -qE "$1"; }
told() { # told KIND OFFSET SIZE PID ACTION
        said "Overreach: region=egm4 kind=$1 offset=$2 size=$3 pid=$4 .* action=$5:"
}
alive() { kill -0 "$1"; }
dead() { ! kill -0 "$1"; }

# A VM whose mapping begins where it should, and ends a page too late. In $greedy its pid, in $end where its slice ends.
cat >/run/greedy.sh <<'END'
echo "$$ $(($2 + $3))" >/run/greedy.pid
exec setpriv --reuid=12345 --regid=12345 --clear-groups pretend-vm "$1" "$2" "$(($3 + 65536))" 0
END
# Who is ended may not have come to say that it has filled what it has: greedy_start any.
greedy_start() {
        rm -f /run/greedy.{pid,in}
        mkfifo /run/greedy.in
        egmctl run --size=$slice --region=egm4 --wait=60 -- bash /run/greedy.sh '{0.fd}' '{0.offset}' '{0.size}' \
                <>/run/greedy.in >/run/greedy.out 2>&1 &
        runner=$!
        wait_until 60 [ -s /run/greedy.pid ]
        read -r greedy end </run/greedy.pid
        [ "${1-}" = any ] || wait_until 60 grep -qx filled /run/greedy.out
}

greedy_stop() {
        kill -TERM "$runner"
        wait "$runner"
        return 0
}

configure log
check "the daemon starts" egmd_start || bail
check "the region is ready" wait_until 60 region_settled egm4 || bail
is "it is not enforced" "$(region egm4 Isolation)" cooperative
check "an honest neighbour" vm_start honest 3 --size=$slice --region=egm4
check "and a greedy one" greedy_start || bail
check "he is found" wait_until 30 told unlent "$end" $page "$greedy" log
check "status says so" eval "egmctl status | grep -qF 'egm4: pid $greedy (pretend-vm) maps 64K at $end, which is lent to nobody'"
check "and nothing more to others" eval "setpriv --reuid=65534 --clear-groups egmctl status | grep -qF 'egm4: somebody maps 64K at $end,'"
check "he lives" alive "$greedy"
named=$greedy
greedy_stop

# What the unit may be told to do without.
printf '[Service]\nCapabilityBoundingSet=~CAP_KILL\n' >/run/systemd/system/egmd.service.d/kill.conf
systemctl daemon-reload
configure kill
check "restarted, to end such" systemctl restart egmd
check "it is told what that takes" said "OverreachAction=kill ends no other user's processes without CAP_KILL"
check "another greedy one" greedy_start
check "he is out of reach" wait_until 60 told unlent "$end" $page "$greedy" failed
check "he lives" alive "$greedy"
named="$named|$greedy"
# Whatever somebody maps when egmd starts is kept for him: nobody knows whether his record was lost.
rm /run/systemd/system/egmd.service.d/kill.conf
systemctl daemon-reload
check "restarted as it is shipped, to be able to" systemctl restart egmd
check "what he maps is kept as a lease" wait_until 60 said "belongs to no lease that is known"
greedy_stop

check "one more" greedy_start any
check "he is found" wait_until 60 told unlent "$end" $page "$greedy" kill
check "he is ended" wait_until 30 dead "$greedy"
wait "$runner"
is "as egmctl run tells" $? 137
is "once" "$(egmd_said | grep -c 'Overreach: .*action=kill:')" 1
check "the neighbour has not noticed" vm_stop honest
check "nobody was named but them" eval "! egmd_said | grep 'Overreach: ' | grep -vE ' pid=($named|$greedy) '"
finish
