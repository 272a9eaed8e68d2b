# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the scripts share: installing packages, building, one clear last line.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '\n== %s\n' "$*"; }

fail() {
        printf '%s: FAILED: %s\n' "${0##*/}" "$*" >&2
        exit 1
}

as_root() {
        if [ "$(id -u)" -eq 0 ]; then
                "$@"
        elif command -v sudo >/dev/null; then
                sudo "$@"
        else
                fail "this needs root: run it as root, or install sudo"
        fi
}

# install_packages LIST...: the packages named in scripts/lib/LIST, if any is missing.
install_packages() {
        local list missing=() p
        command -v apt-get >/dev/null || fail "only Debian 12+ and Ubuntu 24.04 are set up by this script (no apt-get)"
        for list in "$@"; do
                while read -r p; do
                        case $p in '' | \#*) continue ;; esac
                        dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing+=("$p")
                done <"$top/scripts/lib/$list"
        done
        [ ${#missing[@]} -eq 0 ] && return 0
        say "Installing ${missing[*]}"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || fail "apt-get update"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
                fail "apt-get install"
}

# build DIR [meson option]...
build() {
        local dir=$1
        shift
        say "Building in ${dir#"$top"/}"
        if [ -e "$dir/build.ninja" ]; then
                meson configure "$dir" "$@" || fail "meson configure"
        else
                meson setup "$dir" "$top" "$@" >"$dir.log" 2>&1 || { cat "$dir.log"; fail "meson setup"; }
        fi
        ninja -C "$dir" || fail "compilation"
}
