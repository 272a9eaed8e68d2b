#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-hostile-names.sh EGMCTL EGMD LEASE_USER: a process whose name would end a line, forge another and give a terminal
# orders holds memory: neither the log nor egmctl says it as it is, and nobody is told apart by it. And whatever the
# umask, what the daemon keeps is root's alone, and nobody can connect to it but by the bus.
set -eu
egmctl=$1 egmd=$2 lease_user=$3
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
EGM_LOG=debug
export EGM_LOG
# A place where others could put records is not taken.
mkdir -m 777 "$tmp/open"
! RUNTIME_DIRECTORY=$tmp/open timeout 240 "$egmd" --simulate=gb200 --scale=8192 --bus="$bus" 2>"$tmp/open.log" ||
        die "records where anybody may write"
grep -q "$tmp/open: Operation not permitted" "$tmp/open.log" || die "why not: $(cat "$tmp/open.log")"
mkdir -m 700 "$tmp/run"
umask 0
start_egmd "$egmd" --simulate=gb200 --scale=8192
umask 022

ctl() { "$egmctl" --bus="$bus" "$@"; }
ready() { [ "$(ctl list-regions --no-legend | grep -c ready)" -eq 2 ]; }
eventually 60 ready || die "the regions are not ready"

# No byte that is a control character but the ends of lines, and nothing that is not UTF-8.
is_clean() {
        tr -d '\n' <"$1" | LC_ALL=C grep -q '[[:cntrl:]]' && return 1
        iconv -f UTF-8 -t UTF-8 "$1" >/dev/null 2>&1
}
printf 'a\033[2J\n' >"$tmp/dirty"
printf 'a\377\n' >"$tmp/not-utf8"
! is_clean "$tmp/dirty" || die "escapes are not found"
! is_clean "$tmp/not-utf8" || die "bytes are not found"

# The kernel keeps 15 bytes of a name. The parent renames itself and holds the descriptor on.
mkfifo "$tmp/user.in" "$tmp/user.out"
"$egmctl" --bus="$bus" run --size=4M --region=egm5 --wait=60 -- sh -c '
        printf "x\n<0>\033[2J\377)\342\200\256" >/proc/$$/comm
        echo $$ $EGM_LEASE
        read -r _line
' <"$tmp/user.in" >"$tmp/user.out" 2>"$tmp/run.err" &
run=$!
pids="$pids $run"
exec 8>"$tmp/user.in" 6<"$tmp/user.out"
read -r child id <&6
exec 6<&-
[ "$(tr -d '\n' <"/proc/$child/comm" | wc -c)" -ge 11 ] || die "it has no such name"

# ---- What is the daemon's is nobody else's ----

ls -laR "$tmp/run" >"$tmp/listing" 2>&1 || : # records come and go
[ "$(find "$tmp/run" -type f | wc -l)" -ge 3 ] || die "no records: $(cat "$tmp/listing")"
[ -n "$(find "$tmp/run" -type p)" ] || die "no lifetime: $(cat "$tmp/listing")"
[ -z "$(find "$tmp/run" -mindepth 1 -perm /077)" ] || die "open to others: $(find "$tmp/run" -mindepth 1 -perm /077 -ls)"
[ -z "$(find "$tmp/run" -type s)" ] || die "a socket: $(find "$tmp/run" -type s)"
listening=$(awk 'NR > 1 && $4 == "00010000" { print $7 }' /proc/net/unix)
[ -n "$listening" ] || die "not even the bus listens"
for fd in /proc/"$egmd_pid"/fd/*; do
        inode=$(readlink "$fd" | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
        [ -z "$inode" ] || ! echo "$listening" | grep -qx "$inode" || die "egmd listens: $fd"
done

# ---- Its name ----

ctl release "$id" >/dev/null 2>&1 || :
blamed() { ctl show-lease "$id" -p HeldUpBy --value | grep -q "^$child:"; }
eventually 30 blamed || die "held up by '$(ctl show-lease "$id" -p HeldUpBy --value)'"
ctl show-lease "$id" -p HeldUpBy --value | grep -qF "$child:x?<0>?[2J?)???:" ||
        die "named $(ctl show-lease "$id" -p HeldUpBy --value)"
for verb in "show-lease $id" list-leases status "status --json=pretty" "show-lease --json=short $id" map; do
        ctl $verb >"$tmp/said" 2>&1 || die "$verb: $(cat "$tmp/said")"
        is_clean "$tmp/said" || die "$verb: $(od -c "$tmp/said")"
        ! grep -q '^<0>' "$tmp/said" || die "$verb: a forged line"
        echo >>"$tmp/checks"
done

exec 8>&-
wait "$run" || :

# A request that quotes it, and a label that is refused.
for option in 'Lifetime' 'Label' "$(printf 'x\n<0>a\033[2J')"; do
        ! busctl --address="$bus" call org.nvidia.Egm1 /org/nvidia/Egm1 org.nvidia.Egm1.Manager AcquireLease 'a{sv}' 1 \
                "$option" s "$(printf 'x\n<0>a\033[2J')" >"$tmp/said" 2>&1 || die "$option: was taken"
        is_clean "$tmp/said" || die "$option: $(od -c "$tmp/said")"
        echo >>"$tmp/checks"
done
# One that turns what follows around, and one that does not show.
for label in "$(printf 'vm\342\200\256gmep')" "$(printf 'vm1\342\200\213')"; do
        ! ctl lease --size=2M --persistent --label="$label" >"$tmp/said" 2>&1 || die "a label was taken"
        grep -qE 'Label: may not hold .*U\+20(2E|0B) is one' "$tmp/said" || die "$(cat "$tmp/said")"
        echo >>"$tmp/checks"
done
check 2 '' "'x?<0>a?[2J'" lease "--size=$(printf 'x\n<0>a\033[2J')"
is_clean "$tmp/err" || die "$(od -c "$tmp/err")"

is_clean "$tmp/egmd.log" || die "the log holds control characters"
! grep -q '^<0>' "$tmp/egmd.log" || die "a forged line in the log"
count_checks
