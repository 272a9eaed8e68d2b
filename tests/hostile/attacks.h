/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What scene_attack() is called with, by what they misuse. */

/* attack-fds.c */
void attack_fds_unused(void);
void attack_fds_dropped(void);
void attack_fds_waiting(void);
void attack_holder_kinds(void);
/* For a daemon that has few descriptors. */
void attack_few_fds(void);
void attack_fds_lost(void);

/* attack-admit.c */
void attack_admit_kinds(void);
void attack_admit_floods(void);
void attack_admit_races(void);

/* attack-arguments.c */
void attack_arguments_huge(void);
void attack_arguments_deep(void);
void attack_arguments_text(void);
void attack_paths(void);

/* attack-callers.c */
void attack_waiters_vanish(void);
void attack_waiters_time_out(void);
void attack_callers_vanish(void);
void attack_no_reply(void);
void attack_names(void);
void attack_forgery(void);
void attack_races(void);

/* attack-floods.c: at 1,000 leases */
void attack_fill(void);
void attack_floods(void);
void attack_matches(void);
void attack_never_reads(void);
void attack_fds_not_taken(void);
void attack_greedy(void);
/* Restarts the daemon, where the bus does not tell it who reads. */
void attack_block_the_bus(void);
void attack_drop(void);
