/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* bench-holders ROUNDS: how long a look through all of /proc takes, as a drain has it done. */

#include <sys/mman.h>
#include <sys/stat.h>

#include "bench.h"
#include "holders.h"

int main(int argc, char *argv[]) {
        HolderScan scan = {.n_devices = 1,
                           .store = 1,
                           .want_pipes = true,
                           .ignore_inaccessible = true};
        HolderDevice device = {.size = GIB, .offsets = true};
        ProcStill *still;
        struct stat st;
        int fd;

        if (argc != 2)
                errx(EXIT_FAILURE, "usage: bench-holders ROUNDS");
        fd = memfd_create("holders", MFD_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                err(EXIT_FAILURE, "memfd_create");
        device.dev = st.st_dev;
        device.ino = st.st_ino;
        scan.devices = &device;
        bench_check(proc_still_new(&still), "proc_still_new");
        scan.still = still;
        for (unsigned long i = bench_number(argv[1]); i > 0; i--) {
                uint64_t t = bench_now(), cpu = bench_clock(CLOCK_THREAD_CPUTIME_ID);
                HolderList found = {};

                bench_check(holders_scan(&scan, &found), "holders_scan");
                printf("{\"who\": \"egmd\", \"what\": \"scan\", \"ms\": %.3f, \"cpu\": %.3f, "
                       "\"holders\": %zu}\n",
                       (double) (bench_now() - t) / 1e6,
                       (double) (bench_clock(CLOCK_THREAD_CPUTIME_ID) - cpu) / 1e6, found.n);
                holder_list_done(&found);
        }
        proc_still_free(still);
        return EXIT_SUCCESS;
}
