/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "fd-util.h"
#include "macro.h"

#define EGM_RETIRED_PAGES_LIST 0x4564U
#define PAGE UINT64_C(4096) /* the VM's kernel has no other */
#define TIB (UINT64_C(1) << 40)
#define DEADLINE_MS 240000

typedef enum Variant {
        VARIANT_K2,
        VARIANT_R2,
        VARIANT_D,
        VARIANT_S3,
        VARIANT_S4,
        _VARIANT_MAX,
        _VARIANT_INVALID = -EINVAL,
} Variant;

/* What is being probed, and how it went. */
typedef struct Probe {
        Variant variant;
        int id;
        char device[32];
        uint64_t size; /* egm_size */
        unsigned n_failed;
} Probe;

/* The layout of the kernel's list, as it is on the wire. */
typedef struct RetiredEntry {
        uint64_t offset;
        uint64_t size;
} RetiredEntry;

typedef struct RetiredList {
        uint32_t argsz;
        uint32_t count;
        RetiredEntry entries[];
} RetiredList;

int probe_init(Probe *p, const char *variant, const char *id);

/* One TAP line. */
bool probe_check(Probe *p, bool ok, const char *format, ...) _printf_(3, 4);
/* r is negative errno or whatever counts as success; want is 0 or a positive errno. */
bool probe_check_errno(Probe *p, int r, int want, const char *format, ...) _printf_(4, 5);

/* A value from the module's sim_state. */
int64_t probe_state(const Probe *p, const char *field);
bool probe_wait_state(const Probe *p, const char *field, int64_t value);
int probe_hold(bool hold);
int probe_poison(const Probe *p, uint64_t offset);
int probe_set(const char *parameter, const char *value);
int probe_present(const Probe *p, bool present);

/* Descriptor or -errno; O_CLOEXEC is added. */
int probe_open(const Probe *p, int flags);
void *probe_map(int fd, uint64_t offset, uint64_t size, int prot, int flags);
/* Maps and unmaps: 0 or -errno. */
int probe_try_map(int fd, uint64_t offset, uint64_t size, int prot, int flags);
/* The whole list, by the two calls; freed by the caller. */
int probe_read_list(int fd, RetiredList **ret);
bool probe_list_has(const RetiredList *list, uint64_t offset);

/* A process of its own that opens the device and keeps it open. */
typedef struct Opener {
        pid_t pid;
        int pid_fd;
        int result_fd;
        int stop_fd;
} Opener;

#define OPENER_NULL ((Opener){.pid = -1, .pid_fd = -EBADF, .result_fd = -EBADF, .stop_fd = -EBADF})

int opener_start(const Probe *p, Opener *ret);
/* Waits for what open() said: 0, -errno, or -EPIPE if the process died of it. */
int opener_result(Opener *o);
bool opener_is_alive(const Opener *o);
int opener_signal(const Opener *o, int signal);
/* Waits for the process to be gone. */
int opener_wait(Opener *o);
/* Closes, and waits for that to have happened. */
void opener_stop(Opener *o);
#define _cleanup_opener_ _cleanup_(opener_stop)

void probe_open_rules(Probe *p);
void probe_map_rules(Probe *p);
void probe_file_rules(Probe *p);
void probe_list_rules(Probe *p);
void probe_poison_rules(Probe *p);
void probe_export_rules(Probe *p);
