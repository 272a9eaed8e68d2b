/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/ioctl.h>

#include "attempt.h"

/* Commands to the driver: it may hand out bytes by other ways than mappings, and asks nobody whose they are. */

static int command(const Actor *a, unsigned long what, void *argument) {
        return ioctl(a->own.fd, what, argument) < 0 ? -errno : SEEN_NOTHING;
}

/* 100 is the list of bad pages: no secret, and VMMs ask for it. */
static int ask_driver(const Actor *a, unsigned number) {
        uint64_t room[512] = {sizeof(room)};

        return command(a, _IO('E', number), room);
}

static int look_exported(const Actor *a, uint64_t offset) {
        Export e = export_of(offset);
        _cleanup_close_ int fd = ioctl(a->own.fd, COMMAND_EXPORT, &e);

        return fd < 0 ? -errno : look(fd, 0, PAGE);
}

static void play_command(Actor *a) {
        report(a, "command-bad-pages", ask_driver(a, 100));
        report(a, "command-cloexec", command(a, FIOCLEX, NULL));
        report(a, "command-unknown", ask_driver(a, 150));
        report(a, "command-export-own", look_exported(a, a->own.offset));
        report(a, "command-export-before", look_exported(a, a->own.offset - PAGE));
}

const Scene scene_command = {.name = "command", .play = play_command};
