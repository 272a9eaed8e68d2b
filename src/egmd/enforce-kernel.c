/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/utsname.h>

#include "enforce-kernel.h"
#include "fd-util.h"

#define LSM_FILE "/sys/kernel/security/lsm"
#define PREEMPT_FILE "/sys/kernel/debug/sched/preempt"
#define FILE_MAX 4096U

bool enforce_lsm_lists_bpf(const char *lsm) {
        assert(lsm);

        while (*lsm) {
                size_t n = strcspn(lsm, ",\n");

                if (n == strlen("bpf") && strncmp(lsm, "bpf", n) == 0)
                        return true;
                lsm += n + (lsm[n] != '\0');
        }
        return false;
}

bool enforce_kernel_is_steady(const char *release, const char *version, const char *preempt) {
        unsigned major, minor;

        assert(release);
        assert(version);

        if (sscanf(release, "%u.%u", &major, &minor) != 2)
                return false;
        if (major > 6 || (major == 6 && minor >= 2))
                return true;
        if (!strstr(version, "PREEMPT"))
                return true;
        /* Of its kinds only this one can be less than full. */
        return strstr(version, "PREEMPT_DYNAMIC") && preempt && !strstr(preempt, "(full)") &&
               strchr(preempt, '(');
}

int enforce_kernel_suits(char **ret_why) {
        _cleanup_free_ char *lsm = NULL, *preempt = NULL;
        struct utsname u;

        assert(ret_why);

        if (read_full_file_at(AT_FDCWD, LSM_FILE, FILE_MAX, &lsm, NULL) < 0) {
                *ret_why = strdup(
                                "which security modules are at work cannot be read from " LSM_FILE);
                return -EOPNOTSUPP;
        }
        if (!enforce_lsm_lists_bpf(lsm)) {
                lsm[strcspn(lsm, "\n")] = '\0';
                if (asprintf(ret_why,
                             "the kernel's list of security modules lacks bpf: boot with "
                             "lsm=%s,bpf",
                             lsm) < 0)
                        *ret_why = NULL;
                return -EOPNOTSUPP;
        }
        if (uname(&u) < 0)
                return -errno;
        if (read_full_file_at(AT_FDCWD, PREEMPT_FILE, FILE_MAX, &preempt, NULL) < 0)
                preempt = NULL;
        if (!enforce_kernel_is_steady(u.release, u.version, preempt)) {
                *ret_why = strdup("before Linux 6.2 it takes a kernel that is not fully "
                                  "preemptible (and debugfs, to know)");
                return -EOPNOTSUPP;
        }
        return 0;
}
