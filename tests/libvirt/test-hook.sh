#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-hook.sh EGMCTL EGMD PATH_USER FOLDER: the lives of domains' leases, as libvirt's calls of the hook make them.
set -eu
egmctl=$(realpath "$1") egmd=$2 hooks=$4
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-libvirt.sh"
start_libvirt_bed

# ---- One domain's life ----

a=$(xml $uuid_a "$(lease_xml 'owner="65534" wait="60"' '<egm:slice size="4M" gpu="0009:01:00.0"/>
        <egm:slice size="2M" region="egm5" align="4M" retired="include"/>')")
hook 0 '' red prepare begin "$a"
id=$(lease_of $uuid_a)
[ "$(property "$id" OwnerUid)" -eq 65534 ] || die "owner"
[ "$(property "$id" Label)" = red ] || die "label"
[ "$(property "$id" Lifetime)" = persistent ] || die "lifetime"
property "$id" Slices | grep -q '^egm4:[0-9]*:4194304 egm5:[0-9]*:2097152$' || die "slices: $(property "$id" Slices)"
[ "$(stat -c '%a %u' "$records" "$records/$uuid_a" | tr '\n' ' ')" = '755 0 644 0 ' ] || die "who may read and write the record"
[ "$(ls -A "$records")" = $uuid_a ] || die "something else is remembered: $(ls -A "$records")"
for operation in 'start begin' 'started begin' 'reconnect begin' 'migrate begin' 'restore begin' 'attach begin' 'stopped end' \
        'prepare end' 'release begin'; do
        hook 0 '' red $operation "$a"
        # Nor does it look at what it is given, or need anything.
        EGM_LIBVIRT_CONF=/dev/full hook 0 '' red $operation nonsense
done
[ "$(property "$id" State)" = active ] || die "the lease ended early"
hook 0 '' red release end "$a"
[ "$(ls -A "$records")" = '' ] || die "remembered after its end"
eventually 60 settled || die "not released: $("$egmctl")"
hook 0 '' red release end "$a"

# ---- Two at once; the end of one is not that of the other. The metadata may have changed or gone meanwhile. ----

b=$(xml $uuid_b "$(lease_xml 'owner="nobody" wait="60"' '<egm:slice whole="yes" region="egm5"/>')")
a=$(xml $uuid_a "$(lease_xml 'owner="nobody" wait="60"' '<egm:slice size="4M" node="0"/>')")
hook 0 '' red prepare begin "$a"
hook 0 '' blue prepare begin "$b"
id_b=$(lease_of $uuid_b)
[ "$(property "$(lease_of $uuid_a)" Label)$(property "$id_b" Label)" = redblue ] || die "labels"
hook 0 '' red release end "$(xml $uuid_a)"
[ ! -e "$records/$uuid_a" ] || die "remembered after its end"
[ "$(property "$id_b" State)" = active ] || die "the other's lease ended"

# ---- Refused: the domain does not start, and says why ----

hook 1 'egmd: domain red: egmctl: Failed to acquire a lease: Slice 0: ' red prepare begin \
        "$(xml $uuid_a "$(lease_xml 'owner="nobody"' '<egm:slice size="64M"/>')")"
hook 1 'no-such-region' red prepare begin "$(xml $uuid_a "$(lease_xml 'owner="nobody"' '<egm:slice size="2M" region="no-such-region"/>')")"
[ "$(ls -A "$records")" = $uuid_b ] || die "remembered, but refused: $(ls -A "$records")"

# ---- Bad metadata: nothing is acquired ----

only_blue() { [ "$(n_leases)" -eq 2 ]; } # and who keeps the start of egm4
eventually 60 only_blue || die "the leases of red stay: $("$egmctl")"
before=2
good='<egm:slice size="2M"/>'
bad() { hook 1 "egmd: domain red: metadata: $1" red prepare begin "$(xml $uuid_a "$2")"; }
while IFS='|' read -r why attributes slices; do
        bad "$why" "$(lease_xml "$attributes" "$slices")"
done <<'END'
<lease> has no <slice>|owner="nobody"|
<slice> needs either a size or whole='yes'|owner="nobody"|<egm:slice/>
<slice> needs either a size or whole='yes'|owner="nobody"|<egm:slice gpu="0009:01:00.0"/>
<slice> needs either a size or whole='yes'|owner="nobody"|<egm:slice size="2M" whole="yes"/>
whole='maybe' is neither yes nor no|owner="nobody"|<egm:slice whole="maybe"/>
size='2M,region=egm5' is no value|owner="nobody"|<egm:slice size="2M,region=egm5"/>
size='' is no value|owner="nobody"|<egm:slice size=""/>
<slice> has no attribute 'sise'|owner="nobody"|<egm:slice sise="2M"/>
<slice> takes no elements|owner="nobody"|<egm:slice size="2M"><egm:slice size="2M"/></egm:slice>
<slice> takes no text|owner="nobody"|<egm:slice size="2M">4M</egm:slice>
<lease> takes no text|owner="nobody"|4M<egm:slice size="2M"/>
unknown element <slise> in <lease>|owner="nobody"|<egm:slise size="2M"/>
unknown element <slice> in <lease>|owner="nobody"|<slice size="2M"/>
<lease> has no attribute 'ovner'|ovner="nobody"|<egm:slice size="2M"/>
there is no user 'no-such-user'|owner="no-such-user"|<egm:slice size="2M"/>
wait='-1' is not a number of seconds|owner="nobody" wait="-1"|<egm:slice size="2M"/>
wait='infinity' is not a number of seconds|owner="nobody" wait="infinity"|<egm:slice size="2M"/>
wait='3601' is not a number of seconds up to 3600|owner="nobody" wait="3601"|<egm:slice size="2M"/>
END
one=$(lease_xml 'owner="nobody"' "$good")
bad 'there is more than one <lease>' "$one$one"
bad 'unknown element <leash>' '<egm:leash xmlns:egm="https://nvidia.com/egm/1"/>'
for namespace in https://nvidia.com/egm/2 http://nvidia.com/egm/1 https://nvidia.com/egm https://NVIDIA.com/egm/1; do
        bad "namespace '$namespace' is not known" "<egm:lease xmlns:egm='$namespace' owner='nobody'><egm:slice size='2M'/></egm:lease>"
done
hook 1 'not the XML of a domain' red prepare begin 'nonsense'
hook 1 'not the XML of a domain with a uuid' red prepare begin "$(xml ../../etc/passwd "$one")"
[ "$(n_leases)" -eq "$before" ] || die "acquired, but refused: $("$egmctl")"

# ---- A domain that says nothing of us is not touched ----

hook 0 '' red prepare begin "$(xml $uuid_a)"
hook 0 '' red prepare begin "<domain><uuid>$uuid_a</uuid></domain>"
hook 0 '' red prepare begin "$(xml $uuid_a '<egm:lease xmlns:egm="http://example.org/egm"/>')"
[ "$(n_leases)" -eq "$before" ] || die "acquired unasked: $("$egmctl")"

# ---- Stale: libvirt did not get to say that it ended ----

hook 0 '' red prepare begin "$a"
stale=$(lease_of $uuid_a)
hook 0 '' red prepare begin "$a"
[ "$(lease_of $uuid_a)" != "$stale" ] || die "the stale lease is still in use"
gone() { ! "$egmctl" show-lease "$1" >"$tmp/null" 2>&1; }
eventually 60 gone "$stale" || die "the stale lease stays"
# Its metadata has gone.
stale=$(lease_of $uuid_a)
hook 0 '' red prepare begin "$(xml $uuid_a)"
eventually 60 gone "$stale" || die "the stale lease stays"
[ ! -e "$records/$uuid_a" ] || die "remembered without a lease"
# It has ended by itself.
hook 0 '' red prepare begin "$a"
"$egmctl" release "$(lease_of $uuid_a)"
hook 0 '' red release end "$a"
[ ! -e "$records/$uuid_a" ] || die "remembered without a lease"
# The record is older than the lease, which is somebody else's.
sed 's/^CreatedUSec=.*/CreatedUSec=1/' "$records/$uuid_b" >"$records/$uuid_a"
hook 0 '' red release end "$a"
[ "$(property "$id_b" State)" = active ] || die "somebody else's lease was released"
[ ! -e "$records/$uuid_a" ] || die "remembered without a lease"

# ---- egmd is not there: a domain that needs it does not start, the others do; what it has is not forgotten ----

DBUS_SYSTEM_BUS_ADDRESS=unix:path=$tmp/no-bus
hook 1 'egmd: domain red: egmctl: ' red prepare begin "$a"
hook 0 '' red prepare begin "$(xml $uuid_a)"
hook 1 'egmd: domain blue: egmctl: ' blue release end "$b"
[ -e "$records/$uuid_b" ] || die "forgotten, but not released"
DBUS_SYSTEM_BUS_ADDRESS=$bus
echo 'frobnicate=yes' >>"$EGM_LIBVIRT_CONF"
hook 1 "'frobnicate=yes' is not one of" red prepare begin "$a"
sed -i '$d' "$EGM_LIBVIRT_CONF"
hook 0 '' blue release end "$b"
eventually 60 settled || die "something is left: $("$egmctl")"
echo "$(wc -l <"$tmp/checks") calls."
