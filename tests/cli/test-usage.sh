#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-usage.sh EGMCTL: what egmctl says without a daemon, and without a bus.
set -eu
egmctl=$1
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

# Nothing of this may get as far as a bus.
bus=unix:path=$tmp/no-such-bus
check_table <<'END'
0 | Lending:         |                                        | --help
0 | Lending:         |                                        | -h
0 | Lending:         |                                        | run --help
0 | Lending:         |                                        | list-regions -h nonsense
0 | egmctl 0         |                                        | --version
0 | egmctl 0         |                                        | lease --version
2 |                  | Unknown option '--frob'                | --frob
2 |                  | Unknown option '-z'                    | -z
2 |                  | did you mean 'status'?                 | stauts
2 |                  | did you mean 'release'?                | rel 1
2 |                  | see egmctl --help                      | frobnicate
2 |                  | Unknown verb ''                        | ''
2 |                  | 'list-regions' takes no argument 'x'   | list-regions x
2 |                  | 'list-leases' takes no argument 'x'    | list-leases --no-legend x
2 |                  | 'monitor' takes no argument 'x'        | monitor x
2 |                  | 'lease' takes no argument 'x'          | lease --size=1G x
2 |                  | 'release' needs a lease                | release
2 |                  | 'run' needs a command                  | run --size=1G
2 |                  | 'run' needs a command                  | run --size=1G --
2 |                  | Say how much                           | run -- true
2 |                  | Say how much                           | lease
2 |                  | '1X' is not a size                     | lease --size=1X
2 |                  | '-1' is not a size                     | lease --size=-1
2 |                  | not below 2^64 bytes                   | lease --size=16E
2 |                  | needs a value                          | lease --size
2 |                  | 'size' is given twice                  | lease --size=1G --size=1G
2 |                  | not both                               | lease --size=1G --whole
2 |                  | needs a size                           | lease --gpu=x
2 |                  | needs a size                           | lease --slice=gpu=x
2 |                  | 'foo' is none of                       | lease --slice=size=1G,foo=1
2 |                  | exclude each other                     | lease --slice=size=1G --size=1G
2 |                  | avoid or include                       | lease --size=1G --retired=no
2 |                  | is not a number                        | lease --size=1G --node=all
2 |                  | --wait= takes seconds                  | lease --size=1G --wait=1m
2 |                  | --wait= takes seconds                  | release --wait=1m 1
2 |                  | --kill-after= takes seconds            | release --kill --kill-after=1m 1
2 |                  | --kill-after= goes with --kill         | release --kill-after=1 1
2 |                  | 'release' needs a lease                | release --wait
2 |                  | no option '--kill'                     | status --kill
2 |                  | no option '--size'                     | release --size=1G 1
2 |                  | --json= is off, short or pretty        | --json=yaml
2 |                  | no option '--size'                     | status --size=1G
2 |                  | stands behind a verb                   | --size=1G lease
2 |                  | 'format' needs a lease                 | format --for=qemu
2 |                  | Say for whom                           | format 1
2 |                  | stands behind a verb                   | --for=qemu format 1
2 |                  | no option '--one-line'                 | lease --size=1G --one-line
2 |                  | no option '--persistent'               | run --size=1G --persistent true
2 |                  | no option '--property'                 | status -p Id
2 |                  | Placeholder {1.fd}                     | run --size=1G echo '{1.fd}'
2 |                  | Unknown placeholder {0.nope}           | run --size=1G -- echo '{"a":{}}' '{0.nope}'
2 |                  | Placeholder {2.path}                   | run --slice=size=1G --slice=whole true '{2.path}'
2 |                  | exclude each other                     | run --size=1G --inject --no-inject true
2 |                  | --shift= is auto, on or off            | run --size=1G --shift=yes true
2 |                  | absolute path                          | run --size=1G --as=x true
2 |                  | one path is one slice                  | run --size=1G --as=/x --as=/x true
2 |                  | given 2 times, for 1 slices            | run --size=1G --as=/x --as=/y true
2 |                  | --no-inject switches off               | run --size=1G --as=/x --no-inject true
2 |                  | --no-inject switches off               | run --size=1G --shift=on --no-inject true
2 |                  | no option '--inject'                   | lease --size=1G --inject

# No bus: said once, with the address, as a failure and not as bad usage.
1 |                  | no-such-bus: No such file              | status
1 |                  | no-such-bus: No such file              |
1 |                  | no-such-bus: No such file              | list-regions --json=short
1 |                  | no-such-bus: No such file              | show-region egm4
1 |                  | no-such-bus: No such file              | map
1 |                  | no-such-bus: No such file              | monitor
1 |                  | no-such-bus: No such file              | release 1
1 |                  | no-such-bus: No such file              | format 1 --for=qemu
1 |                  | no-such-bus: No such file              | lease --size=1G
1 |                  | no-such-bus: No such file              | run --size=1G -- touch no-such-file
END
[ ! -e no-such-file ] || die "the command ran without a lease"

bus=
export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$tmp/no-such-system-bus"
check 1 '' 'system bus: No such file' status
check 1 '' 'Failed to connect to the bus' --bus=nonsense status

# Output that does not arrive is a failure.
_got=0
"$egmctl" --help >/dev/full 2>"$tmp/err" || _got=$?
[ $_got -eq 1 ] && grep -q 'No space left' "$tmp/err" || die "--help >/dev/full: $_got, $(cat "$tmp/err")"
_got=0
"$egmctl" --version >&- 2>"$tmp/err" || _got=$?
[ $_got -eq 1 ] && grep -q 'Failed to write' "$tmp/err" || die "--version >&-: $_got"

# A bus, but nobody there.
start_bus
check 1 '' 'egmd does not run' status
check 1 '' 'egmd does not run' list-leases --json=pretty
check 1 '' 'egmd does not run' lease --size=1G
check 1 '' 'egmd does not run' release 1

# Every verb and option of the summary is in the man page, and the other way round.
man=$(dirname "$0")/../../man/egmctl.1.scd
"$egmctl" --help >"$tmp/help"
{
        sed -n '/^Looking:/,/^Options of/s/^  \([a-z][a-z-]*\).*/\1/p' "$tmp/help"
        grep -oE -e '--[a-z]+(-[a-z]+)*' "$tmp/help"
} | grep -vx -e --help | sort -u >"$tmp/in-help"
{
        sed -n '/^# VERBS/,/^# OPTIONS OF/p' "$man" | grep '^\*' | grep -oE '\*[a-z-]+\*' | tr -d '*'
        sed -n '/^# OPTIONS/,/^# PLACEHOLDERS/p' "$man" | grep '^\*' | grep -oE -e '--[a-z]+(-[a-z]+)*'
} | grep -vx -e --help | sort -u >"$tmp/in-man"
diff -u "$tmp/in-help" "$tmp/in-man" || die "--help and egmctl(1) differ"

count_checks
