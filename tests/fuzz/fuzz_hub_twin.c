/* SPDX-License-Identifier: MIT */
/*
 * Twin states: any text. What must hold:
 *
 *   a failure leaves nothing behind and says why, in one line of UTF-8; a success says nothing;
 *   what is read can be written and read again, and says the same about the limits then;
 *   what the whole state's check takes, the patch's check takes; what the patch's takes, the hub takes too.
 */

#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/utf8.h"
#include "hub/twin.h"
#include "tools/emulator/twin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void reason_check(int r, const struct hub_twin_reason *reason)
{
	struct bytes text = bytes_from_str(reason->text);

	must((r == 0) == (text.len == 0));
	must(text.len < sizeof(reason->text) && utf8_is_valid(text));
	for (size_t i = 0; i < text.len; i++)
		must(text.data[i] >= 0x20 && text.data[i] != 0x7f &&
		     !(text.data[i] == 0xc2 && text.data[i + 1] < 0xa0));
}

static struct json_object *read_state(struct bytes text)
{
	struct hub_twin_reason reason;
	struct json_object *object = NULL;
	int r = hub_twin_parse(text, &object, &reason);

	reason_check(r, &reason);
	must((r == 0) == (object != NULL));
	/* There is memory: this would be text that the scan lets pass and json-c does not. */
	must(r != -ENOMEM);
	return object;
}

static int limits(int (*check)(const struct json_object *, struct hub_twin_reason *),
		  const struct json_object *object)
{
	struct hub_twin_reason reason;
	int r = check(object, &reason);

	must(r == 0 || r == -EINVAL || r == -EMSGSIZE);
	reason_check(r, &reason);
	return r;
}

static void read_again(struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	struct json_object *again;

	/* Escapes can make it longer than a text may be. */
	if (strlen(text) > HUB_TWIN_TEXT_BYTES_MAX)
		return;
	again = read_state(bytes_from_str(text));
	must(again && json_object_equal(object, again));
	must(limits(hub_twin_check, again) == limits(hub_twin_check, object));
	json_object_put(again);
}

static void ask_hub(struct bytes text)
{
	struct emu_outcome outcome = EMU_SUCCESS;
	struct json_object *patch = NULL;
	struct emu_twin twin;

	emu_twin_init(&twin);
	must(emu_twin_patch_parse(text, &patch, &outcome));
	must(emu_twin_patch(&twin, TWIN_REPORTED, patch, NULL, &outcome));
	json_object_put(patch);
	emu_twin_deinit(&twin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes text = BYTES(data, size);
	struct json_object *object = read_state(text);

	if (!object)
		return 0;
	if (limits(hub_twin_check, object) == 0)
		must(limits(hub_twin_check_patch, object) == 0);
	if (limits(hub_twin_check_patch, object) == 0)
		ask_hub(text);
	/* json_object_equal() says that NaN differs from itself, and infinity is written as another word. */
	if (limits(hub_twin_check, object) != -EINVAL)
		read_again(object);
	json_object_put(object);
	return 0;
}
