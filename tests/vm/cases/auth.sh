#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: S4
# seconds: 500
# Who may do what, and see what, on the system bus with a real polkit: root, a member of the group, nobody.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail
rules=/etc/polkit-1/rules.d/10-egm-test.rules
id member >/dev/null 2>&1 || useradd --no-create-home --groups egm member || bail
nobody="runuser -u nobody --"
member="runuser -u member --"
region_call() { # region_call BOOLEAN: of SetSchedulable, without asking anybody
        busctl --allow-interactive-authorization=no call org.nvidia.Egm1 /org/nvidia/Egm1/region/egm4 \
                org.nvidia.Egm1.Region SetSchedulable b "$1"
}
export -f region_call
lease_of() { # lease_of USER OPTION...: its number
        runuser -u "$1" -- egmctl lease --persistent -p Id --value --wait=60 "${@:2}"
}
# A new file is noticed by polkit in its own time.
rules_are() {
        cat >"$rules.new" && mv "$rules.new" "$rules" && systemctl restart polkit
}

check "somebody has a region" hold_open /dev/egm5 || bail
check "polkit runs" systemctl start polkit || bail
check "the daemon starts" egmd_start || bail
check "a region is ready" wait_until 60 region_settled egm4 || bail
check "the other is held" wait_until 60 region_is egm5 State held-elsewhere

# Without a rule.
id=$(lease_of root --size=2M --label=secret-label)
like "root acquires" "$id" '^[0-9]+$' || bail
theirs=$(lease_of member --size=2M --label=members-own)
like "a member does" "$theirs" '^[0-9]+$' || bail
check_fails "nobody does not" "polkit wants somebody to authenticate for org.nvidia.Egm1.acquire-persistent" \
        $nobody egmctl lease --size=2M --persistent
check_fails "nor for as long as he holds it" "org.nvidia.Egm1.acquire," $nobody egmctl lease --size=2M
check_fails "nor ends he a lease" "org.nvidia.Egm1.release-any" $nobody egmctl release "$id"
check_fails "nor does a member end root's" "org.nvidia.Egm1.release-any" $member egmctl release "$id"
check_fails "nor switches he lending off" "org.nvidia.Egm1.manage" $member bash -c 'region_call false'

# Who sees what.
said=$($nobody egmctl status && $nobody egmctl show-lease && $nobody egmctl show-region)
like "nobody reads the status" "$said" "Id=$id"
for secret in secret-label members-own "pid ${holder:?}" egm-probe case- "HolderPid=[0-9]" "Unit=[a-z]"; do
        [[ ! $said =~ $secret ]]
        report $? "without $secret" "$said"
done
like "he is told so" "$said" $'Label=-\n'
like "and that a region is held" "$said" "Reason=held by another process"
like "root reads by whom" "$(region egm5 Reason)" "pid $holder"
is "root reads labels" "$(egmctl show-lease "$theirs" -p Label --value)" members-own
is "a member his own" "$($member egmctl show-lease "$theirs" -p Label --value)" members-own
like "his unit too" "$($member egmctl show-lease "$theirs" -p Unit --value)" 'case-[0-9]+\.scope'
is "and not root's" "$($member egmctl show-lease "$id" -p Label --value)" -

# With one.
rules_are <<'END'
polkit.addRule(function(action, subject) {
        if (subject.user != "nobody")
                return polkit.Result.NOT_HANDLED;
        if (action.id == "org.nvidia.Egm1.acquire-persistent")
                return parseInt(action.lookup("bytes")) <= 4194304 ? polkit.Result.YES : polkit.Result.NO;
        if (action.id == "org.nvidia.Egm1.release-any" || action.id == "org.nvidia.Egm1.manage")
                return polkit.Result.YES;
});
END
his=$(lease_of nobody --size=4M)
like "nobody acquires" "$his" '^[0-9]+$'
check_fails "not more than that" "group egm" $nobody egmctl lease --persistent --size=6M
check_fails "not all" "group egm" $nobody egmctl lease --persistent --whole
check_fails "not without end" "org.nvidia.Egm1.acquire," $nobody egmctl lease --size=2M
check "he ends his own" $nobody egmctl release --wait "$his"
check "he ends root's" $nobody egmctl release --wait "$id"
check_fails "reopens no member's" "belongs to uid" $nobody busctl call org.nvidia.Egm1 \
        "/org/nvidia/Egm1/lease/$theirs" org.nvidia.Egm1.Lease Reopen
check "he switches lending off" $nobody bash -c 'region_call false'
check_fails "for members as well" "switched off" $member egmctl lease --size=2M --persistent
check "and on" $nobody bash -c 'region_call true'

# Without polkit.
rm -f "$rules"
id=$(egmctl lease --persistent -p Id --value --size=2M --owner=nobody)
systemctl mask --runtime --now polkit
check_fails "nobody acquires" "Only root and members of the group egm" $nobody egmctl lease --size=2M
check_fails "or manages" "Access denied" $nobody bash -c 'region_call false'
check_fails "or ends another's" "belongs to uid" $nobody egmctl release "$theirs"
check "but what is his" $nobody egmctl release --wait "$id"
check "and a member his own" $member egmctl release --wait "$theirs"
systemctl unmask --runtime polkit
check "the region is left" hold_close
finish
