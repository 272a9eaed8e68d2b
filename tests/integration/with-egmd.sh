#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# with-egmd.sh EGMD PROGRAM ARGS...: runs a program with $EGM_TEST_BUS, the address of a private bus with a simulated
# tray of two regions on it. With $EGM_TEST_GROUP (a gid) it takes that for the group egm, and other users may connect: for root
# only. With $EGM_TEST_CONFIG (lines) the
# daemon is configured so. With $EGM_TEST_ENDS the program tells the daemon to leave itself. Fails as well when the daemon does not end well: sanitizers and valgrind speak at the end.
set -eu
. "$(dirname "$0")/../lib.sh"

start_bus
egmd=$1
shift
mkdir -m 700 "$tmp/run"
export RUNTIME_DIRECTORY="$tmp/run"
config=
if [ -n "${EGM_TEST_CONFIG-}" ]; then
        config=$tmp/egmd.conf
        printf '[Egmd]\n%s\n' "$EGM_TEST_CONFIG" >"$config"
fi
if [ -n "${EGM_TEST_GROUP-}" ]; then
        [ "$(id -u)" -eq 0 ] || skip "not root: nobody else to be"
        unshare --mount true 2>/dev/null || skip "no mount namespace"
        chmod 711 "$tmp"
        { grep -v '^egm:' /etc/group || :; } >"$tmp/group"
        echo "egm:x:$EGM_TEST_GROUP:" >>"$tmp/group"
        printf '#!/bin/sh\nmount --bind "%s" /etc/group && exec "%s" "$@"\n' "$tmp/group" "$egmd" >"$tmp/egmd"
        chmod +x "$tmp/egmd"
        # How long polkit may think.
        export SYSTEMD_BUS_TIMEOUT="${EGM_TEST_BUS_TIMEOUT:-90}"
        unshare --mount --propagation=private "$tmp/egmd" --simulate=gb200 --scale=8192 --bus="$bus" 2>"$tmp/egmd.log" &
        unset SYSTEMD_BUS_TIMEOUT
elif [ -n "${EGM_TEST_VALGRIND-}" ]; then
        command -v valgrind >/dev/null || skip "no valgrind"
        valgrind -q --leak-check=full --errors-for-leak-kinds=definite,possible --error-exitcode=99 \
                "$egmd" --simulate=gb200 --scale=8192 --bus="$bus" 2>"$tmp/egmd.log" &
elif [ -n "${EGM_TEST_UNIT-}" ]; then
        # Behind the unit's filter: what it does not allow ends the daemon.
        filter=$(dirname "$0")/../tools/under-unit.py
        "$filter" "$EGM_TEST_UNIT" true || skip "no filter"
        "$filter" "$EGM_TEST_UNIT" \
                "$egmd" --simulate=gb200 --scale=8192 --bus="$bus" ${config:+"--config=$config"} 2>"$tmp/egmd.log" &
else
        "$egmd" --simulate=gb200 --scale=8192 --bus="$bus" ${config:+"--config=$config"} 2>"$tmp/egmd.log" &
fi
egmd_pid=$!
pids="$pids $egmd_pid"

# The program waits for the name itself (NameOwnerChanged), so that it sees the daemon from its first moment on.
# A call that waits for memory is answered when there is some.
SYSTEMD_BUS_TIMEOUT=90 EGM_TEST_BUS=$bus EGM_TEST_DAEMON_PID=$egmd_pid EGM_TEST_LOG=$tmp/egmd.log "$@"

[ -n "${EGM_TEST_ENDS-}" ] || kill "$egmd_pid" || die "egmd was gone before it was told to leave"
status=0
wait "$egmd_pid" || status=$?
[ "$status" -eq 0 ] || die "egmd left with status $status"
