#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# check-abi.sh SOURCE_ROOT LIBRARY: what the library exports, its header declares, its version script names and its man
# page describes is the same list; and its tables of D-Bus properties are those of the interface file.
set -eu
export LC_ALL=C
root=$1 library=$2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/egmd-abi.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
status=0

same() { # $1, $2: what; files of that name in $tmp
        [ -s "$tmp/$1" ] && diff -u --label "$1" --label "$2" "$tmp/$1" "$tmp/$2" || {
                echo "FAILED: $1 and $2 differ" >&2
                status=1
        }
}

# Functions, not types, callbacks or inline helpers.
grep -oE '^[a-z].*[ *]egm_[a-z_]+\(' "$root/src/libegm/egm.h" | grep -v '^typedef\|^static' |
        sed 's/.*[ *]\(egm_[a-z_]*\)($/\1/' | sort -u >"$tmp/header"
sed -n 's/^ *\(egm_[a-z_]*\);$/\1/p' "$root/src/libegm/libegm.sym" | sort >"$tmp/version-script"
nm -D --defined-only "$library" | sed -n 's/.* T \([^@]*\)@@LIBEGM_1$/\1/p' | sort >"$tmp/exports"
grep -oE '\*?egm_[a-z_]+\*?\(' "$root/man/libegm.3.scd" | sed 's/^\*//; s/_*($//' | sort -u >"$tmp/man-page"

same header version-script
same header exports
same header man-page
# Nothing without our version, nothing of other prefixes.
if nm -D --defined-only "$library" | grep -v ' A LIBEGM_1$' | grep -v ' T egm_[a-z_]*@@LIBEGM_1$'; then
        echo "FAILED: stray exports" >&2
        status=1
fi

# Properties: INTERFACE NAME TYPE. Explicit ones are read one by one, not by the tables.
for interface in Manager:manager Region:region Lease:lease-info; do
        file=$root/src/libegm/${interface#*:}.c
        interface=${interface%:*}
        sed -n "/<interface name=\"org.nvidia.Egm1.$interface\">/,/<\/interface>/p" \
                "$root/dbus/org.nvidia.Egm1.xml" |
                sed -n 's/.*<property name="\([A-Za-z]*\)" type="\([^"]*\)".*/\1 \2/p' |
                grep -v '^Extents ' | sort >"$tmp/xml-$interface"
        {
                sed -n 's/.*PROPERTY(egm_[a-z_]*, "\([A-Za-z]*\)", "\([a-z]*\)".*/\1 \2/p' "$file"
                sed -n 's/.*PROPERTY_TABLE(egm_[a-z_]*, "\([A-Za-z]*\)", "\([a-z]*\)".*/\1 a(\2)/p' "$file"
                sed -n 's/.*PROPERTY_STRINGS(egm_[a-z_]*, "\([A-Za-z]*\)".*/\1 as/p' "$file"
        } | sort >"$tmp/library-$interface"
        same "xml-$interface" "library-$interface"
done

exit $status
