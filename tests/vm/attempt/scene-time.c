/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "attempt.h"

/* Before, after and meanwhile: leases that end, and an egmd that is not there. */

static Puppet earlier, child;

static void prepare_earlier(Actor *a) {
        if (puppet_start(&earlier) < 0)
                _exit(EXIT_FAILURE);
}

static int look_opened(const char *path, uint64_t offset, uint64_t size) {
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

        return fd < 0 ? -errno : look(fd, offset, size);
}

/* Nothing takes a mapping away. */
static void play_release(Actor *a) {
        void *p = map_own(a);
        void *read_only = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, a->own.fd, (off_t) a->own.offset);

        if (puppet_start(&child) < 0)
                _exit(EXIT_FAILURE);
        report(a, "child-before-release", puppet_look(&child, a->own.fd, a->own.offset, PAGE));
        ask_or_die(a, REQUEST_RELEASE, NULL);
        report(a, "released-mapping-stays", look_at(p, a->own.size));
        report(a, "released-mapping-made-writable",
               mprotect(read_only, PAGE, PROT_READ | PROT_WRITE) < 0 ? -errno
                                                                     : look_at(read_only, PAGE));
        report(a, "released-own", look_own(a));
        report(a, "released-before", look_before(a));
        report(a, "released-child-later", in_child(a, look_own));
        report(a, "released-child-earlier", puppet_look(&child, a->own.fd, a->own.offset, PAGE));
        puppet_stop(&child);
        report(a, "released-mapping-holds-up",
               ask(a, REQUEST_LEND_HELD, NULL) < 0 ? SEEN_HELD_UP : SEEN_NOTHING);
        report(a, "released-mapping-still-stays", look_at(p, a->own.size));
}

const Scene scene_release = {.name = "release", .play = play_release};

/* Where descriptors alone are worth nothing, they hold nothing up. */
static void play_lend_again(Actor *a) {
        if (puppet_start(&child) < 0)
                _exit(EXIT_FAILURE);
        ask_or_die(a, REQUEST_RELEASE, NULL);
        if (ask(a, REQUEST_LEND, NULL) < 0) {
                report(a, "lent-again-own", SEEN_HELD_UP);
                report(a, "lent-again-child-earlier", SEEN_HELD_UP);
                report(a, "lent-again-child-later", SEEN_HELD_UP);
                report(a, "lent-again-stranger", SEEN_HELD_UP);
        } else {
                Range range = a->own;

                report(a, "lent-again-own", look_own(a));
                report(a, "lent-again-child-earlier",
                       puppet_look(&child, a->own.fd, a->own.offset, PAGE));
                report(a, "lent-again-child-later", in_child(a, look_own));
                report(a, "lent-again-stranger", ask(a, REQUEST_STRANGER, &range));
        }
        puppet_stop(&child);
}

const Scene scene_lend_again = {.name = "lend-again", .play = play_lend_again};

/* ---- a region that is handed over by path ---- */

static void play_delegate(Actor *a) {
        ask_or_die(a, REQUEST_DELEGATE, NULL);
        report(a, "delegated-whole", look_opened("/dev/egm5", 0, REGION_SIZE));
        report(a, "delegated-meanwhile-own", look_own(a));
        report(a, "delegated-meanwhile-before", look_before(a));
        report(a, "delegated-meanwhile-earlier-child",
               puppet_look(&earlier, a->own.fd, a->own.offset, PAGE));
        ask_or_die(a, REQUEST_TAKE_BACK, NULL);
        report(a, "delegated-taken-back", look_opened("/dev/egm5", 0, PAGE));
        puppet_stop(&earlier);
}

const Scene scene_delegate = {
                .name = "delegate", .prepare = prepare_earlier, .play = play_delegate};

/* Its last tenant has the descriptor still, and the gate does not look after what was handed over. */
static void play_delegate_held(Actor *a) {
        Range other = {.fd = -EBADF};

        ask_or_die(a, REQUEST_ELSEWHERE, &other);
        ask_or_die(a, REQUEST_RELEASE_SECOND, NULL);
        report(a, "delegated-old-descriptor",
               ask(a, REQUEST_DELEGATE_HELD, NULL) < 0 ? SEEN_HELD_UP
                                                       : look(other.fd, 0, REGION_SIZE));
        safe_close(other.fd);
        report(a, "delegated-once-closed",
               ask(a, REQUEST_DELEGATE, NULL) < 0 ? SEEN_HELD_UP : SEEN_NOTHING);
}

const Scene scene_delegate_held = {.name = "delegate-held", .play = play_delegate_held};

/* ---- egmd itself ---- */

static void look_around(Actor *a, const char *when) {
        char name[64];

        (void) snprintf(name, sizeof(name), "%s-own", when);
        report(a, name, look_own(a));
        (void) snprintf(name, sizeof(name), "%s-before", when);
        report(a, name, look_before(a));
        (void) snprintf(name, sizeof(name), "%s-child-own", when);
        report(a, name, in_child(a, look_own));
        (void) snprintf(name, sizeof(name), "%s-child-before", when);
        report(a, name, in_child(a, look_before));
        (void) snprintf(name, sizeof(name), "%s-earlier-child", when);
        report(a, name, puppet_look(&earlier, a->own.fd, a->own.offset, PAGE));
}

/* Seen again and again: the first time, or the first time that it was different. */
typedef struct Look {
        const char *name;
        int r;
        bool differs;
} Look;

static void look_again(Look *l, int r, bool first) {
        if (first)
                l->r = r;
        else if (r != l->r && !l->differs) {
                l->r = r;
                l->differs = true;
        }
}

/* All the time, from before systemd stops it until it is ready again. */
static void play_restart(Actor *a) {
        struct pollfd p = {.fd = a->control, .events = POLLIN};
        Look own = {.name = "restarting-own"}, before = {.name = "restarting-before"},
             unbound = {.name = "restarting-earlier-child"};
        Message over;
        bool first = true;

        ask_or_die(a, REQUEST_RESTART, NULL);
        do {
                look_again(&own, look(a->own.fd, a->own.offset, PAGE), first);
                look_again(&before, look_before(a), first);
                look_again(&unbound, puppet_look(&earlier, a->own.fd, a->own.offset, PAGE), first);
                first = false;
        } while (poll(&p, 1, 0) == 0);
        if (message_receive(a->control, &over) < 0 || over.r < 0)
                _exit(EXIT_FAILURE);
        report(a, own.name, own.r);
        report(a, before.name, before.r);
        report(a, unbound.name, unbound.r);
}

static void restart(Actor *a) {
        Message over;

        ask_or_die(a, REQUEST_RESTART, NULL);
        if (message_receive(a->control, &over) < 0 || over.r < 0)
                _exit(EXIT_FAILURE);
}

static void play_daemon(Actor *a) {
        play_restart(a);
        look_around(a, "restarted");
        ask_or_die(a, REQUEST_KILL, NULL);
        look_around(a, "killed");
        restart(a);
        look_around(a, "back");
        ask_or_die(a, REQUEST_STOP, NULL);
        look_around(a, "stopped");
        restart(a);
        look_around(a, "started");
        puppet_stop(&earlier);
}

const Scene scene_daemon = {.name = "daemon", .prepare = prepare_earlier, .play = play_daemon};
