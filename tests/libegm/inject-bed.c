/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "inject-bed.h"

Fake fake;

void bed_start(Bed *bed, bool two_slices, bool shift) {
        egm_request *r = NULL;

        *bed = (Bed){};
        fake_reset(&fake);
        assert_int_equal(egm_connection_new(fake.address, &bed->connection), 0);
        assert_int_equal(egm_request_new(&r), 0);
        assert_int_equal(egm_request_add_slice(r, SIZE), 0);
        if (two_slices) {
                fake.n_slices = 2;
                fake.slices[1] = (FakeSlice){"egm5", FAKE_MEMORY, 4 * MIB, 1 * MIB};
                assert_int_equal(egm_request_add_slice(r, 1 * MIB), 1);
        }
        assert_int_equal(egm_acquire(bed->connection, r, &bed->lease), 0);
        egm_request_unref(r);
        assert_int_equal(egm_inject_new(bed->lease, &bed->inject), 0);
        if (shift)
                for (size_t i = 0; i < egm_lease_count_slices(bed->lease); i++)
                        assert_int_equal(egm_inject_set_shift(bed->inject, i, 1), 0);
}

void bed_end(Bed *bed) {
        egm_inject_unref(bed->inject);
        egm_lease_unref(bed->lease);
        egm_connection_unref(bed->connection);
}

static void send_fd(int channel, int fd) {
        union {
                char buffer[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = {(char[]){'x'}, 1};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        MUST(sendmsg(channel, &m, 0) == 1);
}

static int receive_fd(int channel) {
        union {
                char buffer[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {};
        char byte;
        struct iovec iov = {&byte, 1};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        struct cmsghdr *c;
        int fd;

        assert_int_equal(recvmsg(channel, &m, MSG_CMSG_CLOEXEC), 1);
        c = CMSG_FIRSTHDR(&m);
        assert_non_null(c);
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        return fd;
}

/* As on kernels before 5.19: signals interrupt calls that are being answered. */
static int install_plain(egm_inject *i) {
        struct sock_fprog program;
        struct sock_filter code[256];
        const struct sock_filter *filter;
        size_t n;

        MUST(egm_inject_get_filter(i, &filter, &n) == 0 && n <= ELEMENTSOF(code));
        memcpy(code, filter, n * sizeof(*code));
        program = (struct sock_fprog){(unsigned short) n, code};
        MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        return (int) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                             &program);
}

pid_t bed_fork(Bed *bed, program_t program) {
        int channel[2], fd;
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                alarm(60);
                fd = bed->plain_filter ? install_plain(bed->inject)
                                       : egm_inject_install(bed->inject);
                MUST(fd >= 0);
                MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
                send_fd(channel[1], fd);
                close(fd);
                close(channel[1]);
                program();
                _exit(0);
        }
        close(channel[1]);
        fd = receive_fd(channel[0]);
        close(channel[0]);
        assert_int_equal(egm_inject_set_listener(bed->inject, fd), 0);
        return pid;
}

/* Answers until nobody is left; collects what is said. Returns how many calls there were. */
static unsigned serve(Bed *bed, char **messages) {
        unsigned n = 0;

        for (;;) {
                struct pollfd p = {.fd = egm_inject_get_fd(bed->inject), .events = POLLIN};
                int r;

                assert_int_equal(poll(&p, 1, 60000), 1);
                r = egm_inject_dispatch(bed->inject);
                if (r == -EPIPE)
                        return n;
                assert_true(r >= 0);
                n += (unsigned) r;
                if (egm_inject_get_message(bed->inject)) {
                        char *old = *messages;

                        assert_true(asprintf(messages, "%s%s\n", old ?: "",
                                             egm_inject_get_message(bed->inject)) > 0);
                        free(old);
                }
        }
}

void bed_reap(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

unsigned bed_run(Bed *bed, program_t program, const char *const *words) {
        _cleanup_free_ char *messages = NULL;
        pid_t pid = bed_fork(bed, program);
        unsigned n;

        n = serve(bed, &messages);
        bed_reap(pid);
        if (!words && messages)
                fail_msg("messages: %s", messages);
        for (; words && *words; words++)
                if (!messages || !strstr(messages, *words))
                        fail_msg("no '%s' in: %s", *words, messages);
        return n;
}

void check_memory(uint64_t offset, char byte) {
        char found;

        assert_int_equal(pread(fake.memory_fd, &found, 1, (off_t) offset), 1);
        assert_int_equal(found, byte);
}

char *map(int fd, uint64_t offset, uint64_t size) {
        return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t) offset);
}

unsigned count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

int bed_main(const struct CMUnitTest *tests, size_t n) {
        const char *address = getenv("EGM_TEST_BUS");
        int r;

        if (!address)
                return 77;
        if (fake_start(address, &fake) < 0)
                return EXIT_FAILURE;
        r = _cmocka_run_group_tests("injection", tests, n, NULL, NULL);
        fake_stop(&fake);
        return r;
}
