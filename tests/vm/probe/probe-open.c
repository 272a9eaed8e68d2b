/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "probe.h"

static bool is_exclusive(const Probe *p) {
        return p->variant == VARIANT_R2 || p->variant == VARIANT_D || p->variant == VARIANT_S4;
}

static bool is_usable(int fd) {
        _cleanup_free_ RetiredList *list = NULL;

        return probe_try_map(fd, 0, PAGE, PROT_READ, MAP_SHARED) == 0 &&
               probe_read_list(fd, &list) == 0;
}

/* K2's second file: there, and good for nothing. */
static bool is_useless(int fd) {
        _cleanup_free_ RetiredList *list = NULL;

        return probe_try_map(fd, 0, PAGE, PROT_READ, MAP_SHARED) == -EINVAL &&
               probe_read_list(fd, &list) == -EINVAL;
}

static bool all_zero(const Probe *p, int fd) {
        uint64_t *m = probe_map(fd, 0, p->size, PROT_READ, MAP_SHARED), sum = 0;

        if ((void *) m == MAP_FAILED)
                return false;
        for (uint64_t i = 0; i < p->size / sizeof(*m); i += 64)
                sum |= m[i];
        (void) munmap(m, p->size);
        return sum == 0;
}

static int put_mark(int fd, uint64_t offset) {
        uint64_t *m = probe_map(fd, offset, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);

        if ((void *) m == MAP_FAILED)
                return -errno;
        *m = UINT64_C(0x6d656d6f7279);
        (void) munmap(m, PAGE);
        return 0;
}

/* Every way of opening zeroes; only what does not reach the driver does not. */
static void check_scrub(Probe *p) {
        static const struct {
                int flags;
                const char *name;
        } ways[] = {
                        {O_RDWR, "O_RDWR"},
                        {O_RDONLY, "O_RDONLY"},
                        {O_RDWR | O_NONBLOCK, "O_NONBLOCK"},
        };
        int64_t before = probe_state(p, "scrubs");
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
                _cleanup_close_ int fd = probe_open(p, O_RDWR);

                probe_check_errno(p, put_mark(fd, 0), 0, "a mark at the start");
                fd = safe_close(fd);

                fd = probe_open(p, ways[i].flags);
                probe_check_errno(p, fd, 0, "open(%s)", ways[i].name);
                probe_check(p, all_zero(p, fd), "after open(%s) all is zero", ways[i].name);
        }
        probe_check(p, probe_state(p, "scrubs") == before + 2 * (int64_t) ELEMENTSOF(ways),
                    "each open scrubbed");

        _cleanup_close_ int path_fd = probe_open(p, O_PATH);
        probe_check(p, path_fd >= 0 && stat(p->device, &st) == 0, "O_PATH and stat()");
        probe_check(p, probe_state(p, "scrubs") == before + 6 && probe_state(p, "opens") == 0,
                    "neither of them reached the driver");
}

/* What a second open gets while the device is in use, in whatever way. */
static void check_second(Probe *p, const char *while_what) {
        int64_t scrubs = probe_state(p, "scrubs");
        _cleanup_close_ int fd = probe_open(p, O_RDWR);

        if (is_exclusive(p))
                probe_check_errno(p, fd, EBUSY, "second open while %s", while_what);
        else if (probe_check_errno(p, fd, 0, "second open while %s", while_what)) {
                if (p->variant == VARIANT_K2)
                        probe_check(p, is_useless(fd),
                                    "its file is useless: mmap and ioctl EINVAL");
                else
                        probe_check(p, is_usable(fd), "its file is as good as the first");
        }
        probe_check(p, probe_state(p, "scrubs") == scrubs, "and nothing is scrubbed");
}

static void check_held(Probe *p) {
        _cleanup_close_ int first = probe_open(p, O_RDWR), copy = -EBADF;
        void *m;

        probe_check(p, first >= 0 && is_usable(first), "the first file works");
        check_second(p, "there is an open file");
        probe_check(p, is_usable(first), "the first file still works");

        copy = fcntl(first, F_DUPFD_CLOEXEC, 3);
        first = safe_close(first);
        check_second(p, "there is a copy of a closed descriptor");

        m = probe_map(copy, 0, PAGE, PROT_READ, MAP_SHARED);
        probe_check(p, m != MAP_FAILED, "a mapping");
        copy = safe_close(copy);
        check_second(p, "there is only a mapping left");
        (void) munmap(m, PAGE);

        first = probe_open(p, O_RDWR);
        probe_check(p, first >= 0 && is_usable(first), "all gone: the device is free again");
}

/* K2 counts useless files too, and none of them ever becomes useful. */
static void check_useless_chain(Probe *p) {
        _cleanup_close_ int first = probe_open(p, O_RDWR);
        _cleanup_close_ int second = probe_open(p, O_RDWR), third = -EBADF;

        first = safe_close(first);
        third = probe_open(p, O_RDWR);
        probe_check(p, is_useless(third), "an open while only a useless file is left is useless");
        probe_check(p, is_useless(second), "the useless file stays so without the first");
        second = safe_close(second);
        probe_check(p, is_useless(third), "and so does the other");
        third = safe_close(third);
        first = probe_open(p, O_RDWR);
        probe_check(p, is_usable(first), "with all of them closed it works");
}

static void check_shared_bytes(Probe *p) {
        _cleanup_close_ int first = probe_open(p, O_RDWR);

        probe_check_errno(p, put_mark(first, 0), 0, "a mark through the first file");
        _cleanup_close_ int second = probe_open(p, O_RDWR);
        probe_check(p, !all_zero(p, second), "is seen through the second");
        first = safe_close(first);
        probe_check(p, is_usable(second), "which outlives the first");
}

/* A second open while the first one is still scrubbing. */
static void check_during_scrub(Probe *p) {
        _cleanup_opener_ Opener first = OPENER_NULL, second = OPENER_NULL;
        int64_t scrubs = probe_state(p, "scrubs");
        bool waits = p->variant == VARIANT_S3 || p->variant == VARIANT_S4;

        (void) probe_hold(true);
        (void) opener_start(p, &first);
        probe_check(p, probe_wait_state(p, "scrubbing", 1), "a scrub is under way");
        (void) opener_start(p, &second);

        if (!waits) {
                probe_check_errno(p, opener_result(&second), is_exclusive(p) ? EBUSY : 0,
                                  "second open returns at once");
                probe_check(p, probe_state(p, "scrubbing") == 1, "before the scrub has ended");
        } else {
                probe_check(p, probe_wait_state(p, "waiting", 1), "second open waits");
                (void) opener_signal(&second, SIGUSR1);
                probe_check(p, opener_is_alive(&second) && probe_state(p, "waiting") == 1,
                            "a signal with a handler does not wake it");
        }

        (void) probe_hold(false);
        probe_check_errno(p, opener_result(&first), 0, "the scrub ends, first open");
        if (waits)
                probe_check_errno(p, opener_result(&second), is_exclusive(p) ? EBUSY : 0,
                                  "second open");
        probe_check(p, probe_state(p, "scrubs") == scrubs + 1, "there was one scrub");
}

/* Who waits for a scrub is killed: at once, or not before it is over. */
static void check_killed_waiter(Probe *p) {
        _cleanup_opener_ Opener first = OPENER_NULL, second = OPENER_NULL;

        (void) probe_hold(true);
        (void) opener_start(p, &first);
        probe_check(p, probe_wait_state(p, "scrubbing", 1), "a scrub is under way");
        (void) opener_start(p, &second);
        probe_check(p, probe_wait_state(p, "waiting", 1), "another open waits");

        if (p->variant == VARIANT_S4) {
                (void) opener_signal(&second, SIGTERM);
                probe_check_errno(p, opener_wait(&second), 0, "SIGTERM ends who waits at once");
                probe_check(p, probe_state(p, "scrubbing") == 1, "the scrub goes on");
        } else {
                (void) opener_signal(&second, SIGKILL);
                probe_check(p, opener_is_alive(&second), "SIGKILL does not end who waits");
        }
        (void) probe_hold(false);
        probe_check_errno(p, opener_result(&first), 0, "first open");
        probe_check_errno(p, opener_wait(&second), 0, "who waited is gone");
}

static void check_killed_scrubber(Probe *p) {
        _cleanup_opener_ Opener first = OPENER_NULL, second = OPENER_NULL;
        int64_t scrubs = probe_state(p, "scrubs");

        (void) probe_hold(true);
        (void) opener_start(p, &first);
        probe_check(p, probe_wait_state(p, "scrubbing", 1), "a scrub is under way");
        if (p->variant == VARIANT_S4) {
                (void) opener_start(p, &second);
                probe_check(p, probe_wait_state(p, "waiting", 1), "another open waits");
        }
        (void) opener_signal(&first, SIGKILL);
        probe_check(p, opener_is_alive(&first), "SIGKILL does not end a step of the scrub");
        (void) probe_hold(false);
        probe_check_errno(p, opener_wait(&first), 0, "afterwards it is gone");

        if (p->variant == VARIANT_S4) {
                probe_check_errno(p, opener_result(&second), 0, "who waited takes over");
                probe_check(p, probe_state(p, "scrubs") == scrubs + 2, "with a scrub of its own");
        } else
                probe_check(p,
                            probe_state(p, "scrubs") == scrubs + 1 &&
                                            probe_state(p, "cleared") == (int64_t) p->size,
                            "the scrub was not given up");
}

void probe_open_rules(Probe *p) {
        check_scrub(p);
        check_held(p);
        if (p->variant == VARIANT_K2)
                check_useless_chain(p);
        if (p->variant == VARIANT_S3)
                check_shared_bytes(p);
        check_during_scrub(p);
        if (p->variant == VARIANT_S3 || p->variant == VARIANT_S4)
                check_killed_waiter(p);
        check_killed_scrubber(p);
        probe_check(p, probe_state(p, "opens") == 0, "nobody has it open at the end");
}
