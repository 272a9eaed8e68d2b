/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "keeper.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "fd-util.h"
#include "keeper-launch.h"
#include "keeper-store.h"

/* Both as in systemd. */
#define MESSAGE_MAX ((size_t) PIPE_BUF)
#define MESSAGE_FDS_MAX 768U

struct Keeper {
        char **argv;
        char **env;
        char dir[64], runtime_dir[80], log_path[80];

        pid_t pid;
        int pidfd;
        int status;
        off_t log_start;

        int socket_fd;
        int quit_fd; /* tells the thread to end */
        int news_fd; /* the thread tells that it has read something */
        pthread_t thread;
        bool has_thread;

        pthread_mutex_t lock; /* for what follows, and for reading the socket */
        KeeperStore store;
        bool ready, stopping;
        char *status_text;
};

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

static void lock(Keeper *k) {
        int r = pthread_mutex_lock(&k->lock);

        assert(r == 0);
        (void) r;
}

static void unlock(Keeper *k) {
        (void) pthread_mutex_unlock(&k->lock);
}

static char **strv_free(char **v) {
        for (size_t i = 0; v && v[i]; i++)
                free(v[i]);
        free(v);
        return NULL;
}

static size_t strv_length(char *const *v) {
        size_t n = 0;

        while (v && v[n])
                n++;
        return n;
}

static int strv_append(char ***v, const char *s) {
        size_t n = strv_length(*v);
        char **t;

        t = reallocarray(*v, n + 2, sizeof(char *));
        if (!t)
                return -ENOMEM;
        *v = t;
        t[n + 1] = NULL;
        t[n] = strdup(s);
        return t[n] ? 0 : -ENOMEM;
}

/* The value behind "NAME=" in a list of assignments. */
static const char *find_assignment(char *const *v, const char *name, size_t *ret_i) {
        size_t n = strlen(name);

        for (size_t i = 0; v && v[i]; i++)
                if (strncmp(v[i], name, n) == 0 && v[i][n] == '=') {
                        if (ret_i)
                                *ret_i = i;
                        return v[i] + n + 1;
                }
        return NULL;
}

void keeper_unsetenv(Keeper *k, const char *name) {
        size_t i, n;

        while (find_assignment(k->env, name, &i)) {
                n = strv_length(k->env);
                free(k->env[i]);
                memmove(k->env + i, k->env + i + 1, (n - i) * sizeof(char *));
        }
}

int keeper_setenv(Keeper *k, const char *name, const char *value) {
        _cleanup_free_ char *s = NULL;

        if (asprintf(&s, "%s=%s", name, value) < 0) {
                s = NULL;
                return -ENOMEM;
        }
        keeper_unsetenv(k, name);
        return strv_append(&k->env, s);
}

/* ---- notifications ---- */

static bool has_line(char *const *lines, const char *line) {
        for (size_t i = 0; lines && lines[i]; i++)
                if (streq(lines[i], line))
                        return true;
        return false;
}

static int split_lines(char *text, char ***ret) {
        char **lines = NULL, *save = NULL;
        int r;

        for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
                r = strv_append(&lines, s);
                if (r < 0) {
                        strv_free(lines);
                        return r;
                }
        }
        *ret = lines;
        return 0;
}

/* Of the descriptors, takes what it stores: those are -EBADF afterwards. */
static int handle_message(Keeper *k, char *text, int *fds, size_t n_fds) {
        const char *status, *name;
        char **lines;
        int r;

        r = split_lines(text, &lines);
        if (r < 0)
                return r;
        k->ready = k->ready || has_line(lines, "READY=1");
        k->stopping = k->stopping || has_line(lines, "STOPPING=1");
        status = find_assignment(lines, "STATUS", NULL);
        if (status)
                r = free_and_strdup(&k->status_text, *status ? status : NULL);
        name = find_assignment(lines, "FDNAME", NULL);
        if (name && !keeper_store_name_is_valid(name))
                name = NULL;
        if (has_line(lines, "FDSTOREREMOVE=1")) {
                if (name)
                        keeper_store_forget(&k->store, name);
        } else if (has_line(lines, "FDSTORE=1"))
                for (size_t i = 0; i < n_fds && r >= 0; i++)
                        r = keeper_store_take(&k->store, name ?: "stored", TAKE_FD(fds[i]));
        strv_free(lines);
        return r;
}

/* One message. 0: there was none. */
static int read_message(Keeper *k) {
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(struct ucred)) +
                           CMSG_SPACE(sizeof(int) * MESSAGE_FDS_MAX)];
        } control;
        char text[MESSAGE_MAX + 1];
        struct iovec iov = {text, MESSAGE_MAX};
        struct msghdr mh = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
        int fds[MESSAGE_FDS_MAX], r = 0;
        struct ucred from = {};
        size_t n_fds = 0;
        ssize_t n;

        n = recvmsg(k->socket_fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
                if (c->cmsg_level != SOL_SOCKET)
                        continue;
                if (c->cmsg_type == SCM_CREDENTIALS)
                        memcpy(&from, CMSG_DATA(c), sizeof(from));
                if (c->cmsg_type == SCM_RIGHTS) {
                        n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                        memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
                }
        }
        text[n] = '\0';
        if (from.pid == k->pid && !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
            strlen(text) == (size_t) n)
                r = handle_message(k, text, fds, n_fds);
        for (size_t i = 0; i < n_fds; i++)
                (void) safe_close(fds[i]);
        return r < 0 ? r : 1;
}

int keeper_pump(Keeper *k) {
        int r;

        lock(k);
        do
                r = read_message(k);
        while (r > 0);
        unlock(k);
        return r;
}

static void *read_messages(void *arg) {
        Keeper *k = arg;
        struct pollfd pfd[] = {{.fd = k->socket_fd, .events = POLLIN},
                               {.fd = k->quit_fd, .events = POLLIN}};

        for (;;) {
                if (poll(pfd, ELEMENTSOF(pfd), -1) < 0 && errno != EINTR)
                        return NULL;
                if (pfd[1].revents)
                        return NULL;
                (void) keeper_pump(k);
                (void) eventfd_write(k->news_fd, 1);
        }
}

/* ---- the process ---- */

static int spawn(Keeper *k) {
        _cleanup_(keeper_launch_done) KeeperLaunch l = KEEPER_LAUNCH_NULL;
        pid_t pid;
        int r;

        r = keeper_launch_prepare(&l, k->argv, k->env, &k->store, k->log_path);
        if (r < 0)
                return r;
        /* A message of this one's is read when its pid is known. */
        lock(k);
        pid = fork();
        if (pid == 0)
                keeper_launch_exec(&l);
        r = pid < 0 ? -errno : 0;
        if (r >= 0) {
                k->pid = pid;
                k->log_start = l.log_start;
                k->ready = k->stopping = false;
                k->status_text = mfree(k->status_text);
                k->pidfd = pidfd_open(pid, 0);
                r = k->pidfd < 0 ? -errno : 0;
        }
        unlock(k);
        return r;
}

static int reap(Keeper *k) {
        if (waitpid(k->pid, &k->status, 0) < 0)
                return -errno;
        lock(k);
        k->pid = 0;
        unlock(k);
        k->pidfd = safe_close(k->pidfd);
        return 0;
}

/* 1: ended; 0: ready. */
static int wait_event(Keeper *k, uint64_t timeout_usec, bool for_ready) {
        uint64_t deadline = now_usec() + timeout_usec;
        struct pollfd pfd[] = {{.fd = k->pidfd, .events = POLLIN},
                               {.fd = k->news_fd, .events = POLLIN}};
        eventfd_t ignored;
        int r;

        for (;;) {
                uint64_t now = now_usec();

                if (for_ready && keeper_is_ready(k))
                        return 0;
                r = poll(pfd, ELEMENTSOF(pfd),
                         now >= deadline ? 0 : (int) ((deadline - now) / USEC_PER_MSEC) + 1);
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r == 0 && now >= deadline)
                        return -ETIMEDOUT;
                if (r > 0 && pfd[1].revents)
                        (void) eventfd_read(k->news_fd, &ignored);
                /* Its last words are heard before its end is. */
                if (r > 0 && pfd[0].revents) {
                        r = keeper_pump(k);
                        if (r >= 0 && for_ready && keeper_is_ready(k))
                                return 0;
                        if (r >= 0)
                                r = reap(k);
                        return r < 0 ? r : 1;
                }
        }
}

int keeper_start(Keeper *k, uint64_t timeout_usec) {
        int r;

        assert(k->pid == 0);

        r = keeper_pump(k);
        if (r < 0)
                return r;
        r = spawn(k);
        if (r < 0)
                return r;
        return wait_event(k, timeout_usec, true);
}

int keeper_wait(Keeper *k, uint64_t timeout_usec, int *ret_status) {
        int r;

        if (k->pid == 0)
                return -ECHILD;
        r = wait_event(k, timeout_usec, false);
        if (r < 0)
                return r;
        if (ret_status)
                *ret_status = k->status;
        return 0;
}

int keeper_signal(Keeper *k, int sig) {
        if (k->pid == 0)
                return -ESRCH;
        return kill(k->pid, sig) < 0 ? -errno : 0;
}

/* ---- what it knows ---- */

pid_t keeper_pid(const Keeper *k) {
        return k->pid;
}

int keeper_pidfd(const Keeper *k) {
        return k->pidfd;
}

int keeper_exit_status(Keeper *k) {
        return k->status;
}

bool keeper_is_ready(Keeper *k) {
        bool b;

        lock(k);
        b = k->ready;
        unlock(k);
        return b;
}

bool keeper_is_stopping(Keeper *k) {
        bool b;

        lock(k);
        b = k->stopping;
        unlock(k);
        return b;
}

char *keeper_status_text(Keeper *k) {
        char *s;

        lock(k);
        s = k->status_text ? strdup(k->status_text) : NULL;
        unlock(k);
        return s;
}

char *keeper_log_text(Keeper *k) {
        _cleanup_fclose_ FILE *f = fopen(k->log_path, "re");
        char *text = NULL;
        size_t size = 0;

        if (!f || fseeko(f, k->log_start, SEEK_SET) < 0 || getdelim(&text, &size, '\0', f) < 0) {
                free(text);
                return strdup("");
        }
        return text;
}

const char *keeper_log_path(const Keeper *k) {
        return k->log_path;
}

const char *keeper_runtime_dir(const Keeper *k) {
        return k->runtime_dir;
}

size_t keeper_n_stored(Keeper *k) {
        size_t n;

        lock(k);
        n = k->store.n;
        unlock(k);
        return n;
}

bool keeper_has_stored(Keeper *k, const char *name) {
        bool found = false;

        lock(k);
        for (size_t i = 0; i < k->store.n; i++)
                found = found || streq(k->store.items[i].name, name);
        unlock(k);
        return found;
}

const char *keeper_stored_name(Keeper *k, size_t i) {
        const char *name;

        lock(k);
        assert(i < k->store.n);
        name = k->store.items[i].name;
        unlock(k);
        return name;
}

int keeper_stored_fd(Keeper *k, size_t i) {
        int fd;

        lock(k);
        assert(i < k->store.n);
        fd = k->store.items[i].fd;
        unlock(k);
        return fd;
}

int keeper_store_add(Keeper *k, const char *name, int fd) {
        int r = fd_copy(fd);

        if (r < 0)
                return r;
        lock(k);
        r = keeper_store_take(&k->store, name, r);
        unlock(k);
        return r;
}

void keeper_store_remove(Keeper *k, size_t i) {
        lock(k);
        assert(i < k->store.n);
        keeper_store_drop(&k->store, i);
        unlock(k);
}

void keeper_store_clear(Keeper *k) {
        lock(k);
        keeper_store_done(&k->store);
        unlock(k);
}

/* ---- coming and going ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) remove(path);
        return 0;
}

Keeper *keeper_free(Keeper *k) {
        if (!k)
                return NULL;
        if (k->pid > 0) {
                (void) kill(k->pid, SIGKILL);
                (void) waitpid(k->pid, NULL, 0);
        }
        if (k->has_thread) {
                (void) eventfd_write(k->quit_fd, 1);
                (void) pthread_join(k->thread, NULL);
        }
        if (*k->dir)
                (void) nftw(k->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        (void) pthread_mutex_destroy(&k->lock);
        keeper_store_done(&k->store);
        (void) safe_close(k->pidfd);
        (void) safe_close(k->socket_fd);
        (void) safe_close(k->quit_fd);
        (void) safe_close(k->news_fd);
        k->argv = strv_free(k->argv);
        k->env = strv_free(k->env);
        free(k->status_text);
        free(k);
        return NULL;
}

static int make_directories(Keeper *k) {
        const char *top = getenv("TMPDIR");

        (void) snprintf(k->dir, sizeof(k->dir), "%.40s/keeper.XXXXXX", top ?: "/tmp");
        if (!mkdtemp(k->dir)) {
                *k->dir = '\0';
                return -errno;
        }
        (void) snprintf(k->runtime_dir, sizeof(k->runtime_dir), "%s/egmd", k->dir);
        (void) snprintf(k->log_path, sizeof(k->log_path), "%s/log", k->dir);
        return mkdir(k->runtime_dir, 0700) < 0 ? -errno : 0;
}

static int open_socket(Keeper *k) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        socklen_t size = sizeof(name);
        char text[sizeof(name.sun_path) + 1];
        const int on = 1;

        k->socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (k->socket_fd < 0)
                return -errno;
        /* The kernel chooses an abstract name. */
        if (bind(k->socket_fd, (struct sockaddr *) &name, sizeof(sa_family_t)) < 0 ||
            getsockname(k->socket_fd, (struct sockaddr *) &name, &size) < 0 ||
            setsockopt(k->socket_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
                return -errno;
        (void) snprintf(text, sizeof(text), "@%.*s",
                        (int) (size - offsetof(struct sockaddr_un, sun_path) - 1),
                        name.sun_path + 1);
        return keeper_setenv(k, "NOTIFY_SOCKET", text);
}

static int set_up(Keeper *k, const char *program, const char *const *args) {
        int r;

        r = strv_append(&k->argv, program);
        for (size_t i = 0; r >= 0 && args && args[i]; i++)
                r = strv_append(&k->argv, args[i]);
        for (size_t i = 0; r >= 0 && environ[i]; i++)
                r = strv_append(&k->env, environ[i]);
        if (r < 0)
                return r;
        keeper_unsetenv(k, "LISTEN_FDS");
        keeper_unsetenv(k, "LISTEN_PID");
        keeper_unsetenv(k, "LISTEN_FDNAMES");
        keeper_unsetenv(k, "WATCHDOG_USEC");
        keeper_unsetenv(k, "WATCHDOG_PID");
        r = make_directories(k);
        if (r >= 0)
                r = keeper_setenv(k, "RUNTIME_DIRECTORY", k->runtime_dir);
        if (r >= 0)
                r = open_socket(k);
        if (r < 0)
                return r;
        r = keeper_store_same_file(k->socket_fd, k->socket_fd);
        if (r < 0)
                return r;
        k->quit_fd = eventfd(0, EFD_CLOEXEC);
        k->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (k->quit_fd < 0 || k->news_fd < 0)
                return -errno;
        r = -pthread_create(&k->thread, NULL, read_messages, k);
        k->has_thread = r == 0;
        return r;
}

int keeper_new(const char *program, const char *const *args, Keeper **ret) {
        Keeper *k = calloc(1, sizeof(Keeper));
        int r;

        if (!k)
                return -ENOMEM;
        (void) pthread_mutex_init(&k->lock, NULL);
        k->socket_fd = k->quit_fd = k->news_fd = k->pidfd = -EBADF;
        r = set_up(k, program, args);
        if (r < 0) {
                keeper_free(k);
                return r;
        }
        *ret = k;
        return 0;
}
