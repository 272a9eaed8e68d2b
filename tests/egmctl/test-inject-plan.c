/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "../unit/test.h"

#include "inject-plan.h"

#define ARGS_MAX 16

static int split(char *line, char **argv) {
        char *word;
        int n = 0;

        while ((word = strsep(&line, " ")))
                argv[n++] = word;
        assert_true(n < ARGS_MAX);
        return n;
}

static void test_plan(void **state) {
        static const struct {
                const char *line;
                bool wanted, narrow;
                int shift0, shift1;
                bool shares;
        } table[] = {
                        {"true", false, false, -1, -1, false},
                        {"cat /run/egm", false, false, -1, -1, false},
                        {"qemu-system-x86_64 -m 1G", true, true, -1, -1, false},
                        {"/usr/bin/qemu-system-aarch64", true, true, -1, -1, false},
                        {"/usr/libexec/qemu-kvm", true, true, -1, -1, false},
                        {"/opt/kvm", true, true, -1, -1, false},
                        {"qemu-img create", false, false, -1, -1, false},
                        {"./cloud-hypervisor", true, false, -1, -1, false},
                        {"sh -c x {0.path}", true, false, -1, -1, false},
                        {"sh -c x {1.path} {0.offset}", true, false, 0, -1, false},
                        {"sh -c x {1.path} {1.offset}", true, false, -1, 0, false},
                        {"sh -c x \\{0.path}", false, false, -1, -1, false},
                        /* Behind who starts it. */
                        {"setpriv --reuid=1 qemu-system-x86_64 {0.path}", true, true, -1, -1,
                         false},
                        {"setpriv --reuid=1 crosvm {0.path}", true, false, -1, -1, false},
                        {"setpriv --reuid=1 qemu-system-x86_64", false, true, -1, -1, false},
                        {"kvm -chardev socket -device vhost-user-blk", true, true, -1, -1, true},
                        {"kvm -netdev type=vhost-user,x", true, true, -1, -1, true},
                        {"cloud-hypervisor --fs vhost_user=on", true, false, -1, -1, true},
                        {"vhost-user-launcher x", false, false, -1, -1, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *line = strdup(table[i].line);
                const InjectOption o = {};
                char *argv[ARGS_MAX];
                int n = split(line, argv);

                if (inject_is_wanted(&o, 2, n, argv) != table[i].wanted ||
                    inject_is_narrow(n, argv) != table[i].narrow ||
                    inject_shift(&o, 0, n, argv) != table[i].shift0 ||
                    inject_shift(&o, 1, n, argv) != table[i].shift1 ||
                    (inject_shares_memory(n, argv) != NULL) != table[i].shares)
                        fail_msg("%s", table[i].line);
        }
}

/* What is said goes before what is guessed. */
static void test_options(void **state) {
        char *plain[] = {(char[]){"true"}}, *vmm[] = {(char[]){"kvm"}, (char[]){"{0.offset}"}};
        _cleanup_(inject_option_done) InjectOption o = {};

        assert_int_equal(inject_option_set(&o, "inject", NULL, NULL), 0);
        assert_true(inject_is_wanted(&o, 1, 1, plain));
        assert_int_equal(inject_option_set(&o, "no-inject", NULL, NULL), -EINVAL);
        inject_option_done(&o);
        assert_int_equal(inject_option_set(&o, "no-inject", NULL, NULL), 0);
        assert_false(inject_is_wanted(&o, 1, 2, vmm));
        assert_int_equal(inject_option_check(&o, 1, NULL), 0);
        inject_option_done(&o);

        assert_int_equal(inject_option_set(&o, "shift", "on", NULL), 0);
        assert_true(inject_is_wanted(&o, 1, 1, plain));
        assert_int_equal(inject_shift(&o, 0, 2, vmm), 1);
        assert_int_equal(inject_option_set(&o, "shift", "off", NULL), 0);
        assert_int_equal(inject_shift(&o, 0, 1, plain), 0);
        assert_int_equal(inject_option_set(&o, "shift", "auto", NULL), 0);
        assert_int_equal(inject_shift(&o, 0, 1, plain), -1);
        assert_int_equal(inject_option_set(&o, "shift", "", NULL), -EINVAL);
        inject_option_done(&o);

        assert_int_equal(inject_option_set(&o, "as", "/dev/egm4", NULL), 0);
        assert_true(inject_is_wanted(&o, 1, 1, plain));
        assert_int_equal(inject_option_set(&o, "as", "/dev/egm4", NULL), -EINVAL);
        assert_int_equal(inject_option_set(&o, "as", "dev/egm5", NULL), -EINVAL);
        assert_int_equal(inject_option_set(&o, "as", "/dev/egm5", NULL), 0);
        assert_int_equal(inject_option_check(&o, 1, NULL), -EINVAL);
        assert_int_equal(inject_option_check(&o, 2, NULL), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_plan),
                        cmocka_unit_test(test_options),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
