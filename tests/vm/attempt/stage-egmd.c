/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "size.h"
#include "stage.h"

int egmd_systemctl_start(const char *verb, pid_t *ret) {
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0) {
                (void) execlp("systemctl", "systemctl", verb, "egmd.service", NULL);
                _exit(EXIT_FAILURE);
        }
        *ret = pid;
        return 0;
}

int egmd_systemctl(const char *verb) {
        pid_t pid = -1;
        int r, status;

        r = egmd_systemctl_start(verb, &pid);
        if (r < 0)
                return r;
        if (waitpid(pid, &status, 0) < 0)
                return -errno;
        return status == 0 ? 0 : -EIO;
}

static int egmd_pid(void) {
        FILE *f = popen("systemctl show -P MainPID egmd.service", "re");
        char line[32] = "";
        int pid;

        if (!f)
                return -errno;
        if (!fgets(line, sizeof(line), f))
                line[0] = '\0';
        (void) pclose(f);
        line[strcspn(line, "\n")] = '\0';
        return parse_int(line, &pid) < 0 || pid <= 0 ? -ESRCH : pid;
}

/* The case has seen to it that systemd does not start it again by itself. */
int egmd_kill(void) {
        _cleanup_close_ int pidfd = -EBADF;
        struct pollfd p = {.events = POLLIN};
        int pid;

        pid = egmd_pid();
        if (pid < 0)
                return pid;
        pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
                return -errno;
        p.fd = pidfd;
        return poll(&p, 1, DEADLINE_MS) == 1 ? 0 : -ETIMEDOUT;
}
