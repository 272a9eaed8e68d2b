/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* For udev's rules: prints what a region's links are named after. */

#include <poll.h>

#include "discovery-read.h"
#include "log.h"

/* Drivers add their GPUs up to some 20 ms after the event; those that never list any cost the whole wait. */
#define TRIES 10
#define PAUSE_MSEC 20

static int read_region(struct udev *udev, const char *syspath, RegionInfo **ret) {
        for (int i = 0;; i++) {
                _cleanup_(region_info_freep) RegionInfo *info = NULL;
                _cleanup_free_ char *problem = NULL;
                bool kept;
                int r;

                r = region_info_read(udev, syspath, NULL, true, &info, &kept, &problem);
                if (r < 0)
                        return log_error_errno(r, "%s: %s", syspath, problem ?: strerror(-r));
                if (info->n_gpus > 0 || i >= TRIES) {
                        *ret = TAKE_PTR(info);
                        return 0;
                }
                (void) poll(NULL, 0, PAUSE_MSEC);
        }
}

int main(int argc, char *argv[]) {
        _cleanup_(region_info_freep) RegionInfo *info = NULL;
        struct udev *udev;
        int r;

        log_open();
        if (argc != 2) {
                log_error("Usage: %s SYSPATH", program_invocation_short_name);
                return EXIT_FAILURE;
        }
        udev = udev_new();
        if (!udev) {
                (void) log_oom();
                return EXIT_FAILURE;
        }
        r = read_region(udev, argv[1], &info);
        udev_unref(udev);
        if (r < 0)
                return EXIT_FAILURE;
        if (info->node >= 0)
                printf("EGM_NODE=%i\n", info->node);
        if (info->socket >= 0)
                printf("EGM_SOCKET=%i\n", info->socket);
        printf("EGM_LINKS=");
        if (info->node >= 0)
                printf("egm/by-node/%i", info->node);
        for (size_t i = 0; i < info->n_gpus; i++)
                printf(" egm/by-gpu/%s", info->gpus[i].address);
        printf("\n");
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
