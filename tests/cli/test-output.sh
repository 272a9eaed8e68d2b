#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-output.sh EGMCTL FAKE_EGMD: every verb's output, to the byte where it is promised to be stable, of a daemon in a
# state that is hard to get a real one into.
set -eu
egmctl=$1 fake=$2
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"
export TZ=UTC COLUMNS=42

start_bus
start_fake_egmd "$fake"

# same ARGS...: the output is that on standard input.
same() {
        cat >"$tmp/expected"
        check 0 '*' '' "$@"
        diff -u --label "expected from egmctl $*" "$tmp/expected" "$tmp/out" || exit 1
}

same <<'END'
SOCKET  SIZE  FREE  LEASED  UNCLEAN  RETIRED
     -   10B    5B      4B       0B       1B
     1   20B   19B      1B       0B       0B

REGION  SOCKET  NODE   SIZE  FREE  LARGEST  LEASED  DRAINING  UNCLEAN  RETIRED  STATE           GPUS
egm4         1     -  1000B  400B     300B    200B      150B     190B      60B  held-elsewhere  0008:01:00.0 0009:01:00.0

1 region listed.

LEASE  LABEL  SIZE  STATE      UID   PID  UNIT       SLICES
    7  vm1      6M  draining  1000  4711  vm1.scope  egm4:1M+2M egm5:0B+4M

1 lease listed.

WAITING  LABEL  SIZE   UID  SINCE
      1  next    77B  1000  1970-01-01 00:00:00

egm4: held-elsewhere: by pid 7
egm4: pid 4712 (vhost) maps 4M at 2097152, which is lent to nobody
egm4: somebody maps 1M at 0, which is lent to another user
lease 7: held up by pid 4711 (qemu, vm1.scope)
0008:00:00.0: carries EGM in a way that this version of egmd cannot use
END
same list-regions --no-legend --no-pager <<'END'
egm4  1  -  1000B  400B  300B  200B  150B  190B  60B  held-elsewhere  0008:01:00.0 0009:01:00.0
END
same list-leases --no-legend <<'END'
7  vm1  6M  draining  1000  4711  vm1.scope  egm4:1M+2M egm5:0B+4M
END
same status 7 <<'END'
       Lease: 7 - vm1
       State: draining, held up by pid 4711 (qemu, vm1.scope)
        Size: 6M
      Slices: 2M of egm4 from offset 1M (1048576+2097152)
              4M of egm5 from offset 0B (0+4194304)
     Retired: 2M of egm4 at 1048576
              4M of egm5 at 0
    Lifetime: descriptor
   Isolation: enforced
       Owner: uid 1000
      Holder: pid 4711, vm1.scope
       Since: 1970-01-01 00:00:01
END
same show-region <<'END'
Name=egm4
DevicePath=/dev/egm4
Size=1000
Free=400
LargestFree=300
Leased=200
Draining=150
Dirty=120
Scrubbing=70
Retired=60
Scrubbed=35
Granule=65536
RetiredRanges=64:16 128:44
Node=-1
Socket=1
Gpus=0008:01:00.0 0009:01:00.0
GpuDrivers=0008:01:00.0= 0009:01:00.0=nvgrace-gpu-vfio-pci
State=held-elsewhere
Reason=by pid 7
Partitioning=full
Driver=sim
Isolation=cooperative
IsolationReason=no lsm=bpf
Schedulable=yes
Overreach=unlent:2097152:4194304:4712:vhost foreign:0:1048576:0:
END
lease='Id=7
Label=vm1
Slices=egm4:1048576:2097152 egm5:0:4194304
State=draining
Lifetime=descriptor
Isolation=enforced
OwnerUid=1000
HolderPid=4711
Unit=vm1.scope
CreatedUSec=1234567
RetiredRanges=egm4:1048576:2097152 egm5:0:4194304
HeldUpBy=4711:qemu:vm1.scope:987654321098
Concealed=no'
echo "$lease" | same show-lease 7
echo "$lease" | same lease --size=2M
echo "$lease" | same lease --size=2M --persistent
printf '%s\n\n%s\n' "$lease" "$lease" | same show-lease 7 7
printf 'State=draining\nId=7\n' | same show-lease 7 -p State --property=Id
printf '7\n' | same lease --size=2M --persistent -p Id --value
printf '7\n7\n' | same show-lease 7 7 -p Id --value
check 2 '' "no property 'Colour'" show-lease 7 -p Colour

json_region='{"name":"egm4","device_path":"/dev/egm4","size":1000,"free":400,"largest_free":300,"leased":200,"draining":150,"dirty":120,"scrubbing":70,"retired":60,"scrubbed":35,"granule":65536,"retired_ranges":[{"offset":64,"size":16},{"offset":128,"size":44}],"node":-1,"socket":1,"gpus":[{"address":"0008:01:00.0","driver":""},{"address":"0009:01:00.0","driver":"nvgrace-gpu-vfio-pci"}],"state":"held-elsewhere","reason":"by pid 7","partitioning":"full","driver":"sim","isolation":"cooperative","isolation_reason":"no lsm=bpf","schedulable":true,"overreach":[{"kind":"unlent","offset":2097152,"size":4194304,"pid":4712,"command":"vhost"},{"kind":"foreign","offset":0,"size":1048576,"pid":0,"command":""}]}'
json_lease='{"id":"7","label":"vm1","slices":[{"region":"egm4","offset":1048576,"size":2097152},{"region":"egm5","offset":0,"size":4194304}],"state":"draining","lifetime":"descriptor","isolation":"enforced","owner_uid":1000,"holder_pid":4711,"unit":"vm1.scope","created_usec":1234567,"retired_ranges":[{"region":"egm4","offset":1048576,"size":2097152},{"region":"egm5","offset":0,"size":4194304}],"held_up_by":[{"pid":4711,"command":"qemu","unit":"vm1.scope","start_time":987654321098}],"concealed":false}'
echo "[$json_region]" | same list-regions --json=short
echo "[$json_region]" | same show-region egm4 -j
echo "[$json_lease]" | same list-leases --json=short
echo "[$json_lease]" | same show-lease 7 --json=short
echo "[$json_lease]" | same status 7 --json=short
echo "[$json_lease,$json_lease]" | same show-lease --json=short 7 7
echo "$json_lease" | same lease --size=2M --json=short
echo "{\"version\":\"0.1.0\",\"sockets\":[{\"socket\":-1,\"size\":10,\"free\":5,\"leased\":4,\"retired\":1},{\"socket\":1,\"size\":20,\"free\":19,\"leased\":1,\"retired\":0}],\"regions\":[$json_region],\"leases\":[$json_lease],\"waiting\":[{\"uid\":1000,\"label\":\"next\",\"size\":77,\"since_usec\":88,\"until_usec\":99}],\"unsupported_devices\":[{\"address\":\"0008:00:00.0\",\"size\":5}],\"lease_count\":3,\"leases_max\":9,\"slices_max\":10,\"waiting_max\":11,\"granted\":4,\"refused\":5,\"ended\":6,\"scrubbed_bytes\":7,\"bad_pages\":8,\"overreaches\":12,\"egm_offset_allowed\":true}" |
        same --json=short
echo '[{"extents":[{"offset":0,"size":64,"state":"free","lease":""},{"offset":64,"size":32,"state":"leased","lease":"7"}],"name":"egm4","size":1000}]' |
        same map --json=short
check 0 '    "name": "egm4",' '' list-regions --json=pretty

same map <<'END'
egm4: 1000B, 400B free, 200B leased, 60B retired, held-elsewhere
|..A?????????????????????????????????????|
. free  % dirty  ~ scrubbing  - draining  ! retired
END
check 3 '' "no region 'egm9'" map egm9
check 3 '' "no region '../egm4'" show-region ../egm4
check 3 '' "no lease 'x y'" show-lease 'x y'
check 1 'Id=7' "makes no sense" show-lease 8 7
check 1 '' "not to be used any more: draining" format 7 --for=json

# A line for each change, at once.
timeout 240 "$egmctl" --bus="$bus" monitor --json=short >"$tmp/monitor.json" &
monitor_json=$!
timeout 240 "$egmctl" --bus="$bus" monitor >"$tmp/monitor" &
monitor=$!
pids="$pids $monitor $monitor_json"
watchers() { # a match is what makes a monitor hear anything
        [ "$(busctl --address="$bus" call org.freedesktop.DBus /org/freedesktop/DBus \
                org.freedesktop.DBus.Debug.Stats GetAllMatchRules |
                grep -o "path_namespace=" | wc -l)" -eq 2 ]
}
eventually 30 watchers || die "the monitors do not watch"
printf s >&9
lines() { [ "$(wc -l <"$1")" -eq 5 ]; }
eventually 30 lines "$tmp/monitor" || die "monitor: $(cat "$tmp/monitor")"
eventually 30 lines "$tmp/monitor.json" || die "monitor: $(cat "$tmp/monitor.json")"
cut -d' ' -f2- <"$tmp/monitor" >"$tmp/monitor.text"
diff -u - "$tmp/monitor.text" <<'END'
lease-added 7 Label=vm1 Slices=egm4:1048576:2097152 egm5:0:4194304
region-changed egm4 Free=400 State=held-elsewhere RetiredRanges=64:16 128:44
manager-changed Sockets
retired-pages-found 7 egm4:2097152:65536
lease-removed 7
END
diff -u - "$tmp/monitor.json" <<END
{"event":"lease-added","name":"7","changed":[],"pages":[],"lease":$json_lease}
{"event":"region-changed","name":"egm4","changed":["Free","State","RetiredRanges"],"pages":[],"region":$json_region}
{"event":"manager-changed","name":"","changed":["Sockets"],"pages":[]}
{"event":"retired-pages-found","name":"7","changed":[],"pages":[{"region":"egm4","offset":2097152,"size":65536}]}
{"event":"lease-removed","name":"7","changed":[],"pages":[]}
END

count_checks
