/* SPDX-License-Identifier: MIT */
/* Twins at the hub: merge patches, versions, limits, notifications, who watches. */

#include "tests/harness.h"
#include "tests/support/emu_service.h"
#include "tools/emulator/twin.h"

FIXTURE(twin)
{
	struct emu_world w;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	char text[256];
};

FIXTURE_SETUP(twin)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->peer = emu_peer_connected(&self->w, "dev1");
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->peer && self->service);
}

FIXTURE_TEARDOWN(twin)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
}

static const char *get(struct fixture_twin *self)
{
	if (strcmp(emu_ask(self->peer, &self->reply, "$iothub/twin/get", NULL, ""), "") != 0)
		return self->reply.status;
	return self->reply.payload;
}

static const char *patch(struct fixture_twin *self, const char *json, const char *properties)
{
	return emu_ask(self->peer, &self->reply, "$iothub/twin/patch/reported", properties, json);
}

static const char *patch_desired(struct fixture_twin *self, const char *json, const char *properties)
{
	char all[128];

	snprintf(all, sizeof(all), "device=dev1%s%s", properties ? "," : "", properties ? properties : "");
	return emu_ask(self->service, &self->reply, "$service/twin/patch", all, json);
}

TEST_F(twin, versions_count_from_1)
{
	EXPECT_STREQ(get(self), "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
	EXPECT_STREQ(patch(self, "{\"a\":1}", NULL), "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "version"), "2");
	EXPECT_STREQ(self->reply.payload, "");
	EXPECT_STREQ(patch(self, "{}", NULL), "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "version"), "3");
	EXPECT_STREQ(get(self), "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":3}}");
}

TEST_F(twin, patches_merge_as_rfc_7396_says)
{
	/* The appendix' examples whose documents are objects. */
	static const char *const rows[][3] = {
		{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
		{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
		{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
		{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
		{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
		{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
		{"{\"a\":\"foo\"}", "{\"b\":[3,null,{\"x\":null}]}",
		 "{\"a\":\"foo\",\"b\":[3,null,{\"x\":null}]}"},
		{"{\"e\":1.50}", "{\"a\":1e3,\"b\":true}", "{\"e\":1.50,\"a\":1e3,\"b\":true}"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct emu_outcome outcome = EMU_SUCCESS;
		struct emu_twin twin;
		json_object *object;

		emu_twin_init(&twin);
		for (size_t step = 0; step < 2; step++) {
			ASSERT_TRUE(emu_twin_patch_parse(bytes_from_str(rows[i][step]), &object, &outcome));
			EXPECT_TRUE(emu_twin_patch(&twin, TWIN_REPORTED, object, NULL, &outcome));
			json_object_put(object);
		}
		EXPECT_STREQ(json_object_to_json_string_ext(twin.parts[TWIN_REPORTED].object,
							    JSON_C_TO_STRING_PLAIN),
			     rows[i][2]);
		emu_twin_deinit(&twin);
	}
}

TEST_F(twin, if_version)
{
	EXPECT_STREQ(patch(self, "{\"a\":1}", "if-version=1"), "");
	EXPECT_STREQ(patch(self, "{\"a\":2}", "if-version=1"), "0104");
	EXPECT_STREQ(self->reply.reason, "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "version"), "");
	EXPECT_STREQ(patch(self, "{\"a\":3}", "if-version=18446744073709551615"), "0104");
	EXPECT_STREQ(patch(self, "{\"a\":4}", "if-version=x"), "0100");
	EXPECT_STREQ(get(self), "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"$version\":2}}");
	EXPECT_STREQ(patch_desired(self, "{\"d\":1}", "if-version=2"), "0104");
	EXPECT_STREQ(patch_desired(self, "{\"d\":1}", "if-version=1"), "");
	EXPECT_STREQ(emu_reply_property(&self->reply, "version"), "2");
}

TEST_F(twin, get_takes_no_payload_and_no_properties)
{
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", NULL, "{}"), "0100");
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", "version=1", ""), "0100");
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", "@a=1", ""), "");
}

TEST_F(twin, a_patch_is_a_json_object)
{
	static const char *const wrong[] = {
		"",
		"1",
		"null",
		"[]",
		"\"a\"",
		"{",
		"{}{}",
		"{} x",
		"{'a':1}",
		"{\"a\":1,}",
		"{\"a\":NaN}",
		"{\"a\":Infinity}",
		"{\"a\":1e999}",
		"{\"a\":\"\xff\"}",
		"{\"a\\u0000b\":1}",
		"{a:1}",
		"{\"a\":\"\\u0000\"}",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		EXPECT_STREQ(patch(self, wrong[i], NULL), "0100");
		EXPECT_NE(strlen(self->reply.reason), 0u);
	}
	EXPECT_STREQ(get(self), "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
	EXPECT_STREQ(patch(self, " {\"a\" : [1, 2] }\n", NULL), "");
}

TEST_F(twin, keys_have_limits)
{
	static const char *const wrong[] = {
		"{\"a.b\":1}",          "{\"$a\":1}",       "{\"a b\":1}",     "{\"\":1}",
		"{\"a\\n\":1}",         "{\"\\u007f\":1}",  "{\"\\u0085\":1}", "{\"a\":{\"$b\":1}}",
		"{\"a\":[{\"b.\":1}]}", "{\"$version\":1}",
	};
	char text[1100];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		EXPECT_STREQ(patch(self, wrong[i], NULL), "0100");
	EXPECT_STREQ(patch(self, "{\"\xc3\xa4-_\":1}", NULL), "");
	snprintf(text, sizeof(text), "{\"%01024d\":1}", 0);
	EXPECT_STREQ(patch(self, text, NULL), "");
	snprintf(text, sizeof(text), "{\"%01025d\":1}", 0);
	EXPECT_STREQ(patch(self, text, NULL), "0100");
}

TEST_F(twin, strings_have_up_to_4_kib)
{
	char text[4200];

	snprintf(text, sizeof(text), "{\"a\":\"%04096d\"}", 0);
	EXPECT_STREQ(patch(self, text, NULL), "");
	snprintf(text, sizeof(text), "{\"a\":\"%04097d\"}", 0);
	EXPECT_STREQ(patch(self, text, NULL), "0100");
}

TEST_F(twin, up_to_10_levels)
{
	char text[256];

	for (int n = 10; n <= 11; n++) {
		text[0] = '\0';
		for (int i = 0; i < n; i++)
			strcat(text, "{\"a\":");
		strcat(text, "{}");
		for (int i = 0; i < n; i++)
			strcat(text, "}");
		EXPECT_STREQ(patch(self, text, NULL), n == 10 ? "" : "0100");
	}
	EXPECT_STREQ(patch(self, "{\"a\":[[[[[[[[[[[1]]]]]]]]]]]}", NULL), "0100");
}

TEST_F(twin, a_part_has_up_to_32_kib)
{
	char text[4200];

	/* 8 times a key of 1 byte and a string of 4095 are 32 KiB. */
	for (int i = 0; i < 8; i++) {
		snprintf(text, sizeof(text), "{\"%d\":\"%04095d\"}", i, 0);
		EXPECT_STREQ(patch(self, text, NULL), "");
	}
	EXPECT_STREQ(patch(self, "{\"x\":true}", NULL), "0100");
	EXPECT_STREQ(patch(self, "{\"7\":null,\"x\":true,\"y\":1}", NULL), "");
	/* The other part has its own. */
	EXPECT_STREQ(patch_desired(self, text, NULL), "");
}

/* {"k":[element,element,...]} with @n of them. */
static void array_make(const char *element, size_t n, char *out)
{
	char *at = stpcpy(out, "{\"k\":[");

	for (size_t i = 0; i < n; i++) {
		at = stpcpy(at, element);
		*at++ = i + 1 < n ? ',' : ']';
	}
	strcpy(at, "}");
}

TEST_F(twin, every_element_of_an_array_counts)
{
	static const char *const elements[] = {"null", "[]", "{}", "\"\""};
	static char text[TWIN_PART_MAX * 5 + 16];

	for (size_t i = 0; i < sizeof(elements) / sizeof(elements[0]); i++) {
		/* One of the part's bytes is the key. */
		array_make(elements[i], TWIN_PART_MAX - 1, text);
		EXPECT_STREQ(patch(self, text, NULL), "");
		array_make(elements[i], TWIN_PART_MAX, text);
		EXPECT_STREQ(patch(self, text, NULL), "0100");
	}
	/* What has a length counts for that and no more. */
	array_make("1", TWIN_PART_MAX / 8 - 1, text);
	EXPECT_STREQ(patch(self, text, NULL), "");
	array_make("1", TWIN_PART_MAX / 8, text);
	EXPECT_STREQ(patch(self, text, NULL), "0100");
}

TEST_F(twin, the_device_gets_desired_changes)
{
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/twin/patch/desired"), 0);
	EXPECT_STREQ(patch_desired(self, "{\"a\":1}", NULL), "");
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.topic, "$iothub/twin/patch/desired"));
	EXPECT_EQ(self->packet.publish.qos, 0);
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.payload, "{\"a\":1}"));
	EXPECT_STREQ(hub_property(&self->packet, "version", self->text, sizeof(self->text)), "2");
	/* Its own do not come back, and what was refused never came. */
	EXPECT_STREQ(patch(self, "{\"b\":1}", NULL), "");
	EXPECT_STREQ(patch_desired(self, "[]", NULL), "0100");
	EXPECT_FALSE(emu_peer_next(self->peer, &self->packet));
	EXPECT_STREQ(get(self),
		     "{\"desired\":{\"a\":1,\"$version\":2},\"reported\":{\"b\":1,\"$version\":2}}");
}

TEST_F(twin, without_a_subscription_there_is_no_notification)
{
	EXPECT_STREQ(patch_desired(self, "{\"a\":1}", NULL), "");
	EXPECT_FALSE(emu_peer_next(self->peer, &self->packet));
}

TEST_F(twin, a_notification_over_the_maximum_packet_size_is_left_out)
{
	EXPECT_EQ(emu_subscribe(self->peer, "$iothub/twin/patch/desired"), 0);
	self->peer->client->maximum_packet_size = 100;
	EXPECT_STREQ(
		patch_desired(self,
			      "{\"a\":"
			      "\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
			      NULL),
		"");
	EXPECT_FALSE(emu_peer_next(self->peer, &self->packet));
	EXPECT_EQ(emu_client_closing(self->peer->client), EMU_OPEN + 0u);
	EXPECT_STREQ(patch_desired(self, "{\"a\":1}", NULL), "");
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_STREQ(hub_property(&self->packet, "version", self->text, sizeof(self->text)), "3");
	/* So is a twin, with an answer in its place. */
	EXPECT_STREQ(
		patch_desired(self,
			      "{\"a\":"
			      "\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
			      NULL),
		"");
	self->peer->client->maximum_packet_size = 150;
	EXPECT_STREQ(emu_ask(self->peer, &self->reply, "$iothub/twin/get", NULL, ""), "0100");
}

TEST_F(twin, the_service_side_watches_both_parts)
{
	struct emu_peer *other = emu_peer_service(&self->w, "service/other");

	ASSERT_TRUE(other != NULL);
	EXPECT_EQ(emu_subscribe(self->service, "$service/twin/changes/dev1"), 0);
	EXPECT_EQ(emu_subscribe(other, "$service/twin/changes/dev2"), 0);
	EXPECT_STREQ(patch(self, "{\"r\":1}", NULL), "");
	ASSERT_TRUE(emu_peer_next(self->service, &self->packet));
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.topic, "$service/twin/changes/dev1"));
	EXPECT_TRUE(bytes_equal_str(self->packet.publish.payload, "{\"r\":1}"));
	EXPECT_STREQ(hub_property(&self->packet, "part", self->text, sizeof(self->text)), "reported");
	EXPECT_STREQ(hub_property(&self->packet, "version", self->text, sizeof(self->text)), "2");
	EXPECT_STREQ(hub_property(&self->packet, "device-id", self->text, sizeof(self->text)), "dev1");
	EXPECT_STREQ(emu_ask(other, &self->reply, "$service/twin/patch", "device=dev1", "{\"d\":1}"), "");
	ASSERT_TRUE(emu_peer_next(self->service, &self->packet));
	EXPECT_STREQ(hub_property(&self->packet, "part", self->text, sizeof(self->text)), "desired");
	EXPECT_FALSE(emu_peer_next(other, &self->packet));
	emu_peer_close(other);
}

TEST_F(twin, the_service_side_shows_it)
{
	EXPECT_STREQ(patch(self, "{\"r\":\"a/b\"}", NULL), "");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/twin/show", "device=dev1", ""), "");
	EXPECT_STREQ(self->reply.payload,
		     "{\"desired\":{\"$version\":1},\"reported\":{\"r\":\"a/b\",\"$version\":2}}");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/twin/show", "device=dev1/mod", ""), "");
	EXPECT_STREQ(self->reply.payload, "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
	EXPECT_STREQ(emu_ask(self->service, &self->reply, "$service/twin/show", "device=nobody", ""), "0504");
}

TEST_HARNESS_MAIN
