/* SPDX-License-Identifier: MIT */
/* The hub's reading of the contract: outcomes, topics, property rules, signatures. */

#include "mqtt/packet.h"
#include "tests/harness.h"
#include "tools/emulator/contract.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

TEST(status_table)
{
	static const struct {
		uint16_t status;
		uint8_t reason_code;
		bool has_trace_id, has_reason;
	} rows[] = {
		{0x0000, 0, false, false},   {0x0001, 0, false, false},   {0x0100, 131, false, true},
		{0x0101, 135, true, false},  {0x0102, 131, false, true},  {0x0103, 131, true, true},
		{0x0104, 131, false, false}, {0x0501, 151, false, false}, {0x0502, 151, false, false},
		{0x0503, 131, false, true},  {0x0504, 131, false, true},  {0x0601, 131, true, false},
		{0x0602, 131, true, false},  {0x0603, 131, true, false},  {0x06a0, 131, false, false},
		{0x06a1, 131, true, true},   {0x06a2, 131, false, true},  {0x0555, 131, false, false},
	};

	for (size_t i = 0; i < N(rows); i++) {
		const struct emu_status_info *info = emu_status_info(rows[i].status);

		TEST_LOG("%04X %s", rows[i].status, info->name);
		EXPECT_EQ(info->reason_code, rows[i].reason_code);
		EXPECT_EQ(info->has_trace_id, rows[i].has_trace_id);
		EXPECT_EQ(info->has_reason, rows[i].has_reason);
	}
}

TEST(status_parse)
{
	static const char *const wrong[] = {"", "501", "00501", "050g", "0x01", " 501", "-501"};
	uint16_t status = 0;

	EXPECT_EQ(emu_status_parse(BYTES_LIT("0501"), &status), 0);
	EXPECT_EQ(status, 0x0501);
	EXPECT_EQ(emu_status_parse(BYTES_LIT("06A0"), &status), 0);
	EXPECT_EQ(status, 0x06a0);
	EXPECT_EQ(emu_status_parse(BYTES_LIT("06a2"), &status), 0);
	EXPECT_EQ(status, 0x06a2);
	for (size_t i = 0; i < N(wrong); i++)
		EXPECT_EQ(emu_status_parse(bytes_from_str(wrong[i]), &status), -EINVAL);
}

TEST(outcome_reason_is_a_string_mqtt_can_carry)
{
	struct emu_outcome outcome;

	emu_outcome_set(&outcome, STATUS_BAD_REQUEST, "a\tb\x7f");
	EXPECT_STREQ(outcome.reason, "a?b?");
	emu_outcome_set(&outcome, STATUS_BAD_REQUEST, "gr\xc3\xb6\xc3\x9f");
	EXPECT_STREQ(outcome.reason, "gr\xc3\xb6\xc3\x9f");
	emu_outcome_set(&outcome, STATUS_BAD_REQUEST, "cut\xc3");
	EXPECT_STREQ(outcome.reason, "cut?");
}

/* As int: gcc minds comparing an enum with a constant of it. */
static int topic_of(const char *name)
{
	return (int)emu_topic_from_name(bytes_from_str(name));
}

TEST(topics_match_exactly)
{
	EXPECT_EQ(topic_of("$iothub/telemetry"), TOPIC_TELEMETRY);
	EXPECT_EQ(topic_of("$iothub/twin/get"), TOPIC_TWIN_GET);
	EXPECT_EQ(topic_of("$iothub/twin/patch/reported"), TOPIC_TWIN_PATCH_REPORTED);
	EXPECT_EQ(topic_of("$iothub/responses"), TOPIC_RESPONSES);
	EXPECT_EQ(topic_of("$iothub/telemetry/"), TOPIC_UNKNOWN);
	EXPECT_EQ(topic_of("$IoTHub/telemetry"), TOPIC_UNKNOWN);
	EXPECT_EQ(topic_of("$iothub/commands"), TOPIC_UNKNOWN);
	EXPECT_EQ(topic_of("telemetry"), TOPIC_UNKNOWN);
}

TEST(filters)
{
	static const struct {
		const char *topic;
		enum emu_filter filter;
	} rows[] = {
		{"$iothub/commands", FILTER_COMMANDS},
		{"$iothub/twin/patch/desired", FILTER_TWIN_DESIRED},
		{"$iothub/methods/reboot", FILTER_METHODS},
		{"$iothub/methods/+", FILTER_METHODS},
		{"methods/reboot", FILTER_METHODS},
		{"$iothub/responses", FILTER_RESPONSES},
		{"methods/+", FILTER_WILDCARD},
		{"$iothub/methods/#", FILTER_WILDCARD},
		{"$iothub/+", FILTER_WILDCARD},
		{"$iothub/twin/patch/+", FILTER_WILDCARD},
		{"#", FILTER_WILDCARD},
		{"$share/g/$iothub/commands", FILTER_SHARED},
		{"$iothub/methods/", FILTER_UNKNOWN},
		{"$iothub/methods/a/b", FILTER_UNKNOWN},
		{"$iothub/telemetry", FILTER_UNKNOWN},
		{"$iothub/Commands", FILTER_UNKNOWN},
		{"other", FILTER_UNKNOWN},
	};

	for (size_t i = 0; i < N(rows); i++) {
		TEST_LOG("%s", rows[i].topic);
		EXPECT_EQ(emu_filter_from_topic(bytes_from_str(rows[i].topic)), rows[i].filter);
	}
	EXPECT_EQ(emu_filter_max_qos(FILTER_COMMANDS), 1);
	EXPECT_EQ(emu_filter_max_qos(FILTER_TWIN_DESIRED), 0);
	EXPECT_EQ(emu_filter_max_qos(FILTER_METHODS), 0);
}

/* The encoded properties `name=value,…` of @text. */
static struct bytes field_make(const char *text, uint8_t *dst, size_t size)
{
	struct writer w = writer_init(dst, size);

	while (*text) {
		size_t key_len = strcspn(text, "="), value_len = strcspn(text + key_len + 1, ",");

		mqtt_user_property_put(&w, BYTES(text, key_len), BYTES(text + key_len + 1, value_len));
		text += key_len + 1 + value_len;
		text += *text == ',';
	}
	return writer_bytes(&w);
}

typedef bool (*check_fn)(struct bytes field, struct emu_outcome *outcome);

static void expect_check(check_fn check, const char *text, const char *reason)
{
	struct emu_outcome outcome = EMU_SUCCESS;
	uint8_t bytes[1024];
	bool good = check(field_make(text, bytes, sizeof(bytes)), &outcome);

	TEST_LOG("%s", text);
	EXPECT_EQ(good, reason == NULL);
	EXPECT_EQ(outcome.status, reason ? STATUS_BAD_REQUEST : STATUS_SUCCESS);
	EXPECT_STREQ(outcome.reason, reason ? reason : "");
}

TEST(telemetry_properties)
{
	check_fn check = emu_telemetry_properties_check;

	expect_check(check, "", NULL);
	expect_check(check, "message-id=1,user-id=u,correlation-id=c,content-encoding=utf-8", NULL);
	expect_check(check, "@a=1,@b=2,@a=3", NULL);
	expect_check(check, "creation-time=1600987795320", NULL);
	expect_check(check, "creation-time=2021-04-21T11:30:16Z", NULL);
	expect_check(check, "creation-time=2021-04-21T11:30:16.123Z", NULL);
	expect_check(check, "creation-time=2021-04-21T11:30:16-07:00",
		     "creation-time is no valid time: 2021-04-21T11:30:16-07:00");
	expect_check(check, "creation-time=", "creation-time is no valid time: ");
	expect_check(check, "creation-time=-5", "creation-time is no valid time: -5");
	expect_check(check, "a=1", "unknown user property a");
	expect_check(check, "Message-Id=1", "unknown user property Message-Id");
	expect_check(check, "@=1", "unknown user property @");
	expect_check(check, "content-type=x", "unknown user property content-type");
	expect_check(check, "sas-at=1", "unknown user property sas-at");
	expect_check(check, "message-id=1,@x=1,message-id=2", "message-id is given twice");
}

TEST(connect_properties)
{
	check_fn check = emu_connect_properties_check;

	expect_check(check, "api-version=1", NULL);
	expect_check(
		check,
		"api-version=1,host=h,sas-at=1,sas-expiry=2030-01-01T00:00:00Z,sas-policy=p,client-agent=x",
		NULL);
	expect_check(check, "api-version=1,@x=1", NULL);
	expect_check(check, "host=h", "api-version is missing");
	expect_check(check, "api-version=1,sas-at=now", "sas-at is no valid time: now");
	expect_check(check, "api-version=1,sas-expiry=2030-01-01T00:00:00+01:00",
		     "sas-expiry is no valid time: 2030-01-01T00:00:00+01:00");
	expect_check(check, "api-version=1,message-id=1", "unknown user property message-id");
	expect_check(check, "api-version=1,api-version=1", "api-version is given twice");
}

TEST(twin_properties)
{
	expect_check(emu_twin_get_properties_check, "", NULL);
	expect_check(emu_twin_get_properties_check, "if-version=1", "unknown user property if-version");
	expect_check(emu_twin_patch_properties_check, "if-version=18446744073709551615", NULL);
	expect_check(emu_twin_patch_properties_check, "if-version=18446744073709551616",
		     "if-version is no valid number: 18446744073709551616");
	expect_check(emu_twin_patch_properties_check, "if-version=+1", "if-version is no valid number: +1");
	expect_check(emu_twin_patch_properties_check, "if-version=", "if-version is no valid number: ");
}

/*
 * Made with, for the first:
 *   printf 'hub.example\ndev1\n\n1600987795320\n1600991395320\n' |
 *       openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1e1f
 */
static const struct {
	struct emu_sas_fields fields;
	const char *signature;
} vectors[] = {
	{{.host = BYTES_LIT("hub.example"),
	  .client_id = BYTES_LIT("dev1"),
	  .at = BYTES_LIT("1600987795320"),
	  .expiry = BYTES_LIT("1600991395320")},
	 "a09968168ad8593a176ac95edfbf1052eb80f55ce3cde5e16bd29fb39bbc0124"},
	{{.host = BYTES_LIT("hub.example"),
	  .client_id = BYTES_LIT("dev1/mod"),
	  .policy = BYTES_LIT("service"),
	  .expiry = BYTES_LIT("2030-01-01T00:00:00Z")},
	 "7d7302ab62f7253c27c115ccde10a52d55bfe5e1de6495e11cc944cc6ac8c465"},
};

static const uint8_t key_data[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
				   16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

TEST(signatures_are_those_of_openssl)
{
	struct bytes key = BYTES(key_data, sizeof(key_data));

	for (size_t i = 0; i < N(vectors); i++) {
		uint8_t signature[SAS_SIGNATURE_LEN];
		char text[2 * SAS_SIGNATURE_LEN + 1];

		ASSERT_EQ(emu_sas_sign(&vectors[i].fields, key, signature), 0);
		for (size_t j = 0; j < SAS_SIGNATURE_LEN; j++)
			snprintf(text + 2 * j, 3, "%02x", signature[j]);
		EXPECT_STREQ(text, vectors[i].signature);
		EXPECT_TRUE(emu_sas_is_signed(&vectors[i].fields, key, BYTES(signature, sizeof(signature))));
	}
}

TEST(signatures_that_differ_are_refused)
{
	struct bytes key = BYTES(key_data, sizeof(key_data)), other = BYTES(key_data, sizeof(key_data) - 1);
	struct emu_sas_fields fields = vectors[0].fields;
	uint8_t signature[SAS_SIGNATURE_LEN + 1];

	ASSERT_EQ(emu_sas_sign(&fields, key, signature), 0);
	EXPECT_FALSE(emu_sas_is_signed(&fields, other, BYTES(signature, SAS_SIGNATURE_LEN)));
	EXPECT_FALSE(emu_sas_is_signed(&fields, key, BYTES(signature, SAS_SIGNATURE_LEN - 1)));
	EXPECT_FALSE(emu_sas_is_signed(&fields, key, BYTES(signature, SAS_SIGNATURE_LEN + 1)));
	EXPECT_FALSE(emu_sas_is_signed(&fields, key, BYTES(NULL, 0)));
	fields.expiry = BYTES_LIT("1600991395321");
	EXPECT_FALSE(emu_sas_is_signed(&fields, key, BYTES(signature, SAS_SIGNATURE_LEN)));
	/* What stands in one line may not move to the next. */
	fields.at = BYTES_LIT("1600987795320\n1600991395320");
	fields.expiry = BYTES(NULL, 0);
	EXPECT_FALSE(emu_sas_is_signed(&fields, key, BYTES(signature, SAS_SIGNATURE_LEN)));
	signature[0] ^= 1;
	EXPECT_FALSE(emu_sas_is_signed(&vectors[0].fields, key, BYTES(signature, SAS_SIGNATURE_LEN)));
}

TEST_HARNESS_MAIN
