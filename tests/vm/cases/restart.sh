#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 2400
# egmd restarts, in every way that it can, under tenants who look at every byte all the time: no
# lease is lost, no byte changes, none is seen by the next tenant, and nobody notices.
. "$LIB"
case $VARIANT in
R2 | S4) rounds=30 full=70 ;; # 80 with those of the others, or 200
*) rounds=10 full=30 ;;
esac
[ ! -e /job/full ] || rounds=$full
# K2's regions have one lease at a time.
case $VARIANT in
K2) sizes=64M,16M ;;
*) sizes=96M,16M ;;
esac

to_bytes() {
        echo $((${1%M} << 20))
}

size4=$(to_bytes "${sizes%,*}") size5=$(to_bytes "${sizes#*,}")
# Else the tenants' low priority would be among themselves only.
echo 0 >/proc/sys/kernel/sched_autogroup_enabled
sim_load "size=$size4,$size5" || bail

both_settled() {
        region_settled egm4 && region_settled egm5
}

# ---- the ways ----

by_restart() {
        systemctl restart egmd
}

by_kill() {
        egm-unit-kill egmd.service
}

# systemd hands the descriptors over to itself, and then to egmd.
by_reexec() {
        systemctl daemon-reexec && systemctl restart egmd
}

by_reexec_and_kill() {
        systemctl daemon-reexec && egm-unit-kill egmd.service
}

# Before systemd 254 that takes our descriptors with it: who holds the region gives one back.
by_stop() {
        systemctl stop egmd && [ "$(systemctl is-active egmd)" = inactive ] && systemctl start egmd
}

# As a package manager does it: other files take the place of those of the same names, each when it is all there. (The bus
# reads its policies again as soon as one changes, and would go on without one that it may not read yet.)
replace_files() {
        local f
        while IFS= read -r f; do
                cp -aT "/job/root/$f" "/$f.new" && mv -fT "/$f.new" "/$f" || return 1
        done < <(cd /job/root && find . ! -type d)
}

by_reinstall() {
        replace_files && systemctl daemon-reload && udevadm control --reload &&
                systemctl restart egmd
}

# The reexec takes longer than all the rest, on an emulated machine.
ways=(restart kill stop kill restart reexec kill stop reexec_and_kill restart
      restart kill stop kill restart kill kill stop restart restart)
way() { # way ROUND
        if (($1 % 20 == 19)); then
                echo reinstall
        else
                echo "${ways[$1 % ${#ways[@]}]}"
        fi
}

# Restarts and compares what the bus says with $before, at once: READY means that all are there.
declare -A done_by=()
restart_and_compare() { # restart_and_compare WAY
        local after said
        said=$("by_$1" 2>&1) || {
                problem="by $1: failed: $said"
                return 1
        }
        after=$(leases_kept)
        [ "$after" = "$before" ] || {
                problem="by $1: $after"
                return 1
        }
        done_by[$1]=$((${done_by[$1]:-0} + 1))
}

restart_under() { # restart_under FROM TO LEASES: rounds, with so many leases out
        local i problem='' running
        before=$(leases_kept)
        running=$(jobs -r | wc -l)
        is "restarts $1 to $2: leases" "$(wc -l <<<"$before")" "$3"
        for ((i = $1; i < $2; i++)); do
                restart_and_compare "$(way "$i")" || break
                [ "$(jobs -r | wc -l)" = "$running" ] || {
                        problem="by $(way "$i"): a tenant has ended: $(tail -qn 9 /run/tenant-*.out)"
                        break
                }
        done
        is "restarts $1 to $2: all leases are as before" "$problem" ""
}

# ---- the tenants ----

keep_many() {
        check "one has it all" tenant_keep keep-whole whole egm4 64M || bail
        check "one has parts" tenant_keep keep-split split egm4 4M || bail
        check "one is bound" tenant_keep keep-bound bound egm4 4M || bail
        check "one has nothing" tenant_keep keep-persistent persistent egm4 4M || bail
        tenant_start churn-near egm-churn churn-near egm4 8M
        restart_under 0 $rounds 4 || bail
        check "he saw nothing but zeros beside them" tenant_stop churn-near
        for name in whole split bound; do
                check "$name: no byte has changed" tenant_stop keep-$name
        done
        check "persistent: no byte has changed" \
                egm-tenant reopen keep-persistent "$(tenant_lease keep-persistent)"
}

# Without a descriptor in anybody's hands, a stop is the end of a lease: see restart-stop.
keep_one_by_one() {
        local kind kinds=(whole bound)
        for i in 0 1; do
                kind=${kinds[i]}
                check "one is $kind" tenant_keep keep-$kind $kind egm4 64M || bail
                restart_under $((rounds / 2 * i)) $((rounds / 2 * (i + 1))) 1 || bail
                check "$kind: no byte has changed" tenant_stop keep-$kind
                check "$kind: clean again" wait_until 60 region_settled egm4
        done
        ways=(restart kill reexec)
        check "one has parts" tenant_keep keep-split split egm4 64M || bail
        restart_under 0 3 1 || bail
        check "split: no byte has changed" tenant_stop keep-split
        check "split: clean again" wait_until 60 region_settled egm4
        check "one has nothing" tenant_keep keep-persistent persistent egm4 64M || bail
        restart_under 0 3 1 || bail
        check "persistent: no byte has changed" \
                egm-tenant reopen keep-persistent "$(tenant_lease keep-persistent)"
}

check "the daemon starts" egmd_start || bail
check "both regions are ready and clean" wait_until 60 both_settled || bail
tenant_start churn-far egm-churn churn-far egm5 16M
if [ "$VARIANT" = K2 ]; then
        keep_one_by_one
else
        keep_many
fi
check "he saw nothing but zeros on the other socket" tenant_stop churn-far
echo "# restarts:$(for i in "${!done_by[@]}"; do echo -n " $i ${done_by[$i]}"; done)"
for name in "${!tenants[@]}"; do
        echo "# $name: $(tr '\n' ' ' <"/run/tenant-$name.out")"
done

check "all comes back" wait_until 60 both_settled
is "and is free" "$(region egm4 Free) $(region egm5 Free)" "$size4 $size5"
is "no lease is left" "$(egmctl list-leases --no-legend)" ""
check "a descriptor for each region" wait_until 60 descriptors_kept 2
journalctl --sync
# The others may end with a lease that nobody has any more when its region is lost by a stop.
is "nothing else happened" \
        "$(egmd_said | grep -iE 'denied|not permitted|assert|damaged|\(keep-.*gone')" ""
finish
