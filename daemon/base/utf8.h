/* SPDX-License-Identifier: MIT */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>

#include "base/bytes.h"

/* Well-formed UTF-8 (RFC 3629): shortest form, no surrogates, nothing above U+10FFFF. */
bool utf8_is_valid(struct bytes b);

/* As utf8_is_valid(), and free of U+0000, as MQTT 5 section 1.5.4 asks of every string. */
bool utf8_is_mqtt_string(struct bytes b);

#endif
