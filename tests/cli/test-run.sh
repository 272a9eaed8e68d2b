#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-run.sh EGMCTL FAKE_EGMD LEASE_USER: `egmctl run` as a parent: what the command gets, how signals reach it, how it ends.
set -eu
egmctl=$1 fake=$2 lease_user=$3
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
start_fake_egmd "$fake"

# The lease is bound to the command and released after it, however it ends, even if it could not begin.
lease=/org/nvidia/Egm1/lease/7
seen() { # $1: what
        _seen=$(ask_fake_egmd)
        [ "$_seen" = "$1" ] || die "the daemon saw '$_seen' instead of '$1'"
}
check 0 '' '' run --size=2M -- true
seen "bound $lease released 1"
check 137 '' '' run --size=2M -- sh -c 'kill -KILL $$'
seen "bound $lease released 1"
check 127 '' 'Failed to execute' run --size=2M -- /nowhere
seen "bound $lease released 1"
check 2 '' 'Unknown placeholder' run --size=2M -- true '{0.x}'
seen "bound nothing released 0"
check 0 '*' '' lease --size=2M
seen "bound nothing released 1"
check 0 '*' '' lease --size=2M --persistent
seen "bound nothing released 0"
check 0 '' '' release 7 8 9
seen "bound nothing released 3"

# The command's exit status is egmctl's.
check_table <<'END'
0   |        |                           | run --size=2M -- true
7   |        |                           | run --size=2M -- sh -c 'exit 7'
255 |        |                           | run --size=2M -- sh -c 'exit 255'
143 |        |                           | run --size=2M -- sh -c 'kill -TERM $$'
137 |        |                           | run --size=2M sh -c 'kill -KILL $$'
127 |        | Failed to execute /nowhere | run --size=2M -- /nowhere
127 |        | Failed to execute nowhere | run --size=2M nowhere
126 |        | Failed to execute /etc/passwd: Permission denied | run --size=2M -- /etc/passwd

# Its arguments.
0   | 7 egm4 1048576 2097152   |         | run --size=2M -- echo '{lease}' '{0.region}' '{0.offset}' '{0.size}'
0   | {0.fd} {} {"a":{"b":1}} ${x} {a,b} |  | run --size=2M -- echo '\{0.fd}' '{}' '{"a":{"b":1}}' '${x}' '{a,b}'
0   | --size=9 -n              |         | run --size=2M echo x --size=9 -n
0   | [/proc/self/fd/          |         | run --size=2M --no-inject -- echo '[{0.path}]'
0   | same                     |         | run --size=2M --no-inject -- sh -c '[ "/proc/self/fd/$1" = "$2" ] && echo same' - '{0.fd}' '{0.path}'
0   | [/run/egm/lease-7/slice-0] |       | run --size=2M -- echo '[{0.path}]'
0   | [/x/y]                   |         | run --size=2M --as=/x/y -- echo '[{0.path}]'
0   | EGM_LEASE=7              |         | run --size=2M -- env
0   | fits                     |         | run --size=2M -- sh -c '[ "$EGM_SLICES" = "$1" ] && echo fits' - '{0.fd}:egm4:1048576:2097152'

# Refused by the daemon's answer (it grants 2M only): the command does not run.
1   |                          | makes no sense | run --size=4M -- echo ran
END

# What it inherits: the memory, for reading and writing, and the lifetime; neither closes on exec. Nothing else of egmctl's.
cat >"$tmp/look" <<'END'
set -eu
fd=$1 offset=$2
[ "$(stat -Lc %s "/proc/self/fd/$fd")" -eq 8388608 ]
[ -p "/proc/self/fd/$EGM_LIFETIME_FD" ]
# Bytes written through it are in the memory.
printf hello | dd of="/proc/self/fd/$fd" bs=1 seek="$offset" conv=notrunc 2>/dev/null
[ "$(dd if="/proc/self/fd/$fd" bs=1 skip="$offset" count=5 2>/dev/null)" = hello ]
sh -c '[ -p "/proc/self/fd/$EGM_LIFETIME_FD" ]'
END
check 0 '' '' run --size=2M -- sh "$tmp/look" '{0.fd}' '{0.offset}'
# libegm finds all that in its environment, in the command as well as in what that starts.
check 0 '' '' run --size=2M -- "$lease_user" fill 0 expect 0 fill 90 expect 90
check 0 '' '' run --size=2M -- sh -c '"$1" expect 90 fill 0; exit $?' - "$lease_user"
check 1 '' 'byte 0 is 0, not 90' run --size=2M -- "$lease_user" expect 90
_got=0
"$lease_user" 2>"$tmp/err" || _got=$?
[ $_got -eq 1 ] && grep -q 'no lease' "$tmp/err" || die "a lease without egmctl"
ls /proc/self/fd >"$tmp/fds-without" </dev/null 2>"$tmp/err"
check 0 '*' '' run --size=2M -- ls /proc/self/fd
[ "$(wc -l <"$tmp/out")" -eq "$(($(wc -l <"$tmp/fds-without") + 2))" ] ||
        die "descriptors: $(tr '\n' ' ' <"$tmp/out"), without: $(tr '\n' ' ' <"$tmp/fds-without")"

# A shell's background commands ignore the first two, and what nohup starts the third: no shell below could trap them.
clean="env --default-signal=INT,QUIT,HUP"

# start SCRIPT: runs it under egmctl in the background and waits until it has written its pid. $run is egmctl, $child the
# script's shell.
start() {
        rm -f "$tmp/pid" "$tmp/log"
        mkfifo "$tmp/pid"
        $clean "$egmctl" --bus="$bus" run --size=2M -- sh -c "$1" - "$tmp/pid" "$tmp/log" </dev/null &
        run=$!
        pids="$pids $run"
        read -r child <"$tmp/pid"
}
ended() {
        _got=0
        wait "$run" || _got=$?
        [ "$_got" -eq "$1" ] || die "$2: exit status $_got instead of $1"
}

# Signals reach it, and it decides what they mean.
for signal in TERM INT HUP; do
        start "trap 'echo got >\"\$2\"; exit 9' $signal; echo \$\$ >\"\$1\"; while :; do sleep 0.05; done"
        kill -$signal "$run"
        ended 9 "SIG$signal"
        [ "$(cat "$tmp/log")" = got ] || die "SIG$signal did not arrive"
done
start 'echo $$ >"$1"; exec sleep 60'
kill -TERM "$run"
ended 143 "killed by SIGTERM"

# It starts with the signals that egmctl was started with, not with egmctl's own.
masks='grep -E "Sig(Blk|Ign)" /proc/self/status >"$2"; echo $$ >"$1"'
start "$masks"
ended 0 "signal masks"
$clean sh -c "$masks" - "$tmp/null" "$tmp/masks"
diff -u "$tmp/masks" "$tmp/log" || die "signals differ"
# Nobody is to be told when a child of whoever started it dies: egmctl is, nevertheless.
_got=0
env --ignore-signal=CHLD "$egmctl" --bus="$bus" run --size=2M -- sh -c 'exit 5' || _got=$?
[ $_got -eq 5 ] || die "SIGCHLD ignored: exit status $_got"
env --ignore-signal=CHLD "$egmctl" --bus="$bus" run --size=2M -- grep SigIgn /proc/self/status >"$tmp/out"
grep -q 'SigIgn:.*1....$' "$tmp/out" || die "SIGCHLD is not ignored in the command: $(cat "$tmp/out")"

# egmctl killed: the command goes on, and has its descriptors.
start 'echo $$ >"$1"; while [ ! -e "$2" ]; do sleep 0.05; done; [ -p /proc/self/fd/$EGM_LIFETIME_FD ] && echo held >"$2.end"'
kill -KILL "$run"
ended 137 "egmctl killed"
kill -0 "$child" || die "the command died with egmctl"
: >"$tmp/log"
eventually 30 test -s "$tmp/log.end" || die "the command did not go on"

# egmctl killed before the command began: it never does.
printf b >&9
read -r _mute <&7
$clean "$egmctl" --bus="$bus" run --size=2M -- touch "$tmp/ran" </dev/null &
run=$!
pids="$pids $run"
has_child() { child=$(cat "/proc/$run/task/$run/children") && [ -n "$child" ]; }
eventually 30 has_child || die "no child"
kill -KILL "$run"
ended 137 "egmctl killed early"
gone() { [ ! -d "/proc/${child% }" ] || grep -q '^State:.*Z' "/proc/${child% }/status" 2>/dev/null; }
eventually 30 gone || die "the child waits for ever"
[ ! -e "$tmp/ran" ] || die "the command ran without being bound"
ask_fake_egmd >/dev/null

# Held by `lease` until its input ends, or a signal.
mkfifo "$tmp/hold" "$tmp/held"
$clean "$egmctl" --bus="$bus" lease --size=2M -p Id --value <"$tmp/hold" >"$tmp/held" &
run=$!
pids="$pids $run"
exec 8>"$tmp/hold"
read -r id <"$tmp/held"
[ "$id" = 7 ] || die "lease $id"
kill -0 "$run" || die "it does not hold the lease"
exec 8>&-
ended 0 "end of input"
for signal in TERM INT HUP; do
        $clean "$egmctl" --bus="$bus" lease --size=2M -p Id --value <"$tmp/hold" >"$tmp/held" &
        run=$!
        pids="$pids $run"
        exec 8>"$tmp/hold"
        read -r id <"$tmp/held"
        kill -$signal "$run"
        ended 0 "lease, SIG$signal"
        exec 8>&-
done
# Nobody reads what it prints: it does not hold what nobody knows of.
ask_fake_egmd >/dev/null
_got=0
"$egmctl" --bus="$bus" lease --size=2M --persistent >/dev/full 2>"$tmp/err" || _got=$?
[ $_got -eq 1 ] && grep -q "Failed to write" "$tmp/err" || die "lease >/dev/full: $_got"
seen "bound nothing released 1"

count_checks
