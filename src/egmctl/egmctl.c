/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egmctl.h"
#include "suggest.h"

typedef struct Verb {
        const char *name;
        int min_args, max_args; /* -1: any number */
        unsigned groups;        /* of options */
        bool command;           /* a command follows: its options are not ours */
        int (*run)(const Options *o, int n_args, char **args);
} Verb;

static const Verb verbs[] = {
                {"status", 0, -1, OPTIONS_STATUS, false, verb_status},
                {"list-regions", 0, 0, 0, false, verb_list_regions},
                {"list-leases", 0, 0, 0, false, verb_list_leases},
                {"show-region", 0, -1, OPTIONS_PROPERTY, false, verb_show_region},
                {"show-lease", 0, -1, OPTIONS_PROPERTY, false, verb_show_lease},
                {"map", 0, -1, 0, false, verb_map},
                {"monitor", 0, 0, 0, false, verb_monitor},
                {"lease", 0, 0, OPTIONS_ACQUIRE | OPTIONS_PERSISTENT | OPTIONS_PROPERTY, false,
                 verb_lease},
                {"run", 1, -1, OPTIONS_ACQUIRE | OPTIONS_INJECT, true, verb_run},
                {"format", 1, 1, OPTIONS_FORMAT, false, verb_format},
                {"release", 1, -1, OPTIONS_RELEASE, false, verb_release},
};

static const char help_text[] =
                "%2$segmctl [OPTIONS...] [VERB] [ARGUMENTS...]%3$s\n"
                "\n"
                "See and use the EGM memory that egmd lends.\n"
                "\n"
                "%1$sLooking:%3$s\n"
                "  status [LEASE...]          What there is and who has it (default)\n"
                "  status --quota [USER]      What users and units may have, and have\n"
                "  list-regions               Regions\n"
                "  list-leases                Leases\n"
                "  show-region [REGION...]    Regions as KEY=VALUE\n"
                "  show-lease [LEASE...]      Leases as KEY=VALUE\n"
                "  map [REGION...]            A picture of the regions' bytes\n"
                "  monitor                    What changes, as it changes\n"
                "\n"
                "%1$sLending:%3$s\n"
                "  lease                      Acquire a lease; hold it until end of input or a "
                "signal\n"
                "  run [--] COMMAND [ARG...]  Run a command with a lease\n"
                "  format LEASE --for=WHOM    A lease as arguments, XML or JSON of a VMM\n"
                "  release LEASE...           End leases\n"
                "\n"
                "%1$sOptions of lease and run:%3$s\n"
                "     --slice=KEY=VALUE,...   One slice; may be repeated. Keys are size, whole, "
                "region,\n"
                "                             gpu, node, socket, align, retired\n"
                "     --size=BYTES            The same for a single slice; sizes take K, M, G, T\n"
                "     --whole                 All of a region\n"
                "     --region=NAME           From this region\n"
                "     --gpu=ADDRESS           From the region of this GPU\n"
                "     --node=N, --socket=N    From this NUMA node, this socket\n"
                "     --align=BYTES           Align its offset (default 2M)\n"
                "     --retired=MODE          avoid retired pages (default), or include them\n"
                "     --label=TEXT            Name the lease\n"
                "     --dmabuf                Dma-bufs of it may be had; run: COMMAND gets "
                "{0.dmabuf}\n"
                "     --wait=SECONDS          Wait for memory for so long, or 'infinity'\n"
                "     --persistent            lease: print it and exit; it ends by release only\n"
                "     --delegate=USER         lease: let USER open the whole region by its path\n"
                "     --owner=USER            lease: it is USER's, for root to give away\n"
                "\n"
                "%1$sOptions of run:%3$s\n"
                "     --lease=ID              Run it with this lease, which stays, instead of a "
                "new one\n"
                "     --inject, --no-inject   Answer COMMAND's open of {0.path} with the memory "
                "(default:\n"
                "                             for VMMs, and if the path is used)\n"
                "     --as=PATH               COMMAND opens this path instead; once for each "
                "slice\n"
                "     --shift=MODE            on: it knows of no offset; off: it does; auto "
                "(default)\n"
                "\n"
                "%1$sOptions of format:%3$s\n"
                "     --for=WHOM              qemu, qemu-nvidia, libvirt, crosvm, "
                "cloud-hypervisor,\n"
                "                             kubevirt, kata or json\n"
                "     --gpu=ADDRESS[=ID]      Only this GPU (default: all of the regions), and its "
                "name\n"
                "                             in the VM; may be repeated; 'none'\n"
                "     --cpus=N                Spread so many virtual CPUs over the nodes\n"
                "     --fd=N,...              The VMM inherits the slices as these descriptors\n"
                "     --memmap-type=SLICE:TYPE\n"
                "                             A slice is normal, spm or reserved memory (QEMU, "
                "x86)\n"
                "     --allow-offset          GPUs accept EGM from the middle of a region\n"
                "     --node-directory=DIR    Read the distances of nodes there\n"
                "     --one-line              Arguments on one line, quoted for a shell\n"
                "\n"
                "%1$sOptions of release:%3$s\n"
                "     --wait[=SECONDS]        Wait until the leases are gone\n"
                "     --kill                  End the processes that hold them up, and wait\n"
                "     --kill-after=SECONDS    SIGKILL those that SIGTERM does not end (default "
                "10)\n"
                "\n"
                "%1$sOptions:%3$s\n"
                "  -h --help                  Show this\n"
                "     --version               Show the version\n"
                "     --bus=ADDRESS           Use this bus instead of the system's\n"
                "     --json=MODE             JSON: short, pretty, or off (default)\n"
                "  -j                         JSON: pretty on a terminal, else short\n"
                "     --no-legend             No headers and sums around tables\n"
                "     --no-ask-password       Nobody is asked to authenticate\n"
                "  -p --property=NAME         show: only this property; may be repeated\n"
                "     --value                 show: values without their names\n"
                "     --no-pager              Accepted; there is no pager\n"
                "\n"
                "See egmctl(1) for placeholders in COMMAND's arguments and for exit statuses.\n";

static int print_help(void) {
        bool tty = isatty(STDOUT_FILENO);

        printf(help_text, tty ? "\x1b[4m" : "", tty ? "\x1b[1m" : "", tty ? "\x1b[0m" : "");
        return STATUS_OK;
}

static const Verb *find_verb(const char *name) {
        const char *names[ELEMENTSOF(verbs)], *meant;

        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                names[i] = verbs[i].name;
                if (streq(names[i], name))
                        return verbs + i;
        }
        meant = suggest(name, names, ELEMENTSOF(names));
        if (meant)
                complain("Unknown verb '%s', did you mean '%s'?", name, meant);
        else
                complain("Unknown verb '%s', see egmctl --help", name);
        return NULL;
}

static int complain_option(int r, const EgmError *e) {
        if (r == -ENOMEM)
                return complain_oom();
        complain("%s", e->message ?: "Bad option");
        return STATUS_USAGE;
}

static int run_verb(const Verb *v, const Options *o, int n_args, char **args) {
        if (n_args < v->min_args) {
                complain("'%s' needs %s", v->name, v->command ? "a command" : "a lease");
                return STATUS_USAGE;
        }
        if (v->max_args >= 0 && n_args > v->max_args) {
                complain("'%s' takes no argument '%s'", v->name, args[v->max_args]);
                return STATUS_USAGE;
        }
        return v->run(o, n_args, args);
}

static int egmctl(int argc, char **argv) {
        _cleanup_options_ Options o = {};
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        const Verb *v = verbs;
        int n, r;

        r = options_parse_global(&o, argc, argv, &n, &e);
        if (r < 0)
                return complain_option(r, &e);
        argc -= n + 1;
        argv += n + 1;
        if (argc > 0 && !o.help && !o.version) {
                v = find_verb(argv[0]);
                if (!v)
                        return STATUS_USAGE;
                r = options_parse_verb(&o, argc, argv, v->groups, v->command, &n, &e);
                if (r < 0)
                        return complain_option(r, &e);
                argc -= n + 1;
                argv += n + 1;
        }
        if (o.help)
                return print_help();
        if (o.version) {
                puts("egmctl " EGMD_VERSION);
                return STATUS_OK;
        }
        return run_verb(v, &o, argc, argv);
}

int main(int argc, char **argv) {
        int status = egmctl(argc, argv);

        /* Output that did not arrive is a failure, also for what only prints. */
        if ((fflush(stdout) != 0 || ferror(stdout)) && status != STATUS_USAGE) {
                complain("Failed to write to standard output: %s", strerror(errno));
                return status == STATUS_OK ? STATUS_FAILED : status;
        }
        return status;
}
