/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "fd-util.h"
#include "size.h"

/* Who has a dma-buf of a lease, and whom he gives it to.
 *
 *     egm-dmabuf give SOCKET MEMORY OFFSET SIZE DMABUF [HOLE]
 *         insists that the dma-buf is the slice without the 64 KiB at HOLE (of the region), no more and no less, fills it,
 *         and sends it to whoever listens on SOCKET
 *     egm-dmabuf take SOCKET fd|map
 *         waits for one there, prints "has", and ends when there is input; map: maps it, closes the descriptor, and says
 *         in the end whether the bytes are "intact"
 *
 * Needs a module with dmabuf_mmap=Y. */

#define HOLE_SIZE (64 * KIB)

typedef struct Buffer {
        uint64_t *words;
        uint64_t size;
} Buffer;

static int fail(const char *why) {
        fprintf(stderr, "egm-dmabuf: %s\n", why);
        return EXIT_FAILURE;
}

static int fail_errno(const char *what) {
        fprintf(stderr, "egm-dmabuf: %s: %m\n", what);
        return EXIT_FAILURE;
}

static bool buffer_map(Buffer *b, int fd, uint64_t offset, uint64_t size) {
        void *p = mmap(NULL, (size_t) size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t) offset);

        *b = (Buffer){p == MAP_FAILED ? NULL : p, size};
        return b->words;
}

static uint64_t word_at(uint64_t position, uint64_t seed) {
        return position * UINT64_C(0x9e3779b97f4a7c15) ^ seed;
}

static void fill(const Buffer *b, uint64_t seed) {
        for (uint64_t i = 0; i < b->size / sizeof(*b->words); i++)
                b->words[i] = word_at(i, seed);
}

/* Where a word of the dma-buf is in the slice. */
static uint64_t behind_hole(uint64_t i, uint64_t hole) {
        return i < hole ? i : i + HOLE_SIZE / sizeof(uint64_t);
}

/* hole in words of the slice; UINT64_MAX: there is none. */
static int check_exact(const Buffer *memory, const Buffer *dmabuf, int fd, uint64_t hole) {
        uint64_t n = memory->size / sizeof(uint64_t), n_hole = HOLE_SIZE / sizeof(uint64_t);
        Buffer past;

        if (dmabuf->size != memory->size - (hole == UINT64_MAX ? 0 : HOLE_SIZE))
                return fail("the dma-buf has another size");
        fill(memory, 1);
        for (uint64_t i = 0; i < dmabuf->size / sizeof(uint64_t); i++)
                if (dmabuf->words[i] != word_at(behind_hole(i, hole), 1))
                        return fail("the dma-buf shows something else");
        fill(dmabuf, 2);
        for (uint64_t i = 0; i < n; i++) {
                bool in_hole = hole != UINT64_MAX && i >= hole && i < hole + n_hole;
                uint64_t wanted = in_hole                           ? word_at(i, 1)
                                  : hole != UINT64_MAX && i >= hole ? word_at(i - n_hole, 2)
                                                                    : word_at(i, 2);

                if (memory->words[i] != wanted)
                        return fail("writing to the dma-buf wrote something else");
        }
        if (buffer_map(&past, fd, dmabuf->size, 4096) ||
            buffer_map(&past, fd, 0, dmabuf->size + 4096))
                return fail("there is something behind the dma-buf's end");
        return EXIT_SUCCESS;
}

static int socket_at(const char *path, struct sockaddr_un *ret) {
        *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
        (void) snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", path);
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

typedef union Control {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
} Control;

static int send_to(const char *path, int fd) {
        _cleanup_close_ int s = -EBADF;
        char byte = 'd';
        struct iovec v = {&byte, 1};
        Control c = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                                .cmsg_level = SOL_SOCKET,
                                .cmsg_type = SCM_RIGHTS}};
        const struct msghdr m = {.msg_iov = &v,
                                 .msg_iovlen = 1,
                                 .msg_control = &c,
                                 .msg_controllen = sizeof(c)};
        struct sockaddr_un a;

        s = socket_at(path, &a);
        memcpy(CMSG_DATA(&c.header), &fd, sizeof(fd));
        if (s < 0 || connect(s, (struct sockaddr *) &a, sizeof(a)) < 0 || sendmsg(s, &m, 0) != 1)
                return fail_errno("cannot send it");
        /* Until the other one has taken it out of the socket. */
        return read(s, &byte, 1) == 1 ? EXIT_SUCCESS : fail("nobody took it");
}

/* Whoever sees the socket can connect to it: it gets its name when it listens. */
static int listen_at(int s, const char *path) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};

        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s.new", path);
        if (bind(s, (struct sockaddr *) &a, sizeof(a)) < 0 || listen(s, 1) < 0)
                return -errno;
        return rename(a.sun_path, path) < 0 ? -errno : 0;
}

static int receive_at(const char *path, int *ret) {
        _cleanup_close_ int s = -EBADF, peer = -EBADF;
        char byte;
        struct iovec v = {&byte, 1};
        Control c;
        struct msghdr m = {.msg_iov = &v,
                           .msg_iovlen = 1,
                           .msg_control = &c,
                           .msg_controllen = sizeof(c)};
        struct sockaddr_un a;

        s = socket_at(path, &a);
        if (s < 0 || listen_at(s, path) < 0)
                return fail_errno("cannot listen");
        peer = accept4(s, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0 || recvmsg(peer, &m, MSG_CMSG_CLOEXEC) != 1 ||
            m.msg_controllen < CMSG_LEN(sizeof(int)))
                return fail_errno("cannot receive");
        memcpy(ret, CMSG_DATA(&c.header), sizeof(*ret));
        return write(peer, &byte, 1) == 1 ? EXIT_SUCCESS : fail("cannot acknowledge");
}

static uint64_t size_of(int fd) {
        struct stat st;

        return fstat(fd, &st) < 0 ? 0 : (uint64_t) st.st_size;
}

static int give(int argc, char *argv[]) {
        uint64_t offset, size, hole = UINT64_MAX;
        Buffer memory, dmabuf;
        int fd, dmabuf_fd;

        if (argc < 7 || argc > 8 || parse_int(argv[3], &fd) < 0 ||
            parse_size(argv[4], &offset) < 0 || parse_size(argv[5], &size) < 0 ||
            parse_int(argv[6], &dmabuf_fd) < 0 || (argc > 7 && parse_size(argv[7], &hole) < 0))
                return fail("bad arguments");
        if (hole != UINT64_MAX)
                hole = (hole - offset) / sizeof(uint64_t);
        if (!buffer_map(&memory, fd, offset, size) ||
            !buffer_map(&dmabuf, dmabuf_fd, 0, size_of(dmabuf_fd)))
                return fail_errno("mmap");
        if (check_exact(&memory, &dmabuf, dmabuf_fd, hole) != EXIT_SUCCESS)
                return EXIT_FAILURE;
        (void) puts("exact");
        (void) fflush(stdout);
        return send_to(argv[2], dmabuf_fd);
}

static int take(int argc, char *argv[]) {
        bool map = argc > 3 && streq(argv[3], "map");
        Buffer b = {};
        char byte;
        int fd;

        if (receive_at(argv[2], &fd) != EXIT_SUCCESS)
                return EXIT_FAILURE;
        if (map) {
                if (!buffer_map(&b, fd, 0, size_of(fd)))
                        return fail_errno("mmap");
                (void) close(fd);
        }
        (void) puts("has");
        (void) fflush(stdout);
        (void) !read(STDIN_FILENO, &byte, 1);
        for (uint64_t i = 0; i < b.size / sizeof(uint64_t); i++)
                if (b.words[i] != word_at(i, 2))
                        return fail("its bytes have changed");
        (void) puts("intact");
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        if (argc > 3 && streq(argv[1], "give"))
                return give(argc, argv);
        if (argc > 3 && streq(argv[1], "take"))
                return take(argc, argv);
        return fail("give or take?");
}
