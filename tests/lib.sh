# SPDX-License-Identifier: LGPL-2.1-or-later
# For shell tests: a private message bus, and egmd on it. Source it after `set -eu`; everything is in $tmp and ends
# with the script.

tmp=$(mktemp -d "${TMPDIR:-/tmp}/egmd-test.XXXXXX")
pids='' others=''

skip() {
        echo "skipped: $*" >&2
        exit 77
}

die() {
        echo "FAILED: $*" >&2
        exit 1
}

# $1: seconds, the rest: a command that must succeed within them. For what no event tells. A machine that is busy with
# something else, where what works in the background hardly gets to run, has four times that.
eventually() {
        _deadline=$(($(date +%s) + 4 * $1))
        shift
        until "$@"; do
                [ "$(date +%s)" -lt "$_deadline" ] || return 1
                sleep 0.05
        done
}

# Processes that are to end with the script, and are no children of it; forget those that have ended: the number may be
# somebody else's from then on.
remember() {
        others="$others $*"
}
forget() {
        for _pid; do
                others=$(echo " $others " | sed "s/ $_pid / /")
        done
}

_cleanup() {
        _status=$?
        trap - EXIT INT TERM HUP
        # Not by their numbers: that of one that has ended may be somebody else's.
        jobs -l >"$tmp/jobs"
        for _pid in $(sed -n 's/^[^0-9]*[0-9]*[^0-9]*\([0-9]*\) *Running.*/\1/p' "$tmp/jobs"); do
                kill "$_pid" 2>/dev/null || :
        done
        for _pid in $others; do
                kill "$_pid" 2>/dev/null || :
        done
        for _pid in $pids; do
                wait "$_pid" 2>/dev/null || :
        done
        [ "$_status" -eq 0 ] || [ "$_status" -eq 77 ] || {
                [ ! -s "$tmp/egmd.log" ] || sed 's/^/egmd: /' "$tmp/egmd.log" >&2
        }
        rm -rf "$tmp"
        exit "$_status"
}
trap _cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets $bus to the address of a new bus whose rules are read from standard input.
start_bus_with() {
        command -v dbus-daemon >/dev/null || skip "no dbus-daemon"
        cat >"$tmp/bus.conf" <<-END
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig>
		  <type>session</type>
		  <listen>unix:path=$tmp/bus</listen>
		  <auth>EXTERNAL</auth>
		$(cat)
		</busconfig>
	END
        mkfifo "$tmp/bus.address"
        dbus-daemon --config-file="$tmp/bus.conf" --nofork --nopidfile --print-address=3 \
                3>"$tmp/bus.address" 2>"$tmp/bus.log" &
        bus_pid=$!
        pids="$pids $bus_pid"
        # Blocks until the bus listens; ends at once when it dies.
        read -r bus <"$tmp/bus.address" || die "dbus-daemon: $(cat "$tmp/bus.log")"
}

# One that lets everybody do everything.
start_bus() {
        start_bus_with <<-END
		  <policy context="default">
		    <allow send_destination="*" eavesdrop="true"/>
		    <allow eavesdrop="true"/>
		    <allow user="*"/>
		    <allow own="*"/>
		    <allow user="*"/>
		  </policy>
	END
}

# start_egmd EGMD ARGS...: starts it on $bus, with its state in $tmp/run, and waits until it is there. $egmd_pid.
start_egmd() {
        mkdir -p "$tmp/run"
        RUNTIME_DIRECTORY=$tmp/run "$@" --bus="$bus" 2>>"$tmp/egmd.log" &
        egmd_pid=$!
        pids="$pids $egmd_pid"
        eventually 60 _egmd_is_there || die "egmd did not start"
}

_egmd_is_there() {
        kill -0 "$egmd_pid" 2>/dev/null || die "egmd ended"
        busctl --address="$bus" --quiet status org.nvidia.Egm1 2>/dev/null >&2
}

# Starts the fake daemon $1 on $bus. What is written to descriptor 9 tells it what to do.
start_fake_egmd() {
        mkfifo "$tmp/fake.in" "$tmp/fake.out"
        "$1" "$bus" <"$tmp/fake.in" >"$tmp/fake.out" &
        pids="$pids $!"
        exec 9>"$tmp/fake.in"
        exec 7<"$tmp/fake.out"
        read -r _ready <&7 || die "the fake daemon did not start"
}

# What it has seen since the last time.
ask_fake_egmd() {
        printf '?' >&9
        read -r _answer <&7
        echo "$_answer"
}
