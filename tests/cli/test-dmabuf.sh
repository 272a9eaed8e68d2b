#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-dmabuf.sh EGMCTL EGMD: dma-bufs of leases for commands, against egmd on simulated regions: egm5's driver exports none.
set -eu
egmctl=$1 egmd=$2
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"

start_bus
cat >"$tmp/sim.json" <<'END'
{"regions": [
  {"name": "egm4", "size": "32M", "variant": "D"},
  {"name": "egm5", "size": "32M"},
  {"name": "egm6", "size": "4M", "variant": "D", "retired": [{"offset": "1M", "size": "64K"}]}
]}
END
printf '[Egmd]\nDmabufAllowed=yes\n' >"$tmp/egmd.conf"
start_egmd "$egmd" --simulate="$tmp/sim.json" --config="$tmp/egmd.conf"
ctl() { "$egmctl" --bus="$bus" "$@"; }
over() { [ -z "$(ctl list-leases --no-legend)" ]; }

two="--slice=size=4M,region=egm4 --slice=size=2M,region=egm4 --wait=60"
bytes='for n; do stat -L -c %s "/proc/self/fd/$n"; done | tr "\n" " "'
id=$(ctl lease --slice=whole,region=egm6,retired=include --slice=size=2M,region=egm4 --wait=60 --dmabuf --persistent -p Id --value)
other=$(ctl lease --size=2M --region=egm4 --persistent --wait=60 -p Id --value)

check_table <<END
# One for each slice.
0 | 4194304 2097152 |     | run $two --dmabuf -- sh -c '$bytes' - '{0.dmabuf}' '{1.dmabuf}'
0 | 4194304 2097152 |     | run $two --dmabuf -- sh -c 'set -- \$EGM_DMABUFS; $bytes'
0 | same            |     | run $two --dmabuf -- sh -c '[ "\$EGM_DMABUFS" = "\$1" ] && echo same' - '{0.dmabuf} {1.dmabuf}'
7 |                 |     | run $two --dmabuf -- sh -c 'exit 7'
0 | none            |     | run $two -- sh -c 'echo \${EGM_DMABUFS-none}'
# Of a lease that there is, if it was acquired so: without its retired pages.
0 | 4128768 2097152 |     | run --lease=$id --dmabuf -- sh -c '$bytes' - '{0.dmabuf}' '{1.dmabuf}'
0 | none            |     | run --lease=$id -- sh -c 'echo \${EGM_DMABUFS-none}'
1 |                 | without the option Dmabuf | run --lease=$other --dmabuf -- echo ran
1 |                 | egm5 (sim)                | run --size=2M --region=egm5 --dmabuf -- echo ran
# Words.
2 |                 | {0.dmabuf} takes the option --dmabuf | run $two -- echo '{0.dmabuf}'
2 |                 | {0.dmabuf} takes the option --dmabuf | run --lease=$id -- echo '{0.dmabuf}'
2 |                 | {2.dmabuf}                | run $two --dmabuf -- echo '{2.dmabuf}'
2 |                 | no option '--dmabuf'      | release --dmabuf $id
2 |                 | takes no value            | run $two --dmabuf=1 -- true
END

# They are the command's, and it alone keeps the lease from ending: egmctl has none of them while it runs.
mkfifo "$tmp/in" "$tmp/pid"
"$egmctl" --bus="$bus" run --size=2M --region=egm4 --label=mine --wait=60 --dmabuf -- \
        sh -c 'stat -L -c "$$ %d:%i" "/proc/self/fd/$1"; read -r x || :' - '{0.dmabuf}' <"$tmp/in" >"$tmp/pid" &
run=$!
pids="$pids $run"
exec 8>"$tmp/in"
read -r child file <"$tmp/pid"
has_it() { stat -L -c %d:%i "/proc/$1/fd/"* 2>/dev/null | grep -qx "$file"; }
has_it "$child" || die "the command has no dma-buf"
has_not() { ! has_it "$1"; }
eventually 30 has_not "$run" || die "egmctl has the dma-buf, too"
mine=$(ctl list-leases --no-legend | awk '$2 == "mine" { print $1 }')
ctl release "$mine"
held_up() { ctl show-lease "$mine" -p HeldUpBy --value | grep -q "$child"; }
eventually 30 held_up || die "not held up"
exec 8>&-
wait "$run" || die "the command failed"
ctl release "$id" "$other"
eventually 30 over || die "leases stay"
count_checks
