# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For the cases: checks that print TAP lines, waiting with a deadline, and the stand-in module.
# A case is a bash script in cases/ that sources "$LIB"; $VARIANT is the driver version it is for.
# Comment lines in it, if any: "# variants: K2 S4" (default all but D, which is R2 with dma-bufs), "# seconds: 30" (default 120).
# A failed check makes the case fail; it goes on, unless it says `check ... || bail`.

checks_failed=0

report() { # report STATUS DESCRIPTION [WHY...]
        if [ "$1" = 0 ]; then
                echo "ok - $2"
                return 0
        fi
        echo "not ok - $2"
        shift 2
        [ $# = 0 ] || printf '#   %s\n' "$@"
        checks_failed=$((checks_failed + 1))
        return 1
}

bail() {
        echo "# giving up${*:+: $*}"
        exit 1
}

# In this shell, not in one of its own: the command may start something, or set a variable.
run_quietly() {
        "$@" >/run/check.out 2>&1
}

check() { # check DESCRIPTION COMMAND...: the command succeeds
        local description=$1 status said
        shift
        run_quietly "$@"
        status=$?
        said=$(cat /run/check.out)
        report "$status" "$description" "$*: status $status" ${said:+"$said"}
}

check_fails() { # check_fails DESCRIPTION TEXT COMMAND...: it fails, and says TEXT
        local description=$1 text=$2 said
        shift 2
        if run_quietly "$@"; then
                report 1 "$description" "$*: succeeded"
        else
                said=$(cat /run/check.out)
                [[ $said == *"$text"* ]]
                report $? "$description" "$*: said '$said', not '$text'"
        fi
}

is() { # is DESCRIPTION GOT WANTED
        [ "$2" = "$3" ]
        report $? "$1" "got:    $2" "wanted: $3"
}

like() { # like DESCRIPTION GOT PATTERN (extended regular expression)
        [[ $2 =~ $3 ]]
        report $? "$1" "got:      $2" "not like: $3"
}

# Relays TAP from another program: its "not ok" lines and its status count.
relay() { # relay DESCRIPTION COMMAND...
        local description=$1 status
        shift
        "$@"
        status=$?
        report "$status" "$description" "$*: status $status"
}

# For what has no event to wait for. The seconds are those of a machine that has its processor for itself; one that is
# emulated beside another gets four times that.
wait_until() { # wait_until SECONDS COMMAND...
        local end=$((SECONDS + 4 * $1))
        shift
        until "$@" >/dev/null 2>&1; do
                [ "$SECONDS" -lt "$end" ] || return 1
                sleep 0.05
        done
}

kernel_is() { # kernel_is MAJOR.MINOR: that or a later one
        [ "$(printf '%s\n' "$1" "$(uname -r)" | sort -V | head -n 1)" = "$1" ]
}

finish() { # a case that ends here has run to its end
        [ "$checks_failed" = 0 ]
        exit
}

# ---- the module ----

sim_load() { # sim_load [PARAMETER=VALUE...]; waits for udev
        modprobe -q auxiliary 2>/dev/null
        insmod /job/egmsim.ko "variant=$VARIANT" "$@" || return 1
        udevadm settle --timeout=240
}

sim_unload() {
        rmmod egmsim || return 1
        udevadm settle --timeout=240
}

sim_state() { # sim_state N FIELD
        sed -nE "s/.*\b$2=(\S+).*/\1/p" "/sys/class/egm/egm$1/sim_state"
}

sim_poison() { # sim_poison N OFFSET
        echo "$2" >"/sys/class/egm/egm$1/sim_poison"
}

sim_retire() { # sim_retire N OFFSET[*COUNT]: a 64 KiB entry, or some in a row
        echo "$2" >"/sys/class/egm/egm$1/sim_retire"
}

sim_present() { # sim_present N 0|1: takes /dev/egmN away, brings it back
        echo "$2" >"/sys/kernel/egmsim/egm$1/present"
}

sim_gpus() { # sim_gpus N COUNT: plugs GPUs in or pulls them out until there are COUNT
        echo "$2" >"/sys/kernel/egmsim/egm$1/gpus"
}

sim_publish() { # sim_publish N: what late_ms=... keeps back comes now
        echo 1 >"/sys/kernel/egmsim/egm$1/publish"
}

sim_hold() { # sim_hold Y|N: scrubs stand still
        echo "$1" >/sys/module/egmsim/parameters/scrub_hold
}

hold_open() { # hold_open FILE [PREFIX...]: keeps it open, until hold_close; PREFIX makes it somebody else
        # What the one before said is not taken for this one's: it begins when it gets to run.
        rm -f /run/hold.out
        "${@:2}" egm-probe hold "$1" >/run/hold.out &
        holder=$!
        wait_until 60 grep -qx open /run/hold.out
}

hold_close() {
        kill "$holder" && wait "$holder"
        [ $? = 143 ]
}

# ---- the daemon ----

# udev has it started for every region, and it opens them: not under cases that want them.
egmd_forbid() {
        systemctl -q mask --runtime egmd.service
}

egmd_start() {
        systemctl -q unmask --runtime egmd.service && systemctl start egmd.service
}

region() { # region NAME PROPERTY
        egmctl show-region "$1" -p "$2" --value
}

region_is() { # region_is NAME PROPERTY WANTED
        [ "$(region "$1" "$2")" = "$3" ]
}

region_settled() { # region_settled NAME: usable, and all of it clean, lent or bad
        # At one look: between two, bytes that drain become dirty.
        [ "$(egmctl show-region "$1" -p State -p Draining -p Dirty -p Scrubbing --value | tr '\n' ' ')" = "ready 0 0 0 " ]
}

# systemd hears of what it is to keep, or to let go of, in its own time.
descriptors_kept() { # descriptors_kept COUNT
        [ "$(systemctl show -P NFileDescriptorStore egmd)" = "$1" ]
}

# A process that has a slice, until vm_stop: fails if that was not zero.
declare -A vms=()
vm_start() { # vm_start NAME BYTE OPTION...: of egmctl run
        vm_start_as "" "$@"
}

vm_start_as() { # vm_start_as PREFIX NAME BYTE OPTION...: PREFIX makes the command somebody else's
        local prefix=$1 name=$2 byte=$3
        shift 3
        rm -f "/run/vm-$name".*
        mkfifo "/run/vm-$name.in"
        # Open for writing too: no end of input.
        $prefix egmctl run --label="$name" --wait=60 "$@" -- \
                pretend-vm '{0.fd}' '{0.offset}' '{0.size}' "$byte" \
                <>"/run/vm-$name.in" >"/run/vm-$name.out" 2>&1 &
        vms[$name]=$!
        wait_until 60 vm_filled_or_gone "$name"
        cat "/run/vm-$name.out"
        grep -qx filled "/run/vm-$name.out"
}

vm_filled_or_gone() {
        grep -qx filled "/run/vm-$1.out" || ! kill -0 "${vms[$1]}"
}

vm_stop() { # vm_stop NAME: its memory must be as it left it
        kill -TERM "${vms[$1]}"
        wait "${vms[$1]}" || {
                cat "/run/vm-$1.out"
                return 1
        }
        grep -qx intact "/run/vm-$1.out"
}

vm_slice() { # vm_slice NAME: REGION:OFFSET:SIZE
        egmctl show-lease -p Slices --value "$(vm_lease "$1")"
}

vm_lease() {
        egmctl list-leases --no-legend | awk -v name="$1" '$2 == name { print $1 }'
}

# ---- tenants that live through restarts ----

# egm-tenant and egm-churn run until they are told to end, and know by themselves what is wrong.
declare -A tenants=()
tenant_start() { # tenant_start NAME COMMAND...: in the background; NAME is its label
        local name=$1
        shift
        rm -f "/run/tenant-$name".*
        mkfifo "/run/tenant-$name.in"
        "$@" <>"/run/tenant-$name.in" >"/run/tenant-$name.out" 2>&1 &
        tenants[$name]=$!
}

tenant_keep() { # tenant_keep NAME KIND REGION SIZE
        tenant_start "$1" egm-tenant "$2" "$1" "$3" "$4"
        wait_until 60 tenant_filled_or_gone "$1"
        cat "/run/tenant-$1.out"
        grep -q '^filled' "/run/tenant-$1.out"
}

tenant_filled_or_gone() {
        grep -q '^filled' "/run/tenant-$1.out" || ! kill -0 "${tenants[$1]}"
}

tenant_lease() {
        sed -n 's/^filled \([0-9]*\) .*/\1/p' "/run/tenant-$1.out"
}

tenant_stop() { # tenant_stop NAME: it ends, and was content with everything
        local status
        echo 1<>"/run/tenant-$1.in"
        wait "${tenants[$1]}"
        status=$?
        tail -n 20 "/run/tenant-$1.out"
        [ "$status" = 0 ] && grep -qE '^(intact|zero) ' "/run/tenant-$1.out"
}

# The leases that tenants keep, all that the bus says of them.
leases_kept() {
        egmctl list-leases --no-legend | sed -n 's/  */ /g; s/^ //; /^[0-9]* keep-/p'
}

egmd_said() { # since the case began
        journalctl -q -u egmd -o cat --after-cursor="$(cat /run/case.cursor)"
}

# Between cases: whatever a case left behind, the next one starts without it.
cleanup() {
        [ ! -e /sys/module/egmsim ] || sim_hold N
        if systemctl -q is-active egmd.service; then
                systemctl stop egmd.service
        fi
        egmd_forbid
        systemctl reset-failed 2>/dev/null
        [ ! -e /sys/module/egmsim ] || {
                wait_until 60 sim_idle || {
                        echo "egmsim is still in use"
                        return 1
                }
                sim_unload
        }
}

sim_idle() {
        [ "$(cat /sys/module/egmsim/refcnt)" = 0 ]
}

# ---- who tries what he may map of a lease ----

# A process that a lease is bound to, and what it forks: it tries what it is told to.
inside_start() { # inside_start LEASE
        cat >/run/inside.sh <<'END'
echo $$ >/run/inside.pid
while read -r what offset size; do
        egm-attempt "$what" "$1" "$offset" "$size" >/run/inside.out
done </run/inside.in
END
        rm -f /run/inside.{in,out,pid,said}
        mkfifo /run/inside.in /run/inside.out
        egmctl run --lease="$1" -- bash /run/inside.sh '{0.fd}' '{0.offset}' &
        inside=$!
        exec 7<>/run/inside.in
        wait_until 60 [ -s /run/inside.pid ]
        pid=$(cat /run/inside.pid)
        # The number of the lease's descriptor in it.
        number=$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 3p)
}
inside() { # inside WHAT OFFSET SIZE
        echo "$*" >&7
        timeout 120 head -n 1 /run/inside.out
}
# One that stays: what it says at first comes into /run/inside.said. Once for every inside_start.
inside_stays() { # inside_stays WHAT OFFSET SIZE
        inside "$@" >/run/inside.said &
        wait_until 20 grep -q mapped /run/inside.said
}
inside_stop() {
        exec 7>&-
        kill "$pid"
        wait "$inside"
        return 0
}
outside() { # outside WHAT OFFSET SIZE: root, with the very same open file
        timeout 120 egm-attempt --from="$pid" "$1" "$number" "$2" "$3"
}
# The lease of who is inside goes from $at for $slice bytes; a page is $page.
gate_is_closed() { # gate_is_closed WHEN
        is "in range: $1" "$(inside map "$at" $slice)" mapped
        is "its last page: $1" "$(inside map $((at + slice - page)) $page)" mapped
        is "behind it: $1" "$(inside map $((at + slice)) $page)" EACCES
        is "a page too long: $1" "$(inside map "$at" $((slice + page)))" EACCES
        is "root, not admitted: $1" "$(outside map "$at" $slice)" EACCES
        is "nor at the start: $1" "$(outside map 0 $page)" EACCES
}
