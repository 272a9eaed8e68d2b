/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The fake daemon as a program, for tests of egmctl: says "ready", does what the bytes of its input say, ends with it. */

#include "fake-egmd.h"

int main(int argc, char **argv) {
        static Fake fake;
        char byte;

        if (argc != 2 || fake_start(argv[1], &fake) < 0)
                return EXIT_FAILURE;
        puts("ready");
        (void) fflush(stdout);
        while (read(STDIN_FILENO, &byte, 1) > 0)
                switch (byte) {
                case 's':
                        fake_send_signals(&fake);
                        break;
                case 'b':
                        fake.mute_bind = true;
                        puts("mute");
                        (void) fflush(stdout);
                        break;
                case '?':
                        printf("bound %s released %u\n", fake.bound ?: "nothing", fake.n_released);
                        (void) fflush(stdout);
                        fake_reset(&fake);
                        break;
                }
        fake_stop(&fake);
        return EXIT_SUCCESS;
}
