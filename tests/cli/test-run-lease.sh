#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-run-lease.sh EGMCTL EGMD LEASE_USER PATH_USER: `egmctl run --lease=ID`, against egmd on simulated regions: a command gets a
# lease that is there, and leaves it there.
set -eu
egmctl=$1 egmd=$2 lease_user=$(realpath "$3") path_user=$(realpath "$4")
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
cat >"$tmp/sim.json" <<'END'
{"regions": [
  {"name": "egm4", "size": "32M", "node": 0, "socket": 0, "gpus": ["0008:01:00.0"]},
  {"name": "egm5", "size": "32M", "node": 1, "socket": 1, "gpus": ["0018:01:00.0"]}
]}
END
start_egmd "$egmd" --simulate="$tmp/sim.json"
ctl() { "$egmctl" --bus="$bus" "$@"; }
property() { ctl show-lease "$1" -p "$2" --value; }
state_is() { [ "$(property "$1" State)" = "$2" ] || die "lease $1 is $(property "$1" State), not $2"; }
over() { [ -z "$(ctl list-leases --no-legend)" ]; }

# So that nothing is at the start of egm4.
keep=$(ctl lease --size=2M --region=egm4 --persistent --wait=60 -p Id --value)
id=$(ctl lease --slice=size=4M,region=egm4 --slice=size=2M,region=egm5 --persistent --wait=60 -p Id --value)
offset=$(property "$id" Slices | tr ' ' '\n' | sed -n 's/^egm4:\([0-9]*\):.*/\1/p')
[ "$offset" -ge 2097152 ] || die "at $offset"

check_table <<END
# The same placeholders and environment; its exit status.
0 | $id egm4 $offset 4194304 egm5 2097152 | | run --lease=$id -- echo '{lease}' '{0.region}' '{0.offset}' '{0.size}' '{1.region}' '{1.size}'
0 | EGM_LEASE=$id |           | run --lease=$id -- env
0 | [/run/egm/lease-$id/slice-1] | | run --lease=$id -- echo '[{1.path}]'
9 |             |             | run --lease=$id -- sh -c 'exit 9'
143 |           |             | run --lease=$id -- sh -c 'kill -TERM \$\$'
127 |           | Failed to execute /nowhere | run --lease=$id -- /nowhere
# Zeros the first time; then what the last command left.
0 |             |             | run --lease=$id -- "$lease_user" expect 0 fill 90
0 |             |             | run --lease=$id -- "$lease_user" expect 90 fill 91
0 | expect: fine |            | run --lease=$id --as=/dev/egm4 -- "$path_user" rw=/dev/egm4 map=0+4194304 expect=91 fill=92
0 | expect: fine |            | run --lease=$id -- "$path_user" rw={0.path} map={0.offset}+4194304 expect=92
0 | expect: fine |            | run --lease=$id -- "$path_user" rw={1.path} map=0+2097152 expect=91
1 | map: Invalid argument | outside of the lease | run --lease=$id --as=/dev/egm4 -- "$path_user" rw=/dev/egm4 map=0+8388608
# It takes the lease as it is.
2 |             | --lease= takes a lease as it is | run --lease=$id --size=2M -- true
2 |             | --lease= takes a lease as it is | run --lease=$id --slice=size=2M -- true
2 |             | --lease= takes a lease as it is | run --whole --lease=$id -- true
2 |             | --lease= takes a lease as it is | run --lease=$id --gpu=0008:01:00.0 -- true
2 |             | excludes --label=  | run --lease=$id --label=x -- true
2 |             | excludes --wait=   | run --lease=$id --wait=1 -- true
2 |             | no option '--lease' | lease --lease=$id
2 |             | Say how much       | run -- true
2 |             | --as= is given 3 times, for 2 slices | run --lease=$id --as=/a --as=/b --as=/c -- true
2 |             | 2          | run --lease=$id -- echo '{2.path}'
2 |             | --no-inject | run --lease=$id --no-inject --as=/a -- true
3 |             | There is no lease '' | run --lease= -- true
3 |             | no-such    | run --lease=no-such -- echo ran
3 |             | 4711       | run --lease=4711 -- echo ran
END
state_is "$id" active

# It is bound to the command, which keeps what it has if egmctl is killed.
mkfifo "$tmp/in" "$tmp/out-of-it"
"$egmctl" --bus="$bus" run --lease="$id" -- sh -c 'echo $$; exec "$1" wait' - "$lease_user" <"$tmp/in" >"$tmp/out-of-it" 2>/dev/null &
run=$!
pids="$pids $run"
exec 8>"$tmp/in" 6<"$tmp/out-of-it"
read -r child <&6 || :
[ "$(property "$id" HolderPid)" = "$child" ] || die "held by $(property "$id" HolderPid), not by $child"
exec 8>&- 6<&-
wait "$run" 2>/dev/null || :
state_is "$id" active

# One that lives by its descriptor ends as it would have.
mkfifo "$tmp/hold" "$tmp/held"
"$egmctl" --bus="$bus" lease --size=2M --region=egm5 --wait=60 -p Id --value <"$tmp/hold" >"$tmp/held" &
holder=$!
pids="$pids $holder"
exec 8>"$tmp/hold"
read -r held <"$tmp/held"
check 0 "$held" '' run --lease="$held" -- echo '{lease}'
state_is "$held" active
exec 8>&-
wait "$holder" || die "the holder"
gone() { ! ctl show-lease "$held" >"$tmp/null" 2>&1; }
eventually 60 gone || die "the holder's lease stays: $(ctl)"
check 3 '' "$held" run --lease="$held" -- echo ran

# Who releases the lease of a command that runs, does what its end would do: not worth a word, nor a failure.
check 0 '' '' run --size=2M --region=egm5 --wait=60 --label=mine -- sh -c '"$0" --bus="$1" release "$EGM_LEASE"' "$egmctl" "$bus"
check 7 '' '' run --size=2M --region=egm5 --wait=60 -- sh -c '"$0" --bus="$1" release "$EGM_LEASE"; exit 7' "$egmctl" "$bus"

# One that has ended lends nothing any more.
check 0 '' '' release "$keep" "$id"
eventually 60 over || die "leases are left: $(ctl)"
check 3 '' "$id" run --lease="$id" -- echo ran

count_checks
