#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 600
# egmd stops in the middle of everything, and says what it leaves behind; the next one finds it. What it finds and does
# not understand it leaves alone.
. "$LIB"
size=268435456
sim_load "size=$size,$size" || bail

stopped_within() { # stopped_within SECONDS: by systemd's clock
        local from to
        from=$(systemctl show -P ActiveExitTimestampMonotonic egmd)
        to=$(systemctl show -P InactiveEnterTimestampMonotonic egmd)
        echo "# stopped in $(((to - from) / 1000)) ms" >&3
        [ $((to - from)) -lt "${1}000000" ]
}

# K2's mappings all show the start.
case $VARIANT in
K2) much=64M ;;
*) much=192M ;;
esac

# 2 s are promised to a machine that has its processor. Here it only must not be for as long as what it is in the middle of would
# take, nor so long that systemd ends it.
stop_and_see() { # stop_and_see WHAT LEASES
        check "it stops: $1" systemctl stop egmd
        check "soon: $1" stopped_within 25
        is "in peace: $1" "$(systemctl show -P Result egmd) $(systemctl show -P ExecMainStatus egmd)" \
                "success 0"
        like "it says how many remain: $1" "$(systemctl show -P StatusText egmd)" "^$2 lease"
}

scrubs() {
        [ "$(region egm5 Scrubbing)" -gt 0 ]
}

exec 3>&1
check "the daemon starts" egmd_start || bail
check "egm4 is clean" wait_until 60 region_settled egm4 || bail
check "egm5 is clean" wait_until 60 region_settled egm5 || bail

check "one keeps a lease" tenant_keep keep-one whole egm4 16M || bail
if [ "$VARIANT" = K2 ]; then
        remain=1
else
        # Released under it: drains for as long as it is mapped.
        check "another keeps one" tenant_keep keep-held whole egm4 16M || bail
        held=$(tenant_lease keep-held)
        check "which is released" egmctl release "$held"
        remain=2
fi
check "somebody fills much of the other region" vm_start much 9 --size=$much --region=egm5
place=$(vm_slice much)
# Zeroing what he leaves takes minutes from here on.
conf=/etc/egmd/egmd.conf.d/test.conf
mkdir -p "${conf%/*}"
trap 'rm -f "$conf"' EXIT
printf '[Egmd]\nScrubBandwidth=256K\n' >"$conf"
check "it restarts, in no hurry" systemctl restart egmd
check "and leaves" vm_stop much
check "what he had is being zeroed" wait_until 60 scrubs
stop_and_see "while scrubbing" "[$remain-$((remain + 1))]"
check_fails "nothing answers" "" egmctl list-leases

rm "$conf"
check "it starts" systemctl start egmd || bail
like "the lease is there" "$(leases_kept)" "keep-one"
is "in its place" "$(vm_slice keep-one)" egm4:0:16777216
if [ "$VARIANT" != K2 ]; then
        is "the other drains" "$(egmctl show-lease "$held" -p State --value)" draining
        check "nobody changed it" tenant_stop keep-held
fi
check "what was being scrubbed gets clean" wait_until 60 region_settled egm5
# It looks at every byte.
check "all of it" vm_start again 10 --size=$much --region=egm5
is "in the same place" "$(vm_slice again)" "$place"
check "which is left as it was" vm_stop again

# ---- state of another version ----

newer=/run/egmd/lease-4000000000.json
write_newer() {
        echo '{ "format": 1000000, "what": "we cannot know" }' >$newer
        chmod 600 $newer
}

refused() {
        journalctl --sync
        egmd_said | grep -q "$newer.*1000000"
}

before=$(leases_kept)
check "there is state of a newer version" write_newer
check_fails "egmd does not start with it" "" systemctl restart egmd
check "and says why" wait_until 60 refused
check "it leaves it alone" grep -q 1000000 $newer
check "systemd still has the descriptors" wait_until 60 descriptors_kept 2
check "the newer version takes it away" rm $newer
check "it starts" wait_until 60 systemctl start egmd
is "and nothing is lost" "$(leases_kept)" "$before"

check "it stops" systemctl stop egmd
check "newer state comes meanwhile" write_newer
check_fails "egmd does not start" "" systemctl start egmd
check "it stops trying" systemctl stop egmd
check "the newer version takes it away" rm $newer
check "it starts" systemctl start egmd
is "and nothing is lost" "$(leases_kept)" "$before"

check "no byte has changed" tenant_stop keep-one
check "egm4 is clean" wait_until 60 region_settled egm4
is "and free" "$(region egm4 Free)" "$size"

# ---- no descriptor is left ----

# Of a lease that is in nobody's hands but for a mapping, a stop (before systemd 254) leaves nothing that the region
# could be had back by. What is mapped stays as it is, and nobody else gets any of it.
systemd=$(systemctl --version | awk '{ print $2; exit }')
check "one has nothing but a mapping" tenant_keep keep-mapped split egm4 8M || bail
check "it stops" systemctl stop egmd
[ "$systemd" -ge 254 ] || check "what systemd kept goes with it" wait_until 60 descriptors_kept 0
check "it starts" systemctl start egmd
if [ "$systemd" -lt 254 ]; then
        is "the lease is lost" "$(egmctl show-lease "$(tenant_lease keep-mapped)" -p State --value)" \
                lost
        check "the region is not had" wait_until 60 region_is egm4 State held-elsewhere
        like "and why" "$(region egm4 Reason)" egm-mapper
        check_fails "nobody gets any of it" "" egmctl run --region=egm4 --size=2M -- true
else
        like "the lease is there" "$(leases_kept)" "keep-mapped"
fi
check "no byte has changed" tenant_stop keep-mapped
check "egm4 is clean" wait_until 60 region_settled egm4
is "and free" "$(region egm4 Free)" "$size"

# ---- in the middle of opening ----

# Of these, only S4's open can be interrupted: there it is slow, and nobody has to wait for it.
if [ "$VARIANT" = S4 ]; then
        check "it stops" systemctl stop egmd
        echo 4096 >/sys/module/egmsim/parameters/scrub_step
        check "it starts" systemctl start egmd
        opening() {
                [ "$(sim_state 4 scrubbing)" = 1 ]
        }
        check "the kernel clears a region" wait_until 60 opening
        stop_and_see "while opening" 0
        echo 1073741824 >/sys/module/egmsim/parameters/scrub_step
        check "it starts" systemctl start egmd
        check "and gets it" wait_until 60 region_settled egm4
fi
finish
