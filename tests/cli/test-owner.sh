#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-owner.sh EGMCTL FAKE_EGMD LEASE_USER EGMD: leases that root acquires for others, against egmd on simulated regions.
set -eu
egmctl=$(realpath "$1") egmd=$4
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib-cli.sh"
[ "$(id -u)" -eq 0 ] || skip "not root: nobody to give to"
group=60777
setpriv --reuid=65534 --regid=65534 --groups=$group true 2>/dev/null || skip "cannot become somebody else"

chmod 711 "$tmp"
start_bus
# The daemon finds its group in a file of ours, in a mount namespace of its own.
{ grep -v '^egm:' /etc/group || :; } >"$tmp/group"
echo "egm:x:$group:" >>"$tmp/group"
printf '#!/bin/sh\nmount --bind "%s" /etc/group && exec "%s" "$@"\n' "$tmp/group" "$egmd" >"$tmp/egmd"
chmod +x "$tmp/egmd"
unshare --mount true 2>/dev/null || skip "no mount namespace"
start_egmd unshare --mount --propagation=private "$tmp/egmd" --simulate=gb200 --scale=8192
ready() { [ "$("$egmctl" --bus="$bus" list-regions --no-legend | grep -c ready)" -eq 2 ]; }
eventually 60 ready || die "the regions are not ready"

# Where somebody without rights can read them.
mkdir "$tmp/bin"
cp -L "$egmctl" "$(dirname "$egmctl")"/../libegm/libegm.so.1 "$tmp/bin"
chmod -R a+rX "$tmp/bin"
root=$egmctl
# The bus wants users that exist.
for user in 65534 1; do
        cat >"$tmp/as-$user" <<-END
		#!/bin/sh
		exec setpriv --reuid=$user --regid=$user --groups=\${EGM_TEST_GROUP-$group} env LD_LIBRARY_PATH="$tmp/bin" \\
		        "$tmp/bin/egmctl" "\$@"
	END
        chmod 755 "$tmp/as-$user"
done
as() { egmctl=$1; }

check 2 '' "--owner=no-such-user: neither a user's name nor a uid" lease --size=2M --owner=no-such-user
check 2 '' "--owner=4294967295" lease --size=2M --owner=4294967295
check 2 '' "no option '--owner'" run --size=2M --owner=65534 -- true

# Root gives it away, and it is theirs; nobody else's but root's.
check 0 'OwnerUid=65534' '' lease --size=2M --wait=60 --persistent --owner=65534
id=$(sed -n 's/^Id=//p' "$tmp/out")
as "$tmp/as-1"
check 4 '' "belongs to uid 65534, and you are uid 1" release "$id"
as "$tmp/as-65534"
check 0 '' '' release --wait "$id"
as "$root"
check 0 'OwnerUid=0' '' lease --size=2M --wait=60 --persistent
check 0 '' '' release "$(sed -n 's/^Id=//p' "$tmp/out")"
# By name.
check 0 'OwnerUid=65534' '' lease --size=2M --wait=60 --persistent --owner=nobody
check 0 '' '' release "$(sed -n 's/^Id=//p' "$tmp/out")"

# Others cannot, but for themselves.
as "$tmp/as-65534"
check 4 '' "OwnerUid: uid 65534 may acquire leases for itself only, and not for uid 1" \
        lease --size=2M --persistent --owner=1
check 4 '' "uid 65534 may acquire leases for itself only, and not for uid 0" lease --size=2M --persistent --owner=root
check 0 'OwnerUid=65534' '' lease --size=2M --wait=60 --persistent --owner=65534
check 0 '' '' release "$(sed -n 's/^Id=//p' "$tmp/out")"
# Who may not acquire at all may not for himself.
EGM_TEST_GROUP=65534
export EGM_TEST_GROUP
check 4 '' "Only root and members of the group egm may acquire leases" lease --size=2M --owner=65534
# But what root gave them is theirs.
as "$root"
check 0 'OwnerUid=65534' '' lease --size=2M --wait=60 --persistent --owner=65534
id=$(sed -n 's/^Id=//p' "$tmp/out")
as "$tmp/as-65534"
check 0 '' '' release "$id"
as "$root"
over() { [ -z "$("$egmctl" --bus="$bus" list-leases --no-legend)" ]; }
eventually 60 over || die "leases are left: $("$egmctl" --bus="$bus")"

count_checks
