/* SPDX-License-Identifier: MIT */
/*
 * JSON to objects: any text. What is read is the same that json-c's own reader makes of it, and a failure leaves nothing
 * behind.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "base/json_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_object *got = NULL, *want;
	struct json_tokener *tokener;
	int r = json_read(BYTES(data, size), JSON_READ_LEVELS_MAX, &got);

	must((r == 0) == (got != NULL));
	must(r == 0 || r == -EINVAL);
	if (r)
		return 0;
	tokener = json_tokener_new_ex(JSON_READ_LEVELS_MAX + 2);
	want = json_tokener_parse_ex(tokener, (const char *)data, (int)size);
	must(want && strcmp(json_object_to_json_string(got), json_object_to_json_string(want)) == 0);
	json_object_put(want);
	json_object_put(got);
	json_tokener_free(tokener);
	return 0;
}
