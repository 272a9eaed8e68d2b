/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "scrubber.h"

/* Where the threads of a scrub may run. Private to the scrubber. */

/* How many CPUs there are for us. */
unsigned scrub_cpus_allowed(void);
/* The CPUs of the node, or of the nearest that has any, or those that the configuration wants. Of these only what
 * CPUAffinity= or taskset leave us: the others may be the guests'. *ret is left alone where there is nothing to bind to. */
void scrub_cpus_of_node(const ScrubConfig *config, int of, cpu_set_t **ret, size_t *ret_size);
