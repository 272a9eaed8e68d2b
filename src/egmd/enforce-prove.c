/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <signal.h>

#include "dmabuf-export.h"
#include "enforce.h"
#include "fd-util.h"
#include "holders.h"
#include "pidfd.h"

#define ANSWER_USEC (10 * USEC_PER_SEC)

/* What the child tries, and whether it shall be able to. Only this is proof: who takes a sandbox's or a driver's refusal for
 * ours would claim what is not so. */
typedef enum Attempt {
        ATTEMPT_FIRST, /* the lease's granule */
        ATTEMPT_NEXT,
        ATTEMPT_BOTH,
        ATTEMPT_OTHER_PAGES, /* remap_file_pages() within what is mapped */
        ATTEMPT_GROW,
        ATTEMPT_PIN,     /* what a mapping shows, kept without one */
        ATTEMPT_COMMAND, /* what some drivers export bytes by */
        ATTEMPT_CHILD,   /* the first granule, by a child of its own */
        _ATTEMPT_MAX,
} Attempt;

static const struct {
        const char *what;
        bool allowed;
        bool by_us; /* the refusal must be the programs' */
} attempts[_ATTEMPT_MAX] = {
                [ATTEMPT_FIRST] = {"a mapping inside the lease", true, true},
                [ATTEMPT_NEXT] = {"a mapping behind the lease", false, true},
                [ATTEMPT_BOTH] = {"a mapping longer than the lease", false, true},
                [ATTEMPT_OTHER_PAGES] = {"other pages by remap_file_pages()", false, true},
                [ATTEMPT_GROW] = {"growth by mremap()", false, false},
                [ATTEMPT_PIN] = {"pages that a pipe keeps", false, false},
                [ATTEMPT_COMMAND] = {"a command of the driver's", false, true},
                [ATTEMPT_CHILD] = {"a mapping by a child inside the lease", true, true},
};

typedef struct Answer {
        int errors[_ATTEMPT_MAX];
        bool moved; /* a mapping, to another place */
} Answer;

/* ---- in the child: after fork() in a process of many threads, so nothing but system calls ---- */

static int try_map(int fd, uint64_t offset, size_t size) {
        void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t) offset);

        if (p == MAP_FAILED)
                return errno;
        (void) munmap(p, size);
        return 0;
}

/* No look at mappings would find them. */
static int try_pin(void *p, size_t page) {
        const struct iovec iov = {.iov_base = p, .iov_len = page};
        int fds[2], e;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return 0; /* not tried is not refused */
        e = vmsplice(fds[1], &iov, 1, SPLICE_F_NONBLOCK) < 0 ? errno : 0;
        (void) close(fds[0]);
        (void) close(fds[1]);
        return e;
}

static bool move(char **p, size_t size) {
        void *there = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (there == MAP_FAILED ||
            mremap(*p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, there) == MAP_FAILED)
                return false;
        *p = there;
        return true;
}

static void try_on(int fd, size_t granule, Answer *ret) {
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        char *p = mmap(NULL, granule, PROT_READ, MAP_SHARED, fd, 0);
        void *t;

        if (p == MAP_FAILED) {
                ret->errors[ATTEMPT_OTHER_PAGES] = ret->errors[ATTEMPT_GROW] =
                                ret->errors[ATTEMPT_PIN] = errno;
                return;
        }
        ret->moved = move(&p, granule);
        ret->errors[ATTEMPT_OTHER_PAGES] =
                        remap_file_pages(p, page, 0, granule > page ? 1 : 0, 0) < 0 ? errno : 0;
        ret->errors[ATTEMPT_PIN] = try_pin(p, page);
        t = mremap(p, granule, 2 * granule, MREMAP_MAYMOVE);
        ret->errors[ATTEMPT_GROW] = t == MAP_FAILED ? errno : 0;
        (void) munmap(t == MAP_FAILED ? p : t, t == MAP_FAILED ? granule : 2 * granule);
}

static int try_by_child(int fd, size_t granule) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
                _exit(try_map(fd, 0, granule) & 0xff);
        if (pid < 0)
                return errno;
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

static _Noreturn void child(int socket, int fd, size_t granule) {
        char go;

        while (recv(socket, &go, 1, 0) == 1) {
                Answer a = {};

                a.errors[ATTEMPT_FIRST] = try_map(fd, 0, granule);
                a.errors[ATTEMPT_NEXT] = try_map(fd, granule, granule);
                a.errors[ATTEMPT_BOTH] = try_map(fd, 0, 2 * granule);
                try_on(fd, granule, &a);
                /* With nothing that it could do: the programs are asked before the driver. */
                a.errors[ATTEMPT_COMMAND] = ioctl(fd, EGM_EXPORT_DMABUF, NULL) < 0 ? errno : 0;
                a.errors[ATTEMPT_CHILD] = try_by_child(fd, granule);
                if (send(socket, &a, sizeof(a), MSG_NOSIGNAL) != sizeof(a))
                        break;
        }
        _exit(0);
}

/* ---- in the daemon ---- */

typedef struct Proof {
        pid_t pid;
        int pidfd;
        int socket;
} Proof;

static void proof_done(Proof *p) {
        p->socket = safe_close(p->socket);
        if (p->pidfd >= 0)
                (void) pidfd_signal(p->pidfd, SIGKILL);
        else if (p->pid > 0)
                (void) kill(p->pid, SIGKILL);
        if (p->pid > 0)
                (void) waitpid(p->pid, NULL, 0);
        p->pidfd = safe_close(p->pidfd);
}

static int proof_begin(Proof *p, int fd, size_t granule) {
        const struct timeval limit = {.tv_sec = ANSWER_USEC / USEC_PER_SEC};
        int sockets[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        p->socket = sockets[0];
        p->pid = fork();
        if (p->pid == 0) {
                (void) close(sockets[0]);
                child(sockets[1], fd, granule);
        }
        (void) close(sockets[1]);
        if (p->pid < 0)
                return -errno;
        if (setsockopt(p->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                return -errno;
        return pidfd_new(p->pid, &p->pidfd);
}

static int ask(Proof *p, Answer *ret) {
        ssize_t n;

        if (send(p->socket, "", 1, MSG_NOSIGNAL) != 1)
                return -errno;
        n = recv(p->socket, ret, sizeof(*ret), 0);
        if (n < 0)
                return -errno;
        return n == sizeof(*ret) ? 0 : -EPIPE;
}

static int found(char **ret_why, const char *who, const char *what, int error) {
        if (asprintf(ret_why, "%s: %s: %s", who, what,
                     error == 0 ? "let through" : strerror(error)) < 0)
                *ret_why = NULL;
        return 0;
}

/* 1: as it shall be. */
static int judge(const Answer *a, bool admitted, const char *who, char **ret_why) {
        for (size_t i = 0; i < _ATTEMPT_MAX; i++) {
                bool allowed = admitted && attempts[i].allowed;
                int error = a->errors[i];

                if (allowed ? error == 0 : attempts[i].by_us ? error == EACCES : error != 0)
                        continue;
                return found(ret_why, who, attempts[i].what, error);
        }
        return 1;
}

/* What tells moves of his mappings from none; 0: nothing does. */
static int count_changes(Enforce *e, pid_t pid, __u64 *ret) {
        _cleanup_free_ EnforceWatch *w = NULL;
        size_t n;
        int r;

        r = enforce_watches(e, &w, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                if ((pid_t) w[i].pid == pid && w[i].counted) {
                        *ret = w[i].changes;
                        return 1;
                }
        return 0;
}

/* Lets it do everything once it is admitted, a move of a mapping among that: it has to be noticed. */
static int prove_admitted(Enforce *e, Proof *p, char **ret_why) {
        __u64 before, after;
        Answer a;
        int r;

        r = count_changes(e, p->pid, &before);
        if (r > 0) {
                r = ask(p, &a);
                if (r >= 0)
                        r = judge(&a, true, "a process that was admitted", ret_why);
                if (r <= 0)
                        return r;
                r = count_changes(e, p->pid, &after);
                if (r > 0 && (after != before || !a.moved))
                        return 1;
        }
        if (r < 0)
                return r;
        *ret_why = strdup("nothing tells when a process moves what it maps, which so may hide");
        return 0;
}

static int prove(Enforce *e, Proof *p, int fd, dev_t devnum, uint64_t granule, char **ret_why) {
        const EnforceLease lease = {
                        .number = ENFORCE_NUMBER_PROOF,
                        .n = 1,
                        .slices = {{.rdev = enforce_rdev(devnum), .end = granule}},
        };
        Answer a;
        int r;

        r = proof_begin(p, fd, (size_t) granule);
        if (r >= 0)
                r = ask(p, &a);
        if (r >= 0)
                r = judge(&a, false, "a process that was not admitted", ret_why);
        if (r <= 0)
                return r;
        r = enforce_set_lease(e, &lease);
        if (r >= 0)
                r = enforce_admit(e, p->pidfd, lease.number, NULL, NULL);
        if (r >= 0)
                r = prove_admitted(e, p, ret_why);
        if (r <= 0)
                return r;
        r = enforce_revoke(e, lease.number);
        if (r >= 0)
                r = ask(p, &a);
        if (r >= 0)
                r = judge(&a, false, "a process whose lease has ended", ret_why);
        return r;
}

int enforce_prove(Enforce *e, int fd, dev_t devnum, uint64_t granule, char **ret_why) {
        Proof p = {.pidfd = -EBADF, .socket = -EBADF};
        int r;

        assert(e);
        assert(fd >= 0);
        assert(ret_why);

        *ret_why = NULL;
        /* A child of ours has what we have, and looks like a holder while it lives. There is one at a time, too: they
         * share a number. */
        holders_stop();
        r = prove(e, &p, fd, devnum, granule, ret_why);
        proof_done(&p);
        (void) enforce_revoke(e, ENFORCE_NUMBER_PROOF);
        holders_go_on();
        return r;
}
