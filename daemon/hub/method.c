/* SPDX-License-Identifier: MIT */
/*
 * Names and responses of direct methods, see method.h. A name has to be good in two places: as the last level of
 * a topic filter of MQTT (no separator, no wildcard, no NUL) and as a file name. The control characters MQTT only
 * advises against (5.0 section 1.5.4) are refused: nobody could type the directory.
 */

#include <errno.h>

#include "base/utf8.h"
#include "hub/method.h"

#define CODE_DIGITS_MAX 10

/* Whether U+0000 … U+001F or U+007F … U+009F begins at @i; the name is well-formed UTF-8. */
static bool is_control(struct bytes name, size_t i)
{
	uint8_t c = name.data[i];

	return c < 0x20 || c == 0x7f || (c == 0xc2 && name.data[i + 1] < 0xa0);
}

bool hub_method_name_is_valid(struct bytes name)
{
	if (!name.len || name.len > HUB_METHOD_NAME_MAX || !utf8_is_mqtt_string(name))
		return false;
	if (bytes_equal_str(name, ".") || bytes_equal_str(name, ".."))
		return false;
	for (size_t i = 0; i < name.len; ++i) {
		uint8_t c = name.data[i];

		if (c == '/' || c == '+' || c == '#' || is_control(name, i))
			return false;
	}
	return true;
}

int hub_method_response_parse(struct bytes text, uint32_t *code, struct bytes *payload)
{
	uint64_t value = 0;
	size_t n = 0;

	for (; n < text.len && text.data[n] >= '0' && text.data[n] <= '9'; ++n) {
		if (n == CODE_DIGITS_MAX)
			return -EINVAL;
		value = value * 10 + (uint64_t)(text.data[n] - '0');
	}
	if (!n || value > UINT32_MAX)
		return -EINVAL;
	if (n < text.len && text.data[n] == ' ')
		*payload = BYTES(text.data + n + 1, text.len - n - 1);
	else if (n == text.len || (text.data[n] == '\n' && n + 1 == text.len))
		*payload = BYTES(NULL, 0);
	else
		return -EINVAL;
	*code = (uint32_t)value;
	return 0;
}
