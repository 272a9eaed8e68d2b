/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The whole user space of a Linux guest: writes 'E' all over most of the memory, says so, and stays. Static. */

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(void) {
        struct utsname name = {};
        struct sysinfo info = {};
        size_t size;
        void *p;

        (void) uname(&name);
        (void) sysinfo(&info);
        size = (size_t) info.freeram * info.mem_unit / 4 * 3;
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p != MAP_FAILED) {
                memset(p, 'E', size);
                printf("egm-guest: %s filled %zu MiB\n", name.release, size >> 20);
        }
        for (;;)
                pause();
}
