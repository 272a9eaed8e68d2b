# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the scripts share: installing packages, building, one clear last line.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '\n== %s\n' "$*"; }

fail() {
        printf '%s: FAILED: %s\n' "${0##*/}" "$*" >&2
        exit 1
}

. "$top/scripts/lib/apt.sh"

# Everything for building and testing. clang-format 14 is wherever its version is packaged; the test of style is
# skipped without it.
set_up() {
        command -v apt-get >/dev/null || fail "only Debian 12+ and Ubuntu 24.04 are set up by this script (no apt-get)"
        say "Packages"
        install_packages "$top/scripts/lib/packages" || fail "apt-get install"
        command -v clang-format-14 >/dev/null ||
                as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends \
                        clang-format-14 >/dev/null 2>&1 || echo "clang-format-14 cannot be had here"
}

# build DIR [meson option]...
build() {
        local dir=$1
        shift
        say "Building in ${dir#"$top"/}"
        if [ -e "$dir/build.ninja" ]; then
                meson configure "$dir" "$@" || fail "meson configure"
        else
                meson setup "$dir" "$top" "$@" || fail "meson setup"
        fi
        ninja -C "$dir" || fail "compilation"
}
