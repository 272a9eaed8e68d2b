/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bsd/sys/tree.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fd-util.h"
#include "proc-dir.h"
#include "proc-still.h"
#include "size.h"

#define THREADS_MAX 1024U
#define PATH_LENGTH_MAX 64U
#define TEXT_LENGTH_MAX 128U
/* Open counts: each keeps some 6 KiB in the kernel. Of few descriptors most are for others; and of these half are for processes of
 * several threads, which can't do without. */
#define OPEN_MAX 4096U
#define OPEN_SHARE 16U

typedef struct Known {
        RB_ENTRY(Known) by_pid;
        RB_ENTRY(Known) by_files;  /* in the kernel's order of descriptor tables */
        RB_ENTRY(Known) by_memory; /* in the kernel's order of address spaces */
        ProcStill *owner;
        pid_t pid;
        ino_t ino;
        unsigned met;
        unsigned verified; /* has not run by then, in this round */
        bool kernel;
        bool still;
        bool in_files, in_memory;
        size_t n;
        StillThread threads[];
} Known;

typedef RB_HEAD(PidTree, Known) PidTree;
typedef RB_HEAD(FilesTree, Known) FilesTree;
typedef RB_HEAD(MemoryTree, Known) MemoryTree;

struct ProcStill {
        PidTree pids;
        FilesTree files;
        MemoryTree memory;
        int root;
        unsigned round;
        size_t n_open, max_open;
        void *key;
        size_t key_size;
        /* Of the last comparison that failed. */
        int error;
        Known *failed;
};

static bool has_not_run(const ProcStill *s, const Known *k);

static int pid_compare(const Known *a, const Known *b) {
        return (a->pid > b->pid) - (a->pid < b->pid);
}

/* Who has run since he was put where he is may belong elsewhere now: the trees lead nowhere by him. Whom this round has met has had
 * little time for that. */
static bool is_in_place(Known *k) {
        ProcStill *s = k->owner;

        if (k->met != s->round && k->verified != s->round && k->still && has_not_run(s, k))
                k->verified = s->round;
        return k->met == s->round || k->verified == s->round;
}

/* a is the one that is being put in. */
static int kernel_compare(const Known *a, Known *b, int what) {
        long r = syscall(SYS_kcmp, a->pid, b->pid, what, 0UL, 0UL);
        int e = r < 0 ? errno : r > 2 ? EOPNOTSUPP : 0;

        if (r == 0)
                return 0;
        if (e == 0 && !is_in_place(b))
                e = ESTALE;
        if (e == 0)
                return r == 1 ? -1 : 1;
        if (a->owner->error == 0) {
                a->owner->error = e;
                a->owner->failed = b;
        }
        return 1;
}

static int files_compare(Known *a, Known *b) {
        return kernel_compare(a, b, KCMP_FILES);
}

static int memory_compare(Known *a, Known *b) {
        return kernel_compare(a, b, KCMP_VM);
}

RB_GENERATE_INTERNAL(PidTree, Known, by_pid, pid_compare, _unused_ static)
RB_GENERATE_INTERNAL(FilesTree, Known, by_files, files_compare, _unused_ static)
RB_GENERATE_INTERNAL(MemoryTree, Known, by_memory, memory_compare, _unused_ static)

void still_mark_done(StillMark *m) {
        assert(m);

        for (size_t i = 0; i < m->n; i++)
                m->threads[i].fd = safe_close(m->threads[i].fd);
        free(m->threads);
        *m = (StillMark){};
}

int proc_still_new(ProcStill **ret) {
        struct rlimit rl;
        ProcStill *s;

        assert(ret);

        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->root = -EBADF;
        if (getrlimit(RLIMIT_NOFILE, &rl) >= 0)
                s->max_open = (size_t) MIN(rl.rlim_cur / OPEN_SHARE, (rlim_t) OPEN_MAX);
        *ret = s;
        return 0;
}

/* It has to be looked at from now on, whether it runs or not. */
static void unsettle(ProcStill *s, Known *k) {
        k->still = false;
        for (size_t i = 0; i < k->n; i++) {
                s->n_open -= k->threads[i].fd >= 0;
                k->threads[i].fd = safe_close(k->threads[i].fd);
        }
}

static Known *forget(ProcStill *s, Known *k) {
        unsettle(s, k);
        RB_REMOVE(PidTree, &s->pids, k);
        if (k->in_files)
                RB_REMOVE(FilesTree, &s->files, k);
        if (k->in_memory)
                RB_REMOVE(MemoryTree, &s->memory, k);
        return mfree(k);
}

static void forget_all(ProcStill *s) {
        Known *k;

        while ((k = RB_ROOT(&s->pids)))
                forget(s, k);
}

ProcStill *proc_still_free(ProcStill *s) {
        if (!s)
                return NULL;
        forget_all(s);
        free(s->key);
        return mfree(s);
}

int proc_still_begin(ProcStill *s, int root, const void *key, size_t key_size) {
        void *copy;

        assert(s);
        assert(key || key_size == 0);

        s->root = root;
        s->round++;
        if (s->key && s->key_size == key_size && memcmp(s->key, key, key_size) == 0)
                return 0;
        copy = malloc(key_size + 1);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, key, key_size);
        forget_all(s);
        free(s->key);
        s->key = copy;
        s->key_size = key_size;
        return 0;
}

void proc_still_sweep(ProcStill *s) {
        Known *next;

        assert(s);

        for (Known *k = RB_MIN(PidTree, &s->pids); k; k = next) {
                next = RB_NEXT(PidTree, &s->pids, k);
                if (k->met != s->round)
                        forget(s, k);
        }
        s->round++;
}

/* The beginning of a file, NUL-terminated. */
static bool read_start(int fd, char ret[static TEXT_LENGTH_MAX]) {
        ssize_t n = pread(fd, ret, TEXT_LENGTH_MAX - 1, 0);

        if (n <= 0)
                return false;
        ret[n] = '\0';
        return true;
}

static int open_thread(int root, pid_t pid, pid_t tid, const char *file) {
        char path[PATH_LENGTH_MAX];

        /* A process's own files are those of its first thread, and are found at half the price. */
        if (pid == tid || tid == 0)
                (void) snprintf(path, sizeof(path), "%i/%s", pid, file);
        else
                (void) snprintf(path, sizeof(path), "%i/task/%i/%s", pid, tid, file);
        return openat(root, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

/* How often the thread was given a CPU (the third number of schedstat), or the process has read something (the third of io). */
static bool read_count(int fd, pid_t tid, uint64_t *ret) {
        static const char reads[] = "\nsyscr: ";
        char text[TEXT_LENGTH_MAX], *at, *end;

        if (!read_start(fd, text))
                return false;
        if (tid == 0) {
                at = strstr(text, reads);
                at = at ? at + strlen(reads) : NULL;
        } else {
                at = strchr(text, ' ');
                at = at ? strchr(at + 1, ' ') : NULL;
                at = at ? at + 1 : NULL;
        }
        end = at ? strchr(at, '\n') : NULL;
        if (!end)
                return false;
        *end = '\0';
        return parse_uint64(at, ret) >= 0;
}

static int open_count(int root, pid_t pid, pid_t tid) {
        return open_thread(root, pid, tid, tid == 0 ? "io" : "schedstat");
}

static bool mark_thread(ProcStill *s, pid_t pid, StillThread *t, bool keep) {
        _cleanup_close_ int fd = open_count(s->root, pid, t->tid);

        if (fd < 0 || !read_count(fd, t->tid, &t->count))
                return false;
        if (keep)
                t->fd = TAKE_FD(fd);
        return true;
}

static bool has_thread_not_run(const ProcStill *s, pid_t pid, const StillThread *t) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t count;

        if (t->fd < 0) {
                fd = open_count(s->root, pid, t->tid);
                if (fd < 0)
                        return false;
        }
        return read_count(t->fd < 0 ? fd : t->fd, t->tid, &count) && count == t->count;
}

/* What a thread is waiting for the kernel only says once it has made sure that the thread is off the CPU. A
 * state of "sleeping" would not do: that is set some time before. */
static bool is_off_cpu(int root, pid_t pid, pid_t tid) {
        _cleanup_close_ int fd = open_thread(root, pid, tid, "syscall");
        char text[TEXT_LENGTH_MAX];

        return fd >= 0 && read_start(fd, text) && strncmp(text, "running", strlen("running")) != 0;
}

static bool has_not_run(const ProcStill *s, const Known *k) {
        for (size_t i = 0; i < k->n; i++)
                if (!has_thread_not_run(s, k->pid, k->threads + i))
                        return false;
        return true;
}

bool proc_still_meet(ProcStill *s, pid_t pid, ino_t ino) {
        Known *k;

        assert(s);

        k = RB_FIND(PidTree, &s->pids, (&(Known){.pid = pid}));
        if (!k)
                return false;
        /* Threads of a process are made by threads of it: the ones known tell of all. */
        if (k->ino != ino || !(k->kernel || (k->still && has_not_run(s, k)))) {
                forget(s, k);
                return false;
        }
        k->met = s->round;
        return true;
}

static int add_thread(StillMark *m, size_t *allocated, pid_t tid) {
        if (m->n == *allocated) {
                size_t n = *allocated * 2 + 4;
                StillThread *t = reallocarray(m->threads, n, sizeof(*t));

                if (!t)
                        return -ENOMEM;
                m->threads = t;
                *allocated = n;
        }
        m->threads[m->n++] = (StillThread){.tid = tid, .fd = -EBADF};
        return 0;
}

static int list_threads(const ProcStill *s, pid_t pid, uint64_t n_threads, StillMark *ret) {
        _cleanup_proc_dir_ ProcDir d = {.fd = -EBADF};
        char path[PATH_LENGTH_MAX];
        size_t allocated = 0;
        unsigned tid;
        int r;

        r = add_thread(ret, &allocated, 0);
        if (r < 0)
                return r;
        if (n_threads == 1)
                return add_thread(ret, &allocated, pid);
        (void) snprintf(path, sizeof(path), "%i/task", pid);
        r = proc_dir_open(&d, s->root, path);
        while (r >= 0 && (r = proc_dir_next(&d, &tid)) > 0 && ret->n < THREADS_MAX) {
                r = add_thread(ret, &allocated, (pid_t) tid);
                if (r < 0)
                        return r;
        }
        if (r != 0)
                ret->n = 0;
        return 0;
}

/* By name alone the threads of a process can't be told from namesakes, which the process can make. Who is alone has the
 * number of his directory. */
static bool may_be_by_name(const StillMark *m, size_t i) {
        return m->threads[i].tid == 0 || m->n == 2;
}

/* Whether these are all there are. One that was made while they were listed may be at work for those that sleep now. */
static bool are_all(const ProcStill *s, pid_t pid, const StillMark *m) {
        char path[PATH_LENGTH_MAX];
        struct stat st;

        (void) snprintf(path, sizeof(path), "%i/task", pid);
        return fstatat(s->root, path, &st, 0) >= 0 && st.st_nlink == m->n - 1 + 2;
}

/* A thread may have descriptors of its own, and share them with another process. Processes are compared by their first threads
 * only. */
static bool have_one_table(pid_t pid, const StillMark *m) {
        for (size_t i = 1; i < m->n; i++)
                if (m->threads[i].tid != pid &&
                    syscall(SYS_kcmp, pid, m->threads[i].tid, KCMP_FILES, 0UL, 0UL) != 0)
                        return false;
        return true;
}

/* The process's reads before its threads' runs: who takes the first one's place in between has read more by the next time. */
int proc_still_mark(ProcStill *s, pid_t pid, uint64_t n_threads, StillMark *ret) {
        _cleanup_still_mark_ StillMark m = {};
        int r;

        assert(s);
        assert(ret);

        *ret = (StillMark){};
        r = list_threads(s, pid, n_threads, &m);
        if (r < 0)
                return r;
        /* First how often, then that it does not now: it has to be given a CPU again before it does anything. */
        for (size_t i = 0; i < m.n; i++) {
                bool keep = s->n_open + i < (m.n == 2 ? s->max_open / 2 : s->max_open);
                pid_t tid = m.threads[i].tid;

                if (!keep && !may_be_by_name(&m, i))
                        return 0;
                if (!mark_thread(s, pid, m.threads + i, keep) ||
                    (tid != 0 && !is_off_cpu(s->root, pid, tid)))
                        return 0;
        }
        if (m.n == 0 || !are_all(s, pid, &m) || !have_one_table(pid, &m))
                return 0;
        *ret = TAKE_GENERIC(m, StillMark, (StillMark){});
        return 1;
}

static bool is_gone(pid_t pid) {
        return syscall(SYS_kcmp, pid, pid, KCMP_FILES, 0UL, 0UL) < 0 && errno == ESRCH;
}

/* False: it could not be compared with all others. */
static bool place_once(ProcStill *s, Known *k) {
        Known *other;

        s->error = 0;
        other = RB_INSERT(FilesTree, &s->files, k);
        k->in_files = !other;
        if (other) {
                unsettle(s, other);
                unsettle(s, k);
        }
        if (s->error != 0)
                return false;
        other = RB_INSERT(MemoryTree, &s->memory, k);
        k->in_memory = !other;
        if (other) {
                unsettle(s, other);
                unsettle(s, k);
        }
        return s->error == 0;
}

/* Among those whose memory and descriptors it may share. */
static void place(ProcStill *s, Known *k) {
        while (!place_once(s, k)) {
                if (k->in_files)
                        RB_REMOVE(FilesTree, &s->files, k);
                if (k->in_memory)
                        RB_REMOVE(MemoryTree, &s->memory, k);
                k->in_files = k->in_memory = false;
                if (s->error != ESTALE &&
                    (s->error != ESRCH || is_gone(k->pid) || !is_gone(s->failed->pid))) {
                        unsettle(s, k);
                        return;
                }
                forget(s, s->failed);
        }
}

static int add(ProcStill *s, pid_t pid, ino_t ino, StillMark *m, Known **ret) {
        size_t n = m ? m->n : 0;
        Known *k, *old;

        old = RB_FIND(PidTree, &s->pids, (&(Known){.pid = pid}));
        if (old)
                forget(s, old);
        k = malloc(sizeof(*k) + n * sizeof(*k->threads));
        if (!k)
                return -ENOMEM;
        *k = (Known){.owner = s, .pid = pid, .ino = ino, .met = s->round, .n = n};
        for (size_t i = 0; i < n; i++) {
                k->threads[i] = m->threads[i];
                m->threads[i].fd = -EBADF;
                s->n_open += k->threads[i].fd >= 0;
        }
        RB_INSERT(PidTree, &s->pids, k);
        *ret = k;
        return 0;
}

int proc_still_remember(ProcStill *s, pid_t pid, ino_t ino, StillMark *m, bool nothing) {
        Known *k;
        int r;

        assert(s);
        assert(m);

        r = add(s, pid, ino, m, &k);
        if (r < 0)
                return r;
        k->still = nothing && k->n > 0 && has_not_run(s, k);
        if (!k->still)
                unsettle(s, k);
        place(s, k);
        return 0;
}

int proc_still_remember_kernel(ProcStill *s, pid_t pid, ino_t ino) {
        Known *k;
        int r;

        assert(s);

        r = add(s, pid, ino, NULL, &k);
        if (r >= 0)
                k->kernel = true;
        return r;
}

size_t proc_still_count(const ProcStill *s) {
        size_t n = 0;
        Known *k;

        assert(s);

        RB_FOREACH (k, PidTree, (PidTree *) &s->pids)
                n += k->still;
        return n;
}

size_t proc_still_count_open(const ProcStill *s) {
        assert(s);
        return s->n_open;
}
