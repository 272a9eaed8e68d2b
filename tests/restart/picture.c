/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "picture.h"

#include <inttypes.h>

#include "egm-names.h"

/* One property: a member of a region or lease, by its name. */
typedef struct Member {
        const char *name;
        const char *type;
        size_t offset;
        size_t size; /* of a text's buffer */
} Member;

#define REGION(member) offsetof(PictureRegion, member)
#define LEASE(member) offsetof(PictureLease, member)

static const Member region_members[] = {
                {"Name", "s", REGION(name), sizeof(((PictureRegion *) 0)->name)},
                {"State", "s", REGION(state), sizeof(((PictureRegion *) 0)->state)},
                {"Schedulable", "b", REGION(schedulable), 0},
                {"Size", "t", REGION(size), 0},
                {"Free", "t", REGION(free), 0},
                {"Leased", "t", REGION(leased), 0},
                {"Draining", "t", REGION(draining), 0},
                {"Dirty", "t", REGION(dirty), 0},
                {"Scrubbing", "t", REGION(scrubbing), 0},
                {"Retired", "t", REGION(retired), 0},
                {},
};

static const Member lease_members[] = {
                {"Label", "s", LEASE(label), sizeof(((PictureLease *) 0)->label)},
                {"State", "s", LEASE(state), sizeof(((PictureLease *) 0)->state)},
                {"Lifetime", "lifetime", LEASE(persistent), 0},
                {"HolderPid", "u", LEASE(holder_pid), 0},
                {"Slices", "slices", 0, 0},
                {},
};

static int read_slices(sd_bus_message *m, PictureLease *l) {
        const char *region;
        uint64_t offset, size;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(stt)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(stt)", &region, &offset, &size)) > 0) {
                PictureSlice *s;

                if (l->n_slices >= PICTURE_SLICES_MAX)
                        return -E2BIG;
                s = l->slices + l->n_slices++;
                s->offset = offset;
                s->size = size;
                (void) snprintf(s->region, sizeof(s->region), "%s", region);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_member(sd_bus_message *m, const Member *f, void *dest) {
        void *p = (char *) dest + f->offset;
        const char *s;
        int b, r;

        if (streq(f->type, "slices"))
                return read_slices(m, dest);
        if (streq(f->type, "t") || streq(f->type, "u"))
                return sd_bus_message_read_basic(m, f->type[0], p);
        if (streq(f->type, "b")) {
                r = sd_bus_message_read_basic(m, 'b', &b);
                *(bool *) p = b;
                return r;
        }
        r = sd_bus_message_read_basic(m, 's', &s);
        if (r < 0)
                return r;
        if (streq(f->type, "lifetime"))
                *(bool *) p = streq(s, "persistent");
        else
                (void) snprintf(p, f->size, "%s", s);
        return 0;
}

/* a{sv}; dest NULL: passed over. */
static int read_properties(sd_bus_message *m, const Member *members, void *dest) {
        const char *name;
        int r;

        if (!dest)
                return sd_bus_message_skip(m, "a{sv}");
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const Member *f = members;
                const char *contents;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        return r;
                while (f->name && !streq(f->name, name))
                        f++;
                r = sd_bus_message_peek_type(m, NULL, &contents);
                if (r >= 0 && f->name) {
                        r = sd_bus_message_enter_container(m, 'v', contents);
                        if (r >= 0)
                                r = read_member(m, f, dest);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                } else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_interface(sd_bus_message *m, const char *path, Picture *p) {
        const char *interface;
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0)
                return r;
        if (streq(interface, EGM_REGION_INTERFACE)) {
                if (p->n_regions >= PICTURE_REGIONS_MAX)
                        return -E2BIG;
                return read_properties(m, region_members, p->regions + p->n_regions++);
        }
        if (streq(interface, EGM_LEASE_INTERFACE)) {
                PictureLease *l;

                if (p->n_leases >= PICTURE_LEASES_MAX)
                        return -E2BIG;
                l = p->leases + p->n_leases++;
                (void) snprintf(l->path, sizeof(l->path), "%s", path);
                return read_properties(m, lease_members, l);
        }
        return read_properties(m, NULL, NULL);
}

static int read_object(sd_bus_message *m, Picture *p) {
        const char *path;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = read_interface(m, path, p);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int picture_read(sd_bus_message *m, Picture *ret) {
        int r;

        *ret = (Picture){};
        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                r = read_object(m, ret);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

const PictureLease *picture_find_lease(const Picture *p, const char *path) {
        for (size_t i = 0; i < p->n_leases; i++)
                if (streq(p->leases[i].path, path))
                        return p->leases + i;
        return NULL;
}

const PictureRegion *picture_find_region(const Picture *p, const char *name) {
        for (size_t i = 0; i < p->n_regions; i++)
                if (streq(p->regions[i].name, name))
                        return p->regions + i;
        return NULL;
}

void picture_print(const Picture *p, FILE *f) {
        for (size_t i = 0; i < p->n_regions; i++) {
                const PictureRegion *r = p->regions + i;

                (void) fprintf(f,
                               "  %s %s%s: size %" PRIu64 " free %" PRIu64 " leased %" PRIu64
                               " draining %" PRIu64 " dirty %" PRIu64 " scrubbing %" PRIu64
                               " retired %" PRIu64 "\n",
                               r->name, r->state, r->schedulable ? "" : " (not schedulable)",
                               r->size, r->free, r->leased, r->draining, r->dirty, r->scrubbing,
                               r->retired);
        }
        for (size_t i = 0; i < p->n_leases; i++) {
                const PictureLease *l = p->leases + i;

                (void) fprintf(f, "  %s \"%s\" %s%s:", l->path, l->label, l->state,
                               l->persistent ? " persistent" : "");
                for (size_t k = 0; k < l->n_slices; k++)
                        (void) fprintf(f, " %s %#" PRIx64 "+%#" PRIx64, l->slices[k].region,
                                       l->slices[k].offset, l->slices[k].size);
                (void) fputc('\n', f);
        }
}
