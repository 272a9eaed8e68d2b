#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Memory that goes bad in use.
. "$LIB"
sim_load size=0x4000000,0x4000000 || bail
relay "poison rules" egm-probe rules poison "$VARIANT" 4
check_fails "poison past the end" "Numerical result out of range" sim_poison 4 0x4000000
finish
