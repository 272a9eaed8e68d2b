#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-emulator.sh EGMCTL EGMD PATH_USER FOLDER: what libvirt starts instead of QEMU, with a stand-in for QEMU that opens its memory by path, as a user
# who may not do more than that.
set -eu
egmctl=$(realpath "$1") egmd=$2 path_user=$(realpath "$3") hooks=$(realpath "$4")
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-libvirt.sh"
setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null || skip "cannot become somebody else"

# Where somebody without rights can read and execute it.
chmod 711 "$tmp"
mkdir "$tmp/bin"
cp -L "$egmctl" "$(dirname "$egmctl")"/../libegm/libegm.so.1 "$path_user" "$hooks/qemu-egm" "$tmp/bin"
egmctl=$tmp/bin/egmctl
emulator=$tmp/bin/qemu-system-x86_64
# Says its arguments, and does what follows -device-model with the path that -object names.
cat >"$emulator" <<'END'
#!/bin/sh
for word; do echo "argument [$word]"; done
echo "lease [${EGM_LEASE-none}] inherited [$(cat <&9)]"
while [ $# -gt 0 ] && [ "$1" != -model ]; do shift; done
[ $# -gt 0 ] || exit 0
shift
exec "$(dirname "$0")/path-user" "$@"
END
chmod -R a+rX "$tmp/bin"
chmod a+x "$emulator"
export LD_LIBRARY_PATH="$tmp/bin"
start_libvirt_bed
chmod 644 "$tmp/libvirt.conf"

# emulator STATUS ARGS...: as libvirt starts it, with a descriptor of its own to be passed on.
emulator() {
        _want=$1 _got=0
        shift
        echo passed >"$tmp/passed"
        setpriv --reuid=65534 --regid=65534 --clear-groups timeout 240 "$tmp/bin/qemu-egm" "$@" >"$tmp/out" 2>"$tmp/err" 9<"$tmp/passed" || _got=$?
        echo >>"$tmp/checks"
        [ "$_got" -eq "$_want" ] || die "qemu-egm $*: exit status $_got instead of $_want: $(cat "$tmp/out" "$tmp/err")"
}
says() { grep -qxF -e "$1" "$tmp/out" || die "it does not say '$1': $(cat "$tmp/out" "$tmp/err")"; }
complains() { grep -qF -e "$1" "$tmp/err" || die "it does not complain '$1': $(cat "$tmp/out" "$tmp/err")"; }

# Asking for QEMU's capabilities, and domains without a lease.
emulator 0 -S -no-user-config -nodefaults -machine none,accel=kvm:tcg -daemonize
says 'lease [none] inherited [passed]'
says 'argument [none,accel=kvm:tcg]'
emulator 0 -uuid $uuid_a "two  words" '$(id)' '*'
says 'lease [none] inherited [passed]'
says 'argument [two  words]'
says 'argument [$(id)]'
emulator 1 -uuid ../../etc/passwd
complains "-uuid '../../etc/passwd' is none"

a=$(xml $uuid_a "$(lease_xml 'owner="65534" wait="60"' '<egm:slice size="4M" region="egm4"/><egm:slice size="2M" region="egm5"/>')")
hook 0 '' red prepare begin "$a"
id=$(lease_of $uuid_a)
offset=$(property "$id" Slices | sed 's/^egm4:\([0-9]*\):.*/\1/')
[ "$offset" -ge $((2 * m)) ] || die "the lease is at the start of its region"
_fd=$(ls -l "/proc/$egmd_pid/fd" | sed -n 's,.* \([0-9]*\) -> /memfd:egm4.*,\1,p' | head -1)
look() { dd if="/proc/$egmd_pid/fd/$_fd" bs=1 count=1 skip="$1" 2>/dev/null | od -An -tu1 | tr -d ' '; }

# libvirt's JSON for two cells, the words of QEMU's own, and slashes as some libraries write them.
ram=/var/lib/libvirt/qemu/ram/1-red
json='{"qom-type":"memory-backend-file","id":"ram-node0","mem-path":"'$ram'/ram-node0","share":true,"size":4194304}'
emulator 0 -name guest=red -uuid $uuid_a -object "$json" -object "memory-backend-file,id=ram-node1,mem-path=$ram/ram-node1,share=on,size=2M" \
        "two  words" '{0.path' '*' -model rw=$ram/ram-node0 map=0+4194304 expect=0 fill=65 rw=$ram/ram-node1 map=0+2097152 expect=0 fill=66
says "lease [$id] inherited [passed]"
says "argument [$json]"
says 'argument [two  words]'
says 'argument [*]'
[ "$(look $((offset - 1))) $(look "$offset") $(look $((offset + 4 * m - 1))) $(look $((offset + 4 * m)))" = '0 65 65 0' ] ||
        die "not the bytes of the lease"
# Off once more: the same memory, as it is a persistent lease. Outside of it there is nothing.
emulator 0 -uuid $uuid_a -object '{"qom-type":"memory-backend-file","mem-path":"\/dev\/egm4","size":1}' -model rw=/dev/egm4 map=0+4194304 expect=65
emulator 1 -uuid $uuid_a -object memory-backend-file,mem-path=/dev/egm4 -model rw=/dev/egm4 map=0+8388608
complains 'outside of the lease'
# What is no memory backend is not ours; more backends than slices are too many.
emulator 1 -uuid $uuid_a -object rng-random,filename=/dev/egm4 -model rw=/dev/egm4
for i in 1 2 3; do
        set -- "$@" -object "memory-backend-file,id=m$i,mem-path=/dev/egm$i"
done
shift 4
emulator 2 -uuid $uuid_a "$@"
complains '--as= is given 3 times, for 2 slices'
emulator 1 -uuid $uuid_a -object 'memory-backend-file,mem-path=/a,,b'
complains 'a comma in the path'
emulator 1 -uuid $uuid_a -object '{"qom-type":"memory-backend-file","mem-path":"/a\u0041"}'
complains 'cannot read the path'

# libvirt kills whom it started, and that was QEMU for it.
mkfifo "$tmp/in" "$tmp/model"
chmod 666 "$tmp/in" "$tmp/model"
setpriv --reuid=65534 --regid=65534 --clear-groups "$tmp/bin/qemu-egm" -uuid $uuid_a -object memory-backend-file,mem-path=/dev/egm4 \
        -model rw=/dev/egm4 map=0+4194304 expect=65 wait <"$tmp/in" >"$tmp/model" 9<"$tmp/passed" &
run=$!
pids="$pids $run"
exec 8>"$tmp/in" 6<"$tmp/model"
until [ "${line-}" = waiting ]; do
        read -r line <&6 || die "the model did not start"
done
child=$(property "$id" HolderPid)
[ "$child" != "$run" ] && [ "$(cat "/proc/$child/comm")" = path-user ] || die "held by $child, and not by the model"
kill -KILL "$run"
ended() { [ ! -d "/proc/$child" ] || grep -q '^State:.*Z' "/proc/$child/status" 2>/dev/null; }
eventually 30 ended || die "the model lives on without who is taken for it"
exec 8>&- 6<&-

# The record is older than the lease; the lease is gone. It does not become a QEMU with other memory.
cp "$records/$uuid_a" "$tmp/record"
sed -i 's/^CreatedUSec=.*/CreatedUSec=1/' "$records/$uuid_a"
emulator 1 -uuid $uuid_a
complains "lease $id is not this domain's any more"
cp "$tmp/record" "$records/$uuid_a"
hook 0 '' red release end "$a"
eventually 60 settled || die "something is left: $("$egmctl")"
cp "$tmp/record" "$records/$uuid_a"
emulator 1 -uuid $uuid_a
complains "lease $id of this domain is gone"
rm "$records/$uuid_a"
emulator 0 -uuid $uuid_a
says 'lease [none] inherited [passed]'

# Which QEMU: by name before configuration, and never a guess.
sed -i '/^emulator=/d' "$tmp/libvirt.conf"
emulator 1
complains 'which QEMU?'
ln -s qemu-egm "$tmp/bin/true-egm"
echo 'emulator=/nowhere' >>"$tmp/libvirt.conf"
"$tmp/bin/true-egm" || die "not /usr/bin/true"
echo "$(wc -l <"$tmp/checks") calls."
