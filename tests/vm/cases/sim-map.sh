#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a mapping reaches, and what one can do with it and with the descriptor.
. "$LIB"
sim_load size=0x4000000,0x4000000 || bail
relay "map rules" egm-probe rules map "$VARIANT" 4
relay "file rules" egm-probe rules file "$VARIANT" 5
finish
