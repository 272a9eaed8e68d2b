#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-quota.sh EGMCTL FAKE_EGMD LEASE_USER EGMD: what users, units and slices may have, against egmd on simulated regions.
set -eu
egmctl=$(realpath "$1") egmd=$4
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"
[ "$(id -u)" -eq 0 ] || skip "not root: nobody else to be"
group=60777
setpriv --reuid=65534 --regid=65534 --groups=$group true 2>/dev/null || skip "cannot become somebody else"
unshare --mount true 2>/dev/null || skip "no mount namespace"

chmod 711 "$tmp"
start_bus
{ grep -v '^egm:' /etc/group || :; } >"$tmp/group"
echo "egm:x:$group:" >>"$tmp/group"
printf '#!/bin/sh\nmount --bind "%s" /etc/group && exec "%s" "$@"\n' "$tmp/group" "$egmd" >"$tmp/egmd"
chmod +x "$tmp/egmd"
cat >"$tmp/sim.json" <<'END'
{"regions": [{"name": "egm4", "size": "64M"}, {"name": "egm5", "size": "64M"}]}
END
# Others may run this on the same machine, in cgroups of their own.
slice=egmtest$$
cat >"$tmp/egmd.conf" <<END
[Egmd]
LeasesMax=40
[User 1]
WaitingMax=1
[User daemon]
LeasesMax=3
[User 2]
BytesMax=infinity
CallsMax=1
[User no-such-user]
BytesMax=0
[Unit vm@*.service]
LeasesMax=2
[Slice $slice-a.slice]
BytesMax=20M
END
start() { start_egmd unshare --mount --propagation=private "$tmp/egmd" --simulate="$tmp/sim.json" --config="$tmp/egmd.conf"; }
start
ctl() { "$egmctl" --bus="$bus" "$@"; }
ready() { [ "$(ctl list-regions --no-legend | grep -c ready)" -eq 2 ]; }
clean() { [ "$(for _r in egm4 egm5; do ctl show-region $_r -p Free --value; done | paste -sd+ | xargs printf '%s\n')" = 67108864+67108864 ]; }
eventually 60 ready || die "the regions are not ready"
eventually 60 clean || die "the regions are not clean"
grep -qF '[User no-such-user]: there is no such user; ignored' "$tmp/egmd.log" || die "no word of a user there is not"

mkdir "$tmp/bin"
cp -L "$egmctl" "$(dirname "$egmctl")"/../libegm/libegm.so.1 "$tmp/bin"
chmod -R a+rX "$tmp/bin"
root=$egmctl
for user in 65534 1 2; do
        cat >"$tmp/as-$user" <<-END
		#!/bin/sh
		exec setpriv --reuid=$user --regid=$user --groups=$group env LD_LIBRARY_PATH="$tmp/bin" \\
		        "$tmp/bin/egmctl" "\$@"
	END
        chmod 755 "$tmp/as-$user"
done
as() { egmctl=$1; }
nobody=$tmp/as-65534 daemon=$tmp/as-1 bin=$tmp/as-2
# take OPTIONS...: a persistent lease of whoever we are; $id.
take() {
        check 0 '*' '' lease --persistent -p Id --value "$@"
        id=$(cat "$tmp/out")
}
# used SCOPE NAME WHAT: what root sees of it, as the table says it.
used() { "$root" --bus="$bus" status --quota --no-legend | awk -v s="$1" -v n="$2" -v w="$3" '$1 == s && $2 == n && $3 == w { print $4 }'; }
is_used() { [ "$(used "$1" "$2" "$3")" = "$4" ]; }
n_waiting() { [ "$(busctl --address="$bus" get-property org.nvidia.Egm1 /org/nvidia/Egm1 org.nvidia.Egm1.Manager Waiting | cut -d' ' -f2)" -eq "$1" ]; }
# wait_for NAME USER OPTIONS...: a request that waits in the background; its answer goes to $tmp/NAME.
wait_for() {
        _name=$1 _user=$2
        shift 2
        "$_user" --bus="$bus" lease --persistent -p Id --value "$@" >"$tmp/$_name" 2>"$tmp/$_name.err" </dev/null &
        waiter=$!
        pids="$pids $waiter"
}

# Half of the host, and not a byte more; others have the other half.
as "$nobody"
check 5 '' 'BytesMax of uid 65534 is 64M: 0B in use, 66M more asked for' \
        lease --slice=size=64M --slice=size=2M
take --size=40M
first=$id
case $(ctl show-lease "$id" -p Slices --value) in egm4:*) empty=egm5 ;; *) empty=egm4 ;; esac
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 32M more asked for' lease --size=32M
# What could never be is not waited for.
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 66M more asked for' \
        lease --slice=size=33M --slice=size=33M --wait=60
as "$root"
# Who gets it is who counts.
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 32M more asked for' lease --size=32M --owner=65534 --persistent
is_used user nobody bytes 40M || die "nobody has '$(used user nobody bytes)'"
is_used user nobody leases 1 || die "nobody has '$(used user nobody leases)' leases"
is_used user nobody slices 1 || die "nobody has '$(used user nobody slices)' slices"

# A whole region counts with all that it has.
as "$nobody"
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 64M more asked for' lease --slice=whole
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 128M more asked for' \
        lease --slice=whole --slice=whole --wait=60
# Who waits for room on his own account holds nobody else up.
wait_for whole "$nobody" --slice=whole,region="$empty" --wait=60
eventually 30 n_waiting 1 || die "nobody's request for a whole region does not wait: $(cat "$tmp/whole.err")"
as "$daemon"
take --size=2M --region="$empty"
check 0 '' '' release --wait "$id"
as "$root"
n_waiting 1 || die "it waits no more: $(cat "$tmp/whole" "$tmp/whole.err")"
kill "$waiter"
eventually 30 n_waiting 0 || die "it waits without anybody"

# What one may see.
as "$daemon"
take --size=2M
others=$id
as "$nobody"
check 0 'SCOPE' '' status --quota
[ "$(sed -n '2,$ s/  */ /gp' "$tmp/out")" = 'user nobody bytes 40M 64M
user nobody leases 1 10
user nobody slices 1 8192
user nobody waiting 0 256
user nobody calls 0 512' ] || die "nobody sees $(cat "$tmp/out")"
mv "$tmp/out" "$tmp/seen"
check 0 'nobody' '' status --quota nobody
cmp "$tmp/out" "$tmp/seen" || die "by name it is $(cat "$tmp/out")"
check 0 'nobody' '' status --quota 65534
cmp "$tmp/out" "$tmp/seen" || die "by uid it is $(cat "$tmp/out")"
check 0 '{"scope":"user","name":"nobody","uid":65534,"bytes":{"used":41943040,"max":67108864},' '' status --quota --json=short
[ "$(awk '{ n += gsub(/"scope":"user"/, "") } END { print n }' "$tmp/out")" -eq 1 ] || die "nobody sees others: $(cat "$tmp/out")"
check 4 '' 'uid 65534 may see its own quota only' status --quota 1
check 2 '' 'neither' status --quota no-such-user
check 2 '' 'takes one user' status --quota 1 2
check 2 '' "no option '--quota'" list-leases --quota
as "$root"
check 0 'nobody' '' status --quota
check 0 'daemon' '' status --quota
check 0 '' '' release --wait "$others"
check 0 '*' '' status --quota --no-legend daemon
grep -qE '^user +daemon +leases +0 +3$' "$tmp/out" || die "daemon may have $(cat "$tmp/out")"
check 0 '"max":null' '' status --quota --json=short root
check 0 'nobody' '' status --quota

# He waits for his own lease's end. Others pass, but not himself.
wait_for second "$nobody" --size=32M --wait=60
eventually 30 n_waiting 1 || die "nobody's request does not wait: $(cat "$tmp/second.err")"
is_used user nobody waiting 1 || die "nobody's waiting requests"
is_used user nobody calls 1 || die "nobody's calls"
as "$bin"
take --size=50M
as "$nobody"
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 32M for requests that wait, 2M more asked for' lease --size=2M
as "$root"
n_waiting 1 || die "nobody's request waits no more: $(cat "$tmp/second" "$tmp/second.err")"
check 0 '' '' release "$id"
# Room on the account comes with the bytes.
as "$nobody"
check 0 '' '' release "$first"
wait "$waiter" || die "nobody's request was refused: $(cat "$tmp/second.err")"
second=$(cat "$tmp/second")
as "$root"
eventually 30 is_used user nobody bytes 32M || die "nobody has '$(used user nobody bytes)'"
check 0 '' '' release --wait "$second"
eventually 60 clean || die "not clean"
eventually 30 is_used user nobody bytes '' || die "an account that nobody needs: '$(used user nobody bytes)'"

# What drains counts: somebody still has it.
as "$nobody"
"$nobody" --bus="$bus" run --size=40M --label=held -- sh -c 'echo "$EGM_LEASE"; exec sleep 1000' >"$tmp/held" &
holder=$!
pids="$pids $holder"
held() { [ -s "$tmp/held" ]; }
eventually 60 held || die "no lease to hold"
read -r lease <"$tmp/held"
as "$root"
check 0 '' '' release "$lease"
drains() { [ "$(ctl show-lease "$lease" -p State --value)" = draining ]; }
eventually 30 drains || die "not draining"
as "$nobody"
check 5 '' 'BytesMax of uid 65534 is 64M: 40M in use, 32M more asked for' lease --size=32M

# It counts after a restart as before. (The simulated memory lives by who has it.)
region=$(ctl show-lease "$lease" -p Slices --value | cut -d: -f1)
"$nobody" --bus="$bus" run --size=10M --region="$region" -- sh -c 'echo "$EGM_LEASE"; exec sleep 1000' >"$tmp/bound" &
other=$!
pids="$pids $other"
bound() { [ -s "$tmp/bound" ]; }
eventually 60 bound || die "no second lease to hold"
kill -9 "$egmd_pid"
wait "$egmd_pid" 2>/dev/null || :
start
eventually 60 is_used user nobody bytes 50M || die "after a restart: '$(used user nobody bytes)'"
is_used user nobody leases 2 || die "after a restart: '$(used user nobody leases)' leases"
as "$nobody"
check 5 '' 'BytesMax of uid 65534 is 64M: 50M in use, 32M more asked for' lease --size=32M
kill "$(pgrep -P "$holder")"
wait "$holder" || :
eventually 60 is_used user nobody bytes 10M || die "drained: '$(used user nobody bytes)'"
kill "$(pgrep -P "$other")"
wait "$other" || :
as "$root"
eventually 60 clean || die "not clean after a restart"

# A slice that can be lent again counts no longer, whatever the rest of its lease does. (Nobody has its region open then.)
"$nobody" --bus="$bus" run --slice=size=4M,region=egm4 --slice=size=6M,region=egm5 -- \
        sh -c '(eval "exec $1>&-"; exec sleep 1000) & echo "$EGM_LEASE $$ $!"; exec sleep 1000' - '{0.fd}' >"$tmp/half" &
holder=$!
pids="$pids $holder"
half() { [ -s "$tmp/half" ]; }
eventually 60 half || die "no lease of two slices"
read -r lease with_both with_one <"$tmp/half"
remember "$with_both" "$with_one"
is_used user nobody bytes 10M || die "two slices: '$(used user nobody bytes)'"
check 0 '' '' release "$lease"
is_used user nobody slices 2 || die "two slices: '$(used user nobody slices)'"
kill -KILL "$with_both"
forget "$with_both"
eventually 60 is_used user nobody bytes 6M || die "one of two slices: '$(used user nobody bytes)'"
is_used user nobody slices 1 || die "one of two slices: '$(used user nobody slices)'"
is_used user nobody leases 1 || die "one of two slices: '$(used user nobody leases)' leases"
kill "$with_one"
forget "$with_one"
wait "$holder" || :
eventually 60 clean || die "the second slice stays"

# Leases, requests that wait, calls; by name or uid.
as "$daemon"
take --size=2M
one=$id
take --size=2M
take --size=2M
check 5 '' 'LeasesMax of uid 1 is 3: 3 in use, 1 more asked for' lease --size=2M
wait_for fourth "$daemon" --size=2M --wait=60
eventually 30 n_waiting 1 || die "daemon's request does not wait: $(cat "$tmp/fourth.err")"
check 5 '' 'WaitingMax of uid 1 is 1: 1 in use, 1 more asked for' lease --size=2M --wait=60
as "$bin"
take --size=64M
three=$id
wait_for fifth "$bin" --size=60M --wait=60
eventually 30 n_waiting 2 || die "bin's request does not wait: $(cat "$tmp/fifth.err")"
fifth=$waiter
check 5 '' 'CallsMax of uid 2 is 1: 1 in use, 1 more asked for' lease --size=2M
# Others' calls, and other calls of theirs, go on.
check 0 '*' '' list-leases
# Who goes waits no more.
kill "$fifth"
wait "$fifth" 2>/dev/null || :
eventually 30 n_waiting 1 || die "bin's request still waits"
as "$root"
eventually 30 is_used user bin calls 0 || die "bin's calls: '$(used user bin calls)'"
check 0 '' '' release --wait "$one" "$three"
got() { [ -s "$tmp/fourth" ]; }
eventually 30 got || die "daemon's request was not served: $(cat "$tmp/fourth.err")"
for l in $(ctl list-leases --no-legend | awk '{ print $1 }'); do ctl release "$l" || :; done
eventually 60 clean || die "not clean: $(ctl)"

# Units and slices, where this machine lets us make some.
base=/sys/fs/cgroup
[ ! -d $base/systemd ] || base=$base/systemd
dir=$base/$slice.slice/$slice-a.slice
remove() { rmdir "$dir"/vm@1.service "$dir"/x.service "$dir" "$base/$slice.slice" 2>/dev/null || :; }
if [ -e $base/cgroup.procs ] && mkdir -p "$dir/vm@1.service" "$dir/x.service" 2>/dev/null; then
        trap '_rc=$?; set +e; remove; (exit "$_rc"); _cleanup' EXIT
        for unit in vm@1 x; do
                printf '#!/bin/sh\necho $$ >"%s"\nexec "%s" "$@"\n' "$dir/$unit.service/cgroup.procs" "$root" >"$tmp/in-$unit"
                chmod 755 "$tmp/in-$unit"
        done
        as "$tmp/in-vm@1"
        take --size=2M
        "$tmp/in-vm@1" --bus="$bus" run --size=2M -- sh -c 'echo "$EGM_LEASE"; exec sleep 1000' >"$tmp/unit" &
        holder=$!
        pids="$pids $holder"
        in_unit() { [ -s "$tmp/unit" ]; }
        eventually 60 in_unit || die "no lease of a unit"
        check 5 '' 'LeasesMax of unit vm@1.service is 2: 2 in use, 1 more asked for' lease --size=2M
        as "$tmp/in-x"
        check 5 '' 'BytesMax of slice '"$slice"'-a.slice is 20M: 4M in use, 18M more asked for' lease --size=18M
        take --size=16M
        check 0 '' '' release --wait "$id"
        is_used unit vm@1.service leases 2 || die "the unit has '$(used unit vm@1.service leases)'"
        is_used slice "$slice-a.slice" bytes 4M || die "the slice has '$(used slice $slice-a.slice bytes)'"
        is_used slice "$slice.slice" bytes 4M || die "the slice around has '$(used slice $slice.slice bytes)'"
        kill -9 "$egmd_pid"
        wait "$egmd_pid" 2>/dev/null || :
        as "$root"
        start
        eventually 60 is_used unit vm@1.service leases 2 || die "after a restart the unit has '$(used unit vm@1.service leases)'"
        is_used slice "$slice.slice" bytes 4M || die "after a restart the slice around has '$(used slice $slice.slice bytes)'"
        kill "$(pgrep -P "$holder")"
        wait "$holder" || :
        remove
else
        echo "no cgroups can be made here: units and slices are not looked at"
fi

# What is being zeroed counts: by a daemon that is in no hurry, and takes over a lease from one that was.
kill "$egmd_pid" 2>/dev/null || :
wait "$egmd_pid" 2>/dev/null || :
rm -rf "$tmp/run"
sed -i 's/64M/8M/g' "$tmp/sim.json"
: >"$tmp/egmd.conf"
start
eventually 60 ready || die "the small regions are not ready"
"$nobody" --bus="$bus" run --size=8M --wait=60 -- sh -c 'echo "$EGM_LEASE"; exec sleep 1000' >"$tmp/slow" &
holder=$!
pids="$pids $holder"
slow() { [ -s "$tmp/slow" ]; }
eventually 60 slow || die "no lease to zero"
read -r lease <"$tmp/slow"
kill -9 "$egmd_pid"
wait "$egmd_pid" 2>/dev/null || :
printf '[Egmd]\nScrubBandwidth=4K\n' >"$tmp/egmd.conf"
start
eventually 60 is_used user nobody bytes 8M || die "after a restart: '$(used user nobody bytes)'"
check 0 '' '' release "$lease"
kill "$(pgrep -P "$holder")"
wait "$holder" || :
scrubs() { [ "$(ctl show-lease "$lease" -p State --value)" = scrubbing ]; }
eventually 60 scrubs || die "it is not zeroed, but $(ctl show-lease "$lease" -p State --value)"
as "$nobody"
check 5 '' 'BytesMax of uid 65534 is 8M: 8M in use, 2M more asked for' lease --size=2M
as "$root"

count_checks
