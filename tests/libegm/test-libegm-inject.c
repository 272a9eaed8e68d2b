/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/openat2.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "inject-bed.h"

/* Injection: what opens, mappings and the rest come to. */

#define RETIRED_LIST 0x4564

/* ---- Opening ---- */

static void is_leased(int fd) {
        struct stat st;

        MUST(fd >= 900);
        MUST(fstat(fd, &st) == 0 && st.st_size == FAKE_MEMORY_SIZE);
        MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        MUST((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
        MUST(close(fd) == 0);
}

static void open_in_all_ways(void) {
        struct open_how how = {.flags = O_RDWR | O_CLOEXEC};
        char *page;
        int dir;

        is_leased(open(PATH0, O_RDWR));
        is_leased(open(PATH0, O_RDWR | O_CLOEXEC | O_CREAT, 0644));
        is_leased(open("//run/./egm//lease-7/slice-0", O_RDWR));
        is_leased((int) syscall(SYS_openat2, AT_FDCWD, PATH0, &how, sizeof(how)));
        is_leased(openat(12345, PATH0, O_RDWR));
        MUST(chdir("/run") == 0);
        is_leased(open("egm/lease-7/slice-0", O_RDWR));
        MUST(chdir("/") == 0);
        is_leased(open("./run/egm/lease-7/slice-0", O_RDWR));
        dir = open("/run", O_PATH | O_DIRECTORY);
        is_leased(openat(dir, "egm/lease-7/slice-0", O_RDWR));
        /* The string ends where nothing follows. */
        page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(page != MAP_FAILED && munmap(page + 4096, 4096) == 0);
        strcpy(page + 4096 - sizeof(PATH0), PATH0);
        is_leased(open(page + 4096 - sizeof(PATH0), O_RDWR));
        page[4095] = 'x';
        MUST_FAIL(open(page + 4096 - sizeof(PATH0), O_RDWR), EFAULT);
        MUST_FAIL(openat(AT_FDCWD, (const char *) 8, O_RDWR), EFAULT);
        MUST_FAIL(open("", O_RDWR), ENOENT);
        /* Everything else is as ever. */
        MUST_FAIL(open("/run/egm/lease-7/slice-1", O_RDWR), ENOENT);
        MUST_FAIL(open("/run/egm/lease-7", O_RDWR), ENOENT);
        MUST_FAIL(open(PATH0 "/", O_RDWR), ENOENT);
        MUST_FAIL(open("run", O_RDWR), EISDIR);
        MUST_FAIL(openat(12345, "x", O_RDWR), EBADF);
        dir = open("/dev/null", O_RDWR);
        MUST(dir >= 0 && dir < 900);
}

static void test_open(void **state) {
        Bed bed;

        bed_start(&bed, false, false);
        assert_string_equal(egm_inject_get_path(bed.inject, 0), PATH0);
        assert_null(egm_inject_get_path(bed.inject, 1));
        (void) bed_run(&bed, open_in_all_ways, NULL);
        assert_int_equal(egm_inject_count_opens(bed.inject, 0), 9);
        bed_end(&bed);
}

static void open_wrongly(void) {
        struct open_how how = {.flags = O_RDONLY};

        MUST_FAIL(open(PATH0, O_RDWR | O_CREAT | O_EXCL, 0600), EACCES);
        MUST_FAIL(syscall(SYS_openat2, AT_FDCWD, PATH0, &how, sizeof(how)), EACCES);
        /* Not looked at. */
        MUST_FAIL(open(PATH0, O_RDONLY), ENOENT);
        MUST_FAIL(open(PATH0, O_WRONLY), ENOENT);
        for (int i = 0; i < 8; i++)
                MUST(open(PATH0, O_RDWR) >= 0);
        MUST_FAIL(open(PATH0, O_RDWR), EMFILE);
        MUST_FAIL(open(PATH0, O_RDWR), EMFILE);
}

static void test_open_wrongly(void **state) {
        static const char *const words[] = {"was to be created", "opened for reading only",
                                            "is open 8 times", NULL};
        Bed bed;

        bed_start(&bed, false, false);
        (void) bed_run(&bed, open_wrongly, words);
        bed_end(&bed);
}

/* A path that is there, like the device's own. */
static void open_null(void) {
        struct stat st;
        int fd = open("/dev/null", O_RDWR);

        MUST(fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
        MUST_FAIL(open("/dev/null", O_RDONLY), EACCES);
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        MUST(fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
        MUST(open("/dev/zero", O_RDONLY) >= 0);
}

static void test_path(void **state) {
        static const char *const words[] = {"/dev/null was opened for reading only", NULL};
        Bed bed;

        bed_start(&bed, true, false);
        assert_int_equal(egm_inject_set_path(bed.inject, 0, "relative"), -EINVAL);
        assert_int_equal(egm_inject_set_path(bed.inject, 0, NULL), -EINVAL);
        assert_int_equal(egm_inject_set_path(bed.inject, 2, "/x"), -EINVAL);
        assert_int_equal(egm_inject_set_path(bed.inject, 0, PATH1), -EEXIST);
        assert_int_equal(egm_inject_set_path(bed.inject, 0, "/dev/null"), 0);
        assert_int_equal(egm_inject_set_path(bed.inject, 0, "/dev/null"), 0);
        assert_int_equal(egm_inject_set_narrow(bed.inject, 1), 0);
        (void) bed_run(&bed, open_null, words);
        /* Too late. */
        assert_int_equal(egm_inject_set_path(bed.inject, 0, "/x"), -EBUSY);
        assert_int_equal(egm_inject_set_shift(bed.inject, 0, 1), -EBUSY);
        assert_int_equal(egm_inject_set_narrow(bed.inject, 0), -EBUSY);
        bed_end(&bed);
}

/* ---- Using ---- */

static void use_with_offset(void) {
        int fd = open(PATH0, O_RDWR);
        char *p;

        MUST(fd >= 0);
        p = map(fd, OFFSET, SIZE);
        MUST(p != MAP_FAILED);
        p[0] = 'a';
        p[SIZE - 1] = 'z';
        MUST_FAIL(map(fd, 0, SIZE), EINVAL);
        MUST_FAIL(map(fd, OFFSET, SIZE + 1), EINVAL);
        MUST_FAIL(map(fd, OFFSET - 4096, 4096), EINVAL);
        MUST_FAIL(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, OFFSET), EINVAL);
        /* As the device does, and not to what others have in the file. */
        MUST_FAIL(lseek(fd, 0, SEEK_END), ESPIPE);
        MUST_FAIL(ftruncate(fd, 0), EINVAL);
        MUST_FAIL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), ENODEV);
        MUST(p[0] == 'a');
        /* Numbers say nothing if something else has them. */
        MUST(dup2(open("/dev/zero", O_RDWR), fd) == fd);
        MUST(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
        MUST(lseek(fd, 0, SEEK_SET) == 0);
}

static void test_use(void **state) {
        static const char *const words[] = {"Bytes 0+2097152 of " PATH0
                                            " are outside of the lease, which is 1048576+2097152",
                                            "Bytes 1048576+2097153 of", "Bytes 1044480+4096 of",
                                            "share=on", NULL};
        Bed bed;

        bed_start(&bed, false, false);
        (void) bed_run(&bed, use_with_offset, words);
        check_memory(OFFSET, 'a');
        check_memory(OFFSET + SIZE - 1, 'z');
        bed_end(&bed);
}

static void use_both_slices(void) {
        int a = open(PATH0, O_RDWR), b = open(PATH1, O_RDWR);
        char *p, *q;

        MUST(a >= 0 && b >= 0);
        p = map(a, 0, SIZE);
        q = map(b, 0, 1 * MIB);
        MUST(p != MAP_FAILED && q != MAP_FAILED);
        p[1] = 'p';
        q[1] = 'q';
        /* Part of it; nothing behind its end, wherever that is in the file. */
        p = map(a, SIZE - 4096, 4096);
        MUST(p != MAP_FAILED);
        p[1] = 'e';
        MUST_FAIL(map(a, OFFSET, SIZE), EINVAL);
        MUST_FAIL(map(a, SIZE, 4096), EINVAL);
        MUST_FAIL(map(b, 0, 2 * MIB), EINVAL);
        MUST_FAIL(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, a, 0), EINVAL);
}

static void test_shift(void **state) {
        static const char *const words[] = {"Bytes 2097152+4096 of " PATH0
                                            " are outside of the lease, which is 0+2097152",
                                            NULL};
        Bed bed;

        bed_start(&bed, true, true);
        (void) bed_run(&bed, use_both_slices, words);
        check_memory(OFFSET + 1, 'p');
        check_memory(OFFSET + SIZE - 4096 + 1, 'e');
        check_memory(4 * MIB + 1, 'q');
        check_memory(1, 0);
        bed_end(&bed);
}

/* Slice 0 by its place in the region, slice 1 from its start; and from then on so. */
static void use_either_way(void) {
        int a = open(PATH0, O_RDWR), b = open(PATH1, O_RDWR);
        uint32_t head[10] = {40};
        char *p, *q;

        MUST(a >= 0 && b >= 0);
        MUST_FAIL(map(a, OFFSET, 4096), EINVAL);
        p = map(a, OFFSET, SIZE);
        q = map(b, 0, 1 * MIB);
        MUST(p != MAP_FAILED && q != MAP_FAILED);
        p[3] = 'P';
        q[3] = 'Q';
        MUST_FAIL(map(a, 0, SIZE), EINVAL);
        MUST_FAIL(map(b, 4 * MIB, 1 * MIB), EINVAL);
        p = map(a, OFFSET, 4096);
        q = map(b, 4096, 4096);
        MUST(p != MAP_FAILED && p[3] == 'P' && q != MAP_FAILED);
        q[3] = 'q';
        /* The kernel's to answer, by a file that has no such call; the launcher's, where the offset would be wrong. */
        head[3] = (uint32_t) a;
        MUST_FAIL(ioctl(1000000, 0x3b8f, head), EBADF);
        head[3] = (uint32_t) b;
        MUST_FAIL(ioctl(1000000, 0x3b8f, head), ENOTTY);
        MUST_FAIL(ioctl(1000000, 0x3b8f, NULL), EFAULT);
}

static void test_shift_auto(void **state) {
        static const char *const words[] = {"it is not clear whether", "outside", NULL};
        Bed bed;

        bed_start(&bed, true, false);
        assert_int_equal(egm_inject_set_shift(bed.inject, 0, -1), 0);
        assert_int_equal(egm_inject_set_shift(bed.inject, 1, -1), 0);
        (void) bed_run(&bed, use_either_way, words);
        check_memory(OFFSET + 3, 'P');
        check_memory(4 * MIB + 3, 'Q');
        check_memory(4 * MIB + 4096 + 3, 'q');
        check_memory(3, 0);
        bed_end(&bed);
}

static void on_alarm(int signo) {
}

static void *map_often(void *arg) {
        int fd = open(PATH0, O_RDWR);

        MUST(fd >= 0);
        for (uint64_t i = 0; i < 300; i++) {
                uint64_t at = (i % 256) * 8192;
                char *p = map(fd, at, 8192);

                MUST(p != MAP_FAILED);
                /* Words, by two threads: the same ones. */
                *(volatile uint64_t *) p = at;
                MUST(munmap(p, 8192) == 0);
        }
        MUST(close(fd) == 0);
        return NULL;
}

/* From threads, and with signals that come all the time. */
static void map_in_threads(void) {
        const struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
        const struct itimerval often = {{0, 500}, {0, 500}};
        pthread_t thread;

        MUST(sigaction(SIGALRM, &sa, NULL) == 0);
        MUST(setitimer(ITIMER_REAL, &often, NULL) == 0);
        MUST(pthread_create(&thread, NULL, map_often, NULL) == 0);
        (void) map_often(NULL);
        MUST(pthread_join(thread, NULL) == 0);
}

static void test_threads(void **state) {
        for (int plain = 0; plain < 2; plain++) {
                Bed bed;

                bed_start(&bed, false, true);
                bed.plain_filter = plain;
                (void) bed_run(&bed, map_in_threads, NULL);
                for (uint64_t at = 0; at < 256 * 8192; at += 8192) {
                        uint64_t found, zero = 0;

                        assert_int_equal(pread(fake.memory_fd, &found, 8, (off_t) (OFFSET + at)),
                                         8);
                        assert_int_equal(found, at);
                        assert_int_equal(pwrite(fake.memory_fd, &zero, 8, (off_t) (OFFSET + at)),
                                         8);
                }
                check_memory(0, 0);
                bed_end(&bed);
        }
}

static void duplicate(void) {
        int fd = open(PATH0, O_RDWR), copy, other = open("/dev/null", O_RDWR);
        char *p;

        MUST(fd >= 0);
        copy = dup(fd);
        MUST(copy == fd + 1 && fcntl(copy, F_GETFD) == 0);
        p = map(copy, 0, SIZE);
        MUST(p != MAP_FAILED);
        p[2] = 'd';
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        MUST(copy == fd + 2 && fcntl(copy, F_GETFD) == FD_CLOEXEC);
        copy = fcntl(fd, F_DUPFD, fd + 5);
        MUST(copy == fd + 5 && fcntl(copy, F_GETFD) == 0);
        MUST_FAIL(fcntl(fd, F_DUPFD, fd + 8), EMFILE);
        MUST(dup2(fd, fd + 7) == fd + 7);
        p = map(fd + 7, 4096, 4096);
        MUST(p != MAP_FAILED);
        p[2] = 'D';
        /* There it would not be seen. */
        MUST_FAIL(dup2(fd, other), EPERM);
        MUST_FAIL(dup3(fd, other, O_CLOEXEC), EPERM);
        MUST(dup(other) >= 0 && dup2(other, 50) == 50);
        MUST(close(fd) == 0);
        MUST(open(PATH0, O_RDWR) == fd);
}

static void test_duplicate(void **state) {
        static const char *const words[] = {"as descriptor", "is open 8 times", NULL};
        Bed bed;

        bed_start(&bed, false, true);
        (void) bed_run(&bed, duplicate, words);
        check_memory(OFFSET + 2, 'd');
        check_memory(OFFSET + 4096 + 2, 'D');
        bed_end(&bed);
}

/* What it forks, and what is adopted by others. */
static void use_in_helpers(void) {
        int status;
        pid_t pid = fork();

        MUST(pid >= 0);
        if (pid == 0) {
                if (fork() == 0)
                        use_both_slices();
                _exit(0);
        }
        MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static void test_helpers(void **state) {
        static const char *const words[] = {"outside", NULL};
        Bed bed;

        bed_start(&bed, true, true);
        (void) bed_run(&bed, use_in_helpers, words);
        check_memory(OFFSET + 1, 'p');
        check_memory(4 * MIB + 1, 'q');
        bed_end(&bed);
}

typedef struct RetiredList {
        uint32_t argsz, count;
        struct {
                uint64_t offset, size;
        } pages[1024];
} RetiredList;

static void ask_for_retired(void) {
        RetiredList *list = calloc(1, sizeof(*list));
        int fd = open(PATH0, O_RDWR), other = open("/dev/null", O_RDWR);
        const uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
        /* The fake says 0+1028K and 2M+64K of the region. */
        uint32_t n = 1 + (uint32_t) (65536 / page);

        MUST(fd >= 0 && other >= 0);
        MUST_FAIL(ioctl(fd, RETIRED_LIST, NULL), EFAULT);
        MUST_FAIL(ioctl(fd, RETIRED_LIST, list), EINVAL);
        list->argsz = 8;
        list->count = 77;
        MUST(ioctl(fd, RETIRED_LIST, list) == 0);
        MUST(list->argsz == 8 + 16 * n && list->count == 0 && list->pages[0].size == 0);
        MUST(ioctl(fd, RETIRED_LIST, list) == 0);
        MUST(list->argsz == 8 + 16 * n && list->count == n);
        for (uint32_t i = 0; i < n; i++)
                MUST(list->pages[i].size == page &&
                     list->pages[i].offset == (i == 0 ? 0 : 1 * MIB + (i - 1) * page));
        MUST(list->pages[n].size == 0);
        MUST_FAIL(ioctl(other, RETIRED_LIST, list), ENOTTY);
}

/* From the start of the slice, and clipped to it, which the driver's own list is not. */
static void test_retired(void **state) {
        Bed bed;

        bed_start(&bed, false, false);
        (void) bed_run(&bed, ask_for_retired, NULL);
        bed_end(&bed);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_open),    cmocka_unit_test(test_open_wrongly),
                        cmocka_unit_test(test_path),    cmocka_unit_test(test_use),
                        cmocka_unit_test(test_shift),   cmocka_unit_test(test_shift_auto),
                        cmocka_unit_test(test_threads), cmocka_unit_test(test_duplicate),
                        cmocka_unit_test(test_helpers), cmocka_unit_test(test_retired),
        };

        return bed_main(tests, ELEMENTSOF(tests));
}
