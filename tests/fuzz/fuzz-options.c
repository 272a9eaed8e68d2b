/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fuzz-input.h"
#include "options.h"

/* A command line behind egmctl's verb: which one it is, whether a command follows, then an argument a line. What is accepted is
 * complete and within its limits, what is not is said. */

#define ARGS_MAX 24

/* Of the verbs that there are. */
static const unsigned verbs[] = {
                0,
                OPTIONS_PROPERTY,
                OPTIONS_ACQUIRE | OPTIONS_PERSISTENT | OPTIONS_PROPERTY,
                OPTIONS_ACQUIRE | OPTIONS_INJECT,
                OPTIONS_FORMAT,
                OPTIONS_RELEASE,
};

/* Users' names are looked up in all sorts of ways; these tests mean the numbers. */
struct passwd *getpwnam(const char *name);
struct passwd *getpwnam(const char *name) {
        return NULL;
}

static void check_slice(const SliceOption *s) {
        FUZZ_CHECK(s->has_size != s->whole);
        FUZZ_CHECK(!s->region || *s->region);
        FUZZ_CHECK(!s->gpu || *s->gpu);
        FUZZ_CHECK(!s->has_node || s->node >= 0);
        FUZZ_CHECK(!s->has_socket || s->socket >= 0);
}

static void check_format(const FormatOption *f) {
        FUZZ_CHECK(f->has_consumer && consumer_to_string(f->consumer));
        FUZZ_CHECK(f->cpus <= 8192);
        FUZZ_CHECK(!f->no_gpus || f->n_gpus == 0);
        for (size_t i = 0; i < f->n_fds; i++)
                FUZZ_CHECK(f->fds[i] >= 0);
        for (size_t i = 0; i < f->n_gpus; i++)
                for (const char *p = f->gpus[i].id ?: ""; *p; p++)
                        FUZZ_CHECK(*p > ' ' && *p <= '~' && !strchr(",=\"'\\$", *p));
}

static void check_options(const Options *o, unsigned groups) {
        FUZZ_CHECK(!o->has_single);
        FUZZ_CHECK((groups & OPTIONS_ACQUIRE) || o->n_slices == 0);
        FUZZ_CHECK((groups & OPTIONS_RELEASE) || !o->kill);
        FUZZ_CHECK((groups & OPTIONS_PERSISTENT) || (!o->has_owner && !o->has_delegate));
        for (size_t i = 0; i < o->n_slices; i++)
                check_slice(o->slices + i);
        if (groups & OPTIONS_FORMAT)
                check_format(&o->format);
        else if (groups & OPTIONS_ACQUIRE)
                FUZZ_CHECK((o->n_slices > 0) != (o->lease != NULL));
        FUZZ_CHECK(!o->has_owner || o->owner != (uid_t) -1);
        for (size_t i = 0; i < o->inject.n_as; i++)
                FUZZ_CHECK(o->inject.as[i][0] == '/');
}

/* Into argv behind the verb; the number of both. */
static int split(char *text, char **argv) {
        int argc = 1;

        for (char *word = strsep(&text, "\n"); word && argc < ARGS_MAX; word = strsep(&text, "\n"))
                argv[argc++] = word;
        argv[argc] = NULL;
        return argc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char verb[] = "verb";
        _cleanup_options_ Options o = {};
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_free_ char *text = NULL;
        char *argv[ARGS_MAX + 1];
        unsigned groups;
        bool stop;
        int argc, n = -1, r;

        if (size < 2)
                return 0;
        groups = verbs[data[0] % ELEMENTSOF(verbs)];
        stop = data[1] % 2;
        text = fuzz_string(data + 2, size - 2);
        argc = split(text, argv);
        argv[0] = verb;
        r = options_parse_verb(&o, argc, argv, groups, stop, &n, &e);
        FUZZ_CHECK(r == 0 || e.kind == EGM_ERROR_INVALID_ARGS);
        fuzz_check_words(r < 0, e.message);
        if (r < 0)
                return 0;
        FUZZ_CHECK(n >= 0 && n < argc);
        if (!o.help && !o.version)
                check_options(&o, groups);
        return 0;
}
