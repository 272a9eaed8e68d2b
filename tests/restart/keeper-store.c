/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "keeper-store.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>

#include "fd-util.h"
#include "keeper.h"

#define NAME_MAX_LENGTH 255U

bool keeper_store_name_is_valid(const char *name) {
        for (const char *p = name; *p; p++)
                if (*p <= ' ' || *p >= 127 || *p == ':')
                        return false;
        return *name && strlen(name) <= NAME_MAX_LENGTH;
}

int keeper_store_same_file(int a, int b) {
        long r = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b);

        return r < 0 ? -errno : r == 0;
}

int keeper_store_take(KeeperStore *s, const char *name, int fd) {
        _cleanup_close_ int taken = fd;
        KeeperStored *items;
        char *copy;
        int r;

        if (s->n >= KEEPER_STORE_MAX)
                return -EXFULL;
        for (size_t i = 0; i < s->n; i++) {
                r = keeper_store_same_file(s->items[i].fd, fd);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        items = reallocarray(s->items, s->n + 1, sizeof(KeeperStored));
        if (!items)
                return -ENOMEM;
        s->items = items;
        copy = strdup(name);
        if (!copy)
                return -ENOMEM;
        memmove(items + 1, items, s->n * sizeof(KeeperStored));
        items[0] = (KeeperStored){.name = copy, .fd = TAKE_FD(taken)};
        s->n++;
        return 1;
}

void keeper_store_drop(KeeperStore *s, size_t i) {
        free(s->items[i].name);
        (void) safe_close(s->items[i].fd);
        memmove(s->items + i, s->items + i + 1, (s->n - i - 1) * sizeof(KeeperStored));
        s->n--;
}

void keeper_store_forget(KeeperStore *s, const char *name) {
        for (size_t i = s->n; i > 0; i--)
                if (streq(s->items[i - 1].name, name))
                        keeper_store_drop(s, i - 1);
}

void keeper_store_done(KeeperStore *s) {
        while (s->n > 0)
                keeper_store_drop(s, s->n - 1);
        s->items = mfree(s->items);
}

char *keeper_store_names(const KeeperStore *s) {
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);

        if (!f)
                return NULL;
        (void) fputs("LISTEN_FDNAMES=", f);
        for (size_t i = 0; i < s->n; i++)
                (void) fprintf(f, "%s%s", i > 0 ? ":" : "", s->items[i].name);
        return fclose(f) == 0 ? text : mfree(text);
}
