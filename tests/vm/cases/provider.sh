#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 300
# The daemon's own hand on the device: what it makes of each version of the driver.
. "$LIB"
size=0x4000000
bytes=$((size))
table="4:0x200000,4:0x10000*2,4:0x200000,4:0x0,4:0xffffffffffff0000,4:$size,4:0x3ff0000"
sim_load "size=$size,$size" "retired=$table" || bail

provider() {
        egm-provider /dev/egm4 "$bytes" "$@" 2>/dev/null
}

case $VARIANT in
K2) offsets=whole-only ;;
*) offsets=offsets ;;
esac

# The pages at the start and the end, where one would probe first, are retired.
is "opened, judged, and left as clean as it was" "$(provider open probe zero retired mark 32M)" \
        "open: ok
probe: $offsets
zero: yes, 0 bad
retired: 0+0x30000 0x200000+0x10000 0x3ff0000+0x10000
mark: seen"

said=$(egm-provider /dev/egm4 "$bytes" open probe 2>&1 >/dev/null)
case $VARIANT in
K2) like "the log says what it means" "$said" "ignores mmap offsets, .* one lease at a time" ;;
*) is "the log says nothing of offsets" "$(grep -c 'mmap offsets' <<<"$said")" 0 ;;
esac

# Somebody has it. S3 lets everybody in, which is why the daemon looks for holders before it probes.
hold_open /dev/egm4 || bail "nobody holds it"
case $VARIANT in
S3) wanted="open: ok" ;;
*) wanted="open: EBUSY" ;;
esac
is "while another has it open" "$(provider open)" "$wanted"
hold_close
is "and when he has gone" "$(provider open probe)" "open: ok
probe: $offsets"

# Opening wipes, so a device that is not the right one is not opened.
before=$(sim_state 5 scrubs)
is "another device is left alone" \
        "$(EGM_DEVICE=/dev/egm4 egm-provider /dev/egm5 "$bytes" open)" "open: ENODEV"
is "and not wiped" "$(sim_state 5 scrubs)" "$before"

# Memory that fails and is on no list.
sim_poison 4 0x40000 || bail
sim_poison 4 0x2000000 || bail
said=$(provider open probe zero)
if [ "$VARIANT" = K2 ]; then
        like "bad memory does not kill" "$said" "probe: whole-only.*zero: yes, 2 bad"
else
        is "bad memory does not kill, and another pair proves it" "$said" "open: ok
probe: offsets
zero: yes, 2 bad"
fi
finish
