#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# check-header.sh HEADER COMPILER...: the public header compiles alone, twice over, in every C since C99 and in C++.
set -eu
header=$1
shift
tmp=$(mktemp -d "${TMPDIR:-/tmp}/egmd-header.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

printf '#include "%s"\n#include "%s"\nint main(void) { return EGM_EVENT_REGION_ADDED != 1; }\n' \
        "$header" "$header" | tee "$tmp/t.c" >"$tmp/t.cpp"
for std in c99 c11 c17; do
        "$@" -std=$std -pedantic-errors -Wall -Wextra -Wshadow -Wundef -Wstrict-prototypes -Werror \
                -fsyntax-only "$tmp/t.c"
done
for std in c++11 c++17; do
        "$@" -x c++ -std=$std -pedantic-errors -Wall -Wextra -Wshadow -Wundef -Werror -fsyntax-only \
                "$tmp/t.cpp"
done
