/* SPDX-License-Identifier: MIT */
#ifndef BASE_TIME_H
#define BASE_TIME_H

/*
 * Units and texts of time. `_ns` is nanoseconds of CLOCK_MONOTONIC, `_ms` milliseconds since
 * 1970-01-01T00:00:00Z unless a comment says otherwise. Nothing here reads a clock: only the loop does.
 */

#include <stdint.h>

#include "base/bytes.h"

#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC  UINT64_C(1000000000)
#define MSEC_PER_SEC  UINT64_C(1000)

/* No deadline. */
#define TIME_NEVER UINT64_MAX

/* Length of `YYYY-MM-DDTHH:MM:SS.mmmZ`. */
#define TIME_ISO_LEN 24

/* Writes @ms as `YYYY-MM-DDTHH:MM:SS.mmmZ`, TIME_ISO_LEN characters and a NUL. Years above 9999 are clamped.
 */
void time_format_iso(uint64_t ms, char out[static TIME_ISO_LEN + 1]);

/* Reads the contract's `time` (HUB-CONTRACT.md section 1): decimal milliseconds, or UTC as
 * `2021-04-21T11:30:16Z` with 0 to 9 digits of fraction; any zone but `Z` is an error. Returns 0 or -EINVAL.
 */
int time_parse(struct bytes text, uint64_t *ms);

#endif
