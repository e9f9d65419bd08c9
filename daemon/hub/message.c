/* SPDX-License-Identifier: MIT */
/*
 * Message ids, see message.h. Fixed width, so an id can be written into encoded properties in place; no
 * printf, as every message that is written passes here.
 */

#include "hub/message.h"

static char *hex_put(char *at, uint64_t v)
{
	for (unsigned int shift = 64; shift > 0; shift -= 4)
		*at++ = "0123456789abcdef"[v >> (shift - 4) & 15];
	return at;
}

void hub_message_id_format(uint64_t run, uint64_t sequence, char out[static HUB_MESSAGE_ID_LEN + 1])
{
	char *at = hex_put(out, run);

	*at++ = '-';
	at = hex_put(at, sequence);
	*at = '\0';
}
