#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-format.sh EGMCTL FAKE_EGMD LEASE_USER EGMD: `egmctl format` of live leases, against files, bad input, and those consumers
# that can be had. With $EGM_UPDATE_EXPECTED set, format/ is written instead of compared.
set -eu
egmctl=$1 egmd=$4
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
. "$here/lib-cli.sh"
hosts=$here/../egmctl/format

start_bus
start_egmd "$egmd" --simulate=gb200 --scale=8192

ctl() { "$egmctl" --bus="$bus" "$@"; }
acquire() { ctl lease --persistent --wait=60 -p Id --value "$@"; }
format() { ctl format --node-directory="$hosts/host-gb200" "$@"; }

# ---- One VM per tray, one per socket, two per socket; every consumer ----

# expect LAYOUT LEASE ARGS...: exit status, output and what is said on standard error, for every consumer, are the file
# format/LAYOUT. A lease's number is none of it.
expect() {
        _layout=$1 _lease=$2
        shift 2
        for _whom in qemu qemu-nvidia libvirt crosvm cloud-hypervisor kubevirt kata json; do
                echo "== $_whom"
                _got=0
                format "$_lease" --for=$_whom --one-line "$@" >"$tmp/out" 2>"$tmp/err" || _got=$?
                sed "s/\"lease\":\"$_lease\"/\"lease\":\"N\"/" "$tmp/out"
                cat "$tmp/err"
                echo "== $_got"
                echo >>"$tmp/checks"
        done >"$tmp/actual"
        if [ -n "${EGM_UPDATE_EXPECTED-}" ]; then
                cp "$tmp/actual" "$here/format/$_layout"
        else
                diff -u "$here/format/$_layout" "$tmp/actual" || die "$_layout"
        fi
}

tray=$(acquire --slice=whole,socket=0 --slice=whole,socket=1)
expect gb200-tray "$tray" --cpus=120
check 1 '' 'the VM has 2 of 4' format "$tray" --for=kubevirt --gpu=0008:01:00.0 --gpu=0018:01:00.0
check 1 '' 'no GPU of egm5' format "$tray" --for=libvirt --gpu=0008:01:00.0
ctl release "$tray"
socket=$(acquire --whole --socket=1)
expect gb200-socket "$socket" --cpus=60
half1=$(acquire --size=26M --region=egm4)
half2=$(acquire --size=26M --region=egm4)
[ "$(ctl show-lease "$half2" -p Slices --value)" = egm4:27262976:27262976 ] || die "not the second half"
expect gb200-half1 "$half1" --gpu=0008:01:00.0
expect gb200-half2 "$half2" --gpu=0009:01:00.0=ua-second
expect gb200-half2-allowed "$half2" --gpu=0009:01:00.0 --allow-offset
expect gb200-no-gpu "$half1" --gpu=none --memmap-type=0:spm

# ---- Forms of output ----

format "$half2" --for=qemu >"$tmp/lines"
format "$half2" --for=qemu --one-line >"$tmp/line"
[ "$(wc -l <"$tmp/line")" -eq 1 ] || die "not one line"
eval "printf '%s\n' $(cat "$tmp/line")" | diff -u "$tmp/lines" - || die "a shell makes something else of the line"
format "$socket" --for=cloud-hypervisor >"$tmp/lines"
eval "printf '%s\n' $(format "$socket" --for=cloud-hypervisor --one-line)" | diff -u "$tmp/lines" - || die "quoting"
format "$half2" --for=qemu --json=short | python3 -c 'import json, sys; print(*json.load(sys.stdin), sep="\n")' >"$tmp/json"
format "$half2" --for=qemu | diff -u - "$tmp/json" || die "JSON is something else"
format "$half2" --for=json | python3 -c '
import json, sys
o = json.load(sys.stdin)
assert o["size"] == sum(s["size"] for s in o["slices"]) == sum(n["size"] for n in o["nodes"]) == 26 << 20, o
assert all(len(n["distances"]) == len(o["nodes"]) for n in o["nodes"]), o
assert [g["egm"] for g in o["gpus"]] == [False, False], o
'
# Descriptors instead of the device's path: said, or those of the `egmctl run` around it.
check 0 'path=/proc/self/fd/9,offset=0x1a00000' '' format "$half2" --for=crosvm --fd=9
check 0 'mem-path=/proc/self/fd/9,offset=26M' '' format "$half2" --for=qemu --fd=9
EGM_LEASE=$half2 EGM_SLICES=nonsense EGM_LIFETIME_FD=0
export EGM_LEASE EGM_SLICES EGM_LIFETIME_FD
check 1 '' "descriptors are not here" format "$half2" --for=crosvm
check 0 'path=memfd:egm4' '' format "$half1" --for=crosvm
unset EGM_LEASE EGM_SLICES EGM_LIFETIME_FD
# shellcheck disable=SC2016 # the inner shell's
check 0 'same' '' run --no-inject --size=2M --wait=60 -- sh -c '
        "$1" --bus="$2" format "$EGM_LEASE" --for=crosvm | grep -q "path=$3,offset=0x$(printf %x "$4")," && echo same
' - "$egmctl" "$bus" '{0.path}' '{0.offset}'

# ---- Bad input: named, and nothing on standard output ----

check_table <<END
2 | | 'format' needs a lease                  | format --for=qemu
2 | | takes no argument 'x'                   | format $half1 x --for=qemu
2 | | Say for whom                            | format $half1
2 | | did you mean 'qemu-nvidia'?             | format $half1 --for=qemu-nvida
2 | | knows qemu, qemu-nvidia, libvirt        | format $half1 --for=vmware
2 | | knows qemu, qemu-nvidia, libvirt        | format $half1 --for=
2 | | needs a value                           | format $half1 --for
3 | | no lease 4711                           | format 4711 --for=qemu
3 | | no lease '../x'                         | format ../x --for=qemu
2 | | belongs to no region of lease $half1    | format $half1 --for=qemu --gpu=0018:01:00.0
2 | | belongs to no region                    | format $half1 --for=qemu --gpu=
2 | | is given twice                          | format $half1 --for=qemu --gpu=0008:01:00.0 --gpu=0008:01:00.0=x
2 | | is no name for a device                 | format $half1 --for=qemu --gpu=0008:01:00.0=a,b
2 | | is no name for a device                 | format $half1 --for=qemu --gpu=0008:01:00.0=
2 | | exclude each other                      | format $half1 --for=qemu --gpu=0008:01:00.0 --gpu=none
2 | | --cpus= is a number                     | format $half1 --for=qemu --cpus=0
2 | | --cpus= is a number                     | format $half1 --for=qemu --cpus=all
2 | | has 2 descriptors, and the lease 1      | format $half1 --for=qemu --fd=3,4
2 | | takes numbers of descriptors            | format $half1 --for=qemu --fd=3,
2 | | takes numbers of descriptors            | format $half1 --for=qemu --fd=-1
2 | | has no such slice, it has 1             | format $half1 --for=qemu --memmap-type=1:spm
2 | | normal, spm or reserved                 | format $half1 --for=qemu --memmap-type=0:fast
2 | | normal, spm or reserved                 | format $half1 --for=qemu --memmap-type=spm
2 | | XML cannot be had as JSON               | format $half1 --for=libvirt --json=short
2 | | no option '--size'                      | format $half1 --for=qemu --size=1G
2 | | no option '--cpus'                      | lease --size=1G --cpus=1
1 | | No such file                            | format $half1 --for=qemu --node-directory=$tmp/nowhere
1 | | no usable distances                     | format $half1 --for=qemu --node-directory=$tmp
1 | | no GPU of egm4                          | format $half1 --for=libvirt --gpu=none
1 | | no GPU of egm4                          | format $half1 --for=kata --gpu=none
END
mkdir -p "$tmp/nodes/node0"
echo 0 >"$tmp/nodes/online"
echo '10 20' >"$tmp/nodes/node0/distance"
check 1 '' 'no usable distances' format "$half1" --for=qemu --node-directory="$tmp/nodes"
ctl release "$half1" "$half2" "$socket"

# ---- Those who read it ----

# try_qemu STATUS OUT ERR LEAVE_OUT FDS RUN_ARGS FORMAT_ARGS...
try_qemu() {
        _status=$1 _o=$2 _e=$3 _leave_out=$4 _fds=$5 _run=$6
        shift 6
        # shellcheck disable=SC2086 # words
        check "$_status" "$_o" "$_e" run $_run --wait=60 -- \
                sh "$here/qemu-on-lease.sh" "$egmctl" "$bus" "$_fds" "$hosts/host-gb200" "$_leave_out" "$@"
        tr -d '\r' <"$tmp/out" >"$tmp/numa"
}
says() {
        for _line; do
                grep -qxF -e "$_line" "$tmp/numa" || die "QEMU does not say '$_line': $(cat "$tmp/numa")"
        done
}
knows() { qemu-system-aarch64 -machine virt "$@" 2>&1; }

if command -v qemu-system-aarch64 >/dev/null; then
        initiator=acpi-generic-initiator
        ! knows -object help | grep -q $initiator || initiator=
        tray='--slice=whole,socket=0 --slice=whole,socket=1'
        try_qemu 0 '34 nodes' '' "$initiator" '{0.fd},{1.fd}' "$tray" --for=qemu --cpus=4
        says 'node 0 cpus: 0 1' 'node 0 size: 54 MB' 'node 1 cpus: 2 3' 'node 1 size: 54 MB' 'node 33 size: 0 MB' \
                '  share: true' '  prealloc: false'
        # Without --cpus, by socket.
        try_qemu 0 '34 nodes' '' "$initiator" '{0.fd},{1.fd}' "$tray" --for=qemu
        says 'node 0 cpus: 0 1' 'node 1 cpus: 2 3'
        try_qemu 0 '1 nodes' '' '' '{0.fd}' '--size=26M --region=egm4' --for=qemu --gpu=none
        says 'node 0 size: 26 MB'
        # To where it does not know better: objects of newer versions, and of NVIDIA's.
        [ -z "$initiator" ] ||
                try_qemu 1 '*' "'$initiator'" '' '{0.fd}' '--whole --region=egm5' --for=qemu
        try_qemu 1 '*' 'acpi-egm-memory' "$initiator" '{0.fd}' '--whole --region=egm5' --for=qemu-nvidia
        # Who ran before may not have let go of his part yet: the next would get the one behind it.
        ctl release "$(acquire --whole --region=egm4)"
        hold=$(acquire --size=26M --region=egm4)
        if knows -object memory-backend-file,help | grep -q '^ *offset='; then
                try_qemu 0 '1 nodes' '' '' '{0.fd}' '--size=26M --region=egm4' --for=qemu --gpu=none
        else
                try_qemu 1 '*' 'offset' '' '{0.fd}' '--size=26M --region=egm4' --for=qemu --gpu=none
        fi
        ctl release "$hold"
else
        echo "no qemu-system-aarch64: not asked" >&2
fi

# libvirt's schema knows all but the two elements of its branches for this hardware.
if command -v virt-xml-validate >/dev/null; then
        lease=$(acquire --slice=whole,socket=0 --slice=whole,socket=1)
        for cpus in '' --cpus=120; do
                format "$lease" --for=libvirt ${cpus:+"$cpus"} >"$tmp/fragment.xml"
                sed -e "s,<domain>,<domain type='kvm'><name>vm</name>," \
                        -e "s,  <cpu>,<os><type arch='aarch64' machine='virt'>hvm</type></os><cpu>," "$tmp/fragment.xml" |
                        grep -v '<acpi nodeset' | sed "/<memory model='egm'/,/<\/memory>/d" >"$tmp/domain.xml"
                virt-xml-validate "$tmp/domain.xml" domain >"$tmp/out" 2>&1 || die "libvirt: $(cat "$tmp/out")"
                echo >>"$tmp/checks"
        done
        # It does look: the same with one wrong word is not valid.
        sed "s/unit='KiB'/unit='KiBi'/" "$tmp/domain.xml" >"$tmp/wrong.xml"
        ! virt-xml-validate "$tmp/wrong.xml" domain >"$tmp/out" 2>&1 || die "virt-xml-validate finds everything fine"
        python3 - "$tmp/fragment.xml" <<'END'
import sys, xml.etree.ElementTree as E
d = E.parse(sys.argv[1])
kib = [int(s.text) for s in d.findall('devices/memory/target/size')]
cells = [int(c.get('memory')) for c in d.findall('cpu/numa/cell')]
assert len(kib) == 4 and sum(kib) == sum(cells) == int(d.find('memory').text), (kib, cells)
names = {a.get('name') for a in d.findall('devices/hostdev/alias')}
assert names == {p.text for p in d.findall('devices/memory/target/pciDev')} and len(names) == 4, names
END
        ctl release "$lease"
else
        echo "no virt-xml-validate: not asked" >&2
fi

# The host's configuration says that the platform can do more.
kill "$egmd_pid"
wait "$egmd_pid" || die "egmd left with status $?"
rm -rf "$tmp/run"
printf '[Egmd]\nEgmOffsetAllowed=yes\n' >"$tmp/egmd.conf"
start_egmd "$egmd" --simulate=gb200 --scale=8192 --config="$tmp/egmd.conf"
half1=$(acquire --size=26M --region=egm4)
half2=$(acquire --size=26M --region=egm4)
expect gb200-half2-allowed "$half2" --gpu=0009:01:00.0
ctl release "$half1" "$half2"

# Not a lease any more.
lease=$(acquire --size=2M)
ctl release "$lease"
gone() { ! ctl show-lease "$lease" >/dev/null 2>&1; }
eventually 60 gone || die "lease $lease stays"
check 3 '' "no lease $lease" format "$lease" --for=json

count_checks
