#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-config.sh EGMCTL FAKE_EGMD LEASE_USER EGMD: what egmd.conf does to the daemon, seen from outside.
set -eu
egmctl=$1 lease_user=$3 egmd=$4
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
. "$here/lib-cli.sh"

ctl() { "$egmctl" --bus="$bus" "$@"; }
property() { ctl show-region "$1" -p "$2" --value; }
acquire() { ctl lease --persistent --wait=60 -p Id --value "$@"; }
slice_of() { ctl show-lease "$1" -p Slices --value; }
settled() {
        for _r in egm4 egm5 egm6 egm7; do
                case $(property $_r State) in
                ready) [ "$(property $_r Free)" -eq "$(property $_r Size)" ] || return 1 ;;
                opening) return 1 ;;
                esac
        done
}

# A file that has to be there is not.
_got=0
"$egmd" --simulate=gb200 --scale=8192 --bus=unix:path=/nowhere --config="$tmp/none" 2>"$tmp/err" || _got=$?
[ $_got -eq 1 ] && grep -q "configuration $tmp/none: No such file" "$tmp/err" || die "no file: $_got, $(cat "$tmp/err")"

# The sample shows every setting there is, and nothing else; so does the manual.
top=$here/../..
sed -n 's/^#\{0,1\}\([A-Z][A-Za-z]*\)=.*/\1/p' "$top/docs/egmd.conf" | sort >"$tmp/in-sample"
sed -n 's/.*_\{0,1\}SECTION_[A-Z]*, "\([A-Za-z]*\)".*/\1/p' "$top/src/egmd/config-setting.c" | sort >"$tmp/in-code"
grep -oE '^\*[A-Z].*=\*' "$top/man/egmd.conf.5.scd" | grep -oE '[A-Za-z]+=' | tr -d = | sort >"$tmp/in-manual"
[ "$(wc -l <"$tmp/in-code")" -ge 15 ] || die "settings were not found in the code"
diff -u "$tmp/in-code" "$tmp/in-sample" || die "the sample and the code differ"
diff -u "$tmp/in-code" "$tmp/in-manual" || die "the manual and the code differ"

start_bus
sed 's/^#\([^ ]\)/\1/' "$top/docs/egmd.conf" >"$tmp/egmd.conf"
[ "$(grep -c '^[^#]' "$tmp/egmd.conf")" -eq 31 ] || die "the sample: $(cat "$tmp/egmd.conf")"
start_egmd "$egmd" --simulate=gb200 --scale=8192 --config="$tmp/egmd.conf"
! grep -F "$tmp/egmd.conf:" "$tmp/egmd.log" || die "the sample is not right"
kill "$egmd_pid"
wait "$egmd_pid" || die "egmd left with status $?"
rm -rf "$tmp/run"
cat >"$tmp/sim.json" <<'END'
{"regions": [
  {"name": "egm4", "size": "64M", "gpus": ["0008:01:00.0"]},
  {"name": "egm5", "size": "64M", "gpus": ["0018:01:00.0"]},
  {"name": "egm6", "size": "8M", "variant": "K2"},
  {"name": "egm7", "size": "64M"}
]}
END
cat >"$tmp/egmd.conf" <<'END'
[Egmd]
DefaultAlign=8M
LeasesMax=lots
[Region egm4]
Mode=whole
[Region egm5]
Mode=observed
[Region egm6]
Mode=shared
END
start_egmd "$egmd" --simulate="$tmp/sim.json" --config="$tmp/egmd.conf"
eventually 60 settled || die "not settled: $(ctl)"

# What is wrong with it is said, with the place; the rest holds.
grep -qF "$tmp/egmd.conf:3: LeasesMax=lots: allowed is 1 to 16384; ignored" "$tmp/egmd.log" || die "no warning of LeasesMax"
grep -qF "$tmp/egmd.conf:7: Mode=observed: allowed are" "$tmp/egmd.log" || die "no warning of Mode"

# whole: one lease at a time, from the start, and clean for the next one.
[ "$(property egm4 Partitioning)" = whole-only ] || die "egm4 is not whole-only"
[ "$(property egm7 Partitioning)" = full ] || die "egm7 is"
for round in 1 2; do
        check 0 "egm4 $round" '' run --region=egm4 --size=8M --wait=60 -- \
                sh -c 'echo "$1 $2" && exec "$3" expect 0 fill 90' - '{0.region}' "$round" "$lease_user"
        check 0 "egm4 $round" '' run --region=egm4 --whole --wait=60 -- \
                sh -c 'echo "$1 $2" && exec "$3" expect 0 fill 91' - '{0.region}' "$round" "$lease_user"
done
id=$(acquire --region=egm4 --size=2M)
[ "$(slice_of "$id")" = egm4:0:2097152 ] || die "not from the start: $(slice_of "$id")"
check 5 '' 'egm4' lease --region=egm4 --size=2M
[ "$(property egm4 LargestFree)" -eq 0 ] || die "there seems to be something left"
ctl release "$id"
eventually 60 settled || die "egm4 stays dirty: $(ctl)"

# observe: never opened (here by mistake); nothing to wait for.
[ "$(property egm5 State)" = held-elsewhere ] || die "egm5: $(property egm5 State)"
[ "$(property egm5 Reason)" = 'observed only; nobody has it' ] || die "egm5: $(property egm5 Reason)"
[ -z "$(find "/proc/$egmd_pid/fd" -lname '*memfd:egm5*')" ] || die "egm5 was opened"
[ -n "$(find "/proc/$egmd_pid/fd" -lname '*memfd:egm7*')" ] || die "egm7 was not found where it should be"
check 5 '' 'observed only' lease --region=egm5 --size=2M --wait=infinity
check 5 '' 'observed only' lease --gpu=0018:01:00.0 --size=2M
check 0 'observed only; nobody has it' '' status

# shared: not where offsets are ignored; and let go of.
[ "$(property egm6 State)" = failed ] || die "egm6: $(property egm6 State)"
check 0 'Mode=shared' '' show-region egm6 -p Reason
# One is the simulation's own, that is the memory.
[ "$(find "/proc/$egmd_pid/fd" -lname '*memfd:egm6*' | wc -l)" -le 1 ] || die "egm6 was kept"
check 5 '' 'Mode=shared' lease --region=egm6 --size=2M --wait=infinity
check 5 '' 'Mode=shared' lease --region=egm6 --whole

# The alignment of those who say none.
one=$(acquire --region=egm7 --size=2M) two=$(acquire --region=egm7 --size=2M) three=$(acquire --region=egm7 --size=2M --align=2M)
[ "$(slice_of "$one") $(slice_of "$two")" = 'egm7:0:2097152 egm7:8388608:2097152' ] || die "aligned: $(slice_of "$two")"
case $(slice_of "$three") in
egm7:*:2097152) [ $(($(slice_of "$three" | cut -d: -f2) % 8388608)) -ne 0 ] || die "best fit: $(slice_of "$three")" ;;
*) die "$(slice_of "$three")" ;;
esac
ctl release "$one" "$two" "$three"
eventually 60 settled || die "egm7 stays dirty: $(ctl)"

kill "$egmd_pid"
wait "$egmd_pid" || die "egmd left with status $?"

# A simulation is not configured by the host; what is not text, is not trusted.
printf '[Egmd]\nMode=auto\n\0' >"$tmp/egmd.conf"
rm -rf "$tmp/run"
start_egmd "$egmd" --simulate="$tmp/sim.json" --config="$tmp/egmd.conf"
eventually 60 settled || die "not settled: $(ctl)"
for r in egm4 egm5 egm6 egm7; do
        [ "$(property $r State)" = held-elsewhere ] || die "$r: $(property $r State)"
done
[ -z "$(find "/proc/$egmd_pid/fd" -lname '*memfd:egm*')" ] || die "regions were opened"
check 5 '' 'observed only' lease --size=2M --wait=infinity

kill "$egmd_pid"
wait "$egmd_pid" || die "egmd left with status $?"

# Limits, here and on the bus.
printf '[Egmd]\nLeasesMax=2\nWaitingMax=0\nVerify=whole\n' >"$tmp/egmd.conf"
rm -rf "$tmp/run"
start_egmd "$egmd" --simulate="$tmp/sim.json" --config="$tmp/egmd.conf"
eventually 60 settled || die "not settled: $(ctl)"
grep -q 'verifying all' "$tmp/egmd.log" || die "Verify=whole is not heard"
check 0 '"leases_max":2,' '' status --json=short
check 0 '"waiting_max":0,' '' status --json=short
one=$(acquire --size=2M) two=$(acquire --size=2M)
check 5 '' '2 leases are out; the limit is 2' lease --size=2M
ctl release "$one"
one_left() { [ "$(ctl list-leases --no-legend | wc -l)" -eq 1 ]; }
eventually 60 one_left || die "lease $one stays: $(ctl)"
check 0 '' '' run --size=2M -- true
eventually 60 one_left || die "the next one stays: $(ctl)"
check 5 '' 'requests wait already; the limit is 0' lease --whole --region="$(slice_of "$two" | cut -d: -f1)" --wait=60
ctl release "$two"

count_checks
