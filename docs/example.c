/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Acquires memory near a GPU, maps it, uses it, gives it back.
 *
 *     cc example.c -o example $(pkg-config --cflags --libs libegm)
 *     ./example 64 0009:01:00.0            64 MiB next to that GPU
 *     ./example 64                         64 MiB anywhere
 *
 * $EXAMPLE_BUS is the address of a private bus, for trying it out on simulated regions. */

#include <egm.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int complain(egm_connection *c, const char *what, int r) {
        const char *message = egm_connection_get_error_message(c);

        fprintf(stderr, "%s: %s\n", what, message ? message : strerror(-r));
        return r;
}

static int acquire(egm_connection *c, uint64_t size, const char *gpu, egm_lease **ret) {
        egm_request *request;
        int r;

        r = egm_request_new(&request);
        if (r < 0)
                return r;
        r = egm_request_add_slice(request, size);
        if (r >= 0)
                r = egm_request_set_slice_gpu(request, 0, gpu);
        if (r >= 0)
                r = egm_request_set_label(request, "example");
        if (r >= 0)
                r = egm_acquire(c, request, ret);
        egm_request_unref(request);
        return r;
}

static int use(egm_lease *lease) {
        const char *region;
        uint64_t offset, size;
        void *memory;
        int r;

        r = egm_lease_get_slice(lease, 0, &region, NULL, &offset, &size);
        if (r < 0)
                return r;
        printf("lease %s: %" PRIu64 " bytes of %s from offset %" PRIu64 "\n",
               egm_lease_get_id(lease), size, region, offset);

        /* Offsets count from the start of the slice; nothing outside it can be mapped. */
        r = egm_lease_map(lease, 0, 0, size, PROT_READ | PROT_WRITE, 0, &memory);
        if (r < 0)
                return r;
        memset(memory, 0x5a, size);
        munmap(memory, size);
        return 0;
}

int main(int argc, char *argv[]) {
        egm_connection *connection = NULL;
        egm_lease *lease = NULL;
        int r;

        if (argc < 2) {
                fprintf(stderr, "usage: %s MIB [GPU]\n", argv[0]);
                return EXIT_FAILURE;
        }
        r = egm_connection_new(getenv("EXAMPLE_BUS"), &connection);
        if (r < 0) {
                complain(NULL, "cannot connect to the bus", r);
                return EXIT_FAILURE;
        }

        r = acquire(connection, strtoull(argv[1], NULL, 10) << 20, argc > 2 ? argv[2] : NULL,
                    &lease);
        if (r < 0)
                complain(connection, "cannot acquire memory", r);
        else {
                r = use(lease);
                if (r < 0)
                        complain(NULL, "cannot use it", r);
                /* Without this the lease would end when the program does. */
                if (egm_lease_release(lease) < 0)
                        r = complain(connection, "cannot release it", r);
        }

        egm_lease_unref(lease);
        egm_connection_unref(connection);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
