/* SPDX-License-Identifier: MIT */
/*
 * Properties: text, the form of a block, and the 27 properties against every packet and both sides, from a
 * table that was written from table 2-4 independently of the codec's own.
 */

#include <errno.h>

#include "tests/support/mqtt_rows.h"

/* 1.5.4, in one place of each kind: the check is the same function everywhere. */
TEST(text)
{
	CHECK_ROWS(
		{"30 | ('t') [ 03 (eda080) ]", 5, C, -EBADMSG, "surrogate D800 [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (edbfbf) ]", 5, C, -EBADMSG, "surrogate DFFF [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (eda0bdedb880) ]", 5, C, -EBADMSG, "surrogate pair [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (c080) ]", 5, C, -EBADMSG, "overlong U+0000 [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (e08080) ]", 5, C, -EBADMSG, "overlong [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (f4908080) ]", 5, C, -EBADMSG, "above U+10FFFF [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (c3) ]", 5, C, -EBADMSG, "cut sequence [MQTT-1.5.4-1]"},
		{"30 | ('t') [ 03 (00) ]", 5, C, -EBADMSG, "U+0000 [MQTT-1.5.4-2]"},
		{"30 | ('t') [ 08 (ff) ]", 5, C, -EBADMSG, "Response Topic [MQTT-3.3.2-13]"},
		{"30 | ('t') [ 26 (ff) ('v') ]", 5, C, -EBADMSG, "name of a User Property (1.5.7)"},
		{"30 | ('t') [ 26 ('k') (ff) ]", 5, C, -EBADMSG, "value of a User Property (1.5.7)"},
		{"30 | ('t') [ 26 ('k') (00) ]", 5, C, -EBADMSG, "value of a User Property (1.5.7)"},
		{"30 | ('t') [ 09 (ff00) ]", 5, C, 0, "binary data is not text"},
		{"30 | ('t') [ 03 (01 7f c280 efbfbf) ]", 5, C, 0, "control and non-characters may be taken"},
		{"40 | 0001 80 [ 1f (ff) ]", 5, S, -EBADMSG, "Reason String"},
		{"82 | 0001 [] (ff) 00", 5, C, -EBADMSG, "filter [MQTT-3.8.3-1]"},
		{"82 | 0001 [] (00) 00", 5, C, -EBADMSG, "filter with U+0000 [MQTT-4.7.3-2]"},
		{"a2 | 0001 [] (ff)", 5, C, -EBADMSG, "filter [MQTT-3.10.3-1]"},
		{"20 | 00 00 [ 12 (ff) ]", 5, S, -EBADMSG, "Assigned Client Identifier"},
		{"20 | 00 00 [ 1a (ff) ]", 5, S, -EBADMSG, "Response Information"},
		{"20 | 00 00 [ 1c (ff) ]", 5, S, -EBADMSG, "Server Reference"},
		{"f0 | 18 [ 15 (ff) ]", 5, S, -EBADMSG, "Authentication Method"});
}

TEST(property_block)
{
	CHECK_ROWS(
		{"30 | ('t') 05 01 00", 5, C, -EBADMSG, "longer than the packet (2.2.2.1)"},
		{"30 | ('t') 8000", 5, C, -EBADMSG, "length not in shortest form [MQTT-1.5.5-1]"},
		{"30 | ('t') ffffffff7f", 5, C, -EBADMSG, "length of five bytes (1.5.5)"},
		{"30 | ('t') [ 00 ]", 5, C, -EBADMSG, "identifier 0"},
		{"30 | ('t') [ 04 00 ]", 5, C, -EBADMSG, "identifier without a property (2.2.2.2)"},
		{"30 | ('t') [ 2b 00 ]", 5, C, -EBADMSG, "identifier above all (2.2.2.2)"},
		{"30 | ('t') [ ffff03 00 ]", 5, C, -EBADMSG, "identifier of three bytes"},
		{"30 | ('t') [ 8100 01 ]", 5, C, -EBADMSG, "identifier not in shortest form [MQTT-1.5.5-1]"},
		{"30 | ('t') [ 01 ]", 5, C, -EBADMSG, "byte cut off"},
		{"30 | ('t') [ 23 00 ]", 5, C, -EBADMSG, "two byte integer cut off"},
		{"30 | ('t') [ 02 000000 ]", 5, C, -EBADMSG, "four byte integer cut off"},
		{"30 | ('t') [ 0b 80 ]", 5, S, -EBADMSG, "variable byte integer cut off"},
		{"30 | ('t') [ 03 0002 'a' ]", 5, C, -EBADMSG, "string cut off"},
		{"30 | ('t') [ 09 ffff ]", 5, C, -EBADMSG, "binary data cut off"},
		{"30 | ('t') [ 26 ('k') 00 ]", 5, C, -EBADMSG, "string pair cut off"},
		{"30 | ('t') [ 03 0005 'a' ] 'more'", 5, C, -EBADMSG, "string reaches out of the block"});
}

/* Table 2-4: identifier, a legal value, and the places that allow it from each side; `w` is the will. */
static const struct {
	const char *value;
	const char *from_client;
	const char *from_server;
	bool repeatable;
} property_rows[] = {
	[1] = {"01 01", "PUBLISH will", "PUBLISH", false},
	[2] = {"02 00000001", "PUBLISH will", "PUBLISH", false},
	[3] = {"03 ('c')", "PUBLISH will", "PUBLISH", false},
	[8] = {"08 ('r')", "PUBLISH will", "PUBLISH", false},
	[9] = {"09 (00)", "PUBLISH will", "PUBLISH", false},
	[11] = {"0b 01", "SUBSCRIBE", "PUBLISH", false},
	[17] = {"11 00000001", "CONNECT DISCONNECT", "CONNACK", false},
	[18] = {"12 ('i')", "", "CONNACK", false},
	[19] = {"13 0001", "", "CONNACK", false},
	[21] = {"15 ('m')", "CONNECT AUTH", "CONNACK AUTH", false},
	[22] = {"16 (00)", "CONNECT AUTH", "CONNACK AUTH", false},
	[23] = {"17 01", "CONNECT", "", false},
	[24] = {"18 00000001", "will", "", false},
	[25] = {"19 01", "CONNECT", "", false},
	[26] = {"1a ('i')", "", "CONNACK", false},
	[28] = {"1c ('s')", "", "CONNACK DISCONNECT", false},
	[31] = {"1f ('r')", "PUBACK PUBREC PUBREL PUBCOMP DISCONNECT AUTH",
		"CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH", false},
	[33] = {"21 0001", "CONNECT", "CONNACK", false},
	[34] = {"22 0000", "CONNECT", "CONNACK", false},
	[35] = {"23 0001", "PUBLISH", "PUBLISH", false},
	[36] = {"24 01", "", "CONNACK", false},
	[37] = {"25 01", "", "CONNACK", false},
	[38] = {"26 ('k') ('v')",
		"CONNECT will PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE UNSUBSCRIBE DISCONNECT AUTH",
		"CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH", true},
	[39] = {"27 00000001", "CONNECT", "CONNACK", false},
	[40] = {"28 01", "", "CONNACK", false},
	[41] = {"29 01", "", "CONNACK", false},
	[42] = {"2a 01", "", "CONNACK", false},
};

/* A packet of each place; %s is the content of its property block. */
static const struct {
	const char *name;
	const char *format;
	bool from_client, from_server;
} places[] = {
	{"CONNECT", "10 | ('MQTT') 05 02 0000 [ %s ] ('d')", true, false},
	{"will", "10 | ('MQTT') 05 06 0000 [] ('d') [ %s ] ('t') ()", true, false},
	{"CONNACK", "20 | 00 00 [ %s ]", false, true},
	{"PUBLISH", "30 | ('t') [ %s ]", true, true},
	{"PUBACK", "40 | 0001 00 [ %s ]", true, true},
	{"PUBREC", "50 | 0001 00 [ %s ]", true, true},
	{"PUBREL", "62 | 0001 00 [ %s ]", true, true},
	{"PUBCOMP", "70 | 0001 00 [ %s ]", true, true},
	{"SUBSCRIBE", "82 | 0001 [ %s ] ('t') 00", true, false},
	{"SUBACK", "90 | 0001 [ %s ] 00", false, true},
	{"UNSUBSCRIBE", "a2 | 0001 [ %s ] ('t')", true, false},
	{"UNSUBACK", "b0 | 0001 [ %s ] 00", false, true},
	{"DISCONNECT", "e0 | 80 [ %s ]", true, true},
	{"AUTH", "f0 | 18 [ %s ]", true, true},
};

#define N_PROPERTIES (sizeof(property_rows) / sizeof(property_rows[0]))
#define N_PLACES     (sizeof(places) / sizeof(places[0]))

static int decode_property(size_t place, size_t id, int n_times, enum mqtt_sender sender)
{
	char inner[128] = "", text[256];
	uint8_t bytes[256];
	struct mqtt_packet p;

	/* AUTH needs a method, and data needs one everywhere. */
	if (id != MQTT_PROP_AUTHENTICATION_METHOD &&
	    (strcmp(places[place].name, "AUTH") == 0 ||
	     (id == MQTT_PROP_AUTHENTICATION_DATA && has_word("CONNECT CONNACK", places[place].name))))
		strcat(inner, "15 ('m') ");
	for (int i = 0; i < n_times; ++i) {
		strcat(inner, property_rows[id].value);
		strcat(inner, " ");
	}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), places[place].format, inner);
#pragma GCC diagnostic pop
	return mqtt_decode(&p, wire_text(text, bytes, sizeof(bytes)), 5, sender);
}

TEST(every_property_in_every_packet)
{
	int n_legal = 0;

	for (size_t id = 0; id < N_PROPERTIES; ++id) {
		if (!property_rows[id].value)
			continue;
		for (size_t place = 0; place < N_PLACES; ++place) {
			bool client = has_word(property_rows[id].from_client, places[place].name);
			bool server = has_word(property_rows[id].from_server, places[place].name);

			TEST_LOG("property %zu in %s", id, places[place].name);
			if (places[place].from_client)
				EXPECT_EQ(decode_property(place, id, 1, C), client   ? 0
									    : server ? -EPROTO
										     : -EBADMSG);
			if (places[place].from_server)
				EXPECT_EQ(decode_property(place, id, 1, S), server   ? 0
									    : client ? -EPROTO
										     : -EBADMSG);
			n_legal += client + server;
		}
	}
	EXPECT_EQ(n_legal, 85);
}

/* 2.2.2.2 and the section of each property: to include it twice is a Protocol Error. */
TEST(every_property_twice)
{
	int n = 0;

	for (size_t id = 0; id < N_PROPERTIES; ++id) {
		if (!property_rows[id].value)
			continue;
		++n;
		for (size_t place = 0; place < N_PLACES; ++place) {
			bool publish = strcmp(places[place].name, "PUBLISH") == 0;
			bool ok = property_rows[id].repeatable ||
				  (id == MQTT_PROP_SUBSCRIPTION_IDENTIFIER && publish);

			if (has_word(property_rows[id].from_client, places[place].name))
				EXPECT_EQ(decode_property(place, id, 2, C), ok ? 0 : -EPROTO);
			if (has_word(property_rows[id].from_server, places[place].name))
				EXPECT_EQ(decode_property(place, id, 2, S), ok ? 0 : -EPROTO);
		}
	}
	EXPECT_EQ(n, 27);
}

TEST(stored_properties)
{
	uint8_t bytes[64];
	struct mqtt_properties p;

	EXPECT_EQ(mqtt_properties_decode(&p, wire_text("03 ('c') 26 ('k') ('v')", bytes, sizeof(bytes)),
					 MQTT_PUBLISH),
		  0);
	EXPECT_TRUE(bytes_equal_str(p.content_type, "c"));
	EXPECT_EQ(mqtt_properties_decode(&p, BYTES(NULL, 0), MQTT_PUBLISH), 0);
	EXPECT_EQ(p.present, 0u);
	EXPECT_EQ(mqtt_properties_decode(&p, wire_text("23 0000", bytes, sizeof(bytes)), MQTT_PUBLISH),
		  -EPROTO);
	EXPECT_EQ(mqtt_properties_decode(&p, wire_text("03 ('c')", bytes, sizeof(bytes)), MQTT_PUBACK),
		  -EBADMSG);
}

TEST_HARNESS_MAIN
