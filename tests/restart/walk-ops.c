/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>
#include <sys/fsuid.h>
#include <sys/wait.h>

#include "fd-util.h"

/* What happens to leases once they are out. */

#define NOBODY 65534

static int call(Walk *w, const char *path, const char *method, const char *types, int fd,
                sd_bus_error *reterr, sd_bus_message **ret) {
        if (streq(types, "h"))
                return sd_bus_call_method(w->bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, method,
                                          reterr, ret, "h", fd);
        if (streq(types, "a{sv}"))
                return sd_bus_call_method(w->bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, method,
                                          reterr, ret, "a{sv}", 0);
        return sd_bus_call_method(w->bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, method, reterr,
                                  ret, "");
}

/* Refused with one of the two names, and nothing has changed. */
static void must_refuse(Walk *w, const char *path, const char *method, const char *types, int fd,
                        const char *name, const char *other) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char *before, *after;
        bool settled = walk_is_calm(w);
        View v;

        walk_view_read(w, &v);
        before = walk_view_text(&v);
        walk_view_done(&v);
        if (call(w, path, method, types, fd, &e, NULL) >= 0)
                walk_fail(w, "%s of %s was not refused", method, path);
        if (!streq(e.name, name) && !streq_ptr(e.name, other))
                walk_fail(w, "%s of %s was refused as %s: %s", method, path, e.name, e.message);
        sd_bus_error_free(&e);
        walk_view_read(w, &v);
        after = walk_view_text(&v);
        walk_view_done(&v);
        walk_check(w, before && after);
        if (settled && !streq(before, after))
                walk_fail(w, "I6: a refused %s changed something:\n%s\nis now\n%s", method, before,
                          after);
        free(before);
        free(after);
}

void walk_release(Walk *w, WalkLease *l) {
        sd_bus_error e = SD_BUS_ERROR_NULL;

        walk_note(w, "release lease %" PRIu64, l->id);
        if (call(w, l->path, "Release", "a{sv}", -EBADF, &e, NULL) < 0)
                walk_fail(w, "Release: %s: %s", e.name, e.message);
        l->released = true;
        walk_model_update(w);
}

void walk_op_release(Walk *w) {
        WalkLease *l = walk_lease_pick(w, false);

        if (!l)
                return;
        walk_release(w, l);
        if (walk_chance(w, 3))
                must_refuse(w, l->path, "Release", "a{sv}", -EBADF, EGM_ERROR_PREFIX "Draining",
                            EGM_ERROR_PREFIX "NoSuchLease");
}

/* Of what has ended: nothing can be had any more. */
void walk_op_release_again(Walk *w) {
        WalkLease *l = walk_lease_pick(w, true);
        WalkChild *c = walk_child_pick(w);
        char path[64];

        if (!l || !c) {
                (void) snprintf(path, sizeof(path), EGM_LEASE_PATH "/%" PRIu64, UINT64_C(1) << 62);
                walk_note(w, "release what never was");
                must_refuse(w, path, "Release", "a{sv}", -EBADF, EGM_ERROR_PREFIX "NoSuchLease",
                            NULL);
                return;
        }
        /* Otherwise the daemon may not have heard of it. */
        if (!w->settled && !l->released)
                return;
        walk_note(w, "release, reopen and bind lease %" PRIu64 ", which has ended", l->id);
        must_refuse(w, l->path, "Release", "a{sv}", -EBADF, EGM_ERROR_PREFIX "Draining",
                    EGM_ERROR_PREFIX "NoSuchLease");
        must_refuse(w, l->path, "Reopen", "", -EBADF, EGM_ERROR_PREFIX "Draining",
                    EGM_ERROR_PREFIX "NoSuchLease");
        must_refuse(w, l->path, "Bind", "h", c->pidfd, EGM_ERROR_PREFIX "Draining",
                    EGM_ERROR_PREFIX "NoSuchLease");
}

/* ---- somebody else ---- */

/* File access stays root's, since the bus' socket lies in a directory of ours. */
static int become_nobody(void) {
        if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, 0) < 0)
                return -errno;
        (void) setfsuid(0);
        return 0;
}

int walk_foreign_main(const char *path, const char *method, const char *types) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus *bus;
        int r;

        if (become_nobody() < 0 || sd_bus_new(&bus) < 0 ||
            sd_bus_set_address(bus, getenv("EGM_TEST_BUS")) < 0 ||
            sd_bus_set_bus_client(bus, true) < 0 || sd_bus_negotiate_fds(bus, true) < 0)
                return 10;
        r = sd_bus_start(bus);
        if (r < 0)
                return 11;
        if (*types)
                r = sd_bus_call_method(bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, method, &e,
                                       NULL, "a{sv}", 0);
        else
                r = sd_bus_call_method(bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, method, &e,
                                       NULL, "");
        if (r >= 0)
                return 12;
        if (streq(e.name, EGM_ERROR_PREFIX "NotHolder"))
                return 0;
        (void) fprintf(stderr, "As nobody, %s of %s: %s: %s\n", method, path, e.name, e.message);
        return 13;
}

void walk_op_foreign(Walk *w) {
        WalkLease *l = walk_lease_pick(w, false);
        bool reopen = walk_chance(w, 2), settled = walk_is_calm(w);
        char *before, *after;
        int status;
        pid_t pid;
        View v;

        if (!l || geteuid() != 0)
                return;
        walk_note(w, "nobody %s lease %" PRIu64, reopen ? "reopens" : "releases", l->id);
        walk_view_read(w, &v);
        before = walk_view_text(&v);
        walk_view_done(&v);
        (void) fflush(NULL);
        pid = fork();
        walk_check(w, pid >= 0);
        /* As a program of its own: what a thread beside us was about when it forked would be left half done. */
        if (pid == 0) {
                (void) execl(w->self, w->self, "--foreign", l->path, reopen ? "Reopen" : "Release",
                             reopen ? "" : "a{sv}", NULL);
                _exit(1);
        }
        walk_check(w, waitpid(pid, &status, 0) == pid);
        if (status != 0)
                walk_fail(w, "somebody else's call ended with status %#x", (unsigned) status);
        walk_view_read(w, &v);
        after = walk_view_text(&v);
        walk_view_done(&v);
        walk_check(w, before && after);
        if (settled && !streq(before, after))
                walk_fail(w, "I6: somebody else changed something:\n%s\nis now\n%s", before, after);
        free(before);
        free(after);
}

/* ---- the owner ---- */

void walk_op_reopen(Walk *w) {
        WalkLease *l = walk_lease_pick(w, false);
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *region;
        uint64_t offset, size;
        int lifetime, fd;
        size_t n = 0, room = 0;
        WalkChild *c;

        if (!l)
                return;
        c = walk_chance(w, 3) ? walk_child_new(w) : walk_child_pick(w);
        for (size_t i = 0; c && i < WALK_SLOTS; i++)
                room += c->slots[i].kind == WALK_SLOT_NONE;
        if (!c || room <= 2 * WALK_ASKED)
                return;
        walk_note(w, "reopen lease %" PRIu64 " for pid %i", l->id, (int) c->pid);
        if (walk_lease_is_lost(l)) {
                must_refuse(w, l->path, "Reopen", "", -EBADF, EGM_ERROR_PREFIX "Draining", NULL);
                return;
        }
        if (call(w, l->path, "Reopen", "", -EBADF, &e, &reply) < 0)
                walk_fail(w, "Reopen: %s: %s", e.name, e.message);
        walk_check(w, sd_bus_message_read(reply, "h", &lifetime) > 0);
        walk_child_give(w, c,
                        &(WalkSlot){.kind = WALK_SLOT_LIFETIME,
                                    .lease = l->serial,
                                    .region = WALK_REGIONS},
                        lifetime);
        walk_check(w, sd_bus_message_enter_container(reply, 'a', "(shtt)") > 0);
        while (sd_bus_message_read(reply, "(shtt)", &region, &fd, &offset, &size) > 0) {
                const WalkSlice *s = l->slices + n;

                walk_check(w, n < l->n_slices);
                if (!streq(region, walk_regions[s->region].name) || offset != s->offset ||
                    size != s->size)
                        walk_fail(w,
                                  "Reopen of lease %" PRIu64 ": slice %zu is %s %#" PRIx64
                                  "+%#" PRIx64,
                                  l->id, n, region, offset, size);
                walk_child_give(w, c,
                                &(WalkSlot){.kind = WALK_SLOT_MEMORY,
                                            .lease = l->serial,
                                            .region = s->region,
                                            .generation = s->generation},
                                fd);
                n++;
        }
        walk_check(w, n == l->n_slices);
        sd_bus_message_unref(reply);
        walk_model_update(w);
        walk_children_check(w);
}

void walk_bind(Walk *w, WalkLease *l, const WalkChild *c) {
        sd_bus_error e = SD_BUS_ERROR_NULL;

        walk_note(w, "bind lease %" PRIu64 " to pid %i", l->id, (int) c->pid);
        if (call(w, l->path, "Bind", "h", c->pidfd, &e, NULL) < 0)
                walk_fail(w, "Bind: %s: %s", e.name, e.message);
        if (!walk_lease_is_bound(l, c->pid))
                l->bound[l->n_bound++] = c->pid;
        walk_model_update(w);
}

void walk_op_bind(Walk *w) {
        WalkLease *l = walk_lease_pick(w, false);
        WalkChild *c = walk_child_pick(w);

        if (!l || !c)
                return;
        if (walk_chance(w, 6)) {
                walk_note(w, "bind lease %" PRIu64 " to what is no process", l->id);
                must_refuse(w, l->path, "Bind", "h", STDERR_FILENO, SD_BUS_ERROR_INVALID_ARGS,
                            NULL);
                return;
        }
        if (l->n_bound < WALK_BOUND)
                walk_bind(w, l, c);
}

void walk_set_schedulable(Walk *w, size_t i, bool on) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        char path[64];

        if (w->regions[i].unheard)
                return;
        walk_note(w, "%s: lending switched %s", walk_regions[i].name, on ? "on" : "off");
        (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/%s", walk_regions[i].name);
        if (sd_bus_call_method(w->bus, EGM_BUS_NAME, path, EGM_REGION_INTERFACE, "SetSchedulable",
                               &e, NULL, "b", (int) on) < 0)
                walk_fail(w, "SetSchedulable: %s: %s", e.name, e.message);
        w->regions[i].schedulable = on;
        w->settled = false;
}

void walk_op_schedulable(Walk *w) {
        size_t i = walk_random(w, WALK_REGIONS);

        walk_set_schedulable(w, i, !w->regions[i].schedulable);
}

/* ---- what processes do among themselves ---- */

static WalkSlot *pick_slot(Walk *w, WalkChild *c, bool maps) {
        size_t from = walk_random(w, WALK_SLOTS);

        for (size_t i = 0; i < WALK_SLOTS; i++) {
                WalkSlot *s = c->slots + (from + i) % WALK_SLOTS;

                if (s->kind != WALK_SLOT_NONE && (s->kind == WALK_SLOT_MAP) == maps)
                        return s;
        }
        return NULL;
}

static const char *slot_text(const WalkSlot *s) {
        return s->kind == WALK_SLOT_LIFETIME ? "the lifetime" : walk_regions[s->region].name;
}

/* A descriptor to somebody else; the first copy may go. */
void walk_op_pass(Walk *w) {
        WalkChild *from = walk_child_pick(w), *to;
        WalkSlot *s = from ? pick_slot(w, from, false) : NULL;
        bool keep = walk_chance(w, 2);
        WalkAnswer a;
        int fd;

        if (!s)
                return;
        to = walk_chance(w, 3) ? walk_child_new(w) : walk_child_pick(w);
        if (!to || to == from || !walk_child_free_slot(to))
                return;
        walk_note(w, "pid %i %s %s of serial %u to pid %i", (int) from->pid,
                  keep ? "copies" : "hands", slot_text(s), s->lease, (int) to->pid);
        a = walk_child_call(w, from,
                            &(WalkCommand){.order = WALK_ORDER_GIVE,
                                           .slot = (unsigned) (s - from->slots)},
                            -EBADF, &fd);
        walk_check(w, a.r >= 0 && fd >= 0);
        walk_child_give(w, to, s, fd);
        (void) close(fd);
        if (!keep)
                walk_child_close(w, from, s);
        walk_model_update(w);
}

void walk_op_close(Walk *w) {
        WalkChild *c = walk_child_pick(w);
        WalkSlot *s = c ? pick_slot(w, c, false) : NULL;

        if (!s)
                return;
        walk_note(w, "pid %i closes %s of serial %u", (int) c->pid, slot_text(s), s->lease);
        walk_child_close(w, c, s);
        walk_model_update(w);
}

/* Only what is its own: isolation is cooperative. */
void walk_op_map(Walk *w) {
        WalkChild *c = walk_child_pick(w);
        bool private = walk_chance(w, 5);

        for (size_t i = 0; c && i < WALK_SLOTS; i++) {
                const WalkSlot *s = c->slots + i;
                WalkLease *l = s->kind == WALK_SLOT_MEMORY ? walk_lease_find(w, s->lease) : NULL;

                if (!l || l->ended || l->release_unsure || !walk_child_free_slot(c))
                        continue;
                for (size_t k = 0; k < l->n_slices; k++)
                        if (l->slices[k].region == s->region &&
                            l->slices[k].generation == s->generation) {
                                WalkSlot *m;

                                walk_note(w, "pid %i maps slice %zu of lease %" PRIu64 "%s",
                                          (int) c->pid, k, l->id, private ? ", private" : "");
                                m = walk_child_map(w, c, s, l->slices + k, private);
                                walk_check(w, m);
                                m->filled = l->filled;
                                walk_model_update(w);
                                return;
                        }
        }
}

void walk_op_unmap(Walk *w) {
        WalkChild *c = walk_child_pick(w);
        WalkSlot *s = c ? pick_slot(w, c, true) : NULL;
        uint64_t n, head, size;

        if (!s)
                return;
        n = s->size / WALK_GRANULE;
        if (n < 2 || walk_chance(w, 2)) {
                walk_note(w, "pid %i unmaps %s %#" PRIx64 "+%#" PRIx64, (int) c->pid,
                          walk_regions[s->region].name, s->offset, s->size);
                walk_child_unmap(w, c, s, 0, 0);
        } else {
                head = walk_random(w, n);
                size = 1 + walk_random(w, n - head);
                walk_note(w,
                          "pid %i keeps of %s %#" PRIx64 "+%#" PRIx64 " only %" PRIu64
                          " pieces from %" PRIu64,
                          (int) c->pid, walk_regions[s->region].name, s->offset, s->size, size,
                          head);
                walk_child_unmap(w, c, s, s->offset + head * WALK_GRANULE, size * WALK_GRANULE);
        }
        walk_model_update(w);
}

void walk_op_fork(Walk *w) {
        WalkChild *c = walk_child_pick(w), *n;

        if (!c)
                return;
        n = walk_child_fork(w, c);
        if (!n)
                return;
        walk_note(w, "pid %i forks pid %i", (int) c->pid, (int) n->pid);
        walk_model_update(w);
}

void walk_op_exec(Walk *w) {
        WalkChild *c = walk_child_pick(w);

        if (!c)
                return;
        walk_note(w, "pid %i executes another program", (int) c->pid);
        walk_child_exec(w, c);
        walk_model_update(w);
}

void walk_op_end(Walk *w) {
        WalkChild *c = walk_child_pick(w);
        bool by_kill = walk_chance(w, 2);

        if (!c)
                return;
        walk_note(w, "pid %i %s", (int) c->pid, by_kill ? "is killed" : "exits");
        walk_child_end(w, c, by_kill);
}

void walk_op_of_holders(Walk *w) {
        static void (*const ops[])(Walk * w) = {walk_op_pass,  walk_op_close, walk_op_map,
                                                walk_op_unmap, walk_op_fork,  walk_op_exec,
                                                walk_op_end};

        ops[walk_random(w, ELEMENTSOF(ops))](w);
}
