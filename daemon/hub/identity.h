/* SPDX-License-Identifier: MIT */
#ifndef HUB_IDENTITY_H
#define HUB_IDENTITY_H

/*
 * Who connects: device ids, module ids and the client id made of them.
 */

#include <stdbool.h>

#include "base/bytes.h"

/* Longest device id, and longest module id. */
#define HUB_ID_MAX 128

/* `device/module` and a NUL. */
#define HUB_CLIENT_ID_SIZE (2 * HUB_ID_MAX + 2)

/* 1 to HUB_ID_MAX of ASCII letters, digits and - . % _ * ? ! ( ) , : = @ $ ' */
bool hub_id_is_valid(struct bytes id);

/* Writes `device`, or `device/module` when @module is neither NULL nor "". Returns 0, or -EINVAL for an id
 * that is not valid. */
int hub_client_id_format(const char *device, const char *module, char out[static HUB_CLIENT_ID_SIZE]);

#endif
