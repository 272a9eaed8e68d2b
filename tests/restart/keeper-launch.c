/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "keeper-launch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "fd-util.h"

/* As many digits as a pid can have; the child writes its own. */
#define LISTEN_PID "LISTEN_PID=0000000000"
#define LISTEN_PID_NAME strlen("LISTEN_PID=")

void keeper_launch_done(KeeperLaunch *l) {
        free(l->env);
        free(l->listen_pid);
        free(l->listen_fds);
        free(l->listen_names);
        free(l->fds);
        l->null_fd = safe_close(l->null_fd);
        l->log_fd = safe_close(l->log_fd);
}

static int prepare_files(KeeperLaunch *l, const char *log_path) {
        l->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (l->null_fd < 0)
                return -errno;
        l->log_fd = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (l->log_fd < 0)
                return -errno;
        l->log_start = lseek(l->log_fd, 0, SEEK_END);
        return l->log_start < 0 ? -errno : 0;
}

int keeper_launch_prepare(KeeperLaunch *l, char **argv, char *const *env, const KeeperStore *store,
                          const char *log_path) {
        size_t n = 0;

        while (env[n])
                n++;
        l->argv = argv;
        l->n_fds = store->n;
        l->env = calloc(n + 4, sizeof(char *));
        l->fds = calloc(store->n + 1, sizeof(int));
        if (!l->env || !l->fds)
                return -ENOMEM;
        memcpy(l->env, env, n * sizeof(char *));
        if (store->n > 0) {
                l->listen_pid = strdup(LISTEN_PID);
                l->listen_names = keeper_store_names(store);
                if (!l->listen_pid || !l->listen_names)
                        return -ENOMEM;
                if (asprintf(&l->listen_fds, "LISTEN_FDS=%zu", store->n) < 0) {
                        l->listen_fds = NULL;
                        return -ENOMEM;
                }
                l->env[n++] = l->listen_pid;
                l->env[n++] = l->listen_fds;
                l->env[n] = l->listen_names;
        }
        for (size_t i = 0; i < store->n; i++)
                l->fds[i] = store->items[i].fd;
        return prepare_files(l, log_path);
}

/* Without leading zeros: those would make it octal. */
static void write_pid(char *digits) {
        size_t n = 0;

        for (pid_t pid = getpid(); pid > 0; pid /= 10)
                n++;
        digits[n] = '\0';
        for (pid_t pid = getpid(); pid > 0; pid /= 10)
                digits[--n] = (char) ('0' + pid % 10);
}

_Noreturn void keeper_launch_exec(const KeeperLaunch *l) {
        int above = (int) l->n_fds + 3;
        sigset_t none;

        if (l->listen_pid)
                write_pid(l->listen_pid + LISTEN_PID_NAME);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(l->null_fd, STDIN_FILENO) < 0 || dup2(l->log_fd, STDOUT_FILENO) < 0 ||
            dup2(l->log_fd, STDERR_FILENO) < 0)
                _exit(127);
        /* Two steps: one's source may be another's destination. */
        for (size_t i = 0; i < l->n_fds; i++) {
                l->fds[i] = fcntl(l->fds[i], F_DUPFD_CLOEXEC, above);
                if (l->fds[i] < 0)
                        _exit(127);
        }
        for (size_t i = 0; i < l->n_fds; i++)
                if (dup2(l->fds[i], (int) i + 3) < 0)
                        _exit(127);
        if (close_range((unsigned int) above, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                _exit(127);
        (void) execve(l->argv[0], l->argv, l->env);
        _exit(127);
}
