/* SPDX-License-Identifier: MIT */
/*
 * Connection strings: every field, order, case; each error with its text; and that no error repeats a key.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "config/connstr.h"
#include "tests/harness.h"

#define GOOD "HostName=hub.example;DeviceId=dev1;SharedAccessKey=c2VjcmV0LWtleQ=="
#define FORM "the form is HostName=...;DeviceId=...;SharedAccessKey=..."

static void expect_error(const char *text, const char *error)
{
	char got[CONNSTR_ERROR_SIZE];
	struct connstr cs;

	EXPECT_EQ(connstr_parse(bytes_from_str(text), &cs, got), -EINVAL);
	EXPECT_STREQ(got, error);
}

#define EXPECT_FIELD(cs, field, text) EXPECT_TRUE(bytes_equal_str((cs).fields[field], text))

TEST(the_usual_form)
{
	char error[CONNSTR_ERROR_SIZE];
	struct connstr cs;

	ASSERT_EQ(connstr_parse(BYTES_LIT(GOOD), &cs, error), 0);
	EXPECT_FIELD(cs, CONNSTR_HOST, "hub.example");
	EXPECT_FIELD(cs, CONNSTR_DEVICE, "dev1");
	EXPECT_FIELD(cs, CONNSTR_KEY, "c2VjcmV0LWtleQ==");
	EXPECT_EQ(cs.fields[CONNSTR_MODULE].data, NULL);
	EXPECT_EQ(cs.fields[CONNSTR_GATEWAY_HOST].data, NULL);
	EXPECT_EQ(cs.fields[CONNSTR_KEY_NAME].data, NULL);
	EXPECT_EQ(cs.port, 0);
	EXPECT_STREQ(error, "");
}

TEST(every_field_in_any_order_and_case)
{
	char error[CONNSTR_ERROR_SIZE];
	struct connstr cs;

	ASSERT_EQ(connstr_parse(
			  BYTES_LIT("PORT=8884;sharedaccesskey=YQ==;sharedAccessKeyName=device;MODULEID=m'1;"
				    "gatewayhostname=192.0.2.7;deviceid=a=b;hostname=HUB.example;"),
			  &cs, error),
		  0);
	EXPECT_FIELD(cs, CONNSTR_HOST, "HUB.example");
	EXPECT_FIELD(cs, CONNSTR_DEVICE, "a=b");
	EXPECT_FIELD(cs, CONNSTR_KEY, "YQ==");
	EXPECT_FIELD(cs, CONNSTR_MODULE, "m'1");
	EXPECT_FIELD(cs, CONNSTR_GATEWAY_HOST, "192.0.2.7");
	EXPECT_FIELD(cs, CONNSTR_KEY_NAME, "device");
	EXPECT_EQ(cs.port, 8884);
}

TEST(missing_fields)
{
	expect_error("", "HostName is missing: " FORM);
	expect_error(";;", "HostName is missing: " FORM);
	expect_error("DeviceId=d;SharedAccessKey=YQ==", "HostName is missing: " FORM);
	expect_error("HostName=h;SharedAccessKey=YQ==", "DeviceId is missing: " FORM);
	expect_error("HostName=h;DeviceId=d", "SharedAccessKey is missing: " FORM);
}

TEST(unknown_fields)
{
	expect_error(GOOD ";DevceId=x", "DevceId is not known: did you mean DeviceId?");
	expect_error(GOOD ";Hostname_=x", "part 4 has no known name: " FORM);
	expect_error(GOOD ";Transport=amqp", "Transport is not known: leave it out, " FORM);
	expect_error("=x;" GOOD, "part 1 has no known name: " FORM);
}

TEST(no_name_no_value)
{
	expect_error("hub.example;" GOOD, "part 1 has no '=': " FORM);
	expect_error(GOOD ";ModuleId=", "ModuleId has no value: fill it in, " FORM);
	expect_error(GOOD ";ModuleId", "part 4 has no '=': " FORM);
}

TEST(fields_twice)
{
	expect_error(GOOD ";HostName=other", "HostName is there twice: keep one");
	expect_error("sharedaccesskey=a;" GOOD, "SharedAccessKey is there twice: keep one");
}

TEST(wrong_values)
{
	expect_error("HostName=hub.example:8883;DeviceId=d;SharedAccessKey=YQ==",
		     "HostName is not a host name: write a DNS name or an IP address, without a port");
	expect_error("HostName=mqtts://hub;DeviceId=d;SharedAccessKey=YQ==",
		     "HostName is not a host name: write a DNS name or an IP address, without a port");
	expect_error(GOOD ";GatewayHostName=a b",
		     "GatewayHostName is not a host name: write a DNS name or an IP address, without a port");
	expect_error("HostName=h;DeviceId=a/b;SharedAccessKey=YQ==",
		     "DeviceId is not valid: use 1 to 128 ASCII letters, digits and -.%_*?!(),:=@$'");
	expect_error(GOOD ";ModuleId=\xc3\xa4",
		     "ModuleId is not valid: use 1 to 128 ASCII letters, digits and -.%_*?!(),:=@$'");
	expect_error(GOOD ";Port=0", "Port must be a number from 1 to 65535");
	expect_error(GOOD ";Port=65536", "Port must be a number from 1 to 65535");
	expect_error(GOOD ";Port=99999999999999999999999", "Port must be a number from 1 to 65535");
	expect_error(GOOD ";Port=+1", "Port must be a number from 1 to 65535");
}

TEST(a_certificate_instead_of_a_key)
{
	char error[CONNSTR_ERROR_SIZE];
	struct connstr cs;

	ASSERT_EQ(connstr_parse(BYTES_LIT("HostName=h;DeviceId=d;X509=True"), &cs, error), 0);
	EXPECT_TRUE(cs.x509);
	EXPECT_EQ(cs.fields[CONNSTR_KEY].data, NULL);
	ASSERT_EQ(connstr_parse(BYTES_LIT(GOOD), &cs, error), 0);
	EXPECT_FALSE(cs.x509);
	expect_error(GOOD ";x509=true", "x509 and SharedAccessKey are both there: keep one");
	expect_error("HostName=h;DeviceId=d;x509=true;SharedAccessKeyName=p",
		     "x509 and SharedAccessKeyName are both there: keep one");
	expect_error("HostName=h;DeviceId=d;x509=yes", "x509 must be true, or be left out");
	expect_error("HostName=h;DeviceId=d;x509=false", "x509 must be true, or be left out");
}

TEST(no_error_repeats_a_key)
{
	static const char *const texts[] = {
		"c2VjcmV0LWtleQ==",
		"secretkeyoflettersx=",
		"secretkeyoflettersx==",
		"secretkeyofletters",
		"secretkeyoflettersabcdefghi=x",
		"HostName=h;secretkeyofletters==;DeviceId=d",
		"SharedAccessKey=secretkeyofletters=;SharedAccessKey=secretkeyofletters=",
		"HostName=h;DeviceId=secretkeyofletters=;SharedAccessKey=",
		"HostName=h;DeviceId=secretkeyofletters/;SharedAccessKey=secretkeyofletters",
		"HostName=h;DeviceId=d;SharedAccessKey=YQ==;Port=secretkeyofletters",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); ++i) {
		char error[CONNSTR_ERROR_SIZE];
		struct connstr cs;

		EXPECT_EQ(connstr_parse(bytes_from_str(texts[i]), &cs, error), -EINVAL);
		EXPECT_EQ(strstr(error, "secret"), NULL);
		EXPECT_EQ(strstr(error, "c2Vj"), NULL);
	}
}

TEST(field_names)
{
	EXPECT_STREQ(connstr_field_name(CONNSTR_HOST), "HostName");
	EXPECT_STREQ(connstr_field_name(CONNSTR_PORT), "Port");
}

TEST(hosts)
{
	static const char *const good[] = {"localhost",
					   "hub.example",
					   "my-hub.azure-devices.net",
					   "1.2.3.4",
					   "2001:db8::1",
					   "::1",
					   "a_b.c",
					   "x"};
	static const char *const bad[] = {"",    ".",   "a.",    ".a",  "a..b", "-a",
					  "a b", "a/b", "[::1]", "1:2", "a\n",  "h\xc3\xa4"};
	char longest[CHECK_HOST_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(good); ++i)
		EXPECT_TRUE(check_host(bytes_from_str(good[i])));
	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i)
		EXPECT_FALSE(check_host(bytes_from_str(bad[i])));
	EXPECT_FALSE(check_host(BYTES("::1\0", 4)));
	memset(longest, 'a', sizeof(longest));
	EXPECT_TRUE(check_host(BYTES(longest, CHECK_HOST_MAX)));
	EXPECT_FALSE(check_host(BYTES(longest, CHECK_HOST_MAX + 1)));
}

TEST(numbers)
{
	uint64_t v = 7;

	EXPECT_EQ(check_u64(BYTES_LIT("18446744073709551615"), 0, UINT64_MAX, &v), 0);
	EXPECT_EQ(v, UINT64_MAX);
	EXPECT_EQ(check_u64(BYTES_LIT("18446744073709551616"), 0, UINT64_MAX, &v), -ERANGE);
	EXPECT_EQ(check_u64(BYTES_LIT("5"), 6, 9, &v), -ERANGE);
	EXPECT_EQ(check_u64(BYTES_LIT("10"), 6, 9, &v), -ERANGE);
	EXPECT_EQ(check_u64(BYTES_LIT(""), 0, 9, &v), -EINVAL);
	EXPECT_EQ(check_u64(BYTES_LIT("1x"), 0, 9, &v), -EINVAL);
	EXPECT_EQ(v, UINT64_MAX);
}

TEST(distances)
{
	struct bytes a = BYTES_LIT("queue-bytes");

	EXPECT_EQ(check_distance(a, BYTES_LIT("queue-bytes")), 0u);
	EXPECT_EQ(check_distance(a, BYTES_LIT("QUEUE-bytes")), 0u);
	EXPECT_EQ(check_distance(a, BYTES_LIT("qeue-bytes")), 1u);
	EXPECT_EQ(check_distance(a, BYTES_LIT("queue_bytess")), 2u);
	EXPECT_EQ(check_distance(a, BYTES_LIT("uqeue-bytes")), 1u);
	EXPECT_EQ(check_distance(a, BYTES_LIT("")), 11u);
	EXPECT_EQ(check_distance(BYTES_LIT(""), BYTES_LIT("")), 0u);
	EXPECT_TRUE(check_is_near(BYTES_LIT("prot"), BYTES_LIT("port"), 1));
	EXPECT_FALSE(check_is_near(BYTES_LIT("it"), BYTES_LIT("id"), 1));
}

TEST_HARNESS_MAIN
