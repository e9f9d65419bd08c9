/* SPDX-License-Identifier: MIT */
#ifndef IOTHUBCTL_STATUS_H
#define IOTHUBCTL_STATUS_H

/*
 * The file `status`. Pure.
 */

#include <stdbool.h>

#include <json-c/json.h>

#include "base/bytes.h"

/* Its `key: value` lines as an object, the caller's to json_object_put(): numbers are numbers, all else is text, and so
 * are names, whatever they look like. NULL without memory. */
json_object *status_to_json(struct bytes text);

/* Whether it says that the hub is connected. */
bool status_is_connected(struct bytes text);

#endif
