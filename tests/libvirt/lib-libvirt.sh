# SPDX-License-Identifier: LGPL-2.1-or-later
# Calls the hook as libvirt would; source it after lib.sh. $egmctl is the program, $hooks the folder of hook and emulator.

[ -x /usr/bin/python3 ] || skip "no /usr/bin/python3"
[ "$(id -u)" -eq 0 ] || skip "not root: nobody to acquire for"
m=1048576
uuid_a=11111111-2222-3333-4444-555555555555 uuid_b=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee

# Two regions; the first 2M of egm4 are somebody else's.
start_libvirt_bed() {
        start_bus
        export DBUS_SYSTEM_BUS_ADDRESS="$bus" EGM_LIBVIRT_CONF="$tmp/libvirt.conf"
        cat >"$tmp/sim.json" <<-'END'
		{"regions": [
		  {"name": "egm4", "size": "32M", "node": 0, "socket": 0, "gpus": ["0009:01:00.0"]},
		  {"name": "egm5", "size": "32M", "node": 1, "socket": 1, "gpus": ["0019:01:00.0"]}
		]}
	END
        # As docs/libvirt.md says: all domains are of one user.
        printf '%s\n' '[User nobody]' BytesMax=infinity >"$tmp/egmd.conf"
        start_egmd "$egmd" --simulate="$tmp/sim.json" --config="$tmp/egmd.conf"
        records=$tmp/records
        cat >"$tmp/libvirt.conf" <<-END
		# for the test
		egmctl=$egmctl
		run-directory=$records
		emulator=${emulator:-/nowhere}
	END
        keep=$("$egmctl" lease --size=2M --region=egm4 --persistent --wait=60 -p Id --value)
        eventually 60 settled || die "the regions are not ready"
}
free_of() { "$egmctl" show-region "$1" -p Free --value; }
settled() { [ "$(free_of egm4)" -eq $((30 * m)) ] && [ "$(free_of egm5)" -eq $((32 * m)) ]; }
n_leases() { "$egmctl" list-leases --no-legend | wc -l; }
lease_of() { sed -n 's/^Id=//p' "$records/$1"; } # a domain, by its uuid
property() { "$egmctl" show-lease "$1" -p "$2" --value; }

# xml UUID [METADATA]: a domain as libvirt writes it.
xml() {
        cat <<-END
		<domain type='kvm' id='1'>
		  <name>whatever</name>
		  <uuid>$1</uuid>
		  <metadata>
		    <other:thing xmlns:other="http://example.org/other"><other:lease/></other:thing>
		    ${2-}
		  </metadata>
		  <memory unit='KiB'>4096</memory>
		</domain>
	END
}
lease_xml() { # ATTRIBUTES SLICES
        echo "<egm:lease xmlns:egm=\"https://nvidia.com/egm/1\" $1>$2</egm:lease>"
}

# hook STATUS ERR GUEST OPERATION SUBOPERATION XML: ERR must occur in what it says; '' for nothing. It never says anything on standard output.
hook() {
        _want=$1 _err=$2 _got=0
        printf '%s\n' "$6" | timeout 120 "$hooks/qemu-hook" "$3" "$4" "$5" - >"$tmp/out" 2>"$tmp/err" || _got=$?
        echo >>"$tmp/checks"
        [ "$_got" -eq "$_want" ] && [ ! -s "$tmp/out" ] && if [ -n "$_err" ]; then grep -qF -e "$_err" "$tmp/err"; else [ ! -s "$tmp/err" ]; fi ||
                die "hook $3 $4 $5: exit status $_got instead of $_want, or not '$_err': $(cat "$tmp/out" "$tmp/err") for $6"
}
