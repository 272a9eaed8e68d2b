# SPDX-License-Identifier: LGPL-2.1-or-later
# For tests with real VMMs; source it after lib.sh. $egmctl and $egmd are the programs.

m=1048576
nobody=65534 group=60777 # "egm", to the daemon

# Everything that somebody without rights has to read, and what it writes to, is here.
chmod 711 "$tmp"

region_mib=128 guest_mib=32

# One region of so much whose first 16M are a neighbour's, filled with 17s. $region_file, $neighbour.
start_region() {
        cat >"$tmp/sim.json" <<-END
		{"regions": [{"name": "egm4", "size": "${region_mib}M", "node": 0, "socket": 0, "gpus": ["0008:01:00.0"]}]}
	END
        # The daemon finds its group in a file of ours, in a mount namespace of its own.
        { grep -v '^egm:' /etc/group || :; } >"$tmp/group"
        echo "egm:x:$group:" >>"$tmp/group"
        cat >"$tmp/egmd" <<-END
		#!/bin/sh
		mount --bind "$tmp/group" /etc/group && exec "$egmd" "\$@"
	END
        chmod +x "$tmp/egmd"
        start_egmd unshare --mount --propagation=private "$tmp/egmd" --simulate="$tmp/sim.json"
        _fd=$(ls -l "/proc/$egmd_pid/fd" | sed -n 's,.* \([0-9]*\) -> /memfd:egm4.*,\1,p' | head -1)
        region_file=/proc/$egmd_pid/fd/$_fd
        [ -n "$_fd" ] || die "no memory of egmd's found"
        eventually 60 free_is $((region_mib * m)) || die "not clean: $(ctl)"
        mkfifo "$tmp/neighbour.in" "$tmp/neighbour.out"
        "$egmctl" --bus="$bus" run --size=16M --wait=60 --label=neighbour -- "$path_user" rw='{0.path}' map=0+16777216 fill=17 wait \
                <"$tmp/neighbour.in" >"$tmp/neighbour.out" &
        pids="$pids $!"
        exec 3>"$tmp/neighbour.in" 4<"$tmp/neighbour.out"
        until [ "${_line-}" = waiting ]; do
                read -r _line <&4 || die "no neighbour"
        done
        bytes_are 0+$((16 * m))=17 $((16 * m))+=0
}

ctl() { "$egmctl" --bus="$bus" "$@"; }
bytes_are() { python3 "$here/bytes-are" "$region_file" "$@" || die "the region's memory is not as it must be"; }
free_is() { [ "$(ctl show-region egm4 -p Free --value)" -eq "$1" ]; }
settle() {
        eventually 60 free_is $(((region_mib - 16) * m)) || die "memory is missing: $(ctl)"
        bytes_are 0+$((16 * m))=17 $((16 * m))+=0
}

# start_guest NAME KERNEL COMMAND...: a guest with guest_mib, started by COMMAND (no function: it becomes egmctl; the rest of its arguments
# follow). Waits until it has filled its memory. Sets NAME_run (egmctl), NAME_pid (the VMM), NAME_offset.
start_guest() {
        _name=$1 _kernel=$2
        shift 2
        rm -f "$tmp/console.$_name"
        mkfifo -m 666 "$tmp/console.$_name"
        "$@" --size=${guest_mib}M --label="$_name" --wait=60 -- $wrapper "$qemu" $qemu_args -nodefaults -no-user-config -display none \
                -accel tcg -M pc,memory-backend=m -m ${guest_mib}M -kernel "$_kernel" \
                -object "memory-backend-file,id=m,share=on,size={0.size},mem-path=${mem_path:-{0.path\}}$qemu_offset" \
                -chardev "file,id=c,path=$tmp/console.$_name" -device isa-debugcon,iobase=0xe9,chardev=c \
                </dev/null 2>"$tmp/$_name.err" &
        _run=$!
        pids="$pids $_run"
        # One that dies before it opens the console leaves us waiting.
        _said=$(timeout 240 head -c 2 "$tmp/console.$_name") || :
        [ "$_said" = ZF ] || die "guest $_name said '$_said', not that its memory was zero and then filled: $(cat "$tmp/$_name.err")"
        [ ! -s "$tmp/$_name.err" ] || die "guest $_name: $(cat "$tmp/$_name.err")"
        _id=$(ctl list-leases --no-legend | awk -v n="$_name" '$2 == n { print $1 }')
        _offset=$(ctl show-lease "$_id" -p Slices --value | cut -d: -f2)
        [ "$_offset" -ge $((16 * m)) ] || die "guest $_name is at the start of the region"
        _pid=$(ctl show-lease "$_id" -p HolderPid --value)
        remember "$_pid"
        eval "${_name}_run=$_run ${_name}_offset=$_offset ${_name}_pid=$_pid"
}

# What guest $1 at $2 filled with $3: its RAM but for the first two MiB and the last two.
filled() { echo "$(($2 + 2 * m))+$(((guest_mib - 4) * m))=$3"; }

# kill_guest RUN PID
kill_guest() {
        kill -KILL "$2"
        _got=0
        wait "$1" || _got=$?
        forget "$2"
        [ "$_got" -eq 137 ] || die "egmctl run of a killed guest: $_got"
}

# A guest's whole life: where it writes, what it does not touch, and that nothing of it is left.
whole_life() { # COMMAND...
        start_guest a "$guest_a" "$@"
        bytes_are 0+$((16 * m))=17 "$(filled a "$a_offset" 65)" \
                $((16 * m))+$((a_offset - 16 * m))=0 $((a_offset + guest_mib * m))+=0
        [ "$(maps_of "$a_pid")" = "$(printf '%08x' "$a_offset")" ] || die "mapped at $(maps_of "$a_pid")"
        kill_guest "$a_run" "$a_pid"
        settle
        # The next one may well get the same bytes.
        start_guest b "$guest_b" "$@"
        bytes_are 0+$((16 * m))=17 "$(filled b "$b_offset" 66)"
        kill_guest "$b_run" "$b_pid"
        settle
}

# Offsets of all its shared mappings of the region.
maps_of() { sed -n 's,^[0-9a-f-]* ...s \([0-9a-f]*\) .*/memfd:egm4.*,\1,p' "/proc/$1/maps" | sort -u; }

# The programs, for who may not look into the build's folder. $for_nobody
copy_for_nobody() {
        for_nobody=$tmp/for-nobody
        mkdir "$for_nobody"
        cp -L "$egmctl" "$(dirname "$egmctl")"/../libegm/libegm.so.1 "$guest_a" "$guest_b" "$for_nobody"
        chmod -R a+rX "$for_nobody"
}
