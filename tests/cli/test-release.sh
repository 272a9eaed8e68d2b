#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-release.sh EGMCTL FAKE_EGMD LEASE_USER EGMD: who holds a released lease up is waited for, or ended, and nobody else is.
set -eu
egmctl=$1 lease_user=$3 egmd=$4
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
start_egmd "$egmd" --simulate=gb200 --scale=8192

ctl() { "$egmctl" --bus="$bus" "$@"; }
lease_property() { ctl show-lease "$id" -p "$1" --value; }
over() { [ -z "$(ctl list-leases --no-legend)" ]; }
alive() { kill -0 "$1" 2>/dev/null; }
ready() { [ "$(ctl list-regions --no-legend | grep -c ready)" -eq 2 ]; }
eventually 60 ready || die "the regions are not ready"

# start_user NAME WORDS...: lease-user with these words (and as $as), mapping in place, until $tmp/NAME.in ends, which is
# open as descriptor 8. $run, $child, $id.
as=
start_user() {
        _name=$1
        shift
        mkfifo "$tmp/$_name.in" "$tmp/$_name.out"
        "$egmctl" --bus="$bus" run --size=4M --region=egm5 --wait=60 -- \
                $as sh -c 'echo $$ $EGM_LEASE; exec "$@"' - "$lease_user" expect 0 "$@" wait \
                <"$tmp/$_name.in" >"$tmp/$_name.out" 2>"$tmp/$_name.err" &
        run=$!
        pids="$pids $run"
        exec 8>"$tmp/$_name.in" 6<"$tmp/$_name.out"
        read -r child id <&6
        read -r _waiting <&6
        exec 6<&-
        eventually 30 has_let_go "$run" || die "egmctl keeps the memory"
}
# ends PID STATUS: that job of ours does, with that status (of the command, as egmctl run passes it on).
ends() {
        _got=0
        wait "$1" || _got=$?
        [ "$_got" -eq "$2" ]
}
printed() { grep -q "$1" "$tmp/out" || die "not printed: $1 in: $(cat "$tmp/out")"; }

# ---- --wait ----

start_user plain
timeout 240 "$egmctl" --bus="$bus" release --wait "$id" 8>&- &
waiter=$!
pids="$pids $waiter"
named() { lease_property HeldUpBy | grep -q "$child:lease-user:"; }
eventually 30 named || die "held up by '$(lease_property HeldUpBy)'"
lease_property HeldUpBy | grep -q "$child:lease-user:.*:$(sed 's/.*) //' "/proc/$child/stat" | cut -d' ' -f20)\$" ||
        die "start time: $(lease_property HeldUpBy)"
alive $waiter || die "it did not wait"
# For a second only; and as it was released before, without --wait that is an error.
check 5 '' "Lease $id is still there" release --wait=1 "$id"
check 5 '' 'draining' release "$id"
alive "$child" || die "release without --kill ended somebody"
exec 8>&-
ends $waiter 0 || die "the waiter"
over || die "it did not wait long enough: $(ctl)"
ends $run 0 || die "the command"
check 3 '' '4711' release --wait 4711
check 3 '' '4711' release --kill 4711

# ---- --kill ----

# One that obeys.
start_user obedient
check 0 "Lease $id: ending pid $child (lease-user" '' release --kill "$id"
over || die "killed, but not gone: $(ctl)"
ends $run 143 || die "not by SIGTERM"
! grep -q killing "$tmp/out" || die "SIGKILL without need: $(cat "$tmp/out")"
exec 8>&-

# One that does not, within and after its grace; and another one, with a lease of its own, that is left alone.
start_user bystander
bystander=$child bystander_id=$id bystander_run=$run
exec 5>&8
start_user stubborn stubborn
# It is known by whom it is held up before anything has a limit.
ctl release "$id"
eventually 30 named || die "held up by '$(lease_property HeldUpBy)'"
check 5 "ending pid $child" "Lease $id is still there" release --kill --kill-after=600 --wait=2 "$id"
alive "$child" || die "killed within its grace"
check 0 "killing pid $child" '' release --kill --kill-after=1 "$id"
printed "ending pid $child"
ends $run 137 || die "not by SIGKILL"
alive "$bystander" || die "killed a bystander"
[ "$(id=$bystander_id lease_property State)" = active ] || die "the bystander's lease"
exec 8>&- 5>&-
ends "$bystander_run" 0 || die "the bystander: $_got"
eventually 30 over || die "not over: $(ctl)"

# One that leaves another one behind; and several leases at once: each is held up by both, since they have the region's
# descriptor and no lease any more.
start_user second
first_id=$id first_child=$child first_run=$run
exec 5>&8
start_user heir heir
check 3 ": ending pid $child (" "4711" release --kill --kill-after=infinity "$first_id" 4711 "$id"
printed ": ending pid $first_child ("
[ "$(grep -c ending "$tmp/out")" -eq 3 ] || die "not three: $(cat "$tmp/out")"
over || die "not over: $(ctl)"
ends "$first_run" 143 || die "the first"
ends $run 0 || die "the one with an heir"
exec 8>&- 5>&-

# One that is somebody else's: said, and the lease goes on draining until somebody may.
if [ "$(id -u)" -eq 0 ] && setpriv --reuid=65534 --clear-groups true 2>/dev/null; then
        as="setpriv --reuid=65534 --clear-groups --"
        start_user foreign
        as=
        _egmctl=$egmctl
        cat >"$tmp/weak-egmctl" <<-END
		#!/bin/sh
		exec setpriv --bounding-set=-kill --inh-caps=-kill "$_egmctl" "\$@"
	END
        chmod +x "$tmp/weak-egmctl"
        egmctl=$tmp/weak-egmctl
        check 4 '' "Lease $id goes on draining: pid $child (lease-user" release --kill --kill-after=0 "$id"
        grep -q 'Operation not permitted' "$tmp/err" || die "why not: $(cat "$tmp/err")"
        egmctl=$_egmctl
        alive "$child" || die "it was ended nevertheless"
        [ "$(lease_property State)" = draining ] || die "not draining"
        check 0 "ending pid $child" '' release --kill "$id"
        ends $run 143 || die "the foreign one"
        exec 8>&-
fi

# One that passes for egmd.
_user=$lease_user
cp "$lease_user" "$tmp/egmd"
lease_user=$tmp/egmd
start_user passes
check 4 '' "that is egmd" release --kill "$id"
alive "$child" || die "egmd was ended"
exec 8>&-
ends $run 0 || die "the one that passes for egmd"
eventually 30 over || die "not over: $(ctl)"

# The daemon goes.
lease_user=$_user
start_user last
timeout 240 "$egmctl" --bus="$bus" release --wait "$id" 8>&- 2>"$tmp/last.err2" &
waiter=$!
pids="$pids $waiter"
eventually 30 named || die "held up by '$(lease_property HeldUpBy)'"
kill "$egmd_pid"
ends $waiter 1 && grep -q "egmd left before lease $id" "$tmp/last.err2" ||
        die "egmd left: $(cat "$tmp/last.err2")"
exec 8>&-

count_checks
