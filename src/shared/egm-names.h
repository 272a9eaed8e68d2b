/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Every name that crosses a process boundary. */

#define EGM_BUS_NAME "org.nvidia.Egm1"
#define EGM_PATH "/org/nvidia/Egm1"
#define EGM_REGION_PATH EGM_PATH "/region"
#define EGM_LEASE_PATH EGM_PATH "/lease"

#define EGM_MANAGER_INTERFACE "org.nvidia.Egm1.Manager"
#define EGM_REGION_INTERFACE "org.nvidia.Egm1.Region"
#define EGM_LEASE_INTERFACE "org.nvidia.Egm1.Lease"
#define EGM_ERROR_PREFIX "org.nvidia.Egm1.Error."

#define EGM_GROUP "egm"
