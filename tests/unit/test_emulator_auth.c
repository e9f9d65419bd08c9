/* SPDX-License-Identifier: MIT */
/* Who may connect and stay: re-authentication, expiry, certificates. */

#include "tests/harness.h"
#include "tests/support/emu_service.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

FIXTURE(auth)
{
	struct emu_world w;
	struct emu_peer *peer, *service;
	struct emu_reply reply;
	struct mqtt_packet packet;
	char text[256];
};

FIXTURE_SETUP(auth)
{
	ASSERT_EQ(emu_world_init(&self->w, NULL), 0);
	self->service = emu_peer_service(&self->w, "service/t");
	ASSERT_TRUE(self->service != NULL);
}

FIXTURE_TEARDOWN(auth)
{
	if (test_is_orphan())
		return;
	emu_peer_close(self->peer);
	emu_peer_close(self->service);
	emu_world_deinit(&self->w);
}

/* Connects; the reason of CONNACK, -1 without one. */
static int try_connect(struct fixture_auth *self, const struct hub_connect *c,
		       const struct emu_certificate *certificate)
{
	uint8_t bytes[HUB_CONNECT_MAX];

	emu_peer_close(self->peer);
	self->peer = emu_peer_open(&self->w, "localhost");
	if (certificate)
		emu_client_set_certificate(self->peer->client, certificate);
	emu_peer_send_bytes(self->peer, hub_connect_encode(c, bytes));
	if (!emu_peer_next(self->peer, &self->packet) || self->packet.type != MQTT_CONNACK)
		return -1;
	return self->packet.connack.reason;
}

/* A SAS connection of dev1 that lasts @s seconds. */
static void connect_for(struct fixture_auth *self, uint64_t s)
{
	struct hub_connect c = hub_connect_make("dev1", emu_world_key(&self->w, "dev1", 0));
	char expiry[32];

	snprintf(expiry, sizeof(expiry), "%llu", (unsigned long long)self->w.hub.wall_ms + s * 1000);
	c.expiry = expiry;
	ASSERT_EQ(try_connect(self, &c, NULL), 0);
}

struct auth {
	const char *method;
	const char *id;
	const char *policy;
	struct bytes key;
	uint64_t life_s;
	uint8_t reason;
	const char *extra; /* a property more */
	bool no_expiry;
};

static struct auth auth_make(struct fixture_auth *self)
{
	return (struct auth){.method = "SAS",
			     .id = "dev1",
			     .policy = "",
			     .key = emu_world_key(&self->w, "dev1", 0),
			     .life_s = 60,
			     .reason = 0x19};
}

static void send_auth(struct fixture_auth *self, const struct auth *a)
{
	uint8_t scratch[512], signature[EVP_MAX_MD_SIZE];
	struct writer w = writer_init(scratch, sizeof(scratch));
	struct mqtt_packet packet = {.type = MQTT_AUTH, .disconnect = {.reason = a->reason}};
	char at[32], expiry[32], text[512];
	unsigned int len;
	int n;

	snprintf(at, sizeof(at), "%llu", (unsigned long long)self->w.hub.wall_ms);
	snprintf(expiry, sizeof(expiry), "%llu", (unsigned long long)self->w.hub.wall_ms + a->life_s * 1000);
	n = snprintf(text, sizeof(text), "localhost\n%s\n%s\n%s\n%s\n", a->id, a->policy, at, expiry);
	HMAC(EVP_sha256(), a->key.data, (int)a->key.len, (const unsigned char *)text, (size_t)n, signature,
	     &len);
	mqtt_user_property_put(&w, BYTES_LIT("sas-at"), bytes_from_str(at));
	if (!a->no_expiry)
		mqtt_user_property_put(&w, BYTES_LIT("sas-expiry"), bytes_from_str(expiry));
	if (a->extra)
		mqtt_user_property_put(&w, bytes_from_str(a->extra), BYTES_LIT("x"));
	packet.properties.repeatable = writer_bytes(&w);
	packet.properties.authentication_method = bytes_from_str(a->method);
	mqtt_set(&packet.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	packet.properties.authentication_data = BYTES(signature, len);
	mqtt_set(&packet.properties, MQTT_PROP_AUTHENTICATION_DATA);
	emu_peer_send(self->peer, &packet);
}

static bool auth_succeeds(struct fixture_auth *self, const struct auth *a)
{
	send_auth(self, a);
	return emu_peer_next(self->peer, &self->packet) && self->packet.type == MQTT_AUTH &&
	       self->packet.disconnect.reason == 0 &&
	       bytes_equal_str(self->packet.properties.authentication_method, "SAS");
}

static int disconnect(struct fixture_auth *self)
{
	if (!emu_peer_next(self->peer, &self->packet) || self->packet.type != MQTT_DISCONNECT)
		return -1;
	return self->packet.disconnect.reason;
}

static const char *status(struct fixture_auth *self)
{
	return hub_property(&self->packet, "status", self->text, sizeof(self->text));
}

TEST_F(auth, an_expired_token_ends_the_connection)
{
	connect_for(self, 10);
	emu_world_pass_ms(&self->w, 9999);
	EXPECT_FALSE(emu_peer_next(self->peer, &self->packet));
	emu_world_pass_ms(&self->w, 1);
	EXPECT_EQ(disconnect(self), 0x87);
	EXPECT_STREQ(status(self), "0101");
}

TEST_F(auth, re_authentication_prolongs_it)
{
	struct auth a = auth_make(self);

	connect_for(self, 10);
	for (int i = 0; i < 5; i++) {
		emu_world_pass_ms(&self->w, 9000);
		a.life_s = 10;
		/* Either key is good. */
		a.key = emu_world_key(&self->w, "dev1", (size_t)i % 2);
		ASSERT_TRUE(auth_succeeds(self, &a));
	}
	emu_world_pass_ms(&self->w, 10000);
	EXPECT_EQ(disconnect(self), 0x87);
}

TEST_F(auth, a_bad_re_authentication_ends_the_connection)
{
	struct auth rows[5];

	for (size_t i = 0; i < 5; i++)
		rows[i] = auth_make(self);
	rows[0].key = emu_world_key(&self->w, "dev2", 0);
	rows[1].id = "dev2";
	rows[2].life_s = 0;
	rows[3].policy = "device";
	rows[4].method = "X509";
	for (size_t i = 0; i < 5; i++) {
		connect_for(self, 100);
		send_auth(self, &rows[i]);
		EXPECT_EQ(disconnect(self), 0x87);
		EXPECT_STREQ(status(self), "0101");
		EXPECT_EQ(emu_client_closing(self->peer->client), EMU_CLOSE + 0u);
	}
}

TEST_F(auth, a_malformed_re_authentication_is_a_bad_request)
{
	struct auth a = auth_make(self);

	a.extra = "colour";
	connect_for(self, 100);
	send_auth(self, &a);
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(status(self), "0100");
	a = auth_make(self);
	a.no_expiry = true;
	connect_for(self, 100);
	send_auth(self, &a);
	EXPECT_EQ(disconnect(self), 131);
	EXPECT_STREQ(status(self), "0100");
	a = auth_make(self);
	a.reason = 0x18;
	connect_for(self, 100);
	send_auth(self, &a);
	EXPECT_EQ(disconnect(self), 0x82);
}

TEST_F(auth, re_authentication_keeps_the_policy_of_connect)
{
	struct hub_connect c = hub_connect_make("dev1", emu_world_policy_key(&self->w, "device"));
	struct auth a = auth_make(self);

	c.policy = "device";
	ASSERT_EQ(try_connect(self, &c, NULL), 0);
	a.policy = "device";
	a.key = emu_world_policy_key(&self->w, "device");
	EXPECT_TRUE(auth_succeeds(self, &a));
	a = auth_make(self);
	send_auth(self, &a);
	EXPECT_EQ(disconnect(self), 0x87);
}

TEST_F(auth, traffic_goes_on_around_it)
{
	struct auth a = auth_make(self);
	uint8_t scratch[1024];
	struct mqtt_packet telemetry = hub_publish_make("$iothub/telemetry", 1, 1, "x", NULL, scratch);

	connect_for(self, 100);
	emu_peer_send(self->peer, &telemetry);
	send_auth(self, &a);
	telemetry.publish.packet_id = 2;
	emu_peer_send(self->peer, &telemetry);
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_EQ(self->packet.type, MQTT_PUBACK + 0u);
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_EQ(self->packet.type, MQTT_AUTH + 0u);
	ASSERT_TRUE(emu_peer_next(self->peer, &self->packet));
	EXPECT_EQ(self->packet.type, MQTT_PUBACK + 0u);
	EXPECT_EQ(self->packet.ack.packet_id, 2);
}

TEST_F(auth, a_policy_signs_for_devices_of_its_right)
{
	struct hub_connect c = hub_connect_make("dev1", emu_world_policy_key(&self->w, "device"));

	c.policy = "device";
	EXPECT_EQ(try_connect(self, &c, NULL), 0);
	c.packet.connect.client_id = BYTES_LIT("dev1/mod");
	EXPECT_EQ(try_connect(self, &c, NULL), 0);
	c.packet.connect.client_id = BYTES_LIT("nobody");
	EXPECT_EQ(try_connect(self, &c, NULL), 0x87);
	c = hub_connect_make("dev1", emu_world_policy_key(&self->w, "service"));
	c.policy = "service";
	EXPECT_EQ(try_connect(self, &c, NULL), 0x87);
	c.policy = "nothing";
	EXPECT_EQ(try_connect(self, &c, NULL), 0x87);
}

/* --- certificates ----------------------------------------------------------------------------- */

#define FINGERPRINT_A "00000000000000000000000000000000000000000000000000000000000000aA"
#define FINGERPRINT_B                                                                                        \
	"00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:bb"

static struct hub_connect connect_x509(const char *id)
{
	struct hub_connect c = hub_connect_make(id, BYTES(NULL, 0));

	c.packet.properties.authentication_method = BYTES_LIT("X509");
	c.no_authentication_data = true;
	c.at = NULL;
	c.expiry = NULL;
	return c;
}

static struct emu_certificate certificate_make(uint8_t last, const char *common_name, bool is_trusted)
{
	struct emu_certificate certificate = {.is_present = true, .is_trusted = is_trusted};

	certificate.thumbprint[31] = last;
	snprintf(certificate.common_name, sizeof(certificate.common_name), "%s", common_name);
	return certificate;
}

static const char *add(struct fixture_auth *self, const char *id, const char *json)
{
	char device[64];

	snprintf(device, sizeof(device), "device=%s", id);
	return emu_ask(self->service, &self->reply, "$service/devices/add", device, json);
}

TEST_F(auth, x509_by_thumbprint)
{
	struct hub_connect c = connect_x509("t1");
	struct emu_certificate a = certificate_make(0xaa, "anybody", false),
			       b = certificate_make(0xbb, "", false),
			       other = certificate_make(0xcc, "t1", true);

	ASSERT_TRUE(*add(self, "t1",
			 "{\"authentication\":\"x509\",\"thumbprints\":[\"" FINGERPRINT_A
			 "\",\"" FINGERPRINT_B "\"]}") == '\0');
	EXPECT_EQ(try_connect(self, &c, &a), 0);
	EXPECT_EQ(try_connect(self, &c, &b), 0);
	EXPECT_EQ(try_connect(self, &c, &other), 0x87);
	EXPECT_STREQ(status(self), "0101");
	EXPECT_EQ(try_connect(self, &c, NULL), 0x87);
}

TEST_F(auth, x509_by_ca)
{
	struct hub_connect c = connect_x509("c1");
	struct emu_certificate good = certificate_make(1, "c1", true),
			       untrusted = certificate_make(1, "c1", false),
			       other = certificate_make(1, "c11", true),
			       nameless = certificate_make(1, "", true);

	ASSERT_TRUE(*add(self, "c1", "{\"authentication\":\"x509\",\"ca\":true}") == '\0');
	ASSERT_TRUE(*add(self, "c1/m", "{\"authentication\":\"x509\",\"ca\":true}") == '\0');
	EXPECT_EQ(try_connect(self, &c, &good), 0);
	EXPECT_EQ(self->peer->client->token_ends_ns, TIME_NEVER);
	EXPECT_EQ(try_connect(self, &c, &untrusted), 0x87);
	EXPECT_EQ(try_connect(self, &c, &other), 0x87);
	EXPECT_EQ(try_connect(self, &c, &nameless), 0x87);
	EXPECT_EQ(try_connect(self, &c, NULL), 0x87);
	/* A module has its device's. */
	c = connect_x509("c1/m");
	EXPECT_EQ(try_connect(self, &c, &good), 0);
}

TEST_F(auth, another_method_than_the_registered_one)
{
	struct hub_connect x509 = connect_x509("dev1"), sas = hub_connect_make("c1", BYTES_LIT("k"));
	struct emu_certificate certificate = certificate_make(1, "dev1", true);

	ASSERT_TRUE(*add(self, "c1", "{\"authentication\":\"x509\",\"ca\":true}") == '\0');
	EXPECT_EQ(try_connect(self, &x509, &certificate), 0x87);
	EXPECT_STREQ(status(self), "0101");
	EXPECT_EQ(try_connect(self, &sas, NULL), 0x87);
	sas.policy = "device";
	sas.key = emu_world_policy_key(&self->w, "device");
	EXPECT_EQ(try_connect(self, &sas, NULL), 0x87);
	x509.packet.properties.authentication_method = BYTES_LIT("PLAIN");
	EXPECT_EQ(try_connect(self, &x509, &certificate), 0x87);
}

TEST_F(auth, x509_has_no_authentication_data)
{
	struct hub_connect c = connect_x509("c1");
	struct emu_certificate good = certificate_make(1, "c1", true);

	ASSERT_TRUE(*add(self, "c1", "{\"authentication\":\"x509\",\"ca\":true}") == '\0');
	c.no_authentication_data = false;
	EXPECT_EQ(try_connect(self, &c, &good), 131);
	EXPECT_STREQ(status(self), "0100");
}

TEST_F(auth, x509_does_not_re_authenticate)
{
	struct hub_connect c = connect_x509("c1");
	struct emu_certificate good = certificate_make(1, "c1", true);
	struct auth a = auth_make(self);

	ASSERT_TRUE(*add(self, "c1", "{\"authentication\":\"x509\",\"ca\":true}") == '\0');
	ASSERT_EQ(try_connect(self, &c, &good), 0);
	send_auth(self, &a);
	EXPECT_EQ(disconnect(self), 0x87);
}

TEST_HARNESS_MAIN
