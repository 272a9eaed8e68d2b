#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The list of retired pages: how it is asked for, and what each version makes of a bad table.
. "$LIB"
half=0x8000
size4=0x4000000 size5=$((0x4000000 - half))
table="4:0x200000,4:0x10000*2,4:0x200000,4:0xffffffffffff0000,4:$size4"
table+=",5:0x0,5:$((size5 - half))"
sim_load "size=$size4,$size5" "retired=$table" || bail
relay "a disorderly table" egm-probe rules list "$VARIANT" 4
relay "a region with an odd end" egm-probe rules list "$VARIANT" 5

# Found while somebody reads: the second call is too short as well.
lines() {
        egm-probe list "$1" | wc -l
}
before=$(lines /dev/egm4)
echo 3 >/sys/module/egmsim/parameters/retired_growth
pages=1
case $VARIANT in S?) pages=16 ;; esac
is "pages that are found between the calls are told" "$(lines /dev/egm4)" $((before + 3 * pages))
is "and that was all" "$(lines /dev/egm4)" $((before + 3 * pages))
sim_unload

sim_load size=0x10000000,0x4000000 || bail
is "no list: no entries" "$(egm-probe list /dev/egm4)" ""
sim_retire 4 '0*4096'
is "a full table: 4096 entries" "$(lines /dev/egm4)" $((4096 * pages))
check_fails "not more of them at once" "Numerical result out of range" sim_retire 4 '0*4097'
finish
