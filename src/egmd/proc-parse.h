/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* What the files of a process in /proc say. Pure. Names in them are whatever a process likes, so none of
 * these looks for a separator that a name could hold. What does not have the kernel's form is -EBADMSG. */

typedef struct MapsLine {
        uint64_t start;
        uint64_t end; /* > start */
        uint64_t offset;
        dev_t dev;
        ino_t ino;
        bool shared;
        const char *identity; /* from the device to the end of the line: equal ones are of one file */
        size_t identity_size;
        const char *path; /* as the kernel escapes it; in the line given, maybe empty, not terminated */
        size_t path_size;
} MapsLine;

/* One line of maps, without its newline. The end of a long path may be missing. */
int maps_line_parse(const char *line, size_t size, MapsLine *ret);
/* The name of the file behind a path: newlines back in place, without the mark of a deleted one. */
int maps_path_unescape(const char *path, size_t size, char **ret);

#define PROC_COMM_MAX 64U /* worker threads of the kernel have the longest */

typedef struct ProcStat {
        char comm[PROC_COMM_MAX]; /* printable ASCII: other bytes are '?' */
        char state;
        int parent;
        bool kernel_thread;
        uint64_t n_threads;
        uint64_t start_time;
} ProcStat;

int proc_stat_parse(const char *text, size_t size, ProcStat *ret);

/* The effective user of /proc/PID/status. */
int proc_status_parse_uid(const char *text, size_t size, uid_t *ret);

/* The flags of /proc/PID/fdinfo/FD, as open() takes them. */
int proc_fdinfo_parse_flags(const char *text, size_t size, int *ret);

/* The systemd unit of /proc/PID/cgroup (unified, hybrid, legacy); -ENXIO: in none. ret_slice may be NULL: the slice that the
 * unit is in, NULL for the one around all. */
int proc_cgroup_parse_unit(const char *text, size_t size, char **ret, char **ret_slice);
