/* SPDX-License-Identifier: MIT */
/*
 * Outcomes: every status of the contract, statuses it does not have, reason codes alone, and packets in which
 * the two disagree.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "hub/status.h"
#include "tests/harness.h"

static uint16_t parse(const char *text)
{
	uint16_t code = 0xdead;
	int r = hub_status_parse(bytes_from_str(text), &code);

	return r ? 0xffff : code;
}

TEST(parse_takes_4_digits_of_either_case)
{
	EXPECT_EQ(parse("0000"), 0);
	EXPECT_EQ(parse("0501"), 0x0501);
	EXPECT_EQ(parse("06A0"), 0x06a0);
	EXPECT_EQ(parse("06a0"), 0x06a0);
	EXPECT_EQ(parse("fFfE"), 0xfffe);
}

TEST(parse_refuses_everything_else)
{
	static const char *const bad[] = {"",     "1",    "501",  "00501", "050",    "0x51", " 501",
					  "501 ", "+501", "-501", "05g1",  "0501\n", "05 1", "O501"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); ++i) {
		uint16_t code = 0x1234;

		EXPECT_EQ(hub_status_parse(bytes_from_str(bad[i]), &code), -EINVAL);
		EXPECT_EQ(code, 0x1234);
	}
	EXPECT_EQ(hub_status_parse(BYTES("05\0001", 4), &(uint16_t){0}), -EINVAL);
}

TEST(every_status_of_the_contract)
{
	static const struct {
		uint16_t code;
		enum hub_class class;
		bool retryable;
		int error;
		const char *name;
	} table[] = {
		{0x0001, HUB_SUCCESS, false, 0, "Not Modified"},
		{0x0100, HUB_CLIENT_ERROR, false, -EINVAL, "Bad Request"},
		{0x0101, HUB_CLIENT_ERROR, false, -EACCES, "Not Authorized"},
		{0x0102, HUB_CLIENT_ERROR, false, -EPERM, "Not Allowed"},
		{0x0103, HUB_CLIENT_ERROR, false, -EBUSY, "Conflict"},
		{0x0104, HUB_CLIENT_ERROR, false, -ESTALE, "Precondition Failed"},
		{0x0501, HUB_CLIENT_ERROR, true, -EAGAIN, "Throttled"},
		{0x0502, HUB_CLIENT_ERROR, true, -EDQUOT, "Quota Exceeded"},
		{0x0503, HUB_CLIENT_ERROR, true, -ENOSPC, "Resource Exhausted"},
		{0x0504, HUB_CLIENT_ERROR, true, -ENOENT, "Not Found"},
		{0x0601, HUB_SERVER_ERROR, true, -EIO, "Server Error"},
		{0x0602, HUB_SERVER_ERROR, true, -ETIMEDOUT, "Timeout"},
		{0x0603, HUB_SERVER_ERROR, true, -EBUSY, "Server Busy"},
		{0x06a0, HUB_SERVER_ERROR, true, -EHOSTUNREACH, "Target Unavailable"},
		{0x06a1, HUB_SERVER_ERROR, true, -ETIMEDOUT, "Target Timeout"},
		{0x06a2, HUB_SERVER_ERROR, true, -EPROTO, "Target Failed"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); ++i) {
		struct hub_status s = hub_status_from_code(table[i].code);

		EXPECT_EQ(s.class, table[i].class);
		EXPECT_EQ(s.retryable, table[i].retryable);
		EXPECT_TRUE(s.has_code);
		EXPECT_EQ(s.code, table[i].code);
		EXPECT_EQ(s.error, table[i].error);
		EXPECT_STREQ(s.name, table[i].name);
	}
}

TEST(unknown_statuses_are_classified_by_their_bits)
{
	static const struct {
		uint16_t code;
		enum hub_class class;
		bool retryable;
		int error;
	} table[] = {
		{0x0000, HUB_SUCCESS, false, 0},
		{0x0077, HUB_SUCCESS, false, 0},
		/* Retryable says nothing about a success. */
		{0x0401, HUB_SUCCESS, false, 0},
		{0x01ff, HUB_CLIENT_ERROR, false, -EINVAL},
		{0x05ff, HUB_CLIENT_ERROR, true, -EAGAIN},
		{0x02ff, HUB_SERVER_ERROR, false, -EIO},
		{0x06ff, HUB_SERVER_ERROR, true, -EAGAIN},
		/* Type 3, and bits without a meaning. */
		{0x0301, HUB_SERVER_ERROR, false, -EIO},
		{0x0701, HUB_SERVER_ERROR, true, -EAGAIN},
		{0xf901, HUB_CLIENT_ERROR, false, -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); ++i) {
		struct hub_status s = hub_status_from_code(table[i].code);

		EXPECT_EQ(s.class, table[i].class);
		EXPECT_EQ(s.retryable, table[i].retryable);
		EXPECT_EQ(s.error, table[i].error);
	}
}

/* What every outcome promises, whatever the hub sends. */
static void expect_consistent(const struct hub_status *s)
{
	char text[HUB_STATUS_TEXT_SIZE];

	EXPECT_EQ(s->class == HUB_SUCCESS, s->error == 0);
	EXPECT_LE(s->error, 0);
	EXPECT_TRUE(s->class != HUB_SUCCESS || !s->retryable);
	EXPECT_NE(s->name, NULL);
	hub_status_format(s, text);
	EXPECT_LT(strlen(text), sizeof(text) - 1);
}

TEST(all_statuses_and_reasons_are_consistent)
{
	struct hub_status s;

	for (unsigned int code = 0; code <= 0xffff; ++code) {
		s = hub_status_from_code((uint16_t)code);
		expect_consistent(&s);
	}
	for (unsigned int reason = 0; reason <= 0xff; ++reason) {
		s = hub_status_from_reason((uint8_t)reason);
		expect_consistent(&s);
		EXPECT_EQ(s.class == HUB_SUCCESS, reason < 0x80);
		EXPECT_FALSE(s.has_code);
		EXPECT_EQ(s.reason, reason);
	}
}

TEST(reasons_alone)
{
	static const struct {
		uint8_t reason;
		enum hub_class class;
		bool retryable;
		int error;
	} table[] = {
		{0, HUB_SUCCESS, false, 0},
		{16, HUB_SUCCESS, false, 0},
		{128, HUB_SERVER_ERROR, false, -EIO},
		{131, HUB_SERVER_ERROR, false, -EIO},
		{135, HUB_CLIENT_ERROR, false, -EACCES},
		{137, HUB_SERVER_ERROR, true, -EBUSY},
		{142, HUB_CLIENT_ERROR, false, -EBUSY},
		{144, HUB_CLIENT_ERROR, false, -EINVAL},
		{145, HUB_SERVER_ERROR, true, -EAGAIN},
		{149, HUB_CLIENT_ERROR, false, -EMSGSIZE},
		{151, HUB_CLIENT_ERROR, true, -EAGAIN},
		{153, HUB_CLIENT_ERROR, false, -EINVAL},
		{159, HUB_CLIENT_ERROR, true, -EAGAIN},
		{255, HUB_SERVER_ERROR, false, -EIO},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); ++i) {
		struct hub_status s = hub_status_from_reason(table[i].reason);

		EXPECT_EQ(s.class, table[i].class);
		EXPECT_EQ(s.retryable, table[i].retryable);
		EXPECT_EQ(s.error, table[i].error);
	}
}

TEST(a_packet_with_status_is_decided_by_it)
{
	struct hub_status s = hub_status_from_packet(151, BYTES_LIT("0502"));

	EXPECT_EQ(s.error, -EDQUOT);
	EXPECT_TRUE(s.retryable);
	EXPECT_EQ(s.reason, 151);
	s = hub_status_from_packet(131, BYTES_LIT("0603"));
	EXPECT_EQ(s.error, -EBUSY);
	EXPECT_TRUE(s.retryable);
	s = hub_status_from_packet(0, BYTES_LIT("0001"));
	EXPECT_TRUE(s.class == HUB_SUCCESS);
}

TEST(a_packet_without_status_is_decided_by_its_reason)
{
	struct hub_status s = hub_status_from_packet(0, BYTES(NULL, 0));

	EXPECT_TRUE(s.class == HUB_SUCCESS);
	EXPECT_FALSE(s.has_code);
	s = hub_status_from_packet(135, BYTES(NULL, 0));
	EXPECT_EQ(s.error, -EACCES);
}

TEST(an_error_in_either_is_an_error)
{
	struct hub_status s = hub_status_from_packet(0, BYTES_LIT("0501"));

	EXPECT_EQ(s.error, -EAGAIN);
	s = hub_status_from_packet(135, BYTES_LIT("0001"));
	EXPECT_EQ(s.error, -EACCES);
	EXPECT_FALSE(s.has_code);
}

TEST(an_unreadable_status_leaves_it_to_the_reason)
{
	struct hub_status s = hub_status_from_packet(151, BYTES_LIT("soon"));

	EXPECT_EQ(s.error, -EAGAIN);
	EXPECT_TRUE(s.retryable);
	s = hub_status_from_packet(0, BYTES_LIT("soon"));
	EXPECT_TRUE(s.class == HUB_SERVER_ERROR);
	EXPECT_EQ(s.error, -EPROTO);
	EXPECT_FALSE(s.retryable);
	/* Present and empty is not absent. */
	s = hub_status_from_packet(0, BYTES("", 0));
	EXPECT_EQ(s.error, -EPROTO);
}

TEST(format)
{
	char text[HUB_STATUS_TEXT_SIZE];
	struct hub_status s = hub_status_from_code(0x06a0);

	hub_status_format(&s, text);
	EXPECT_STREQ(text, "Target Unavailable (06A0)");
	s = hub_status_from_reason(135);
	hub_status_format(&s, text);
	EXPECT_STREQ(text, "Not Authorized (reason 135)");
	s = hub_status_from_reason(0);
	hub_status_format(&s, text);
	EXPECT_STREQ(text, "Success");
	s = hub_status_from_code(0x05ff);
	hub_status_format(&s, text);
	EXPECT_STREQ(text, "unknown status (05FF)");
}

TEST_HARNESS_MAIN
