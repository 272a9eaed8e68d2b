#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# seconds: 400
# Who may open the device, what an open zeroes, and who waits for it.
. "$LIB"
sim_load size=0x4000000,0x4000000 scrub_step=0x1000000 || bail
relay "open rules" egm-probe rules open "$VARIANT" 4
finish
