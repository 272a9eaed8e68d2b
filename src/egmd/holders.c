/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bsd/sys/tree.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "holders.h"
#include "proc-dir.h"
#include "proc-look.h"
#include "proc-parse.h"

#define PASSES_MAX 16U
#define KTHREADD_PID 2
/* Passes after the first, in a row, that must see no holder come or go. A busy host never is without processes
 * that are gone before they are looked at; that each pass meets none would be asking too much. */
#define QUIET_MIN 1U
#define QUIET_MIN_STRANGERS 3U

/* A process that was met. The directory pins it while it is looked at; between looks its start time tells it
 * from a later one of the same number. */
typedef struct Process {
        RB_ENTRY(Process) entry;
        pid_t pid;
        uint64_t start_time;
        unsigned pass; /* the last that met it alive */
        HolderList held;
} Process;

typedef RB_HEAD(ProcessTree, Process) ProcessTree;

typedef struct Scan {
        const HolderScan *args;
        ProcLook *look;
        pid_t self;
        ProcessTree processes;
        unsigned pass;
        bool moved;       /* this pass saw a holder come or go */
        bool strangers;   /* this pass missed a new process: gone already */
        ProcStill *still; /* NULL: everybody is looked at */
} Scan;

static int process_compare(const Process *a, const Process *b) {
        if (a->pid != b->pid)
                return a->pid < b->pid ? -1 : 1;
        if (a->start_time != b->start_time)
                return a->start_time < b->start_time ? -1 : 1;
        return 0;
}

RB_GENERATE_INTERNAL(ProcessTree, Process, entry, process_compare, _unused_ static)

static void holder_done(Holder *h) {
        free(h->comm);
        free(h->unit);
        free(h->pipes);
        ranges_done(&h->mapped);
        *h = (Holder){};
}

void holder_list_done(HolderList *l) {
        assert(l);

        for (size_t i = 0; i < l->n; i++)
                holder_done(l->items + i);
        free(l->items);
        *l = (HolderList){};
}

static void scan_done(Scan *s) {
        Process *p;

        while ((p = RB_ROOT(&s->processes))) {
                RB_REMOVE(ProcessTree, &s->processes, p);
                holder_list_done(&p->held);
                free(p);
        }
        s->look = proc_look_free(s->look);
}

/* Whether a process of that number was met before, whichever it was. */
static bool scan_knows_pid(Scan *s, pid_t pid) {
        const Process *p;

        p = RB_NFIND(ProcessTree, &s->processes, (&(Process){.pid = pid}));
        return p && p->pid == pid;
}

static int scan_get_process(Scan *s, pid_t pid, uint64_t start_time, Process **ret, bool *ret_new) {
        Process *p;

        p = RB_FIND(ProcessTree, &s->processes, (&(Process){.pid = pid, .start_time = start_time}));
        *ret_new = !p;
        if (!p) {
                p = malloc(sizeof(*p));
                if (!p)
                        return -ENOMEM;
                *p = (Process){.pid = pid, .start_time = start_time};
                (void) RB_INSERT(ProcessTree, &s->processes, p);
        }
        *ret = p;
        return 0;
}

static Holder *process_find_device(const Process *p, size_t device) {
        for (size_t i = 0; i < p->held.n; i++)
                if (p->held.items[i].device == device)
                        return p->held.items + i;
        return NULL;
}

static int process_add_device(Process *p, size_t device, Holder **ret) {
        Holder *t;

        t = reallocarray(p->held.items, p->held.n + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        p->held.items = t;
        t += p->held.n++;
        *t = (Holder){.device = device, .pid = p->pid, .start_time = p->start_time};
        *ret = t;
        return 0;
}

/* What it holds adds up over the passes; what tells who it is, is as it was last. */
static int holder_update(Holder *h, const ProcLook *look, const ProcFound *f, const char *comm,
                         uid_t uid, const char *unit) {
        const ino_t *pipes;
        int r;

        h->uid = uid;
        h->has_fd = h->has_fd || f->has_fd;
        if (f->has_fd)
                h->fd = f->fd;
        h->maps = h->maps || f->maps;
        h->vague = h->vague || f->vague;
        RANGES_FOREACH (i, &f->mapped) {
                r = ranges_add(&h->mapped, i->offset, i->size);
                if (r < 0)
                        return r;
        }
        r = free_and_strdup(&h->comm, comm);
        if (r < 0)
                return r;
        r = free_and_strdup(&h->unit, unit);
        if (r < 0)
                return r;
        h->pipes = mfree(h->pipes);
        pipes = proc_look_pipes(look, &h->n_pipes);
        if (h->n_pipes == 0)
                return 0;
        h->pipes = reallocarray(NULL, h->n_pipes, sizeof(*pipes));
        if (!h->pipes)
                return -ENOMEM;
        memcpy(h->pipes, pipes, h->n_pipes * sizeof(*pipes));
        return 0;
}

static int scan_note(Scan *s, Process *p, const ProcStat *stat) {
        _cleanup_free_ char *unit = NULL;
        uid_t uid;
        int r;

        r = proc_look_owner(s->look, &uid, &unit);
        if (r < 0)
                return r;
        for (size_t i = 0; i < s->args->n_devices; i++) {
                const ProcFound *f = proc_look_found(s->look, i);
                Holder *h = process_find_device(p, i);

                if (!f->has_fd && !f->maps)
                        continue;
                if (!h) {
                        s->moved = true;
                        r = process_add_device(p, i, &h);
                        if (r < 0)
                                return r;
                }
                r = holder_update(h, s->look, f, stat->comm, uid, unit);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool has_ended(const ProcStat *stat) {
        return (stat->state == 'Z' || stat->state == 'X') && stat->n_threads <= 1;
}

/* -ESRCH: it was gone before all of it could be looked at. */
static int scan_process(Scan *s, Process *p, ino_t ino, ProcStat *stat, bool is_new) {
        _cleanup_still_mark_ StillMark mark = {};
        int r;

        if (has_ended(stat))
                return -ESRCH;
        p->pass = s->pass;
        if (s->still && stat->state != 'R' && stat->state != 'Z') {
                r = proc_still_mark(s->still, p->pid, stat->n_threads, &mark);
                if (r < 0)
                        return r;
        }
        r = proc_look_devices(s->look, stat, p->pid != s->args->store);
        if (r < 0)
                return r;
        if (s->still) {
                int k = proc_still_remember(s->still, p->pid, ino, &mark, r == 0);

                if (k < 0)
                        return k;
        }
        if (r > 0)
                return scan_note(s, p, stat);
        if (!is_new || s->pass == 1)
                return 0;
        /* What it had when it came, it may have passed on before we looked. */
        r = proc_look_stat(s->look, stat);
        if (r < 0)
                return r;
        return has_ended(stat) ? -ESRCH : 0;
}

static int scan_pid(Scan *s, pid_t pid, ino_t ino) {
        bool is_new = !scan_knows_pid(s, pid);
        ProcStat stat;
        Process *p;
        int r;

        if (pid == s->self || (s->still && proc_still_meet(s->still, pid, ino)))
                return 0;
        r = proc_look_open(s->look, pid, &stat);
        if (r >= 0) {
                /* They have neither memory nor descriptors of their own, and come and go all the time. */
                if (stat.kernel_thread)
                        /* One that another than kthreadd made may be about to become a program. */
                        return s->still && (pid == KTHREADD_PID || stat.parent == KTHREADD_PID)
                                               ? proc_still_remember_kernel(s->still, pid, ino)
                                               : 0;
                r = scan_get_process(s, pid, stat.start_time, &p, &is_new);
                if (r < 0)
                        return r;
                r = scan_process(s, p, ino, &stat, is_new);
        }
        if (r == -ESRCH) {
                /* What it had others may have by now. Of one met before that matters if it held
                 * something, see scan_drop_gone(). */
                if (is_new)
                        s->strangers = true;
                return 0;
        }
        return r == -EACCES && s->args->ignore_inaccessible ? 0 : r;
}

static int scan_everything(Scan *s) {
        _cleanup_proc_dir_ ProcDir d = {.fd = -EBADF};
        unsigned pid;
        int r;

        r = proc_dir_open(&d, proc_look_root(s->look), ".");
        if (r < 0)
                return r;
        while ((r = proc_dir_next(&d, &pid)) > 0) {
                if (pid == 0 || pid > INT_MAX)
                        continue;
                r = scan_pid(s, (pid_t) pid, d.ino);
                if (r < 0)
                        return r;
        }
        if (r >= 0 && s->still)
                proc_still_sweep(s->still);
        return r;
}

static int scan_listed(Scan *s) {
        for (size_t i = 0; i < s->args->n_pids; i++) {
                int r = scan_pid(s, s->args->pids[i], 0);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* Who held something when last met, and was not met alive this time. */
static void scan_drop_gone(Scan *s) {
        Process *p;

        RB_FOREACH (p, ProcessTree, &s->processes) {
                if (p->held.n == 0 || p->pass == s->pass)
                        continue;
                holder_list_done(&p->held);
                s->moved = true;
        }
}

/* /proc can be mounted such that it hides others' processes from us. The first one always is there. */
static int check_nobody_hides(const Scan *s) {
        struct stat st;

        if (s->args->ignore_inaccessible || fstatat(proc_look_root(s->look), "1", &st, 0) >= 0)
                return 0;
        return errno == ENOENT || errno == EPERM ? -EACCES : -errno;
}

static int scan_collect(Scan *s, HolderList *ret) {
        HolderList l = {};
        size_t n = 0;
        Process *p;

        RB_FOREACH (p, ProcessTree, &s->processes)
                n += p->held.n;
        if (n > 0) {
                l.items = reallocarray(NULL, n, sizeof(*l.items));
                if (!l.items)
                        return -ENOMEM;
        }
        RB_FOREACH (p, ProcessTree, &s->processes) {
                if (p->held.n == 0)
                        continue;
                memcpy(l.items + l.n, p->held.items, p->held.n * sizeof(*l.items));
                l.n += p->held.n;
                free(p->held.items);
                p->held = (HolderList){};
        }
        *ret = l;
        return 0;
}

/* What a process had nothing of must be what is looked for now. */
static int scan_begin_still(Scan *s) {
        const HolderScan *args = s->args;
        _cleanup_free_ dev_t *key = NULL;
        size_t n = 0;

        if (!args->still || args->pids || !proc_look_is_ours(s->look))
                return 0;
        key = reallocarray(NULL, args->n_devices * 3 + 1, sizeof(*key));
        if (!key)
                return -ENOMEM;
        key[n++] = (dev_t) args->store;
        for (size_t i = 0; i < args->n_devices; i++) {
                key[n++] = args->devices[i].rdev;
                key[n++] = args->devices[i].dev;
                key[n++] = args->devices[i].ino;
        }
        s->still = args->still;
        return proc_still_begin(s->still, proc_look_root(s->look), key, n * sizeof(*key));
}

static int scan_run(const HolderScan *scan, HolderList *ret) {
        _cleanup_(scan_done) Scan s = {.args = scan};
        unsigned quiet = 0;
        int r;

        s.self = scan->self > 0 ? scan->self : getpid();
        r = proc_look_new(scan, &s.look);
        if (r < 0)
                return r;
        r = check_nobody_hides(&s);
        if (r < 0)
                return r;
        r = scan_begin_still(&s);
        if (r < 0)
                return r;
        while (s.pass < PASSES_MAX) {
                s.pass++;
                s.moved = s.strangers = false;
                r = scan->pids ? scan_listed(&s) : scan_everything(&s);
                if (r < 0)
                        return r;
                scan_drop_gone(&s);
                if (s.pass == 1)
                        continue;
                quiet = s.moved ? 0 : quiet + 1;
                /* Where only some are asked about, others are always in motion. */
                if (scan->pids || quiet >= (s.strangers ? QUIET_MIN_STRANGERS : QUIET_MIN))
                        return scan_collect(&s, ret);
        }
        return -EAGAIN;
}

/* Who wants scans to stop gets his turn. */
static pthread_rwlock_t scans = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

int holders_scan(const HolderScan *scan, HolderList *ret) {
        int r;

        assert(scan);
        assert(scan->devices || scan->n_devices == 0);
        assert(ret);

        (void) pthread_rwlock_rdlock(&scans);
        r = scan_run(scan, ret);
        (void) pthread_rwlock_unlock(&scans);
        return r;
}

void holders_stop(void) {
        (void) pthread_rwlock_wrlock(&scans);
}

void holders_go_on(void) {
        (void) pthread_rwlock_unlock(&scans);
}

int holder_describe(const Holder *h, char **ret) {
        int r;

        assert(h);
        assert(ret);

        if (h->unit)
                r = asprintf(ret, "pid %i (%s, %s)", h->pid, h->comm, h->unit);
        else
                r = asprintf(ret, "pid %i (%s)", h->pid, h->comm);
        return r < 0 ? -ENOMEM : 0;
}

int pid_get_unit(pid_t pid, char **ret, char **ret_slice) {
        _cleanup_free_ char *text = NULL;
        char path[64];
        size_t size;
        int r;

        assert(ret);

        (void) snprintf(path, sizeof(path), "/proc/%i/cgroup", (int) pid);
        r = read_full_file_at(AT_FDCWD, path, (64 * KIB), &text, &size);
        if (r < 0)
                return r;
        return proc_cgroup_parse_unit(text, size, ret, ret_slice);
}
