#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-inject.sh EGMCTL EGMD PATH_USER STATIC_PATH_USER: `egmctl run` for programs that open their memory by path, against
# egmd on simulated regions: where they land, what they are refused, and that nothing stays behind.
set -eu
egmctl=$(realpath "$1") egmd=$2 user=$(realpath "$3") static=$(realpath "$4")
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
cat >"$tmp/sim.json" <<'END'
{"regions": [
  {"name": "egm4", "size": "64M", "node": 0, "socket": 0, "gpus": ["0008:01:00.0"],
   "retired": [{"offset": "16M", "size": "64K"}]},
  {"name": "egm5", "size": "32M", "node": 1, "socket": 1, "gpus": ["0018:01:00.0"]}
]}
END
start_egmd "$egmd" --simulate="$tmp/sim.json"
ctl() { "$egmctl" --bus="$bus" "$@"; }
property() { ctl show-region "$1" -p "$2" --value; }
nothing_left() { [ "$(ctl list-leases --no-legend | wc -l)" -eq 1 ] && [ "$(property egm4 Free)" -eq 58654720 ]; }
settle() { eventually 60 nothing_left || die "something is left: $(ctl)"; }

# The start of egm4 is somebody else's, and stays as it is: what follows is at 8M or behind. (64M - 8M - 64K are left.)
all_clean() { [ "$(property egm4 Free)" -eq $((64 * 1048576 - 65536)) ]; }
eventually 60 all_clean || die "not clean: $(ctl)"
keep=$(ctl lease --size=8M --region=egm4 --persistent --wait=60 -p Id --value)
[ "$(ctl show-lease "$keep" -p Slices --value)" = egm4:0:8388608 ] || die "not at the start"
# egmctl has the simulated memory open as long as it lasts.
neighbour=$(ls -l "/proc/$egmd_pid/fd" | sed -n 's,.* \([0-9]*\) -> /memfd:egm4.*,\1,p' | head -1)
[ -n "$neighbour" ] || die "no memory of egmd's found"
neighbour=/proc/$egmd_pid/fd/$neighbour
look() { # $1: offset; the byte there
        dd if="$neighbour" bs=1 count=1 skip="$1" 2>/dev/null | od -An -tu1 | tr -d ' '
}
settle

m=1048576
check_table <<END
# Where it lands: told by the placeholder, by the command's own offset, by nothing.
0 | expect: fine |   | run --size=4M --region=egm4 -- "$user" rw={0.path} map={0.offset}+4194304 expect=0 fill=1 expect=1
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} map=0+4194304 expect=0 fill=2 expect=2
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 -- "$static" rw={0.path} map=0+4194304 expect=0 fill=3 expect=3
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 --shift=on -- "$user" rw={0.path} map=4096+8192 expect=0 fill=4
0 | expect: fine |   | run --size=4M --region=egm5 --wait=60 -- "$user" rw={0.path} map=0+4194304 expect=0 fill=5
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 --as=/dev/null -- "$user" rw=/dev/null map=0+4194304 expect=0
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 --as=/dev/egm4 -- sh -c 'cd /dev && exec "\$1" rw=egm4 map=0+4194304 expect=0' - "$user"
0 | expect: fine |   | run --slice=size=4M,region=egm4 --slice=size=4M,region=egm5 --wait=60 --as=/a -- "$user" rw={1.path} map=0+4194304 expect=0 rw=/a map=0+4194304 expect=0 fill=6
# Twice is fine, by its children, too.
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} map=0+4194304 fill=7 rw={0.path} map=0+4194304 expect=7
0 | expect: fine |   | run --size=4M --region=egm4 --wait=60 -- sh -c '"\$1" rw=\$2 map=0+4194304 fill=8 & wait \$! && "\$1" rw=\$2 map=0+4194304 expect=8' - "$user" {0.path}
1 | Too many open | is open 8 times | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} rw={0.path} rw={0.path} rw={0.path} rw={0.path} rw={0.path} rw={0.path} rw={0.path} rw={0.path}

# What is refused, and why.
1 | Invalid argument | Bytes 0+4194304 of /run/egm/lease-  | run --size=4M --region=egm4 --wait=60 --shift=off -- "$user" rw={0.path} map=0+4194304
1 | Invalid argument | outside of the lease                | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} map=0+4198400
1 | Invalid argument | outside of the lease                | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} map={0.offset}+4198400
1 | Invalid argument | it is not clear                     | run --size=34M --region=egm4 --wait=60 -- sh -c '"\$1" rw="\$2" map=\$(echo \$EGM_SLICES | cut -d: -f3)+4096' - "$user" {0.path}
1 | Invalid argument | share=on                            | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} private=0+4194304
1 | No such file     | ended without having opened /run/egm/ | run --size=4M --region=egm4 --wait=60 -- "$user" ro={0.path}
1 | Permission denied | for reading only                   | run --size=4M --region=egm4 --wait=60 --as=/dev/null -- "$user" ro=/dev/null
3 |                  | ended without having opened         | run --size=4M --region=egm4 --wait=60 -- sh -c 'exit 3' - {0.path}
0 |                  |                                     | run --size=4M --region=egm4 --wait=60 -- true {0.path}
137 |                |                                     | run --size=4M --region=egm4 --wait=60 -- sh -c 'kill -KILL \$\$' - {0.path}
127 |                | Failed to execute                   | run --size=4M --region=egm4 --wait=60 --inject -- /nowhere
126 |                | Failed to execute                   | run --size=4M --region=egm4 --wait=60 --inject -- /etc/passwd
127 |                | Failed to execute                   | run --size=4M --region=egm4 --wait=60 -- qemu-system-nonsense
1 | No such device   | has ended                           | run --size=4M --region=egm4 --wait=60 -- sh -c '"\$1" --bus="\$2" release \$EGM_LEASE && exec "\$3" rw="\$4"' - "$egmctl" "$bus" "$user" {0.path}
1 | Too many open    | fewer descriptors                   | run --size=4M --region=egm4 --wait=60 -- sh -c 'ulimit -n 100; exec "\$1" rw=\$2' - "$user" {0.path}
1 |                  | watches us already                  | run --size=4M --region=egm4 --wait=60 --inject -- "$egmctl" --bus="$bus" run --size=4M --region=egm5 --inject true
2 |                  | passes on memory                    | run --size=4M --region=egm4 --wait=60 -- kvm -device vhost-user-blk {0.path}
2 |                  | no plain path                       | run --size=4M --region=egm4 --wait=60 --as=/a/../b true
0 | vhost-user       |                                     | run --size=4M --region=egm4 --wait=60 -- echo vhost-user {0.path} {0.offset}

# Bad pages, from the start of the slice (the region's is at 16M), in the slice only.
0 | |                   | run --size=50M --retired=include --region=egm4 --wait=60 -- sh -c '[ "\$("\$1" rw=\$2 retired | tail -1)" = "\$((16777216 - \$3))+65536 retired: fine" ]' - "$user" {0.path} {0.offset}
0 | retired: fine         | | run --size=4M --region=egm4 --wait=60 -- "$user" rw={0.path} retired
END
! grep -q + "$tmp/out" || die "retired pages in a slice that has none: $(cat "$tmp/out")"
settle
_got=0
(ulimit -n 40 && ctl run --size=4M --region=egm4 --wait=60 --inject true 2>"$tmp/err") || _got=$?
[ $_got -eq 1 ] && grep -q 'ulimit -n' "$tmp/err" || die "few descriptors: $_got $(cat "$tmp/err")"
settle
[ "$(look 0)" = 0 ] && [ "$(look $((8 * m - 1)))" = 0 ] || die "the neighbour's memory was written"

line=
# While it runs its bytes are where the lease is; killed with SIGKILL, nothing of it is left for the next.
for how in 'map=0' 'map={0.offset}'; do
        rm -f "$tmp/in" "$tmp/held"
        mkfifo "$tmp/in" "$tmp/held"
        "$egmctl" --bus="$bus" run --size=4M --region=egm4 --wait=60 -- sh -c 'echo $$ $EGM_LEASE; exec "$@"' - "$user" rw='{0.path}' \
                "$how+4194304" expect=0 fill=153 wait <"$tmp/in" >"$tmp/held" &
        run=$!
        pids="$pids $run"
        exec 8>"$tmp/in" 6<"$tmp/held"
        read -r child id <&6
        until [ "$line" = waiting ]; do read -r line <&6; done
        offset=$(ctl show-lease "$id" -p Slices --value | cut -d: -f2)
        [ "$offset" -ge $((8 * m)) ] || die "at the start"
        [ "$(look "$offset")" = 153 ] && [ "$(look $((offset + 4 * m - 1)))" = 153 ] || die "$how: not where the lease is"
        [ "$(look $((offset - 1)))" = 0 ] && [ "$(look $((offset + 4 * m)))" = 0 ] || die "$how: beside the lease"
        kill -KILL "$child"
        _got=0
        wait "$run" || _got=$?
        [ $_got -eq 137 ] || die "$how: $_got"
        exec 8>&- 6<&-
        line=
        settle
        [ "$(look "$offset")" = 0 ] || die "$how: not zeroed"
done

# A program that would become somebody else cannot, under a filter: said, not tried. Only root can try that for another.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
        chmod 711 "$tmp"
        cp "$user" "$tmp/suid"
        chmod 4755 "$tmp/suid"
        id=$(ctl lease --size=4M --persistent --owner=65534 --wait=60 -p Id --value)
        _got=0
        setpriv --reuid=65534 --regid=65534 --clear-groups "$egmctl" --bus="$bus" run --lease="$id" --inject -- "$tmp/suid" \
                rw='{0.path}' >"$tmp/said" 2>&1 || _got=$?
        [ $_got -ne 0 ] && grep -q "set-user-ID" "$tmp/said" || die "set-user-ID: $_got, $(cat "$tmp/said")"
        ctl release "$id"
        settle
fi

count_checks
