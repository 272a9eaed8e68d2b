/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>

#include "egm-names.h"
#include "fd-util.h"
#include "internal.h"
#include "size.h"

/* What `egmctl run` leaves to its child:
 *     EGM_LEASE=ID
 *     EGM_LIFETIME_FD=N
 *     EGM_SLICES=FD:REGION:OFFSET:SIZE FD:REGION:OFFSET:SIZE … */

static int parse_slice(egm_lease *l, char *text) {
        char *p = text, *fd_text = strsep(&p, ":"), *region = strsep(&p, ":");
        char *offset_text = strsep(&p, ":"), *size_text = p;
        uint64_t offset, size;
        int fd;

        if (!size_text || parse_int(fd_text, &fd) < 0 || fd < 0 ||
            parse_uint64(offset_text, &offset) < 0 || parse_uint64(size_text, &size) < 0)
                return -EBADMSG;
        /* The same descriptor twice would be closed twice. */
        if (fd == l->lifetime_fd)
                return -EBADMSG;
        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].fd == fd)
                        return -EBADMSG;
        return lease_add_slice(l, region, fd, offset, size);
}

static int parse_slices(egm_lease *l, const char *text) {
        _cleanup_free_ char *copy = strdup(text);
        char *p = copy, *word;
        int r;

        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&p, " "))) {
                r = parse_slice(l, word);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_cloexec(egm_lease *l) {
        if (fcntl(l->lifetime_fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        for (size_t i = 0; i < l->n_slices; i++)
                if (fcntl(l->slices[i].fd, F_SETFD, FD_CLOEXEC) < 0)
                        return -errno;
        return 0;
}

/* Nothing was ours yet: leave open what the variables named. */
static void disown(egm_lease *l) {
        l->lifetime_fd = -EBADF;
        for (size_t i = 0; i < l->n_slices; i++)
                l->slices[i].fd = -EBADF;
}

static int read_environment(egm_lease *l) {
        const char *lifetime = getenv("EGM_LIFETIME_FD"), *slices = getenv("EGM_SLICES");
        int r;

        if (!lifetime || !slices)
                return -EBADMSG;
        if (parse_int(lifetime, &l->lifetime_fd) < 0 || l->lifetime_fd < 0)
                return -EBADMSG;
        r = parse_slices(l, slices);
        if (r < 0)
                return r;
        r = lease_check(l, NULL);
        return r < 0 ? r : set_cloexec(l);
}

_public_ int egm_lease_new_from_environment(int unset, egm_lease **ret) {
        _cleanup_egm_(lease) egm_lease *l = NULL;
        _cleanup_free_ char *path = NULL;
        const char *id = getenv("EGM_LEASE");
        int r;

        if (!ret)
                return -EINVAL;
        if (!id)
                return -ENXIO;
        if (!name_is_valid(id))
                return -EBADMSG;
        r = path_from_name(EGM_LEASE_PATH, id, &path);
        if (r < 0)
                return r;
        r = lease_new(NULL, path, &l);
        if (r < 0)
                return r;
        r = read_environment(l);
        if (r < 0) {
                disown(l);
                return r;
        }
        if (unset) {
                unsetenv("EGM_LEASE");
                unsetenv("EGM_LIFETIME_FD");
                unsetenv("EGM_SLICES");
        }
        *ret = TAKE_PTR(l);
        return 0;
}
