/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egmctl.h"

int verb_release(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        int status = STATUS_OK, r = connect_bus(o, &c);

        if (r != 0)
                return r;
        /* All of them, whatever happens to one. */
        for (int i = 0; i < n_args; i++) {
                r = egm_release(c, args[i]);
                if (r < 0)
                        status = complain_call(c, r, "Failed to release lease %s", args[i]);
        }
        return status;
}
