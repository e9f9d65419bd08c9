/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as the response a handler writes, and as the name of a method.
 *
 * Checked beyond "does not crash": a response that is read was digits, one separator at most, and the payload, byte
 * for byte, with nothing left over; its digits are the code. A name that is taken works as a level of a topic and
 * as a name in a directory.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "hub/method.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_response(struct bytes text)
{
	struct bytes payload = BYTES(NULL, 0);
	uint64_t value = 0;
	uint32_t code = 0;
	size_t n = 0;
	int r = hub_method_response_parse(text, &code, &payload);

	assert(r == 0 || r == -EINVAL);
	if (r)
		return;
	for (; n < text.len && text.data[n] >= '0' && text.data[n] <= '9'; ++n)
		value = value * 10 + (uint64_t)(text.data[n] - '0');
	assert(n >= 1 && n <= 10 && value == code);
	if (n < text.len && text.data[n] == ' ')
		assert(payload.data == text.data + n + 1 && payload.len == text.len - n - 1);
	else
		assert(payload.len == 0 && text.len - n <= 1 && (text.len == n || text.data[n] == '\n'));
}

static void check_name(struct bytes name)
{
	if (!hub_method_name_is_valid(name))
		return;
	assert(name.len >= 1 && name.len <= HUB_METHOD_NAME_MAX && utf8_is_mqtt_string(name));
	for (size_t i = 0; i < name.len; ++i)
		assert(name.data[i] >= 0x20 && !strchr("/+#\x7f", name.data[i]));
	assert(!bytes_equal_str(name, ".") && !bytes_equal_str(name, ".."));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_response(BYTES(data, size));
	check_name(BYTES(data, size));
	return 0;
}
