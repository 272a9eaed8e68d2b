/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <poll.h>

#include "lease-bed.h"

Fake fake;

egm_connection *connect_fake(void) {
        egm_connection *c = NULL;

        fake_reset(&fake);
        assert_int_equal(egm_connection_new(fake.address, &c), 0);
        return c;
}

egm_connection *connect_ready(void) {
        egm_connection *c = connect_fake();
        egm_manager *m = NULL;

        assert_int_equal(egm_get_manager(c, &m), 0);
        egm_manager_unref(m);
        assert_true(egm_connection_dispatch(c) >= 0);
        return c;
}

egm_request *new_request(void) {
        egm_request *r = NULL;

        assert_int_equal(egm_request_new(&r), 0);
        assert_int_equal(egm_request_add_slice(r, 2 * MIB), 0);
        return r;
}

egm_lease *acquire(egm_connection *c) {
        egm_request *r = new_request();
        egm_lease *l = NULL;

        assert_int_equal(egm_acquire(c, r, &l), 0);
        egm_request_unref(r);
        return l;
}

unsigned count_fds(void) {
        egm_connection *c = NULL;
        egm_manager *m = NULL;
        unsigned n = 0;
        DIR *d;

        /* A round trip: the fake, a thread of this process, has closed what its last answers carried. */
        assert_int_equal(egm_connection_new(fake.address, &c), 0);
        (void) egm_get_manager(c, &m);
        egm_manager_unref(m);
        egm_connection_unref(c);
        d = opendir("/proc/self/fd");
        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

bool lifetime_ended(int timeout_msec) {
        struct pollfd p = {.fd = fake.lifetime_fd, .events = POLLIN};

        return poll(&p, 1, timeout_msec) == 1 && (p.revents & POLLHUP);
}

int lease_bed_main(const struct CMUnitTest *tests, size_t n) {
        const char *address = getenv("EGM_TEST_BUS");
        int r;

        if (!address)
                return 77;
        if (fake_start(address, &fake) < 0)
                return EXIT_FAILURE;
        r = _cmocka_run_group_tests("lease", tests, n, NULL, NULL);
        fake_stop(&fake);
        return r;
}
