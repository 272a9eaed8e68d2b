# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Sourced: root when it takes root, and packages by apt.

as_root() {
        if [ "$(id -u)" = 0 ]; then
                "$@"
        else
                sudo -- "$@"
        fi
}

# install_packages LIST...: what the lists name and is not there yet
install_packages() {
        local missing=() package

        while read -r package; do
                dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^.i' ||
                        missing+=("$package")
        done < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@" | sort -u)
        [ "${#missing[@]}" -gt 0 ] || return 0

        echo "installing: ${missing[*]}"
        as_root apt-get -qq update &&
                as_root env DEBIAN_FRONTEND=noninteractive \
                        apt-get -qq install --no-install-recommends "${missing[@]}" >/dev/null
}
