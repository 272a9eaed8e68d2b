/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "confine.h"
#include "dmabuf.h"
#include "fd-util.h"
#include "lifeline.h"
#include "size.h"

int bus_lease_path(const Lease *l, char **ret) {
        return asprintf(ret, EGM_LEASE_PATH "/%" PRIu64, l->id) < 0 ? -ENOMEM : 0;
}

int bus_lease_find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                   sd_bus_error *reterr) {
        const char *p = path + strlen(EGM_LEASE_PATH);
        Bus *b = userdata;
        uint64_t id;
        Lease *l;

        /* One object has one path: no leading zeros. */
        if (*p != '/' || p[1] == '0' || parse_uint64(p + 1, &id) < 0)
                return 0;
        l = manager_find_lease(b->manager, id);
        if (!l || l->hidden)
                return 0;
        *ret = l;
        return 1;
}

int bus_lease_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                        sd_bus_error *reterr) {
        Manager *m = ((Bus *) userdata)->manager;
        char **list;
        size_t n = 0;
        Lease *l;

        list = calloc(m->n_leases + 1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        RB_FOREACH (l, LeaseTree, &m->leases) {
                int r;

                if (l->hidden)
                        continue;
                r = bus_lease_path(l, list + n);
                if (r < 0) {
                        for (size_t k = 0; k < n; k++)
                                free(list[k]);
                        free(list);
                        return r;
                }
                n++;
        }
        *ret = list;
        return 1;
}

static pid_t holder_pid(const Lease *l) {
        return lifeline_bound(l->lifeline) > 0 ? lifeline_pid(l->lifeline, 0) : l->owner_pid;
}

static int get_string(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Lease *l = userdata;
        bool secret = streq(property, "Label") || streq(property, "Unit");
        const char *s = "";
        char id[32];

        if (secret && !bus_may_read(bus_of(l->manager), reply, l->owner_uid))
                return sd_bus_message_append_basic(reply, 's', "");

        if (streq(property, "Id")) {
                (void) snprintf(id, sizeof(id), "%" PRIu64, l->id);
                s = id;
        } else if (streq(property, "Label"))
                s = l->label;
        else if (streq(property, "State"))
                s = lease_state_to_string(lease_state(l));
        else if (streq(property, "Lifetime"))
                s = lease_lifetime_to_string(l->lifetime);
        else if (streq(property, "Isolation"))
                s = confine_holds(l) && !l->dmabuf ? "enforced" : "cooperative";
        else if (streq(property, "Unit"))
                s = l->holder_unit;
        return sd_bus_message_append_basic(reply, 's', s ?: "");
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Lease *l = userdata;

        if (streq(property, "CreatedUSec"))
                return sd_bus_message_append_basic(reply, 't', &l->created_usec);
        if (streq(property, "OwnerUid"))
                return sd_bus_message_append(reply, "u", (uint32_t) l->owner_uid);
        return sd_bus_message_append(reply, "u",
                                     bus_may_read(bus_of(l->manager), reply, l->owner_uid)
                                                     ? (uint32_t) holder_pid(l)
                                                     : UINT32_C(0));
}

static int get_concealed(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Lease *l = userdata;

        return sd_bus_message_append(reply, "b",
                                     (int) !bus_may_read(bus_of(l->manager), reply, l->owner_uid));
}

static int get_slices(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Lease *l = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(stt)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_slices; i++) {
                r = sd_bus_message_append(reply, "(stt)", l->slices[i].region_name,
                                          l->slices[i].offset, l->slices[i].size);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int get_retired(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Lease *l = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(stt)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_slices; i++) {
                _cleanup_ranges_ Ranges inside = {};
                const Region *region = l->slices[i].region;

                if (!region)
                        continue;
                r = ranges_clip(&region->retired, l->slices[i].offset, l->slices[i].size, &inside);
                if (r < 0)
                        return r;
                RANGES_FOREACH (k, &inside) {
                        r = sd_bus_message_append(reply, "(stt)", region->name, k->offset, k->size);
                        if (r < 0)
                                return r;
                }
        }
        return sd_bus_message_close_container(reply);
}

static int get_held_up_by(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *reterr) {
        const Lease *l = userdata;
        size_t n = bus_may_read(bus_of(l->manager), reply, l->owner_uid) ? l->n_blockers : 0;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(usst)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                r = sd_bus_message_append(reply, "(usst)", (uint32_t) l->blockers[i].pid,
                                          l->blockers[i].comm, l->blockers[i].unit,
                                          l->blockers[i].start_time);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int refuse_stranger(const Peer *peer, const Lease *l, sd_bus_error *reterr) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        int r;

        r = egm_error_set(&e, EGM_ERROR_NOT_HOLDER,
                          "Lease %" PRIu64 " belongs to uid %u, and you are uid %u", l->id,
                          (unsigned) l->owner_uid, (unsigned) peer->uid);
        return bus_refuse(reterr, r, &e);
}

/* 1: the caller owns the lease; 0: to be asked again; negative: refused. */
static int check_owner(sd_bus_message *m, Lease *l, Peer **ret_peer, sd_bus_error *reterr) {
        Peer *peer;
        int r;

        r = bus_peer_get(bus_of(l->manager), m, &peer, reterr);
        if (r <= 0)
                return r;
        if (!bus_peer_owns(peer, l))
                return refuse_stranger(peer, l, reterr);
        if (ret_peer)
                *ret_peer = peer;
        return 1;
}

/* The same for its end, which polkit may allow to others, and may keep from those who are here by its leave only. */
static int check_release(sd_bus_message *m, Lease *l, uid_t *ret_uid, sd_bus_error *reterr) {
        char id[32], owner[32];
        Peer *peer;
        bool owns;
        int r;

        r = bus_peer_get(bus_of(l->manager), m, &peer, reterr);
        if (r <= 0)
                return r;
        *ret_uid = peer->uid;
        owns = bus_peer_owns(peer, l);
        if (owns && bus_peer_may_acquire(peer->bus, peer))
                return 1;
        (void) snprintf(id, sizeof(id), "%" PRIu64, l->id);
        (void) snprintf(owner, sizeof(owner), "%u", (unsigned) l->owner_uid);
        r = bus_polkit_check(peer, m, owns ? POLKIT_RELEASE_OWN : POLKIT_RELEASE_ANY,
                             (const char *const[]){"lease", id, "owner", owner, NULL}, reterr);
        if (r != -EACCES || sd_bus_error_is_set(reterr))
                return r;
        if (!owns)
                return refuse_stranger(peer, l, reterr);
        return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                 "polkit keeps uid %u from ending its lease %" PRIu64,
                                 (unsigned) peer->uid, l->id);
}

static int method_release(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Lease *l = userdata;
        char why[64];
        uid_t uid;
        int r;

        r = check_release(m, l, &uid, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_no_options(m, &e);
        if (r < 0)
                return bus_refuse(reterr, r, &e);
        if (l->released) {
                r = egm_error_set(&e, EGM_ERROR_DRAINING,
                                  "Lease %" PRIu64 " has been released and is %s", l->id,
                                  lease_state_to_string(lease_state(l)));
                return bus_refuse(reterr, r, &e);
        }
        (void) snprintf(why, sizeof(why), "by uid %u", (unsigned) uid);
        r = manager_release(l->manager, l, uid == l->owner_uid ? "by its owner" : why);
        if (r < 0)
                return sd_bus_error_set_errnof(
                                reterr, r, "Failed to write down the end of lease %" PRIu64 ": %s",
                                l->id, strerror(-r));
        return sd_bus_reply_method_return(m, NULL);
}

static int let_in(sd_bus_message *m, Lease *l, sd_bus_error *reterr,
                  int (*let)(Manager *m, Lease *l, int pidfd, EgmError *reterr)) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Peer *peer;
        int fd, r;

        r = check_owner(m, l, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(m, "h", &fd);
        if (r < 0)
                return r;
        r = bus_peer_check_process(peer, l->gated, fd, &e);
        if (r >= 0)
                r = let(l->manager, l, fd, &e);
        if (r < 0)
                return bus_refuse(reterr, r, &e);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_bind(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return let_in(m, userdata, reterr, manager_bind);
}

static int method_admit(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return let_in(m, userdata, reterr, manager_admit);
}

static int method_reopen(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        Lease *l = userdata;
        Peer *peer;
        int r;

        /* Descriptors that nobody would get. */
        if (!sd_bus_message_get_expect_reply(m))
                return 1;
        r = check_owner(m, l, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = manager_reopen(l->manager, l, &fd, &e);
        if (r < 0)
                return bus_refuse(reterr, r, &e);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "h", fd);
        if (r < 0)
                return r;
        r = bus_append_slices(reply, l);
        if (r < 0)
                return r;
        return bus_answer(peer, reply, 1 + (unsigned) l->n_slices, NULL, 0);
}

static int append_dmabufs(sd_bus_message *m, const Lease *l, const int *fds) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "(sh)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_slices; i++) {
                r = sd_bus_message_append(m, "(sh)", l->slices[i].region_name, fds[i]);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(m);
}

/* On the loop: the driver notes the ranges and makes a file; it touches none of the memory. */
static int method_export_dmabuf(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Lease *l = userdata;
        int fds[EGM_SLICES_MAX];
        Peer *peer;
        int r;

        if (!sd_bus_message_get_expect_reply(m))
                return 1;
        r = check_owner(m, l, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        r = dmabuf_export(l->manager, l, fds, &e);
        if (r < 0)
                return bus_refuse(reterr, r, &e);
        r = append_dmabufs(reply, l, fds); /* copies them */
        for (size_t i = 0; i < l->n_slices; i++)
                safe_close(fds[i]);
        return r < 0 ? r : bus_answer(peer, reply, (unsigned) l->n_slices, NULL, 0);
}

const sd_bus_vtable bus_lease_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                                        method_release, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD_WITH_ARGS("Bind", SD_BUS_ARGS("h", pidfd), SD_BUS_NO_RESULT,
                                        method_bind, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD_WITH_ARGS("Admit", SD_BUS_ARGS("h", pidfd), SD_BUS_NO_RESULT,
                                        method_admit, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD_WITH_ARGS("Reopen", SD_BUS_NO_ARGS,
                                        SD_BUS_RESULT("h", lifetime, "a(shtt)", slices),
                                        method_reopen, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD_WITH_ARGS("ExportDmabuf", SD_BUS_NO_ARGS,
                                        SD_BUS_RESULT("a(sh)", dmabufs), method_export_dmabuf,
                                        SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_SIGNAL_WITH_ARGS("RetiredPagesFound", SD_BUS_ARGS("a(stt)", pages), 0),
                SD_BUS_PROPERTY("Id", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                /* Of what not everybody may read, signals hold no value. */
                SD_BUS_PROPERTY("Label", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_PROPERTY("Slices", "a(stt)", get_slices, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("State", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Lifetime", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("Isolation", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("OwnerUid", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("HolderPid", "u", get_number, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_PROPERTY("Unit", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_PROPERTY("CreatedUSec", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("RetiredRanges", "a(stt)", get_retired, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("HeldUpBy", "a(usst)", get_held_up_by, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_PROPERTY("Concealed", "b", get_concealed, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_VTABLE_END,
};

int bus_lease_object(Lease *l, char **ret_path, BusObject *ret) {
        int r;

        r = bus_lease_path(l, ret_path);
        if (r < 0)
                return r;
        *ret = (BusObject){.path = *ret_path,
                           .interface = EGM_LEASE_INTERFACE,
                           .vtable = bus_lease_vtable,
                           .userdata = l};
        return 0;
}
