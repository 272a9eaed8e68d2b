#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# The installed daemon where somebody has a region already, and where memory is bad.
. "$LIB"
size=67108864
sim_load "size=$size,$size" || bail

check "somebody has it" hold_open /dev/egm4 || bail
sim_poison 5 0x2000000 || bail
check "the daemon starts" egmd_start || bail
check "it is held elsewhere" wait_until 60 region_is egm4 State held-elsewhere
like "by whom" "$(region egm4 Reason)" "pid ${holder:?} \(egm-probe"
check_fails "none of it is lent" "" egmctl run --size=2M --region=egm4 -- true
check "the other is ready" wait_until 60 region_settled egm5
check "he leaves" hold_close
check "it becomes ready" wait_until 60 region_settled egm4
is "and all is free" "$(region egm4 Free)" "$size"

# One bad page in the middle: the run before it and that behind it can be lent, nothing across it.
retired=$(region egm5 Retired)
like "the bad page is retired" "$retired" '^(4096|65536)$'
is "the rest is free" "$(region egm5 Free)" $((size - retired))
like "where it is" "$(region egm5 RetiredRanges)" '^33554432:(4096|65536)$'
if [ "$VARIANT" = K2 ]; then
        check "from the start: half of it" vm_start half 5 --size=32M --region=egm5
        check "nobody touched it" vm_stop half
        check_fails "not across" "" egmctl run --size=48M --region=egm5 -- true
else
        check "the run before it" vm_start before 5 --size=32M --region=egm5
        check "the run behind it" vm_start behind 6 --size=16M --region=egm5
        check_fails "nothing across it" "" egmctl run --size=20M --region=egm5 -- true
        check "nobody touched the first" vm_stop before
        check "nor the second" vm_stop behind
fi
check "it is cleaned again" wait_until 60 region_settled egm5
is "and still retired" "$(region egm5 Retired)" "$retired"
is "still the first process" "$(systemctl show -P NRestarts egmd)" 0
finish
