/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <umockdev.h>

/* GLib has its own. */
#undef MIN
#undef MAX

#include "test.h"

#include "discovery.h"

/* A sysfs and a udev of the test's own, and discovery on top. What discovery says comes as lines
 * like added egm4 240:4 479962595328 node=0 socket=0 links: 0008:01:00.0@0=nvgrace-gpu-vfio-pci
 * Nothing here sleeps: the event loop runs until a line is there or no read of sysfs is due any
 * more. */

#define NVGRACE "nvgrace-gpu-vfio-pci"
#define SIZE_TEXT "0x6fc0000000\\n" /* as a device description wants it */
#define SIZE "479962595328"
#define NO_SIZE "0 (there is no egm_size attribute)"

#define GPU8 "/devices/pci0008:00/0008:00:00.0/0008:01:00.0"
#define GPU9 "/devices/pci0009:00/0009:00:00.0/0009:01:00.0"
#define GPU18 "/devices/pci0018:00/0018:00:00.0/0018:01:00.0"
#define GPU19 "/devices/pci0019:00/0019:00:00.0/0019:01:00.0"
#define EGM4 "/devices/virtual/egm/egm4"
#define EGM5 "/devices/virtual/egm/egm5"

/* A region as the second of the kernel's interfaces shows it: see bed_start_k2(). */
#define BOTH "0008:01:00.0\n0009:01:00.0\n"
#define K2_DESCRIPTION "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0008:01:00.0\\n0009:01:00.0\\n\n"
#define K2_GPUS "0008:01:00.0@0=" NVGRACE " 0009:01:00.0@0=" NVGRACE
#define K2_FACTS SIZE " node=0 socket=0 gpu_devices file: " K2_GPUS

#define N_DELAYS 4U

typedef struct Bed {
        UMockdevTestbed *testbed;
        char *root;
        sd_event *event;
        Discovery *discovery;
        char *lines[64];
        size_t n_lines, n_expected;
        int saved_stderr, log_fd;
} Bed;

/* What udev_device_get_is_initialized() says, and how often the monitor is to say ENOBUFS
 * (--wrap). */
extern bool bed_initialized;
extern unsigned bed_lost;
/* Called once, when the next region or GPU is being read. */
extern void (*bed_meanwhile)(void);

int bed_setup(void **state);
int bed_teardown(void **state);

/* Describes devices the way umockdev-record does; they come with an "add" event. */
void bed_add(Bed *b, const char *format, ...) _printf_(2, 3);
/* A PCI device below a bridge; numa_node and driver may be NULL. */
void bed_gpu(Bed *b, const char *devpath, const char *numa_node, const char *driver);
/* The four GPUs of a tray, on nodes 0 and 1. */
void bed_gpus(Bed *b);
/* A device of class egm with what else its description has. */
void bed_region(Bed *b, const char *devpath, unsigned minor, const char *more);
/* An attribute's text; NULL takes it away. */
void bed_set(Bed *b, const char *devpath, const char *attribute, const char *text);
/* A link; NULL takes it away. */
void bed_link(Bed *b, const char *devpath, const char *name, const char *target);
void bed_driver(Bed *b, const char *devpath, const char *driver, const char *action);
void bed_event(Bed *b, const char *devpath, const char *action);
/* The directory goes without a word. */
void bed_vanish(Bed *b, const char *devpath);
/* With its event. */
void bed_remove(Bed *b, const char *devpath);
char *bed_path(Bed *b, const char *path); /* in the file system; to be freed */

void bed_start(Bed *b);
/* One thing the event loop has to do. */
void bed_step(Bed *b);
void bed_log(Bed *b); /* keep what is logged from now on */
unsigned bed_log_count(Bed *b, const char *needle);

#define expect(b, line) bed_expect(b, line, __FILE__, __LINE__)
void bed_expect(Bed *b, const char *line, const char *file, int at);
/* …and no more, even when everything was read again as often as it will be. */
#define expect_nothing(b) bed_expect_nothing(b, __FILE__, __LINE__)
void bed_expect_nothing(Bed *b, const char *file, int at);

/* Discovery, with the GPUs and egm4, which it has found. */
void bed_start_k2(Bed *b);
/* Of egm4's device node. */
void bed_set_number(Bed *b, const char *number);
/* Away without a word, and its directory's inode number cannot come back. */
void bed_put_aside(Bed *b, const char *devpath);
