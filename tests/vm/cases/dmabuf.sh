#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: D
# seconds: 500
# Dma-bufs of a lease: exactly its bytes, and nobody else's as long as somebody has one of them.
. "$LIB"
# All of the region is lent, so that the bad page is.
size=25165824 first=8388608 slice=16777216 hole=10485760
sim_load "size=$size,$size" "retired=4:$hole" dmabuf_mmap=Y || bail
conf=/etc/egmd/egmd.conf.d/test.conf
mkdir -p "${conf%/*}"
trap 'rm -f "$conf"' EXIT
configure() { # configure LINE...: egmd's, from its next start
        printf '%s\n' '[Egmd]' "$@" >"$conf"
}
lease_property() { egmctl show-lease "$1" -p "$2" --value; }
gone() { ! egmctl show-lease "$1"; }
let_go() { [ "$(sim_state 4 opens) $(sim_state 4 exports)" = "0 1" ]; }
ready() { region_is egm4 State ready; }
held_up() { lease_property "$1" HeldUpBy | grep -q egm-dmabuf; }
drains() { # drains LEASE WHEN
        check "held up: $2" wait_until 30 held_up "$1"
        is "and draining: $2" "$(lease_property "$1" State)" draining
        is "and no byte of it was cleaned: $2" "$(region egm4 Draining)" $((slice - 65536))
}
run_with() { egmctl run --dmabuf --size=$slice --region=egm4 --retired=include --wait=60 "$@"; }

# A process that has a dma-buf, and is no child of who had the lease.
take() { # take WHAT
        rm -f /run/dmabuf.{sock,in,out}
        mkfifo /run/dmabuf.in
        egm-dmabuf take /run/dmabuf.sock "$1" <>/run/dmabuf.in >/run/dmabuf.out 2>&1 &
        taker=$!
        wait_until 20 [ -S /run/dmabuf.sock ]
}
taken() {
        cat /run/dmabuf.out
        grep -qx has /run/dmabuf.out
}
leave() { # it ends; what it mapped must be as it was when it came
        echo 1<>/run/dmabuf.in
        wait $taker && grep -qx intact /run/dmabuf.out
}
give=(egm-dmabuf give /run/dmabuf.sock '{0.fd}' '{0.offset}' '{0.size}' '{0.dmabuf}')

# ---- only where it is allowed ----

configure
check "the daemon starts" egmd_start || bail
check "the region is ready" wait_until 60 region_settled egm4 || bail
check_fails "not by default" DmabufAllowed=no run_with -- true
configure DmabufAllowed=yes RequireEnforcement=yes
systemctl restart egmd
check_fails "nor where enforcement is required" RequireEnforcement= run_with -- true
configure DmabufAllowed=yes PollRetiredSec=1s
systemctl restart egmd
check "ready again" wait_until 60 region_settled egm4 || bail
is "the region is enforced" "$(region egm4 Isolation)" enforced
check_fails "a placeholder without the option" --dmabuf egmctl run --size=2M -- echo '{0.dmabuf}'
check_fails "none of a lease that has none" "without the option Dmabuf" \
        bash -c 'id=$(egmctl lease --persistent --size=2M --region=egm5 --wait=60 -p Id --value)
                egmctl run --lease=$id --dmabuf -- true
                status=$?; egmctl release $id; exit $status'

# ---- exactly the lease ----

check "a neighbour" vm_start near 90 --size=$first --region=egm4
is "where it is" "$(vm_slice near)" "egm4:0:$first"
id=$(egmctl lease --persistent --dmabuf --label=buffer --size=$slice --region=egm4 --retired=include -p Id --value)
is "the lease" "$(lease_property "$id" Slices)" "egm4:$first:$slice"
is "has a bad page" "$(lease_property "$id" RetiredRanges)" "egm4:$hole:65536"
is "it is cooperative" "$(lease_property "$id" Isolation)" cooperative
is "its neighbour is not" "$(lease_property "$(vm_lease near)" Isolation)" enforced
take map
check "its dma-buf is its good bytes" egmctl run --dmabuf --lease="$id" -- "${give[@]}" $hole
check "somebody else has it" wait_until 20 taken
is "by a mapping alone" "$(ls -l /proc/$taker/fd | grep -c /dmabuf:; grep -c /dmabuf: /proc/$taker/maps)" $'0\n1'
check "it restarts under it" systemctl restart egmd
is "the lease lives on" "$(lease_property "$id" State)" active
check "another dma-buf" egmctl run --dmabuf --lease="$id" -- true

# ---- waits for who has it ----

check "it is released" egmctl release "$id"
drains "$id" "mapped"
check_fails "it gives no more" "" egmctl run --dmabuf --lease="$id" -- true
check "another lease comes and goes" egmctl run --size=2M --region=egm5 --wait=60 -- true
drains "$id" "after another"
kill -9 "$(systemctl show -P MainPID egmd)"
check "it comes back" wait_until 60 ready
drains "$id" "egmd was killed"
check "it stops" systemctl stop egmd
check "it starts" systemctl start egmd
drains "$id" "egmd was stopped"
is "its neighbour is enforced" "$(lease_property "$(vm_lease near)" Isolation)" enforced
check "nobody touched a byte" leave
check "it is over" wait_until 60 gone "$id"
check "all is clean" wait_until 60 region_settled egm4
check "the next one finds zeros" vm_start next 33 --size=$slice --region=egm4 --retired=include
is "at the same place" "$(vm_slice next)" "egm4:$first:$slice"
check "and has what it wrote" vm_stop next

# ---- a descriptor alone; and nobody has the device ----

take fd
check "one that ends by itself" run_with --label=short -- "${give[@]}" $hole
id=$(vm_lease short)
check "there it is" [ -n "$id" ]
check "somebody has it" wait_until 20 taken
drains "$id" "open"
check "the neighbour is as it was" vm_stop near
drains "$id" "alone"
scrubs=$(sim_state 4 scrubs)
check "it stops" systemctl stop egmd
check "the driver has let go" wait_until 60 let_go
check "it starts" systemctl start egmd
check "it does not open what a dma-buf is of" wait_until 60 region_is egm4 State held-elsewhere
like "and says who has it" "$(region egm4 Reason)" egm-dmabuf
is "the kernel has wiped nothing" "$(sim_state 4 scrubs)" "$scrubs"
check "it restarts" systemctl restart egmd
check "and does not forget" wait_until 60 region_is egm4 State held-elsewhere
is "the lease is there" "$(lease_property "$id" State)" lost
echo 1<>/run/dmabuf.in
wait $taker
check "it is opened when that is gone" wait_until 60 region_settled egm4
check "and the lease is over" wait_until 60 gone "$id"
check "the next one finds zeros" vm_start last 44 --whole --region=egm4 --retired=include
check "and has what it wrote" vm_stop last
is "nothing is left" "$(sim_state 4 exports)" 0
finish
