/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "log-control.h"
#include "log.h"

static int get_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "s", log_level_to_string(log_get_max_level()));
}

static int set_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *value, void *userdata, sd_bus_error *reterr) {
        const char *s;
        int level, r;

        r = sd_bus_message_read(value, "s", &s);
        if (r < 0)
                return r;
        level = log_level_from_string(s);
        if (level < 0)
                return sd_bus_error_set(reterr, SD_BUS_ERROR_INVALID_ARGS, "That is no log level");
        log_set_max_level(level);
        return 0;
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "s", streq(property, "LogTarget") ? "console" : "egmd");
}

static int refuse_target(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *value, void *userdata, sd_bus_error *reterr) {
        return sd_bus_error_set(reterr, SD_BUS_ERROR_NOT_SUPPORTED,
                                "egmd logs to standard error only");
}

/* Writing needs root: see bus-privacy.c. */
static const sd_bus_vtable log_control_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0,
                                         SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_text, refuse_target, 0,
                                         SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_PROPERTY("SyslogIdentifier", "s", get_text, 0, 0),
                SD_BUS_VTABLE_END,
};

int log_control_add(sd_bus *bus) {
        return sd_bus_add_object_vtable(bus, NULL, LOG_CONTROL_PATH, "org.freedesktop.LogControl1",
                                        log_control_vtable, NULL);
}
