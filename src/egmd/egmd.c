/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* egmd: command line, event loop, the order of starting and stopping. */

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "bus.h"
#include "config.h"
#include "confine.h"
#include "log.h"
#include "manager.h"
#include "restore.h"
#include "sigbus.h"
#include "size.h"

static const char *arg_bus = NULL;
static const char *arg_config = NULL;
static const char *arg_simulate = NULL;
static uint64_t arg_scale = 1;

static int help(void) {
        printf("%s [OPTIONS...]\n\n"
               "Owns the Extended GPU Memory of this host and lends it to virtual machines.\n\n"
               "  -h --help              Show this help\n"
               "     --version           Show the version\n"
               "     --bus=ADDRESS       Use this bus instead of the system bus\n"
               "     --config=FILE       Read this instead of the host's configuration\n"
               "     --simulate=WHAT     Simulated regions instead of devices: gh200, gb200, or a "
               "JSON file\n"
               "     --scale=N           Divide the sizes of simulated regions by N\n\n"
               "See egmd(8) for details.\n",
               program_invocation_short_name);
        return 0;
}

/* 1: go on, 0: done, negative: usage. */
static int parse_argv(int argc, char *argv[]) {
        enum { ARG_VERSION = 0x100, ARG_BUS, ARG_CONFIG, ARG_SIMULATE, ARG_SCALE };
        static const struct option options[] = {
                        {"help", no_argument, NULL, 'h'},
                        {"version", no_argument, NULL, ARG_VERSION},
                        {"bus", required_argument, NULL, ARG_BUS},
                        {"config", required_argument, NULL, ARG_CONFIG},
                        {"simulate", required_argument, NULL, ARG_SIMULATE},
                        {"scale", required_argument, NULL, ARG_SCALE},
                        {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'h':
                        return help();
                case ARG_VERSION:
                        puts("egmd " EGMD_VERSION);
                        return 0;
                case ARG_BUS:
                        arg_bus = optarg;
                        break;
                case ARG_CONFIG:
                        arg_config = optarg;
                        break;
                case ARG_SIMULATE:
                        arg_simulate = optarg;
                        break;
                case ARG_SCALE:
                        if (parse_uint64(optarg, &arg_scale) < 0 || arg_scale == 0) {
                                log_error("--scale=%s: not a whole number from 1", optarg);
                                return -EINVAL;
                        }
                        break;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                log_error("Too many arguments: %s", argv[optind]);
                return -EINVAL;
        }
        if (arg_scale != 1 && !arg_simulate) {
                log_error("--scale= is for --simulate= only");
                return -EINVAL;
        }
        return 1;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        log_info("%s: leaving", strsignal((int) si->ssi_signo));
        return sd_event_exit(sd_event_source_get_event(s), EXIT_SUCCESS);
}

static int watch_signals(sd_event *event) {
        static const int signals[] = {SIGTERM, SIGINT};
        sigset_t set;
        int r;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaddset(&set, signals[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                r = sd_event_add_signal(event, NULL, signals[i], on_signal, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int simulate(Manager *m) {
        /* Nothing of a tenant's is in a simulation, so who runs one need not be able to see into every process. */
        m->ignore_inaccessible = true;
        return manager_start_simulation(m, arg_simulate, arg_scale);
}

/* The service manager may give several, colon-separated; ours is the first. */
static int runtime_directory(char **ret) {
        const char *e = getenv("RUNTIME_DIRECTORY");

        *ret = e && *e ? strndup(e, strcspn(e, ":")) : NULL;
        return e && *e && !*ret ? log_oom() : 0;
}

/* What the host's administrator wants is nothing to a simulation. */
static int load_config(Config **ret) {
        return arg_simulate && !arg_config ? config_new(ret) : config_load(arg_config, ret);
}

static void confine(Manager *m) {
        if (arg_simulate) {
                confine_decline(m, "the region is simulated");
                return;
        }
        if (m->config->enforcement != ENFORCEMENT_OFF) {
                confine_begin(m);
                return;
        }
        confine_remove();
        confine_decline(m, "switched off by Enforcement=");
}

static int run(sd_event *event) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_restore_ Restore restore = {};
        _cleanup_free_ char *directory = NULL;
        _cleanup_(manager_freep) Manager *m = NULL;
        _cleanup_(bus_freep) Bus *b = NULL;
        bool one;
        int r;

        r = load_config(&config);
        if (r < 0)
                return r;
        r = manager_new(event, config, &m);
        if (r < 0)
                return log_error_errno(r, "Failed to start: %m");
        /* May take longer than the bus waits for whoever has connected and says nothing. */
        confine(m);
        r = bus_new(m, arg_bus, &b);
        if (r < 0)
                return r;
        r = runtime_directory(&directory);
        if (r < 0)
                return r;
        r = restore_begin(m, directory, &restore);
        if (r < 0)
                return r;
        r = arg_simulate ? simulate(m) : manager_start_discovery(m);
        if (r < 0)
                return r;
        r = restore_end(m);
        if (r < 0)
                return r;
        r = bus_start(b);
        if (r < 0)
                return r;
        /* Who is not heard is taken for stuck, and killed a minute and a half later. */
        r = sd_notifyf(false, "READY=1\nSTATUS=%zu regions", m->n_regions);
        if (r < 0)
                return log_error_errno(r, "Failed to tell the service manager: %m");
        log_info("egmd " EGMD_VERSION " is up, %zu regions", m->n_regions);
        r = sd_event_loop(event);
        one = m->n_leases == 1;
        (void) sd_notifyf(false, "STOPPING=1\nSTATUS=%u %s with %s holders", m->n_leases,
                          one ? "lease remains" : "leases remain", one ? "its" : "their");
        if (m->n_leases > 0)
                log_notice("%u %s; %s, and so does the next start", m->n_leases,
                           one ? "lease remains" : "leases remain",
                           one ? "its holders keep it" : "their holders keep them");
        m->stopping = true;
        bus_stop(b);
        confine_end(m);
        return r;
}

int main(int argc, char *argv[]) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        int r;

        log_open();
        /* Or the largest message that anybody ever sent stays ours: the threshold follows what is freed. */
        (void) mallopt(M_MMAP_THRESHOLD, 256 * 1024);
        r = parse_argv(argc, argv);
        if (r <= 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        r = sigbus_init();
        if (r >= 0)
                r = sd_event_default(&event);
        if (r >= 0)
                r = watch_signals(event);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to set up the event loop: %m");
                return EXIT_FAILURE;
        }
        r = run(event);
        return r < 0 ? EXIT_FAILURE : r;
}
