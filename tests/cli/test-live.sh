#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-live.sh EGMCTL FAKE_EGMD LEASE_USER EGMD EXAMPLE: library and tool against egmd on simulated regions, from the first
# byte lent to the last one free again.
set -eu
egmctl=$1 lease_user=$3 egmd=$4 example=$5
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
cat >"$tmp/sim.json" <<'END'
{"regions": [
  {"name": "egm4", "size": "64M", "node": 0, "socket": 0, "gpus": ["0008:01:00.0", "0009:01:00.0"],
   "retired": [{"offset": "16M", "size": "64K"}]},
  {"name": "egm5", "size": "64M", "node": 1, "socket": 1, "gpus": ["0018:01:00.0", "0019:01:00.0"]},
  {"name": "egm6", "size": "8M", "node": 2, "socket": 2, "gpus": ["0028:01:00.0"], "variant": "K2"}
]}
END
start_egmd "$egmd" --simulate="$tmp/sim.json"

ctl() { "$egmctl" --bus="$bus" "$@"; }
property() { ctl show-region "$1" -p "$2" --value; } # of a region
lease_property() { ctl show-lease "$1" -p "$2" --value; }

# Every byte is in exactly one state (and the bus says so). Read at once: a region may get ready between two looks.
sums() {
        for _r in egm4 egm5 egm6; do
                # shellcheck disable=SC2046 # numbers
                set -- $(ctl show-region $_r --value -p Size -p Free -p Leased -p Draining -p Dirty -p Scrubbing -p Retired)
                [ "$1" -eq $(($2 + $3 + $4 + $5 + $6 + $7)) ] || die "$_r: $*"
        done
}
all_free() {
        [ "$(property egm4 Free)" -eq $((64 * 1048576 - 65536)) ] &&
                [ "$(property egm5 Free)" -eq $((64 * 1048576)) ] && [ "$(property egm6 Free)" -eq $((8 * 1048576)) ] &&
                [ -z "$(ctl list-leases --no-legend)" ]
}
settle() {
        sums
        eventually 60 all_free || die "not all is free again: $(ctl)"
        sums
}
settle
[ "$(property egm4 RetiredRanges)" = 16777216:65536 ] || die "retired ranges"

# ---- What is refused, and why; nothing is taken ----

check_table <<'END'
2 | | size          | lease --size=0
2 | | granule       | lease --size=12345
2 | | align         | lease --size=2M --align=3M
2 | | align         | lease --size=2M --align=4K
2 | | Label         | lease --size=2M --label="$(printf '%200s' x)"
2 | | Label         | lease --size=2M --label="$(printf 'a\nb')"
3 | | egm9          | lease --size=2M --region=egm9
3 | | 0099:01:00.0  | lease --size=2M --gpu=0099:01:00.0
3 | | node 7        | lease --size=2M --node=7
3 | | socket 7      | lease --size=2M --socket=7
3 | | egm9          | show-region egm9
3 | | 4711          | show-lease 4711
3 | | 4711          | status 4711
3 | | 4711          | release 4711
5 | | free          | lease --size=1G
5 | | free          | lease --size=15E
5 | | free          | lease --slice=size=2M,region=egm4 --slice=size=128M,region=egm5
5 | | slices        | lease $(for i in $(seq 16); do echo --slice=size=2M; done)
END
# Enough bytes, but not in one run.
check 5 '' 'run' lease --region=egm4 --size=62M
settle

# ---- Run: near the GPU, zeros at first, zeros for the next one ----

for round in 1 2 3; do
        check 0 'egm4' '' run --size=8M --gpu=0009:01:00.0 --wait=60 -- sh -c 'echo "$1" && exec "$2" expect 0 fill 90' - '{0.region}' "$lease_user"
        check 0 'egm5' '' run --whole --gpu=0019:01:00.0 --wait=60 -- sh -c 'echo "$1" && exec "$2" expect 0 fill 90' - '{0.region}' "$lease_user"
        check 0 'egm4 egm5' '' run --slice=size=4M,socket=0 --slice=size=8M,socket=1 --wait=60 -- \
                sh -c 'echo "$1 $2" && exec "$3" expect 0 fill 91' - '{0.region}' '{1.region}' "$lease_user"
done
settle
# A whole region with its bad page, which the lease lists.
check 0 'RetiredRanges=egm4:16777216:65536' '' lease --whole --region=egm4 --retired=include --wait=60
settle
EXAMPLE_BUS=$bus "$example" 8 0018:01:00.0 >"$tmp/out" || die "the example failed"
grep -q '8388608 bytes of egm5' "$tmp/out" || die "the example: $(cat "$tmp/out")"
settle

# ---- Who holds what ----

# hold ARGS...: a lease until descriptor 8 is closed; its id in $id.
hold() {
        rm -f "$tmp/hold" "$tmp/held"
        mkfifo "$tmp/hold" "$tmp/held"
        "$egmctl" --bus="$bus" lease -p Id --value "$@" <"$tmp/hold" >"$tmp/held" 2>"$tmp/hold.err" &
        holder=$!
        pids="$pids $holder"
        exec 8>"$tmp/hold"
        read -r id <"$tmp/held" || die "no lease: $(cat "$tmp/hold.err")"
}

hold --wait=60 --size=16M --region=egm5 --label=vm1
[ "$(lease_property "$id" State)" = active ] || die "not active"
[ "$(lease_property "$id" OwnerUid)" -eq "$(id -u)" ] || die "owner"
[ "$(lease_property "$id" Slices)" = "egm5:$(lease_property "$id" Slices | cut -d: -f2):16777216" ] || die "slices"
[ "$(property egm5 Leased)" -eq 16777216 ] || die "leased"
check 0 vm1 '' status
check 0 AAAA '' map egm5
check 0 "A lease $id vm1" '' map
check 0 '"label":"vm1"' '' status --json=short
check 5 '' '48M' lease --size=64M --region=egm5
sums
# Somebody else ends it: the holder says so.
check 0 '' '' release "$id"
_got=0
wait "$holder" || _got=$?
[ $_got -eq 1 ] && grep -q 'has ended' "$tmp/hold.err" || die "released from outside: $_got $(cat "$tmp/hold.err")"
exec 8>&-
settle

# First come, first served: it waits, and gets what is given back.
hold --wait=60 --whole --region=egm5
timeout 240 "$egmctl" --bus="$bus" run --size=32M --region=egm5 --wait=60 --label=patient -- "$lease_user" expect 0 8>&- &
waiter=$!
pids="$pids $waiter"
waits() { ctl status --no-legend | grep -q patient; }
eventually 30 waits || die "nobody waits"
exec 8>&-
wait "$waiter" || die "the one who waited: $?"
wait "$holder"
check 5 '' '65M' lease --size=65M --region=egm5 --wait=1
settle

# Persistent: nothing but release ends it.
id=$(ctl lease --size=4M --persistent --label=keep -p Id --value)
[ "$(lease_property "$id" Lifetime)" = persistent ] || die "lifetime"
[ "$(lease_property "$id" State)" = active ] || die "it ended"
check 0 '' '' release "$id"
settle
check 3 '' "$id" release "$id"

# The whole-only region: from its start, one at a time.
hold --wait=60 --size=2M --region=egm6
[ "$(lease_property "$id" Slices)" = egm6:0:2097152 ] || die "whole-only: $(lease_property "$id" Slices)"
check 5 '' 'egm6' lease --size=2M --region=egm6
exec 8>&-
wait "$holder"
settle

# ---- Lives ----

# start_user ARGS...: lease-user under egmctl run, mapping in place; $run, $child, $id. Ends with descriptor 8.
start_user() {
        rm -f "$tmp/hold" "$tmp/held"
        mkfifo "$tmp/hold" "$tmp/held"
        "$egmctl" --bus="$bus" run "$@" -- sh -c 'echo $$ $EGM_LEASE; exec "$1" expect 0 fill 92 wait' - "$lease_user" \
                <"$tmp/hold" >"$tmp/held" &
        run=$!
        pids="$pids $run"
        exec 8>"$tmp/hold" 6<"$tmp/held"
        read -r child id <&6
        read -r _waiting <&6
        eventually 30 has_let_go "$run" || die "egmctl keeps the memory"
}

# egmctl dies: the command keeps its lease, and gives it up by ending.
start_user --wait=60 --size=8M --region=egm5
[ "$(lease_property "$id" HolderPid)" -eq "$child" ] || die "holder"
kill -KILL "$run"
wait "$run" 2>/dev/null || :
[ "$(lease_property "$id" State)" = active ] || die "the lease died with egmctl"
kill -0 "$child"
exec 8>&- 6<&-
settle

# The command is killed.
start_user --wait=60 --size=8M --region=egm5
kill -KILL "$child"
_got=0
wait "$run" || _got=$?
[ $_got -eq 137 ] || die "command killed: $_got"
exec 8>&- 6<&-
settle

# Released under a running command: nothing is lent again while it maps it, and status says who that is.
start_user --wait=60 --size=8M --region=egm5 --label=stubborn
check 0 '' '' release "$id"
drains() { [ "$(lease_property "$id" State)" = draining ]; }
eventually 30 drains || die "not draining"
named() { lease_property "$id" HeldUpBy | grep -q "^$child:\| $child:"; }
eventually 30 named || die "held up by '$(lease_property "$id" HeldUpBy)', not by $child"
check 0 "held up by pid $child" '' status "$id"
check 0 "lease $id: held up by pid $child" '' status
[ "$(property egm5 Draining)" -eq 8388608 ] || die "draining"
check 5 '' 'egm5' lease --whole --region=egm5
check 5 '' 'draining' release "$id"
sums
exec 8>&- 6<&-
wait "$run" || :
settle

count_checks
