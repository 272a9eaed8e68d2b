#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# variants: D R2
# Dma-bufs of the driver that exports them: what is refused, what they are of, how long they live.
. "$LIB"
sim_load size=0x4000000,0x4000000 || bail
relay "export rules" egm-probe rules export "$VARIANT" 4
finish
