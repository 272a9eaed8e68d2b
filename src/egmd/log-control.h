/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

/* org.freedesktop.LogControl1, so that `systemctl service-log-level egmd debug` works. */
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"

int log_control_add(sd_bus *bus);
