/* SPDX-License-Identifier: MIT */
/*
 * Shared access signatures, identities and message ids. The expected signatures come from another
 *implementation of HMAC, the command line
 *
 *	printf 'hub.example\ndev1\n\n1600987795320\n1600991395320\n' | openssl dgst -sha256 -mac HMAC -macopt
 *hexkey:...
 */

#include <errno.h>
#include <stdio.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/time.h"
#include "hub/contract.h"
#include "hub/identity.h"
#include "hub/message.h"
#include "hub/sas.h"
#include "tests/harness.h"

/* "this is a 32 byte device key !!!" */
#define KEY_32 "dGhpcyBpcyBhIDMyIGJ5dGUgZGV2aWNlIGtleSAhISE="
/* 0, 1, 2 ... 63 */
#define KEY_64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="

static void hex_format(const uint8_t *data, size_t n, char *out)
{
	for (size_t i = 0; i < n; ++i)
		sprintf(out + 2 * i, "%02x", data[i]);
}

static void sign_hex(const char *key_text, const struct hub_sas_fields *f,
		     char out[2 * HUB_SIGNATURE_BYTES + 1])
{
	uint8_t signature[HUB_SIGNATURE_BYTES];
	struct hub_key key;

	ASSERT_EQ(hub_key_decode(bytes_from_str(key_text), &key), 0);
	ASSERT_EQ(hub_sas_sign(&key, f, signature), 0);
	hex_format(signature, sizeof(signature), out);
}

TEST(known_signatures)
{
	struct hub_sas_fields f = {
		.host = BYTES_LIT("hub.example"),
		.client_id = BYTES_LIT("dev1"),
		.at = BYTES_LIT("1600987795320"),
		.expiry = BYTES_LIT("1600991395320"),
	};
	char hex[2 * HUB_SIGNATURE_BYTES + 1];

	sign_hex(KEY_32, &f, hex);
	EXPECT_STREQ(hex, "7ef80ac51cdf133a61b4c86df1ff5aadc9908c205165da548a35c2fc40a3edf5");
	sign_hex(KEY_64, &f, hex);
	EXPECT_STREQ(hex, "56061383cfda945bfb7785e095996c5e7ebb3c8b33c4bebb356e6ec2c5b524e7");
	f.at = BYTES(NULL, 0);
	sign_hex(KEY_32, &f, hex);
	EXPECT_STREQ(hex, "bcf5ec5e744fdcde33b8270a2d993c55bec6fe5eef9dcfaccb99229c8b5fa46d");
}

TEST(known_signature_of_a_module_by_a_policy)
{
	struct hub_sas_fields f = {
		.host = BYTES_LIT("hub.example"),
		.client_id = BYTES_LIT("dev1/mod1"),
		.policy = BYTES_LIT("service"),
		.at = BYTES_LIT("1600987795320"),
		.expiry = BYTES_LIT("1600991395320"),
	};
	char hex[2 * HUB_SIGNATURE_BYTES + 1];

	sign_hex(KEY_32, &f, hex);
	EXPECT_STREQ(hex, "bf23820e4fad4455df3cedb5a743badb90c941deffd5ccbb7327ef41ed70762b");
}

TEST(make_signs_what_it_writes)
{
	char hex[2 * HUB_SIGNATURE_BYTES + 1];
	struct hub_key key;
	struct hub_sas sas;

	ASSERT_EQ(hub_key_decode(BYTES_LIT(KEY_32), &key), 0);
	ASSERT_EQ(hub_sas_make(&sas, &key, "hub.example", "dev1", NULL, 1600987795320, 3600 * MSEC_PER_SEC),
		  0);
	EXPECT_STREQ(sas.at, "1600987795320");
	EXPECT_STREQ(sas.expiry, "1600991395320");
	EXPECT_EQ(sas.expiry_ms, 1600991395320u);
	hex_format(sas.signature, sizeof(sas.signature), hex);
	EXPECT_STREQ(hex, "7ef80ac51cdf133a61b4c86df1ff5aadc9908c205165da548a35c2fc40a3edf5");
	ASSERT_EQ(hub_sas_make(&sas, &key, "hub.example", "dev1/mod1", "service", 1600987795320, 3600000), 0);
	hex_format(sas.signature, sizeof(sas.signature), hex);
	EXPECT_STREQ(hex, "bf23820e4fad4455df3cedb5a743badb90c941deffd5ccbb7327ef41ed70762b");
}

TEST(make_does_not_wrap_around)
{
	struct hub_key key;
	struct hub_sas sas;

	ASSERT_EQ(hub_key_decode(BYTES_LIT(KEY_32), &key), 0);
	ASSERT_EQ(hub_sas_make(&sas, &key, "h", "d", "", UINT64_MAX - 1, 1000), 0);
	EXPECT_STREQ(sas.at, "18446744073709551614");
	EXPECT_STREQ(sas.expiry, "18446744073709551615");
}

TEST(longest_names_can_be_signed)
{
	char host[254], device[HUB_ID_MAX + 1], module[HUB_ID_MAX + 1], client_id[HUB_CLIENT_ID_SIZE];
	struct hub_key key;
	struct hub_sas sas;

	memset(host, 'h', sizeof(host) - 1);
	memset(device, 'd', HUB_ID_MAX);
	memset(module, 'm', HUB_ID_MAX);
	host[sizeof(host) - 1] = device[HUB_ID_MAX] = module[HUB_ID_MAX] = '\0';
	ASSERT_EQ(hub_key_decode(BYTES_LIT(KEY_32), &key), 0);
	ASSERT_EQ(hub_client_id_format(device, module, client_id), 0);
	EXPECT_EQ(hub_sas_make(&sas, &key, host, client_id, device, UINT64_MAX, 0), 0);
}

TEST(an_over_long_field_is_an_error)
{
	static uint8_t zeros[4096];
	uint8_t signature[HUB_SIGNATURE_BYTES];
	struct hub_sas_fields f = {.host = BYTES(zeros, sizeof(zeros))};
	struct hub_key key;

	ASSERT_EQ(hub_key_decode(BYTES_LIT(KEY_32), &key), 0);
	EXPECT_EQ(hub_sas_sign(&key, &f, signature), -ENOSPC);
}

TEST(key_decoding)
{
	static const char *const bad[] = {
		"",
		"=",
		"====",
		"dGhpcw",     /* no padding */
		"dGhpcw==\n", /* white space */
		"dGhp cw==",
		"dGhpc-==",     /* the URL alphabet */
		"dGhpcx==",     /* bits that mean nothing */
		"\"dGhpcw==\"", /* quotes */
	};
	struct hub_key key;

	EXPECT_EQ(hub_key_decode(BYTES_LIT("dGhpcw=="), &key), 0);
	EXPECT_EQ(key.len, 4u);
	EXPECT_MEMEQ(key.data, "this", 4);
	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		EXPECT_EQ(hub_key_decode(bytes_from_str(bad[i]), &key), -EINVAL);
		EXPECT_EQ(key.len, 0u);
	}
}

TEST(key_size_limit)
{
	uint8_t data[HUB_KEY_BYTES_MAX + 1];
	char text[BASE64_LEN(sizeof(data)) + 1];
	struct hub_key key;

	memset(data, 7, sizeof(data));
	base64_encode(BYTES(data, HUB_KEY_BYTES_MAX), text);
	EXPECT_EQ(hub_key_decode(bytes_from_str(text), &key), 0);
	EXPECT_EQ(key.len, (size_t)HUB_KEY_BYTES_MAX);
	EXPECT_EQ(strlen(text), (size_t)HUB_KEY_TEXT_MAX);
	base64_encode(BYTES(data, sizeof(data)), text);
	EXPECT_EQ(hub_key_decode(bytes_from_str(text), &key), -ENOSPC);
}

TEST(keys_are_wiped)
{
	static const struct hub_key zero;
	struct hub_key key;

	ASSERT_EQ(hub_key_decode(BYTES_LIT(KEY_64), &key), 0);
	hub_key_wipe(&key);
	EXPECT_MEMEQ(&key, &zero, sizeof(key));
	/* Also what a failed decoding left behind. */
	ASSERT_EQ(hub_key_decode(BYTES_LIT("c2VjcmV0c2VjcmV0!!!!"), &key), -EINVAL);
	EXPECT_MEMEQ(&key, &zero, sizeof(key));
}

TEST(ids)
{
	char longest[HUB_ID_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	EXPECT_TRUE(hub_id_is_valid(BYTES(longest, HUB_ID_MAX)));
	EXPECT_FALSE(hub_id_is_valid(BYTES(longest, HUB_ID_MAX + 1)));
	EXPECT_TRUE(hub_id_is_valid(BYTES_LIT("Dev-1.%_*?!(),:=@$'")));
	EXPECT_FALSE(hub_id_is_valid(BYTES_LIT("")));
	for (unsigned int c = 0; c < 256; ++c) {
		uint8_t id[1] = {(uint8_t)c};
		bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    (c && strchr("-.%_*?!(),:=@$'", (int)c));

		EXPECT_EQ(hub_id_is_valid(BYTES(id, 1)), good);
	}
}

TEST(client_ids)
{
	char id[HUB_CLIENT_ID_SIZE];

	ASSERT_EQ(hub_client_id_format("dev1", NULL, id), 0);
	EXPECT_STREQ(id, "dev1");
	ASSERT_EQ(hub_client_id_format("dev1", "", id), 0);
	EXPECT_STREQ(id, "dev1");
	ASSERT_EQ(hub_client_id_format("dev1", "mod1", id), 0);
	EXPECT_STREQ(id, "dev1/mod1");
	EXPECT_EQ(hub_client_id_format("", NULL, id), -EINVAL);
	EXPECT_EQ(hub_client_id_format(NULL, NULL, id), -EINVAL);
	EXPECT_EQ(hub_client_id_format("dev/1", NULL, id), -EINVAL);
	EXPECT_EQ(hub_client_id_format("dev1", "a/b", id), -EINVAL);
}

TEST(message_ids)
{
	char id[HUB_MESSAGE_ID_LEN + 1];

	hub_message_id_format(0x0123456789abcdef, 0, id);
	EXPECT_STREQ(id, "0123456789abcdef-0000000000000000");
	hub_message_id_format(0, UINT64_MAX, id);
	EXPECT_STREQ(id, "0000000000000000-ffffffffffffffff");
	EXPECT_EQ(strlen(id), (size_t)HUB_MESSAGE_ID_LEN);
}

TEST(names_of_the_contract)
{
	EXPECT_STREQ(HUB_TOPIC_TELEMETRY, "$iothub/telemetry");
	EXPECT_STREQ(HUB_TOPIC_TWIN_GET, "$iothub/twin/get");
	EXPECT_STREQ(HUB_TOPIC_TWIN_REPORTED, "$iothub/twin/patch/reported");
	EXPECT_STREQ(HUB_TOPIC_TWIN_DESIRED, "$iothub/twin/patch/desired");
	EXPECT_STREQ(HUB_TOPIC_COMMANDS, "$iothub/commands");
	EXPECT_STREQ(HUB_TOPIC_METHODS_ALL, "$iothub/methods/+");
	EXPECT_STREQ(HUB_TOPIC_RESPONSES, "$iothub/responses");
	EXPECT_STREQ(HUB_API_VERSION, "2020-10-01-preview");
}

TEST_HARNESS_MAIN
