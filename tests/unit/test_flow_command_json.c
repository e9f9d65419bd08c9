/* SPDX-License-Identifier: MIT */
/*
 * Commands as JSON: the exact text for what a hub may send, and for random payloads that a parser which is not ours
 * reads back what went in.
 */

#include <json-c/json.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/utf8.h"
#include "flow/command_json.h"
#include "mqtt/packet.h"
#include "tests/harness.h"

#define N_RANDOM  2000
#define TEXT_SIZE 4096

FIXTURE(json)
{
	uint8_t field[TEXT_SIZE];
	struct writer w;
	struct command_message message;
};

FIXTURE_SETUP(json)
{
	self->w = writer_init(self->field, sizeof(self->field));
	self->message = (struct command_message){
		.sequence_no = 7, .enqueued_ms = UINT64_C(1619004616000), .delivery_count = 1};
}

FIXTURE_TEARDOWN(json)
{
	(void)self;
}

static void put(struct fixture_json *self, const char *key, const char *value)
{
	mqtt_user_property_put(&self->w, bytes_from_str(key), bytes_from_str(value));
	ASSERT_EQ(self->w.error, 0);
}

static void put_content_type(struct fixture_json *self, const char *value)
{
	struct mqtt_properties p = {.content_type = bytes_from_str(value)};

	mqtt_set(&p, MQTT_PROP_CONTENT_TYPE);
	mqtt_properties_encode(&self->w, &p, MQTT_PUBLISH);
	ASSERT_EQ(self->w.error, 0);
}

static char *line_of(struct fixture_json *self, struct bytes payload)
{
	char *text = NULL;
	size_t len = 0;

	self->message.properties = writer_bytes(&self->w);
	self->message.payload = payload;
	ASSERT_EQ(command_json_line(&self->message, &text, &len), 0);
	ASSERT_EQ(strlen(text), len);
	return text;
}

static void expect_line(struct fixture_json *self, struct bytes payload, const char *want)
{
	_cleanup_(free_ptr) char *text = line_of(self, payload);

	EXPECT_STREQ(text, want);
}

TEST_F(json, the_least_a_command_has)
{
	expect_line(self, BYTES_LIT("on"),
		    "{\"sequence-no\":7,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\",\"delivery-count\":1,"
		    "\"properties\":{},\"payload\":\"on\"}\n");
	expect_line(self, BYTES(NULL, 0),
		    "{\"sequence-no\":7,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\",\"delivery-count\":1,"
		    "\"properties\":{},\"payload\":\"\"}\n");
}

TEST_F(json, all_a_command_can_have)
{
	_cleanup_(free_ptr) char *properties = NULL;
	size_t len;

	self->message.sequence_no = UINT64_MAX;
	self->message.delivery_count = UINT32_MAX;
	/* These are the hub's own, and are in the numbers already. */
	put(self, "sequence-no", "18446744073709551615");
	put(self, "@colour", "blue");
	put(self, "content-encoding", "utf-8");
	put(self, "message-id", "m1");
	put(self, "correlation-id", "c/1");
	put(self, "creation-time", "1619004615123");
	put(self, "user-id", "u\"1");
	put(self, "@", "no name");
	put(self, "@colour", "red");
	put(self, "@@x", "");
	put(self, "unknown", "ignored");
	put_content_type(self, "application/json");
	expect_line(self, BYTES_LIT("{\"a\":\"\\u00e9/\xc3\xa9\"}\n"),
		    "{\"sequence-no\":18446744073709551615,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\","
		    "\"delivery-count\":4294967295,\"creation-time\":\"2021-04-21T11:30:15.123Z\","
		    "\"message-id\":\"m1\",\"user-id\":\"u\\\"1\",\"correlation-id\":\"c/1\","
		    "\"content-type\":\"application/json\",\"content-encoding\":\"utf-8\","
		    "\"properties\":{\"colour\":\"red\",\"\":\"no name\",\"@x\":\"\"},"
		    "\"payload\":\"{\\\"a\\\":\\\"\\\\u00e9/\xc3\xa9\\\"}\\n\"}\n");
	ASSERT_EQ(command_json_properties(&self->message, &properties, &len), 0);
	EXPECT_STREQ(properties,
		     "{\"sequence-no\":18446744073709551615,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\","
		     "\"delivery-count\":4294967295,\"creation-time\":\"2021-04-21T11:30:15.123Z\","
		     "\"message-id\":\"m1\",\"user-id\":\"u\\\"1\",\"correlation-id\":\"c/1\","
		     "\"content-type\":\"application/json\",\"content-encoding\":\"utf-8\","
		     "\"properties\":{\"colour\":\"red\",\"\":\"no name\",\"@x\":\"\"}}\n");
	EXPECT_EQ(strlen(properties), len);
}

TEST_F(json, a_creation_time_that_is_none_stays_as_it_is)
{
	_cleanup_(free_ptr) char *text = NULL;

	put(self, "creation-time", "2021-04-21T11:30:16-07:00");
	text = line_of(self, BYTES_LIT("x"));
	EXPECT_CONTAINS(text, "\"creation-time\":\"2021-04-21T11:30:16-07:00\"");
}

TEST_F(json, payloads_that_are_text_and_that_are_none)
{
	expect_line(self, BYTES("a\0b\x7f\x1b", 5),
		    "{\"sequence-no\":7,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\",\"delivery-count\":1,"
		    "\"properties\":{},\"payload\":\"a\\u0000b\x7f\\u001b\"}\n");
	expect_line(self, BYTES_LIT("a\xff"),
		    "{\"sequence-no\":7,\"enqueued-time\":\"2021-04-21T11:30:16.000Z\",\"delivery-count\":1,"
		    "\"properties\":{},\"payload-base64\":\"Yf8=\"}\n");
}

TEST_F(json, what_was_not_received_is_an_error)
{
	char *text;
	size_t len;

	self->message.properties = BYTES_LIT("\x26\x00");
	EXPECT_EQ(command_json_line(&self->message, &text, &len), -EBADMSG);
}

static struct bytes member(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value))
		return BYTES(NULL, 0);
	return BYTES(json_object_get_string(value), (size_t)json_object_get_string_len(value));
}

/* Bytes of all kinds, or mostly text, of random length. */
static size_t random_payload(uint8_t *out, size_t size)
{
	size_t len = test_random() % size;
	bool text = test_random() % 2;

	for (size_t i = 0; i < len; ++i)
		out[i] = (uint8_t)(test_random() % (text ? 0x80 : 0x100));
	return len;
}

TEST_F(json, random_payloads_come_back)
{
	uint8_t payload[300], decoded[300];
	unsigned int n_text = 0;

	for (int i = 0; i < N_RANDOM; ++i) {
		size_t len = random_payload(payload, sizeof(payload));
		_cleanup_(free_ptr) char *text = line_of(self, BYTES(payload, len));
		struct json_object *object = json_tokener_parse(text);
		struct bytes base64 = member(object, "payload-base64");

		ASSERT_TRUE(object != NULL);
		ASSERT_TRUE(strchr(text, '\n') == text + strlen(text) - 1);
		ASSERT_TRUE(utf8_is_valid(bytes_from_str(text)));
		if (base64.data) {
			ASSERT_EQ(base64_decode(base64, decoded, sizeof(decoded)), (ssize_t)len);
			ASSERT_MEMEQ(decoded, payload, len);
		} else {
			ASSERT_TRUE(bytes_equal(member(object, "payload"), BYTES(payload, len)));
			++n_text;
		}
		json_object_put(object);
	}
	EXPECT_GT(n_text, 10u);
	EXPECT_LT(n_text, (unsigned int)N_RANDOM - 10);
}

TEST_HARNESS_MAIN
