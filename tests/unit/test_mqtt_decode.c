/* SPDX-License-Identifier: MIT */
/*
 * Decoding: which byte sequences are packets, which are malformed and which break the protocol. The tables
 * hold wire text (tests/support/wire_text.h); what they say in words names the section of MQTT 5.0, or
 * of 3.1.1 where the level is 4. Every accepted packet is also encoded again and must come back the same.
 */

#include <errno.h>

#include "mqtt/rules.h"
#include "tests/support/mqtt_rows.h"

TEST(fixed_header)
{
	CHECK_ROWS({"", 5, C, -EBADMSG, "nothing"}, {"c0", 5, C, -EBADMSG, "no remaining length"},
		   {"c000", 5, C, 0, "PINGREQ"}, {"0000", 5, C, -EBADMSG, "type 0 is reserved (2.1.2)"},
		   {"f000", 4, C, -EBADMSG, "type 15 is reserved (3.1.1 2.2.1)"},
		   {"c080", 5, C, -EBADMSG, "varint not complete"},
		   {"c08000", 5, C, -EBADMSG, "varint not in shortest form [MQTT-1.5.5-1]"},
		   {"c0808000", 5, C, -EBADMSG, "varint not in shortest form [MQTT-1.5.5-1]"},
		   {"c080808000", 5, C, -EBADMSG, "varint not in shortest form [MQTT-1.5.5-1]"},
		   {"c08080808000", 5, C, -EBADMSG, "varint of five bytes (1.5.5)"},
		   {"c0ffffffff7f", 5, C, -EBADMSG, "varint of five bytes (1.5.5)"},
		   {"c001", 5, C, -EBADMSG, "shorter than its remaining length"},
		   {"c00000", 5, C, -EBADMSG, "longer than its remaining length"},
		   {"c0ffffff7f", 5, C, -EBADMSG, "much shorter than its remaining length"});
}

/* [MQTT-2.1.3-1], tables 2-1 and 2-2, on a packet of each type that is otherwise good. */
TEST(flags_and_direction_of_every_type)
{
	static const struct {
		const char *body;
		uint8_t flags;
		bool from_client, from_server;
	} types[] = {
		[MQTT_CONNECT] = {"| ('MQTT') 05 02 0000 [] ('d')", 0, true, false},
		[MQTT_CONNACK] = {"| 00 00 []", 0, false, true},
		[MQTT_PUBLISH] = {"| ('t') []", 0, true, true},
		[MQTT_PUBACK] = {"| 0001", 0, true, true},
		[MQTT_PUBREC] = {"| 0001", 0, true, true},
		[MQTT_PUBREL] = {"| 0001", 2, true, true},
		[MQTT_PUBCOMP] = {"| 0001", 0, true, true},
		[MQTT_SUBSCRIBE] = {"| 0001 [] ('t') 00", 2, true, false},
		[MQTT_SUBACK] = {"| 0001 [] 00", 0, false, true},
		[MQTT_UNSUBSCRIBE] = {"| 0001 [] ('t')", 2, true, false},
		[MQTT_UNSUBACK] = {"| 0001 [] 00", 0, false, true},
		[MQTT_PINGREQ] = {"|", 0, true, false},
		[MQTT_PINGRESP] = {"|", 0, false, true},
		[MQTT_DISCONNECT] = {"|", 0, true, true},
		[MQTT_AUTH] = {"| 18 [ 15 ('SAS') ]", 0, true, true},
	};

	for (unsigned int type = MQTT_CONNECT; type <= MQTT_AUTH; ++type) {
		for (unsigned int flags = 0; flags < 16; ++flags) {
			uint8_t bytes[64];
			struct bytes body = wire_text(types[type].body, bytes + 1, sizeof(bytes) - 1);
			struct bytes src = BYTES(bytes, body.len + 1);
			struct mqtt_packet p;
			bool flags_ok = flags == types[type].flags;

			bytes[0] = (uint8_t)(type << 4 | flags);
			if (type == MQTT_PUBLISH) {
				flags_ok = flags < 2;
				/* These have a packet identifier, so the body does not fit. */
				if (flags & 6)
					continue;
			}
			EXPECT_EQ(mqtt_decode(&p, src, 5, C), !flags_ok                 ? -EBADMSG
							      : types[type].from_client ? 0
											: -EPROTO);
			EXPECT_EQ(mqtt_decode(&p, src, 5, S), !flags_ok                 ? -EBADMSG
							      : types[type].from_server ? 0
											: -EPROTO);
		}
	}
}

TEST(connect)
{
	CHECK_ROWS(
		{"10 | ('MQTT') 05 02 003c [] ('dev')", 5, C, 0, "plain"},
		{"10 | ('MQTT') 05 02 003c [] ('dev')", 4, C, 0, "the packet's level counts"},
		{"10 | ('MQTT') 04 02 003c ('dev')", 5, C, 0, "level 4"},
		{"10 | ('MQTT') 05 00 0000 [] ()", 5, C, 0, "empty client identifier (3.1.3.1)"},
		{"10 | ('MQTT') 04 00 0000 ()", 4, C, 0, "its refusal is a CONNACK (3.1.1 [MQTT-3.1.3-8])"},
		{"10 | ('MQTT') 05 c2 003c [] ('dev') ('user') ('pw')", 5, C, 0, "user name and password"},
		{"10 | ('MQTT') 05 42 003c [] ('dev') ('pw')", 5, C, 0, "password alone (3.1.2.9)"},
		{"10 | ('MQTT') 05 82 003c [] ('dev') ()", 5, C, 0, "empty user name"},
		{"10 | ('MQTT') 05 2e 003c [] ('d') [] ('w/t') ('bye')", 5, C, 0, "will, QoS 1, retained"},
		{"10 | ('MQTT') 04 ee 003c ('d') ('w/t') () ('u') (00ff)", 4, C, 0, "will at level 4"},
		{"10 | ('MQTT') 05 02 003c [ 11 00000e10 15 ('SAS') 16 (000102) 17 01 19 00 21 0010 22 000a"
		 " 27 00040000 26 ('k') ('v') 26 ('k') ('v') ] ('dev')",
		 5, C, 0, "every property (3.1.2.11)"},
		{"10 | ('MQTT') 05 0e 003c [] ('d') [ 18 0000000a 01 01 02 00000e10 03 ('text/plain') 08 "
		 "('a/b')"
		 " 09 (00ff) 26 ('k') ('v') ] ('w/t') ('bye')",
		 5, C, 0, "every Will Property (3.1.3.2)"});
}

TEST(connect_refused)
{
	CHECK_ROWS(
		{"10 | ('MQTT') 03 02 003c ('dev')", 5, C, -EPROTONOSUPPORT, "level 3 [MQTT-3.1.2-2]"},
		{"10 | ('MQTT') 06 02 003c [] ('dev')", 5, C, -EPROTONOSUPPORT, "level 6 [MQTT-3.1.2-2]"},
		{"10 | ('MQTT') 84 02 003c ('dev')", 4, C, -EPROTONOSUPPORT, "bridge's level"},
		{"10 | ('MQIsdp') 03 02 003c ('dev')", 5, C, -EPROTONOSUPPORT, "other name [MQTT-3.1.2-1]"},
		{"10 | ('mqtt') 05 02 003c [] ('dev')", 5, C, -EPROTONOSUPPORT, "other name [MQTT-3.1.2-1]"},
		{"10 | (ff) 05 02 003c [] ('dev')", 5, C, -EBADMSG, "protocol name not UTF-8 (3.1.2.1)"},
		{"10 | ('MQTT')", 5, C, -EBADMSG, "ends before the level"},
		{"10 | ('MQTT') 05", 5, C, -EBADMSG, "ends before the flags"},
		{"10 | ('MQTT') 05 03 003c [] ('dev')", 5, C, -EBADMSG, "reserved flag [MQTT-3.1.2-3]"},
		{"10 | ('MQTT') 04 03 003c ('dev')", 4, C, -EBADMSG, "reserved flag (3.1.1 [MQTT-3.1.2-3])"},
		{"10 | ('MQTT') 05 0a 003c [] ('dev')", 5, C, -EBADMSG,
		 "Will QoS without Will [MQTT-3.1.2-11]"},
		{"10 | ('MQTT') 05 22 003c [] ('dev')", 5, C, -EBADMSG,
		 "Will Retain without Will [MQTT-3.1.2-13]"},
		{"10 | ('MQTT') 05 1e 003c [] ('d') [] ('t') ()", 5, C, -EBADMSG,
		 "Will QoS 3 [MQTT-3.1.2-12]"},
		{"10 | ('MQTT') 04 1e 003c ('d') ('t') ()", 4, C, -EBADMSG, "Will QoS 3 at level 4"},
		{"10 | ('MQTT') 04 42 003c ('d') ('pw')", 4, C, -EBADMSG,
		 "password without user name (3.1.1 [MQTT-3.1.2-22])"},
		{"10 | ('MQTT') 05 02 003c", 5, C, -EBADMSG, "no property length (3.1.2.11.1)"},
		{"10 | ('MQTT') 05 02 003c []", 5, C, -EBADMSG, "no client identifier [MQTT-3.1.3-3]"},
		{"10 | ('MQTT') 05 02 003c [] ('dev') 00", 5, C, -EBADMSG, "bytes after the last field"},
		{"10 | ('MQTT') 05 82 003c [] ('dev')", 5, C, -EBADMSG, "no user name [MQTT-3.1.2-17]"},
		{"10 | ('MQTT') 05 02 003c [] ('dev') ('u')", 5, C, -EBADMSG,
		 "user name, no flag [MQTT-3.1.2-16]"},
		{"10 | ('MQTT') 05 06 003c [] ('dev') []", 5, C, -EBADMSG, "no will topic [MQTT-3.1.2-9]"},
		{"10 | ('MQTT') 05 02 003c [] (ff)", 5, C, -EBADMSG,
		 "client identifier not UTF-8 [MQTT-3.1.3-4]"},
		{"10 | ('MQTT') 05 82 003c [] ('d') (c080)", 5, C, -EBADMSG,
		 "user name not UTF-8 [MQTT-3.1.3-12]"},
		{"10 | ('MQTT') 05 06 003c [] ('d') [] (80) ()", 5, C, -EBADMSG,
		 "will topic [MQTT-3.1.3-11]"},
		{"10 | ('MQTT') 05 06 003c [] ('d') [] () ()", 5, C, -EPROTO,
		 "empty will topic [MQTT-4.7.3-1]"},
		{"10 | ('MQTT') 05 06 003c [] ('d') [] ('a/#') ()", 5, C, -EPROTO, "wildcard [MQTT-4.7.0-1]"},
		{"10 | ('MQTT') 05 06 003c [] ('d') [ 11 00000001 ] ('t') ()", 5, C, -EBADMSG,
		 "not a Will Property (2.2.2.2)"},
		{"10 | ('MQTT') 05 02 003c [ 18 00000001 ] ('d')", 5, C, -EBADMSG,
		 "Will Property in the header (2.2.2.2)"},
		{"10 | ('MQTT') 05 02 003c [ 16 (00) ] ('d')", 5, C, -EPROTO,
		 "Authentication Data without Method (3.1.2.11.10)"},
		{"10 | ('MQTT') 05 02 003c [ 21 0000 ] ('d')", 5, C, -EPROTO,
		 "Receive Maximum 0 (3.1.2.11.3)"},
		{"10 | ('MQTT') 05 02 003c [ 27 00000000 ] ('d')", 5, C, -EPROTO,
		 "Maximum Packet Size 0 (3.1.2.11.4)"},
		{"10 | ('MQTT') 05 02 003c [ 19 02 ] ('d')", 5, C, -EPROTO,
		 "Request Response Information 2 (3.1.2.11.6)"},
		{"10 | ('MQTT') 05 02 003c [ 17 02 ] ('d')", 5, C, -EPROTO,
		 "Request Problem Information 2 (3.1.2.11.7)"},
		{"10 | ('MQTT') 05 06 003c [] ('d') [ 01 02 ] ('t') ()", 5, C, -EPROTO,
		 "Payload Format Indicator 2 (3.1.3.2.3)"},
		{"10 | ('MQTT') 05 06 003c [] ('d') [ 08 ('a/+') ] ('t') ()", 5, C, -EPROTO,
		 "wildcard in the will's Response Topic (3.1.3.2.6)"});
}

TEST(connack)
{
	CHECK_ROWS(
		{"20 | 00 00 []", 5, S, 0, "accepted"}, {"20 | 01 00 []", 5, S, 0, "session present"},
		{"20 | 00 87 [ 1f ('no') 26 ('status') ('0101') ]", 5, S, 0, "refused"},
		{"20 | 00 00 [ 11 00000e10 21 0010 24 01 25 00 27 00040000 12 ('id') 22 000a 1f ('r') 26 "
		 "('k') ('v')"
		 " 28 00 29 00 2a 00 13 0474 1a ('info') 1c ('other') 15 ('SAS') 16 (0001) ]",
		 5, S, 0, "every property (3.2.2.3)"},
		{"20 | 00 00", 4, S, 0, "level 4"}, {"20 | 01 00", 4, S, 0, "level 4, session present"},
		{"20 | 00 05", 4, S, 0, "level 4, refused"},
		{"20 | 00 06", 4, S, -EPROTO, "reserved (3.1.1 3.2.2.3)"},
		{"20 | 01 05", 4, S, -EPROTO, "session present and refused (3.1.1 [MQTT-3.2.2-4])"},
		{"20 | 00 00 []", 4, S, -EBADMSG, "properties at level 4"},
		{"20 | 00 00", 5, S, -EBADMSG, "no property length (3.2.2.3.1)"},
		{"20 | 00", 5, S, -EBADMSG, "no reason code"}, {"20 |", 5, S, -EBADMSG, "empty"},
		{"20 | 02 00 []", 5, S, -EBADMSG, "reserved bit [MQTT-3.2.2-1]"},
		{"20 | 80 00 []", 5, S, -EBADMSG, "reserved bit [MQTT-3.2.2-1]"},
		{"20 | 02 00", 4, S, -EBADMSG, "reserved bit (3.1.1 3.2.2.1)"},
		{"20 | 01 87 []", 5, S, -EPROTO, "session present and refused [MQTT-3.2.2-6]"},
		{"20 | 00 01 []", 5, S, -EPROTO, "not a Connect Reason Code [MQTT-3.2.2-8]"},
		{"20 | 00 8b []", 5, S, -EPROTO, "not a Connect Reason Code [MQTT-3.2.2-8]"},
		{"20 | 00 ff []", 5, S, -EPROTO, "no reason code at all"},
		{"20 | 00 00 [] 00", 5, S, -EBADMSG, "bytes after the last field"},
		{"20 | 00 00 [ 21 0000 ]", 5, S, -EPROTO, "Receive Maximum 0 (3.2.2.3.3)"},
		{"20 | 00 00 [ 24 02 ]", 5, S, -EPROTO, "Maximum QoS 2 (3.2.2.3.4)"},
		{"20 | 00 00 [ 25 02 ]", 5, S, -EPROTO, "Retain Available 2 (3.2.2.3.5)"},
		{"20 | 00 00 [ 27 00000000 ]", 5, S, -EPROTO, "Maximum Packet Size 0 (3.2.2.3.6)"},
		{"20 | 00 00 [ 28 02 ]", 5, S, -EPROTO, "Wildcard Subscription Available 2 (3.2.2.3.11)"},
		{"20 | 00 00 [ 29 ff ]", 5, S, -EPROTO, "Subscription Identifier Available 255 (3.2.2.3.12)"},
		{"20 | 00 00 [ 2a 02 ]", 5, S, -EPROTO, "Shared Subscription Available 2 (3.2.2.3.13)"},
		{"20 | 00 00 [ 16 (00) ]", 5, S, -EPROTO,
		 "Authentication Data without Method [MQTT-4.12.0-5]"});
}

TEST(publish)
{
	CHECK_ROWS({"30 | ('t') []", 5, C, 0, "QoS 0, empty payload"},
		   {"31 | ('t') [] 'x'", 5, C, 0, "retained"}, {"32 | ('t') 0001 [] 'x'", 5, C, 0, "QoS 1"},
		   {"3a | ('t') ffff [] 'x'", 5, S, 0, "QoS 1, DUP"},
		   {"34 | ('t') 0001 [] 'x'", 5, C, 0, "QoS 2"},
		   {"3d | ('t') 0001 [] 'x'", 5, C, 0, "all flags"},
		   {"30 | () [ 23 0001 ] 'x'", 5, C, 0, "alias only"}, {"30 | ('t') 'x'", 4, C, 0, "level 4"},
		   {"32 | ('t') 0001 00ff", 4, C, 0, "level 4, QoS 1"},
		   {"32 | ('$iothub/telemetry') 0007 [ 01 01 02 00000e10 23 0001 08 ('a/b') 09 (00ff) 26 "
		    "('k') ('v')"
		    " 26 ('@p') ('') 03 ('text/plain') ] 'payload'",
		    5, C, 0, "every property a client may send (3.3.2.3)"},
		   {"30 | ('t') [ 0b 01 0b ffffff7f 26 () () 0b 8001 ]", 5, S, 0,
		    "several Subscription Identifiers"},
		   {"30 | ('t') [ 08 (c3a4 '/' f09f9a80) ]", 5, C, 0, "UTF-8 of two and four bytes"},
		   {"30 | (efbbbf 't') []", 5, C, 0, "U+FEFF is a character [MQTT-1.5.4-3]"});
}

TEST(publish_refused)
{
	CHECK_ROWS(
		{"36 | ('t') 0001 []", 5, C, -EBADMSG, "QoS 3 [MQTT-3.3.1-4]"},
		{"36 | ('t') 0001", 4, C, -EBADMSG, "QoS 3 at level 4 (3.1.1 [MQTT-3.3.1-4])"},
		{"38 | ('t') []", 5, C, -EBADMSG, "DUP with QoS 0 [MQTT-3.3.1-2]"},
		{"38 | ('t')", 4, C, -EBADMSG, "DUP with QoS 0 (3.1.1 [MQTT-3.3.1-2])"},
		{"32 | ('t') 0000 []", 5, C, -EPROTO, "packet identifier 0 [MQTT-2.2.1-3]"},
		{"32 | ('t') 0000", 4, C, -EPROTO, "packet identifier 0 (3.1.1 [MQTT-2.3.1-1])"},
		{"32 | ('t')", 5, C, -EBADMSG, "no packet identifier"},
		{"30 | ('t')", 5, C, -EBADMSG, "no property length"},
		{"30 | 0005 't'", 5, C, -EBADMSG, "topic longer than the packet"},
		{"30 | 00", 5, C, -EBADMSG, "half a topic length"},
		{"30 | () []", 5, C, -EPROTO, "no topic and no alias (3.3.2.1)"},
		{"30 | ()", 4, C, -EPROTO, "no topic (3.1.1 [MQTT-4.7.3-1])"},
		{"30 | ('a/#') []", 5, C, -EPROTO, "wildcard [MQTT-3.3.2-2]"},
		{"30 | ('+') []", 5, C, -EPROTO, "wildcard [MQTT-3.3.2-2]"},
		{"30 | ('a/+/b')", 4, C, -EPROTO, "wildcard (3.1.1 [MQTT-3.3.2-2])"},
		{"30 | ('a+') [ 23 0001 ]", 5, C, -EPROTO, "wildcard inside a level [MQTT-3.3.2-2]"},
		{"30 | (ff) []", 5, C, -EBADMSG, "topic not UTF-8 [MQTT-3.3.2-1]"},
		{"30 | ('a' 00 'b') []", 5, C, -EBADMSG, "U+0000 [MQTT-1.5.4-2]"},
		{"30 | ('t') [ 23 0000 ]", 5, C, -EPROTO, "Topic Alias 0 [MQTT-3.3.2-8]"},
		{"30 | ('t') [ 01 02 ]", 5, C, -EPROTO, "Payload Format Indicator 2 (3.3.2.3.2)"},
		{"30 | ('t') [ 08 ('a/#') ]", 5, C, -EPROTO, "wildcard in Response Topic [MQTT-3.3.2-14]"},
		{"30 | ('t') [ 08 () ]", 5, C, -EPROTO, "empty Response Topic [MQTT-4.7.3-1]"},
		{"30 | ('t') [ 0b 01 ]", 5, C, -EPROTO,
		 "Subscription Identifier from a client [MQTT-3.3.4-6]"},
		{"30 | ('t') [ 0b 00 ]", 5, S, -EPROTO, "Subscription Identifier 0 (3.3.2.3.8)"},
		{"30 | ('t') [ 0b 01 0b 00 ]", 5, S, -EPROTO, "second Subscription Identifier 0 (3.3.2.3.8)"},
		{"30 | ('t') [ 0b 8000 ]", 5, S, -EBADMSG, "varint not in shortest form [MQTT-1.5.5-1]"},
		{"30 | ('t') [ 0b ffffffff01 ]", 5, S, -EBADMSG, "varint of five bytes (1.5.5)"},
		{"30 | ('t') [ 11 00000001 ]", 5, C, -EBADMSG, "property of another packet (2.2.2.2)"},
		{"30 | ('t') [ 18 00000001 ]", 5, C, -EBADMSG, "Will Property (2.2.2.2)"});
}

TEST(acknowledgements)
{
	CHECK_ROWS({"40 | 0001", 5, C, 0, "remaining length 2: Success (3.4.2.1)"},
		   {"40 | 0001 00", 5, C, 0, "remaining length 3: no property length (3.4.2.2.1)"},
		   {"40 | 0001 10", 5, S, 0, "No matching subscribers"},
		   {"40 | 0001 00 []", 5, C, 0, "empty properties"},
		   {"40 | 0001 83 [ 26 ('status') ('0603') 1f ('busy') ]", 5, S, 0, "reason and properties"},
		   {"50 | 0001 97", 5, S, 0, "PUBREC"}, {"62 | 0001 92", 5, C, 0, "PUBREL"},
		   {"70 | 0001 92", 5, S, 0, "PUBCOMP"},
		   {"62 | 0001 92 [ 1f ('r') ]", 5, C, 0, "PUBREL with properties"},
		   {"40 | 0001", 4, S, 0, "level 4"}, {"62 | 0001", 4, C, 0, "PUBREL at level 4"},
		   {"40 | 0000", 5, C, -EPROTO, "packet identifier 0 (2.2.1)"},
		   {"70 | 0000", 4, C, -EPROTO, "packet identifier 0 (3.1.1 2.3.1)"},
		   {"40 |", 5, C, -EBADMSG, "no packet identifier"},
		   {"40 | 00", 5, C, -EBADMSG, "half a packet identifier"},
		   {"40 | 0001 00", 4, S, -EBADMSG, "reason at level 4"},
		   {"40 | 0001 00 [] 00", 5, C, -EBADMSG, "bytes after"},
		   {"40 | 0001 10", 5, C, -EPROTO, "0x10 from a client (3.4.2.1)"},
		   {"50 | 0001 10", 5, C, -EPROTO, "0x10 from a client (3.5.2.1)"},
		   {"40 | 0001 92", 5, C, -EPROTO, "not a PUBACK reason [MQTT-3.4.2-1]"},
		   {"50 | 0001 01", 5, S, -EPROTO, "not a PUBREC reason [MQTT-3.5.2-1]"},
		   {"62 | 0001 80", 5, S, -EPROTO, "not a PUBREL reason [MQTT-3.6.2-1]"},
		   {"70 | 0001 87", 5, S, -EPROTO, "not a PUBCOMP reason [MQTT-3.7.2-1]"},
		   {"40 | 0001 00 [ 26 ('k') ('v') 26 ]", 5, C, -EBADMSG, "property cut off"});
}

TEST(subscribe)
{
	CHECK_ROWS(
		{"82 | 0001 [] ('a/b') 01", 5, C, 0, "one filter"},
		{"82 | 0001 [ 0b ffffff7f 26 ('k') ('v') ] ('a/+/b') 2e ('#') 12", 5, C, 0,
		 "two filters, options, properties"},
		{"82 | 0001 [] ('$share/g/a/#') 1a", 5, C, 0, "shared (4.8.2)"},
		{"82 | 0001 ('a') 02", 4, C, 0, "level 4"},
		{"82 | 0000 [] ('a') 00", 5, C, -EPROTO, "packet identifier 0 [MQTT-2.2.1-3]"},
		{"82 | 0001 []", 5, C, -EPROTO, "no filter [MQTT-3.8.3-2]"},
		{"82 | 0001", 4, C, -EPROTO, "no filter (3.1.1 [MQTT-3.8.3-3])"},
		{"82 | 0001", 5, C, -EBADMSG, "no property length"},
		{"82 | 0001 [] ('a')", 5, C, -EBADMSG, "no options"},
		{"82 | 0001 [] ('a') 00 00", 5, C, -EBADMSG, "half a filter"},
		{"82 | 0001 [] ('a') 03", 5, C, -EPROTO, "QoS 3 (3.8.3.1)"},
		{"82 | 0001 ('a') 03", 4, C, -EBADMSG, "QoS 3 at level 4 (3.1.1 [MQTT-3-8.3-4])"},
		{"82 | 0001 ('a') 04", 4, C, -EBADMSG, "reserved at level 4 (3.1.1 [MQTT-3-8.3-4])"},
		{"82 | 0001 [] ('a') 30", 5, C, -EPROTO, "Retain Handling 3 (3.8.3.1)"},
		{"82 | 0001 [] ('a') 40", 5, C, -EBADMSG, "reserved bit [MQTT-3.8.3-5]"},
		{"82 | 0001 [] ('a') 80", 5, C, -EBADMSG, "reserved bit [MQTT-3.8.3-5]"},
		{"82 | 0001 [] ('a') 00 ('b') 40", 5, C, -EBADMSG, "reserved bit in the second filter"},
		{"82 | 0001 [] ('$share/g/a') 04", 5, C, -EPROTO, "No Local on a shared one [MQTT-3.8.3-4]"},
		{"82 | 0001 [] ('a') 04", 5, C, 0, "No Local"},
		{"82 | 0001 [] () 00", 5, C, -EPROTO, "empty [MQTT-4.7.3-1]"},
		{"82 | 0001 () 00", 4, C, -EPROTO, "empty (3.1.1 [MQTT-4.7.3-1])"},
		{"82 | 0001 [] ('a/#/b') 00", 5, C, -EPROTO, "# not last [MQTT-4.7.1-1]"},
		{"82 | 0001 [ 0b 00 ] ('a') 00", 5, C, -EPROTO, "Subscription Identifier 0 (3.8.2.1.2)"},
		{"82 | 0001 [ 0b 01 0b 02 ] ('a') 00", 5, C, -EPROTO,
		 "two Subscription Identifiers (3.8.2.1.2)"},
		{"a2 | 0001 [] ('a/b') ('$share/g/a')", 5, C, 0, "UNSUBSCRIBE"},
		{"a2 | 0001 ('a')", 4, C, 0, "at level 4"},
		{"a2 | 0001 []", 5, C, -EPROTO, "no filter [MQTT-3.10.3-2]"},
		{"a2 | 0001", 4, C, -EPROTO, "no filter (3.1.1 [MQTT-3.10.3-2])"},
		{"a2 | 0000 [] ('a')", 5, C, -EPROTO, "packet identifier 0 [MQTT-2.2.1-3]"},
		{"a2 | 0001 [] ('a') 00", 5, C, -EBADMSG, "options in UNSUBSCRIBE"},
		{"a2 | 0001 [] ('a+')", 5, C, -EPROTO, "+ beside a character [MQTT-4.7.1-2]"},
		{"a2 | 0001 [] ()", 5, C, -EPROTO, "empty [MQTT-4.7.3-1]"});
}

TEST(topic_filters)
{
	static const struct {
		const char *filter;
		bool ok, ok_level_4;
	} rows[] = {
		{"a", true, true},
		{"/", true, true},
		{"//", true, true},
		{"a b", true, true},
		{"#", true, true},
		{"/#", true, true},
		{"a/#", true, true},
		{"+", true, true},
		{"+/#", true, true},
		{"/+", true, true},
		{"a/+/c", true, true},
		{"+/+", true, true},
		{"+/a/#", true, true},
		{"$SYS/#", true, true},
		/* [MQTT-4.7.1-1] */
		{"a#", false, false},
		{"#a", false, false},
		{"#/", false, false},
		{"a/#/b", false, false},
		{"##", false, false},
		{"a/##", false, false},
		{"+#", false, false},
		/* [MQTT-4.7.1-2] */
		{"a+", false, false},
		{"+a", false, false},
		{"++", false, false},
		{"a/+b/c", false, false},
		{"a/b+/c", false, false},
		/* [MQTT-4.7.3-1] */
		{"", false, false},
		/* [MQTT-4.8.2-1], [MQTT-4.8.2-2]; no such thing at level 4 */
		{"$share/g/a", true, true},
		{"$share/g/#", true, true},
		{"$share/g//", true, true},
		{"$share", true, true},
		{"$shared/a", true, true},
		{"$share/g", false, true},
		{"$share/", false, true},
		{"$share//a", false, true},
		{"$share/g/", false, true},
		{"$share/+/a", false, true},
		{"$share/g+/a", false, false},
		{"$share/#", false, true},
		{"$share/g#/a", false, false},
		{"$share/g/a#", false, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) {
		struct bytes filter = bytes_from_str(rows[i].filter);

		TEST_LOG("%s", rows[i].filter);
		EXPECT_EQ(mqtt_topic_filter_is_valid(filter, 5), rows[i].ok);
		EXPECT_EQ(mqtt_topic_filter_is_valid(filter, 4), rows[i].ok_level_4);
	}
}

TEST(subscribe_answers)
{
	CHECK_ROWS(
		{"90 | 0001 [] 00 01 02 80 83 87 8f 91 97 9e a1 a2", 5, S, 0, "every SUBACK reason (3.9.3)"},
		{"90 | 0001 [ 1f ('r') 26 ('k') ('v') ] 8f", 5, S, 0, "SUBACK with properties"},
		{"90 | 0001 00 01 02 80", 4, S, 0, "SUBACK at level 4"},
		{"b0 | 0001 [] 00 11 80 83 87 8f 91", 5, S, 0, "every UNSUBACK reason (3.11.3)"},
		{"b0 | 0001", 4, S, 0, "UNSUBACK at level 4"},
		{"90 | 0001 []", 5, S, -EPROTO, "no reason [MQTT-3.8.4-6]"},
		{"90 | 0001", 4, S, -EPROTO, "no return code"},
		{"b0 | 0001 []", 5, S, -EPROTO, "no reason [MQTT-3.10.4-5]"},
		{"90 | 0000 [] 00", 5, S, -EPROTO, "packet identifier 0 (2.2.1)"},
		{"b0 | 0000 [] 00", 5, S, -EPROTO, "packet identifier 0 (2.2.1)"},
		{"b0 | 0000", 4, S, -EPROTO, "packet identifier 0 (3.1.1 2.3.1)"},
		{"90 | 0001 [] 00 03", 5, S, -EPROTO, "not a SUBACK reason [MQTT-3.9.3-2]"},
		{"90 | 0001 [] 11", 5, S, -EPROTO, "not a SUBACK reason [MQTT-3.9.3-2]"},
		{"90 | 0001 03", 4, S, -EPROTO, "reserved (3.1.1 [MQTT-3.9.3-2])"},
		{"90 | 0001 87", 4, S, -EPROTO, "reserved (3.1.1 [MQTT-3.9.3-2])"},
		{"b0 | 0001 [] 01", 5, S, -EPROTO, "not an UNSUBACK reason [MQTT-3.11.3-2]"},
		{"b0 | 0001 [] 97", 5, S, -EPROTO, "not an UNSUBACK reason [MQTT-3.11.3-2]"},
		{"b0 | 0001 00", 4, S, -EBADMSG, "UNSUBACK with a payload at level 4"},
		{"90 | 0001", 5, S, -EBADMSG, "no property length"},
		{"90 | 00", 5, S, -EBADMSG, "half a packet identifier"});
}

TEST(ping)
{
	CHECK_ROWS({"c0 |", 5, C, 0, "PINGREQ"}, {"d0 |", 5, S, 0, "PINGRESP"},
		   {"c0 |", 4, C, 0, "PINGREQ at level 4"},
		   {"c0 | 00", 5, C, -EBADMSG, "PINGREQ with a body (3.12.1)"},
		   {"d0 | 00", 5, S, -EBADMSG, "PINGRESP with a body (3.13.1)"},
		   {"d0 | 00", 4, S, -EBADMSG, "PINGRESP with a body (3.1.1 3.13.1)"});
}

TEST(disconnect)
{
	CHECK_ROWS(
		{"e0 |", 5, C, 0, "remaining length 0: Normal (3.14.2.1)"},
		{"e0 |", 5, S, 0, "from a server"},
		{"e0 | 04", 5, C, 0, "remaining length 1: no property length (3.14.2.2.1)"},
		{"e0 | 00 []", 5, C, 0, "empty properties"}, {"e0 |", 4, C, 0, "level 4"},
		{"e0 | 00 [ 11 00000000 1f ('r') 26 ('k') ('v') ]", 5, C, 0, "every property of a client"},
		{"e0 | 9c [ 1c ('other') 1f ('r') 26 ('k') ('v') ]", 5, S, 0, "every property of a server"},
		{"e0 | 8e", 5, S, 0, "session taken over"},
		{"e0 | 8c", 5, S, 0, "bad authentication method (table 2-6)"},
		{"e0 |", 4, S, -EPROTO, "from a server at level 4 (3.1.1 3.14)"},
		{"e0 | 00", 4, C, -EBADMSG, "with a body at level 4"},
		{"e0 | 00 [] 00", 5, C, -EBADMSG, "bytes after"},
		{"e0 | 8e", 5, C, -EPROTO, "a server's reason from a client (3.14.2.1)"},
		{"e0 | 87", 5, C, -EPROTO, "a server's reason from a client (3.14.2.1)"},
		{"e0 | 04", 5, S, -EPROTO, "a client's reason from a server (3.14.2.1)"},
		{"e0 | 01", 5, C, -EPROTO, "not a DISCONNECT reason [MQTT-3.14.2-1]"},
		{"e0 | 84", 5, S, -EPROTO, "not a DISCONNECT reason [MQTT-3.14.2-1]"},
		{"e0 | 80 [ 11 00000001 ]", 5, S, -EPROTO,
		 "Session Expiry Interval from a server [MQTT-3.14.2-2]"},
		{"e0 | 00 [ 1c ('s') ]", 5, C, -EPROTO, "Server Reference from a client (3.14.2.2.5)"},
		{"e0 | 00 [ 21 0001 ]", 5, C, -EBADMSG, "property of another packet (2.2.2.2)"});
}

TEST(auth)
{
	CHECK_ROWS({"f0 |", 5, S, 0, "remaining length 0: Success (3.15.2.1)"},
		   {"f0 | 00 [ 15 ('SAS') ]", 5, S, 0, "Success"},
		   {"f0 | 18 [ 15 ('SAS') 16 (00ff) ]", 5, S, 0, "continue"},
		   {"f0 | 18 [ 15 ('SAS') ]", 5, C, 0, "continue"},
		   {"f0 | 19 [ 15 ('SAS') 16 (00) 1f ('r') 26 ('k') ('v') ]", 5, C, 0,
		    "every property (3.15.2.2)"},
		   {"f0 |", 5, C, -EPROTO, "Success from a client (3.15.2.1)"},
		   {"f0 | 00 [ 15 ('SAS') ]", 5, C, -EPROTO, "Success from a client (3.15.2.1)"},
		   {"f0 | 19 [ 15 ('SAS') ]", 5, S, -EPROTO, "re-authenticate from a server (3.15.2.1)"},
		   {"f0 | 87 [ 15 ('SAS') ]", 5, S, -EPROTO, "not an AUTH reason [MQTT-3.15.2-1]"},
		   {"f0 | 00 []", 5, S, -EPROTO, "no method (3.15.2.2.2)"},
		   {"f0 | 18 []", 5, C, -EPROTO, "no method (3.15.2.2.2)"},
		   {"f0 | 18 [ 16 (00) ]", 5, C, -EPROTO, "data without method (3.15.2.2.2)"},
		   {"f0 | 18", 5, C, -EBADMSG, "no property length (3.15.2.2.1)"},
		   {"f0 | 18 [ 15 ('SAS') ] 00", 5, C, -EBADMSG, "bytes after"});
}

/* Every reason code against every packet that has one, from each side: 2.4 and the tables of chapter 3. */
TEST(every_reason_code)
{
	static const struct {
		const char *format;
		const char *from_client, *from_server;
	} rows[] = {
		{"20 | 00 %02x []", "", "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f"},
		{"40 | 0001 %02x", "00 80 83 87 90 91 97 99", "00 10 80 83 87 90 91 97 99"},
		{"50 | 0001 %02x", "00 80 83 87 90 91 97 99", "00 10 80 83 87 90 91 97 99"},
		{"62 | 0001 %02x", "00 92", "00 92"},
		{"70 | 0001 %02x", "00 92", "00 92"},
		{"90 | 0001 [] %02x", "", "00 01 02 80 83 87 8f 91 97 9e a1 a2"},
		{"b0 | 0001 [] %02x", "", "00 11 80 83 87 8f 91"},
		{"e0 | %02x", "00 04 80 81 82 83 90 93 94 95 96 97 98 99",
		 "00 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2"},
		{"f0 | %02x [ 15 ('m') ]", "18 19", "00 18"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) {
		for (unsigned int reason = 0; reason < 256; ++reason) {
			char text[64], name[3];
			uint8_t bytes[64];
			struct bytes src;
			struct mqtt_packet p;

			snprintf(name, sizeof(name), "%02x", reason);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			snprintf(text, sizeof(text), rows[i].format, reason);
#pragma GCC diagnostic pop
			src = wire_text(text, bytes, sizeof(bytes));
			EXPECT_EQ(mqtt_decode(&p, src, 5, C),
				  has_word(rows[i].from_client, name) ? 0 : -EPROTO);
			EXPECT_EQ(mqtt_decode(&p, src, 5, S),
				  has_word(rows[i].from_server, name) ? 0 : -EPROTO);
		}
	}
}

TEST(fields_of_connect)
{
	uint8_t bytes[256];
	struct bytes src =
		wire_text("10 | ('MQTT') 05 f6 003c [ 11 00000e10 ] ('dev') [ 18 00000005 ] ('w/t') ('bye')"
			  " ('user') (00ff)",
			  bytes, sizeof(bytes));
	struct mqtt_packet p;

	ASSERT_EQ(mqtt_decode(&p, src, 0, C), 0);
	EXPECT_TRUE(p.type == MQTT_CONNECT);
	EXPECT_EQ(p.connect.level, 5);
	EXPECT_TRUE(p.connect.clean_start);
	EXPECT_EQ(p.connect.keep_alive, 60);
	EXPECT_TRUE(bytes_equal_str(p.connect.client_id, "dev"));
	EXPECT_TRUE(p.connect.has_will && p.connect.will_retain);
	EXPECT_EQ(p.connect.will_qos, 2);
	EXPECT_TRUE(bytes_equal_str(p.connect.will_topic, "w/t"));
	EXPECT_TRUE(bytes_equal_str(p.connect.will_payload, "bye"));
	EXPECT_EQ(p.connect.will_properties.will_delay_interval, 5u);
	EXPECT_TRUE(p.connect.has_user_name && bytes_equal_str(p.connect.user_name, "user"));
	EXPECT_TRUE(p.connect.has_password && p.connect.password.len == 2);
	EXPECT_EQ(p.properties.session_expiry_interval, 3600u);
	EXPECT_TRUE(mqtt_has(&p.properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL));
	EXPECT_FALSE(mqtt_has(&p.properties, MQTT_PROP_RECEIVE_MAXIMUM));
}

TEST(fields_of_connack)
{
	uint8_t bytes[256];
	struct bytes src =
		wire_text("20 | 01 00 [ 21 0010 24 01 25 00 27 00040000 22 000a 13 0474 28 00 29 01 2a 00"
			  " 1f ('r') ]",
			  bytes, sizeof(bytes));
	struct mqtt_packet p;

	ASSERT_EQ(mqtt_decode(&p, src, 5, S), 0);
	EXPECT_TRUE(p.connack.session_present);
	EXPECT_EQ(p.properties.receive_maximum, 16);
	EXPECT_EQ(p.properties.maximum_qos, 1);
	EXPECT_EQ(p.properties.retain_available, 0);
	EXPECT_TRUE(mqtt_has(&p.properties, MQTT_PROP_RETAIN_AVAILABLE));
	EXPECT_EQ(p.properties.maximum_packet_size, 262144u);
	EXPECT_EQ(p.properties.topic_alias_maximum, 10);
	EXPECT_EQ(p.properties.server_keep_alive, 1140);
	EXPECT_EQ(p.properties.subscription_identifier_available, 1);
	EXPECT_TRUE(bytes_equal_str(p.properties.reason_string, "r"));
}

TEST(fields_of_publish)
{
	uint8_t bytes[256];
	struct bytes
		src = wire_text(
			"3b | ('a/b') 0102 [ 26 ('k') ('1') 03 ('ct') 26 ('k2') ('') 26 ('k') ('2') ] 'xyz'",
			bytes, sizeof(bytes)),
		key, value;
	struct mqtt_packet p;
	size_t pos = 0;

	ASSERT_EQ(mqtt_decode(&p, src, 5, S), 0);
	EXPECT_TRUE(p.publish.dup && p.publish.retain);
	EXPECT_EQ(p.publish.qos, 1);
	EXPECT_EQ(p.publish.packet_id, 0x102);
	EXPECT_TRUE(bytes_equal_str(p.publish.topic, "a/b"));
	EXPECT_TRUE(bytes_equal_str(p.publish.payload, "xyz"));
	EXPECT_TRUE(bytes_equal_str(p.properties.content_type, "ct"));
	ASSERT_TRUE(mqtt_user_property_next(p.properties.repeatable, &pos, &key, &value));
	EXPECT_TRUE(bytes_equal_str(key, "k") && bytes_equal_str(value, "1"));
	ASSERT_TRUE(mqtt_user_property_next(p.properties.repeatable, &pos, &key, &value));
	EXPECT_TRUE(bytes_equal_str(key, "k2") && value.len == 0);
	ASSERT_TRUE(mqtt_user_property_next(p.properties.repeatable, &pos, &key, &value));
	EXPECT_TRUE(bytes_equal_str(key, "k") && bytes_equal_str(value, "2"));
	EXPECT_FALSE(mqtt_user_property_next(p.properties.repeatable, &pos, &key, &value));
	ASSERT_TRUE(mqtt_user_property_find(p.properties.repeatable, "k", &value));
	EXPECT_TRUE(bytes_equal_str(value, "1"));
	EXPECT_FALSE(mqtt_user_property_find(p.properties.repeatable, "K", &value));
}

TEST(fields_of_subscribe)
{
	uint8_t bytes[256];
	struct bytes src = wire_text("82 | 0007 [ 0b 8001 ] ('a') 01 ('b/#') 2a", bytes, sizeof(bytes));
	struct mqtt_packet p;
	struct mqtt_filter f;
	size_t pos = 0;

	ASSERT_EQ(mqtt_decode(&p, src, 5, C), 0);
	EXPECT_EQ(p.subscribe.packet_id, 7);
	EXPECT_EQ(p.properties.subscription_identifier, 128u);
	ASSERT_TRUE(mqtt_filter_next(p.type, p.subscribe.filters, &pos, &f));
	EXPECT_TRUE(bytes_equal_str(f.topic, "a") && f.options == 1);
	ASSERT_TRUE(mqtt_filter_next(p.type, p.subscribe.filters, &pos, &f));
	EXPECT_TRUE(bytes_equal_str(f.topic, "b/#") && f.options == 0x2a);
	EXPECT_FALSE(mqtt_filter_next(p.type, p.subscribe.filters, &pos, &f));
}

/* Every prefix of a good packet is none, with its own remaining length or with that of the whole. */
TEST(truncation)
{
	static const char *const texts[] = {
		"10 | ('MQTT') 05 ae 003c [ 11 00000e10 15 ('SAS') 16 (00) ] ('d') [] ('t') ('p') ('u')",
		"20 | 00 00 [ 21 0010 24 01 26 ('k') ('v') ]",
		"82 | 0001 [ 0b 01 ] ('a/b') 01",
		"e0 | 00 [ 11 00000000 1f ('r') ]",
		"f0 | 18 [ 15 ('SAS') 16 (00ff) ]",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); ++i) {
		uint8_t bytes[256], *copy;
		struct bytes src = wire_text(texts[i], bytes, sizeof(bytes));
		enum mqtt_sender sender = bytes[0] == 0x20 ? S : C;
		struct mqtt_packet p;

		ASSERT_EQ(mqtt_decode(&p, src, 5, sender), 0);
		for (size_t n = 0; n < src.len; ++n) {
			EXPECT_EQ(decode_copy(BYTES(bytes, n), &copy, 5, sender, &p), -EBADMSG);
			free(copy);
		}
		for (size_t n = src.len - 1; n > 3; --n) {
			bytes[1] = (uint8_t)(n - 2);
			EXPECT_NE(decode_copy(BYTES(bytes, n), &copy, 5, sender, &p), 0);
			free(copy);
		}
	}
}

TEST(names)
{
	EXPECT_STREQ(mqtt_type_name(MQTT_CONNECT), "CONNECT");
	EXPECT_STREQ(mqtt_type_name(MQTT_AUTH), "AUTH");
	EXPECT_STREQ(mqtt_type_name((enum mqtt_type)0), "reserved");
	EXPECT_STREQ(mqtt_type_name((enum mqtt_type)16), "reserved");
	EXPECT_STREQ(mqtt_reason_name(0x00), "Success");
	EXPECT_STREQ(mqtt_reason_name(0x87), "Not authorized");
	EXPECT_STREQ(mqtt_reason_name(0xa2), "Wildcard Subscriptions not supported");
	EXPECT_STREQ(mqtt_reason_name(0x03), "unknown reason");
	EXPECT_STREQ(mqtt_reason_name(0xff), "unknown reason");
}

TEST_HARNESS_MAIN
