/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <getopt.h>
#include <pwd.h>

#include "options.h"
#include "size.h"

enum {
        ARG_BUS = 0x100,
        ARG_JSON,
        ARG_NO_LEGEND,
        ARG_NO_ASK_PASSWORD,
        ARG_NO_PAGER,
        ARG_VERSION,
        /* OPTIONS_ACQUIRE */
        ARG_SLICE,
        ARG_SIZE,
        ARG_WHOLE,
        ARG_REGION,
        ARG_GPU,
        ARG_NODE,
        ARG_SOCKET,
        ARG_ALIGN,
        ARG_RETIRED,
        ARG_LABEL,
        ARG_DMABUF,
        ARG_WAIT, /* OPTIONS_RELEASE too */
        /* OPTIONS_RELEASE */
        ARG_KILL,
        ARG_KILL_AFTER,
        /* OPTIONS_PERSISTENT */
        ARG_PERSISTENT,
        ARG_DELEGATE,
        ARG_OWNER,
        /* OPTIONS_STATUS */
        ARG_QUOTA,
        /* OPTIONS_PROPERTY */
        ARG_VALUE,
        /* OPTIONS_FORMAT, and ARG_GPU */
        ARG_FOR,
        ARG_CPUS,
        ARG_FD,
        ARG_MEMMAP_TYPE,
        ARG_ALLOW_OFFSET,
        ARG_NODE_DIRECTORY,
        ARG_ONE_LINE,
        /* OPTIONS_INJECT */
        ARG_INJECT,
        ARG_NO_INJECT,
        ARG_AS,
        ARG_SHIFT,
        ARG_LEASE,
};

#define KILL_AFTER_DEFAULT_USEC (10 * USEC_PER_SEC)

static const struct option long_options[] = {
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, ARG_VERSION},
                {"bus", required_argument, NULL, ARG_BUS},
                {"json", required_argument, NULL, ARG_JSON},
                {"no-legend", no_argument, NULL, ARG_NO_LEGEND},
                {"no-ask-password", no_argument, NULL, ARG_NO_ASK_PASSWORD},
                {"no-pager", no_argument, NULL, ARG_NO_PAGER},
                {"slice", required_argument, NULL, ARG_SLICE},
                {"size", required_argument, NULL, ARG_SIZE},
                {"whole", no_argument, NULL, ARG_WHOLE},
                {"region", required_argument, NULL, ARG_REGION},
                {"gpu", required_argument, NULL, ARG_GPU},
                {"node", required_argument, NULL, ARG_NODE},
                {"socket", required_argument, NULL, ARG_SOCKET},
                {"align", required_argument, NULL, ARG_ALIGN},
                {"retired", required_argument, NULL, ARG_RETIRED},
                {"label", required_argument, NULL, ARG_LABEL},
                {"dmabuf", no_argument, NULL, ARG_DMABUF},
                {"wait", required_argument, NULL, ARG_WAIT},
                {"kill", no_argument, NULL, ARG_KILL},
                {"kill-after", required_argument, NULL, ARG_KILL_AFTER},
                {"persistent", no_argument, NULL, ARG_PERSISTENT},
                {"delegate", required_argument, NULL, ARG_DELEGATE},
                {"owner", required_argument, NULL, ARG_OWNER},
                {"quota", no_argument, NULL, ARG_QUOTA},
                {"property", required_argument, NULL, 'p'},
                {"value", no_argument, NULL, ARG_VALUE},
                {"for", required_argument, NULL, ARG_FOR},
                {"cpus", required_argument, NULL, ARG_CPUS},
                {"fd", required_argument, NULL, ARG_FD},
                {"memmap-type", required_argument, NULL, ARG_MEMMAP_TYPE},
                {"allow-offset", no_argument, NULL, ARG_ALLOW_OFFSET},
                {"node-directory", required_argument, NULL, ARG_NODE_DIRECTORY},
                {"one-line", no_argument, NULL, ARG_ONE_LINE},
                {"inject", no_argument, NULL, ARG_INJECT},
                {"no-inject", no_argument, NULL, ARG_NO_INJECT},
                {"as", required_argument, NULL, ARG_AS},
                {"shift", required_argument, NULL, ARG_SHIFT},
                {"lease", required_argument, NULL, ARG_LEASE},
                {},
};

void options_done(Options *o) {
        for (size_t i = 0; i < o->n_slices; i++)
                slice_option_done(o->slices + i);
        free(o->slices);
        slice_option_done(&o->single);
        free(o->properties);
        format_option_done(&o->format);
        inject_option_done(&o->inject);
        *o = (Options){};
}

static const char *option_name(int c) {
        for (const struct option *p = long_options; p->name; p++)
                if (p->val == c)
                        return p->name;
        return "";
}

/* Which groups have it; 0: it stands anywhere. */
static unsigned option_groups(int c) {
        if (c == ARG_GPU)
                return OPTIONS_ACQUIRE | OPTIONS_FORMAT;
        if (c == ARG_WAIT)
                return OPTIONS_ACQUIRE | OPTIONS_RELEASE;
        if (c >= ARG_SLICE && c < ARG_WAIT)
                return OPTIONS_ACQUIRE;
        if (c == ARG_KILL || c == ARG_KILL_AFTER)
                return OPTIONS_RELEASE;
        if (c >= ARG_PERSISTENT && c <= ARG_OWNER)
                return OPTIONS_PERSISTENT;
        if (c == ARG_QUOTA)
                return OPTIONS_STATUS;
        if (c == 'p' || c == ARG_VALUE)
                return OPTIONS_PROPERTY;
        if (c >= ARG_INJECT)
                return OPTIONS_INJECT;
        if (c >= ARG_FOR)
                return OPTIONS_FORMAT;
        return 0;
}

static int set_json(Options *o, const char *value, EgmError *reterr) {
        if (streq(value, "off"))
                o->json = JSON_OFF;
        else if (streq(value, "short"))
                o->json = JSON_SHORT;
        else if (streq(value, "pretty"))
                o->json = JSON_PRETTY;
        else
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--json= is off, short or pretty, not '%s'", value);
        return 0;
}

static int set_user(bool *ret_given, uid_t *ret, int c, const char *value, EgmError *reterr) {
        const struct passwd *user;
        uint64_t uid;

        user = getpwnam(value);
        if (!user && (parse_uint64(value, &uid) < 0 || uid >= UINT32_MAX))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--%s=%s: neither a user's name nor a uid", option_name(c),
                                     value);
        *ret_given = true;
        *ret = user ? user->pw_uid : (uid_t) uid;
        return 0;
}

/* NULL, which stands for no value, is as long as it takes. */
static int set_seconds(uint64_t *ret_usec, int c, const char *value, EgmError *reterr) {
        uint64_t seconds;

        if (!value || streq(value, "infinity")) {
                *ret_usec = UINT64_MAX;
                return 0;
        }
        if (parse_uint64(value, &seconds) < 0 ||
            __builtin_mul_overflow(seconds, USEC_PER_SEC, ret_usec))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--%s= takes seconds or 'infinity', not '%s'", option_name(c),
                                     value);
        return 0;
}

static int add_slice(Options *o, const SliceOption *slice) {
        SliceOption *t = reallocarray(o->slices, o->n_slices + 1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        o->slices = t;
        o->slices[o->n_slices++] = *slice;
        return 0;
}

static int parse_slice(Options *o, const char *text, EgmError *reterr) {
        _cleanup_(slice_option_done) SliceOption slice = {};
        int r;

        r = slice_option_parse(&slice, text, reterr);
        if (r < 0)
                return r;
        r = add_slice(o, &slice);
        if (r >= 0)
                slice = (SliceOption){};
        return r;
}

static int add_property(Options *o, char *name) {
        char **t = reallocarray(o->properties, o->n_properties + 1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        o->properties = t;
        o->properties[o->n_properties++] = name;
        return 0;
}

/* Of a group that has a reader of its own. */
static int set_option_of_group(Options *o, unsigned groups, int c, const char *value,
                               EgmError *reterr) {
        if (option_groups(c) == OPTIONS_INJECT)
                return inject_option_set(&o->inject, option_name(c), value, reterr);
        if (groups & option_groups(c) & OPTIONS_FORMAT)
                return format_option_set(&o->format, option_name(c), value, reterr);
        /* --size, --whole, --region… are the keys of --slice. */
        o->has_single = true;
        return slice_option_set(&o->single, option_name(c), value, reterr);
}

/* Those that are there or not. */
static bool *flag_of(Options *o, int c) {
        switch (c) {
        case 'h':
                return &o->help;
        case ARG_VERSION:
                return &o->version;
        case ARG_NO_LEGEND:
                return &o->no_legend;
        case ARG_NO_ASK_PASSWORD:
                return &o->no_ask_password;
        case ARG_DMABUF:
                return &o->dmabuf;
        case ARG_KILL:
                return &o->kill;
        case ARG_PERSISTENT:
                return &o->persistent;
        case ARG_QUOTA:
                return &o->quota;
        case ARG_VALUE:
                return &o->value;
        default:
                return NULL;
        }
}

static int set_option(Options *o, unsigned groups, int c, char *value, EgmError *reterr) {
        bool *flag = flag_of(o, c);

        if (flag) {
                *flag = true;
                return 0;
        }
        switch (c) {
        case 'j':
                o->json = isatty(STDOUT_FILENO) ? JSON_PRETTY : JSON_SHORT;
                return 0;
        case 'p':
                return add_property(o, value);
        case ARG_BUS:
                o->bus = value;
                return 0;
        case ARG_JSON:
                return set_json(o, value, reterr);
        case ARG_NO_PAGER:
                return 0; /* there is none; scripts say so to all tools of this kind */
        case ARG_SLICE:
                return parse_slice(o, value, reterr);
        case ARG_LABEL:
                o->label = value;
                return 0;
        case ARG_WAIT:
                o->wait = true;
                return set_seconds(&o->wait_usec, c, value, reterr);
        case ARG_KILL_AFTER:
                o->has_kill_after = true;
                return set_seconds(&o->kill_after_usec, c, value, reterr);
        case ARG_DELEGATE:
                return set_user(&o->has_delegate, &o->delegate, c, value, reterr);
        case ARG_OWNER:
                return set_user(&o->has_owner, &o->owner, c, value, reterr);
        case ARG_LEASE:
                o->lease = value;
                return 0;
        default:
                return set_option_of_group(o, groups, c, value, reterr);
        }
}

/* getopt's complaint, in our words. */
static int refuse(int c, char **argv, EgmError *reterr) {
        /* With a long option optopt is its value or 0, with a short one its letter. */
        if (c == ':')
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "Option '%s' needs a value",
                                     argv[optind - 1]);
        if (optopt > 0 && optopt < 0x100 && optopt != 'h')
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "Unknown option '-%c'",
                                     optopt);
        if (optopt >= 0x100 || optopt == 'h')
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "Option '%s' takes no value",
                                     argv[optind - 1]);
        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "Unknown option '%s'",
                             argv[optind - 1]);
}

static int parse(Options *o, int argc, char **argv, unsigned groups, const char *letters,
                 int *ret_n, EgmError *reterr) {
        struct option options[ELEMENTSOF(long_options)];
        int c, r;

        memcpy(options, long_options, sizeof(options));
        /* A release has no need to say for how long. */
        for (struct option *p = options; p->name; p++)
                if (p->val == ARG_WAIT && (groups & OPTIONS_RELEASE))
                        p->has_arg = optional_argument;
        optind = 0; /* start over */
        opterr = 0;
        while ((c = getopt_long(argc, argv, letters, options, NULL)) >= 0) {
                unsigned have = option_groups(c);

                if (c == '?' || c == ':')
                        return refuse(c, argv, reterr);
                if (have != 0 && !(groups & have))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             groups == 0 && letters[0] == '+'
                                                             ? "Option '--%s' stands behind a verb"
                                                             : "This verb has no option '--%s'",
                                             option_name(c));
                r = set_option(o, groups, c, optarg, reterr);
                if (r < 0)
                        return r;
        }
        *ret_n = optind - 1;
        return 0;
}

int options_parse_global(Options *o, int argc, char **argv, int *ret_n, EgmError *reterr) {
        return parse(o, argc, argv, 0, "+:hjp:", ret_n, reterr);
}

static int finish_slices(Options *o, EgmError *reterr) {
        int r;

        if (!o->has_single)
                return 0;
        if (o->n_slices > 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--slice= and options of a single slice exclude each other");
        r = slice_option_check(&o->single, reterr);
        if (r >= 0)
                r = add_slice(o, &o->single);
        if (r >= 0) {
                o->single = (SliceOption){};
                o->has_single = false;
        }
        return r;
}

/* What is to be acquired, or a lease that there is. */
static int check_lease(const Options *o, EgmError *reterr) {
        if (!o->lease)
                return 0;
        if (o->has_single || o->n_slices > 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--lease= takes a lease as it is: it excludes --slice=, "
                                     "--size= and other options that say what to acquire");
        if (o->label || o->wait)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--lease= acquires nothing: it excludes --%s=",
                                     o->label ? "label" : "wait");
        return 0;
}

int options_parse_verb(Options *o, int argc, char **argv, unsigned groups, bool stop, int *ret_n,
                       EgmError *reterr) {
        int r;

        r = parse(o, argc, argv, groups, stop ? "+:hjp:" : ":hjp:", ret_n, reterr);
        if (r < 0 || o->help || o->version)
                return r;
        if (groups & OPTIONS_FORMAT)
                return format_option_check(&o->format, reterr);
        r = check_lease(o, reterr);
        if (r >= 0)
                r = finish_slices(o, reterr);
        if (r < 0)
                return r;
        if (o->has_kill_after && !o->kill)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--kill-after= goes with --kill");
        if ((groups & OPTIONS_ACQUIRE) && o->n_slices == 0 && !o->lease)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Say how much: --size=, --whole or --slice=");
        if (groups & OPTIONS_INJECT) {
                r = inject_option_check(&o->inject, o->lease ? SIZE_MAX : o->n_slices, reterr);
                if (r < 0)
                        return r;
        }
        if (!o->has_kill_after)
                o->kill_after_usec = KILL_AFTER_DEFAULT_USEC;
        return 0;
}
