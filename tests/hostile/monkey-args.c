/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "monkey-args.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "egm-names.h"
#include "test.h"

#define DEPTH_MAX 6U
#define N_PATHS 64U

static uint64_t state;

void monkey_seed(uint64_t seed) {
        state = seed | 1;
}

uint64_t monkey_random(uint64_t n) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (state >> 11) % n;
}

bool monkey_one_in(uint64_t n) {
        return monkey_random(n) == 0;
}

#define ONE_OF(table) ((table)[monkey_random(ELEMENTSOF(table))])

static char paths[N_PATHS][64];
static unsigned n_paths;

void monkey_remember(const char *path) {
        (void) snprintf(paths[n_paths++ % N_PATHS], sizeof(paths[0]), "%s", path);
}

const char *monkey_path(void) {
        static const char *const known[] = {
                        EGM_PATH,
                        EGM_PATH,
                        EGM_REGION_PATH "/egm4",
                        EGM_REGION_PATH "/egm5",
                        EGM_REGION_PATH,
                        EGM_LEASE_PATH,
                        EGM_LEASE_PATH "/1",
                        EGM_LEASE_PATH "/18446744073709551615",
                        EGM_REGION_PATH "/egm9",
                        "/org/freedesktop/LogControl1",
                        "/",
                        "/a/b",
        };

        if (n_paths > 0 && !monkey_one_in(3))
                return paths[monkey_random(MIN(n_paths, N_PATHS))];
        return ONE_OF(known);
}

const char *monkey_word(void) {
        static const char *const words[] = {
                        "egm4",
                        "egm5",
                        "egm9",
                        "",
                        "x",
                        "avoid",
                        "include",
                        "descriptor",
                        "persistent",
                        "0009:01:00.0",
                        "Slices",
                        "Size",
                        "Whole",
                        "Region",
                        "Gpu",
                        "Node",
                        "Socket",
                        "Align",
                        "Retired",
                        "Label",
                        "Lifetime",
                        "Holder",
                        "Delegate",
                        "OwnerUid",
                        "Dmabuf",
                        "WaitUSec",
                        "Free",
                        "Extents",
                        "LeaseCount",
                        "State",
                        "Version",
                        "LogLevel",
                        "LogTarget",
                        "debug",
                        "info",
                        EGM_MANAGER_INTERFACE,
                        EGM_REGION_INTERFACE,
                        EGM_LEASE_INTERFACE,
                        "org.freedesktop.DBus.Properties",
                        "org.freedesktop.LogControl1",
                        "\303\251\342\202\254\360\237\246\200",
                        "%n%s%d",
                        "\n",
                        "\033[2J",
                        "\302\233",
                        "../../etc/passwd",
                        "18446744073709551616",
        };
        static char long_word[2000];

        if (!monkey_one_in(40))
                return ONE_OF(words);
        for (size_t n = monkey_random(600), i = long_word[0] = '\0'; i < n; i++)
                (void) strcat(long_word, monkey_one_in(2) ? "\303\251" : "x");
        return long_word;
}

static uint64_t number(void) {
        static const uint64_t numbers[] = {0,
                                           1,
                                           2,
                                           3,
                                           4096,
                                           65536,
                                           65537,
                                           2 * MIB,
                                           4 * MIB,
                                           64 * MIB,
                                           128 * MIB,
                                           GIB,
                                           UINT64_C(1) << 31,
                                           UINT64_C(1) << 32,
                                           UINT64_C(1) << 63,
                                           UINT64_MAX,
                                           UINT64_MAX - 65535};

        return monkey_one_in(4) ? monkey_random(UINT64_MAX) : ONE_OF(numbers);
}

/* ---- descriptors ---- */

static struct {
        int fd[5];
        pid_t child, dead;
} pool;

void monkey_args_open(void) {
        pool.child = fork();
        assert_true(pool.child >= 0);
        while (pool.child == 0)
                (void) pause();
        pool.dead = fork();
        assert_true(pool.dead >= 0);
        if (pool.dead == 0)
                _exit(0);
        pool.fd[0] = pidfd_open(getpid(), 0);
        pool.fd[1] = pidfd_open(pool.child, 0);
        pool.fd[2] = pidfd_open(pool.dead, 0);
        pool.fd[3] = open("/", O_PATH | O_CLOEXEC);
        pool.fd[4] = open("/dev/null", O_RDWR | O_CLOEXEC);
        assert_int_equal(waitpid(pool.dead, NULL, 0), pool.dead);
}

void monkey_args_close(void) {
        for (size_t i = 0; i < ELEMENTSOF(pool.fd); i++)
                (void) close(pool.fd[i]);
        assert_int_equal(kill(pool.child, SIGKILL), 0);
        assert_int_equal(waitpid(pool.child, NULL, 0), pool.child);
}

/* ---- values ---- */

static int append(sd_bus_message *m, const char **at, unsigned depth);

/* What a key of AcquireLease wants; or NULL. */
static const char *type_of_key(const char *key) {
        static const struct {
                const char *key, *type;
        } table[] = {{"Slices", "aa{sv}"}, {"Size", "t"},     {"Whole", "b"},    {"Region", "s"},
                     {"Gpu", "s"},         {"Node", "i"},     {"Socket", "i"},   {"Align", "t"},
                     {"Retired", "s"},     {"Label", "s"},    {"Lifetime", "s"}, {"Holder", "h"},
                     {"Delegate", "u"},    {"OwnerUid", "u"}, {"WaitUSec", "t"}, {"Dmabuf", "b"}};

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(table[i].key, key))
                        return table[i].type;
        return NULL;
}

static int append_variant(sd_bus_message *m, const char *type, unsigned depth) {
        int r = sd_bus_message_open_container(m, 'v', type);

        if (r >= 0)
                r = append(m, &type, depth + 1);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static const char *any_type(unsigned depth) {
        static const char *const flat[] = {"y", "b", "n", "q", "i", "u", "x",
                                           "t", "d", "s", "o", "g", "h"};
        static const char *const nested[] = {"v",        "as",        "ay",     "a{sv}",
                                             "aa{sv}",   "(sv)",      "a(tt)",  "aas",
                                             "a{s(iv)}", "((((y))))", "aaaaay", "a{tv}"};

        return depth < DEPTH_MAX && monkey_one_in(3) ? ONE_OF(nested) : ONE_OF(flat);
}

/* {Size, Region, ...}: a slice that may well be granted. */
static int append_slice(sd_bus_message *m, bool dmabuf) {
        static const uint64_t sizes[] = {65536, 2 * MIB, 4 * MIB, 65537};
        static const char *const regions[] = {"egm4", "egm5", "egm5", "egm9"};

        if (monkey_one_in(20))
                return sd_bus_message_append(m, "a{sv}", 1, "Whole", "b", 1);
        return sd_bus_message_append(m, "a{sv}", 2, "Size", "t", ONE_OF(sizes), "Region", "s",
                                     dmabuf ? "egm4" : ONE_OF(regions));
}

static int append_good_request(sd_bus_message *m) {
        static const char *const lifetimes[] = {"descriptor", "persistent", "eternal"};
        size_t n = 1 + monkey_random(3);
        bool dmabuf = monkey_one_in(3); /* only egm4's driver has them */
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Slices");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "aa{sv}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "a{sv}");
        for (size_t i = 0; i < n && r >= 0; i++)
                r = append_slice(m, dmabuf);
        for (unsigned i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        if (r >= 0 && monkey_one_in(2))
                r = sd_bus_message_append(m, "{sv}", "Lifetime", "s", ONE_OF(lifetimes));
        if (r >= 0 && monkey_one_in(3))
                r = sd_bus_message_append(m, "{sv}", "Label", "s", monkey_word());
        if (r >= 0 && monkey_one_in(4))
                r = sd_bus_message_append(m, "{sv}", "Holder", "h", ONE_OF(pool.fd));
        if (r >= 0 && monkey_one_in(4))
                r = sd_bus_message_append(m, "{sv}", "WaitUSec", "t", monkey_random(100000));
        if (r >= 0 && dmabuf)
                r = sd_bus_message_append(m, "{sv}", "Dmabuf", "b", 1);
        if (r >= 0 && monkey_one_in(8))
                r = sd_bus_message_append(m, "{sv}", "OwnerUid", "u", monkey_one_in(2) ? 65534 : 0);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_options(sd_bus_message *m, unsigned depth) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (uint64_t n = monkey_random(4); n > 0 && r >= 0; n--) {
                const char *key = monkey_word(), *type = type_of_key(key);

                if (!type || monkey_one_in(8))
                        type = any_type(depth);
                r = sd_bus_message_open_container(m, 'e', "sv");
                if (r >= 0)
                        r = sd_bus_message_append_basic(m, 's', key);
                if (r >= 0)
                        r = append_variant(m, type, depth);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* Where the one complete type at that place ends. */
static const char *type_end(const char *t) {
        int depth = 0;

        while (*t == 'a')
                t++;
        do {
                depth += *t == '(' || *t == '{';
                depth -= *t == ')' || *t == '}';
                t++;
        } while (depth > 0);
        return t;
}

static int append_array(sd_bus_message *m, const char *element, unsigned depth) {
        uint64_t n = depth > DEPTH_MAX ? 0 : monkey_random(4);
        int r = sd_bus_message_open_container(m, 'a', element);

        for (; n > 0 && r >= 0; n--) {
                const char *at = element;

                r = append(m, &at, depth + 1);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_struct(sd_bus_message *m, char kind, const char *members, unsigned depth) {
        int r = sd_bus_message_open_container(m, kind, members);

        while (*members && r >= 0)
                r = append(m, &members, depth + 1);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_basic(sd_bus_message *m, char type) {
        static const char *const signatures[] = {"", "s", "a{sv}", "aa{sv}", "(tt)"};
        uint64_t v = number();
        double d = (double) v;
        int flag = monkey_one_in(2), fd;

        switch (type) {
        case 's':
                return sd_bus_message_append_basic(m, type, monkey_word());
        case 'o':
                return sd_bus_message_append_basic(m, type, monkey_path());
        case 'g':
                return sd_bus_message_append_basic(m, type, ONE_OF(signatures));
        case 'b':
                return sd_bus_message_append_basic(m, type, &flag);
        case 'd':
                return sd_bus_message_append_basic(m, type, &d);
        case 'h':
                fd = ONE_OF(pool.fd);
                return sd_bus_message_append_basic(m, type, &fd);
        default:
                return sd_bus_message_append_basic(m, type, &v);
        }
}

static int append(sd_bus_message *m, const char **at, unsigned depth) {
        const char *t = *at, *end = type_end(t);
        char inner[128];

        *at = end;
        if (strncmp(t, "a{sv}", 5) == 0)
                return append_options(m, depth);
        if (*t == 'v')
                return append_variant(m, any_type(depth), depth);
        if (*t == 'a') {
                (void) snprintf(inner, sizeof(inner), "%.*s", (int) (end - t - 1), t + 1);
                return append_array(m, inner, depth);
        }
        if (*t == '(' || *t == '{') {
                (void) snprintf(inner, sizeof(inner), "%.*s", (int) (end - t - 2), t + 1);
                return append_struct(m, *t == '(' ? 'r' : 'e', inner, depth);
        }
        return append_basic(m, *t);
}

int monkey_append(sd_bus_message *m, const char *types) {
        if (streq(types, "a{sv}") && !monkey_one_in(3))
                return monkey_one_in(4) ? sd_bus_message_append(m, "a{sv}", 0)
                                        : append_good_request(m);
        while (*types) {
                int r = append(m, &types, 0);

                if (r < 0)
                        return r;
        }
        return 0;
}

int monkey_append_any(sd_bus_message *m) {
        for (uint64_t n = monkey_random(3); n > 0; n--) {
                int r = monkey_append(m, any_type(0));

                if (r < 0)
                        return r;
        }
        return 0;
}
