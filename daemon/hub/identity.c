/* SPDX-License-Identifier: MIT */
/*
 * Device and module ids, see identity.h. The set of characters leaves out '/', so a client id with one slash
 * is a module's and can be taken apart again.
 */

#include <errno.h>
#include <stdio.h>

#include "hub/identity.h"

static bool id_has_char(uint8_t c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("-.%_*?!(),:=@$'", c);
}

bool hub_id_is_valid(struct bytes id)
{
	if (id.len == 0 || id.len > HUB_ID_MAX)
		return false;
	for (size_t i = 0; i < id.len; ++i)
		if (!id_has_char(id.data[i]))
			return false;
	return true;
}

int hub_client_id_format(const char *device, const char *module, char out[static HUB_CLIENT_ID_SIZE])
{
	bool has_module = module && *module;

	if (!hub_id_is_valid(bytes_from_str(device)) ||
	    (has_module && !hub_id_is_valid(bytes_from_str(module))))
		return -EINVAL;
	snprintf(out, HUB_CLIENT_ID_SIZE, "%s%s%s", device, has_module ? "/" : "", has_module ? module : "");
	return 0;
}
