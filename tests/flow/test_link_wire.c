/* SPDX-License-Identifier: MIT */
/*
 * What the device really sends, byte for byte: a TLS server without a hub behind it gets it. The packets that are
 * expected are written down by hand, and signatures made by OpenSSL, so that the device's own encoder and its
 * own reading of the contract are not asked whether they are right.
 */

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "tests/harness.h"
#include "tests/support/device.h"
#include "tests/support/process.h"
#include "tests/support/wire_hub.h"
#include "tests/support/wire_text.h"

/* 32 bytes: 00, 01, 02 ... */
#define KEY_TEXT    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define LIFETIME_MS UINT64_C(3600000)

FIXTURE(wire)
{
	struct lab lab; /* a directory and a configuration */
	struct certs certs;
	struct wire_hub hub;
	struct device device;
	uint16_t port;
	struct mqtt_packet packet;
	struct bytes bytes; /* of it */
};

FIXTURE_SETUP(wire)
{
	lab_init(&self->lab);
	ASSERT_EQ(certs_init(&self->certs), 0);
	self->port = free_port();
}

FIXTURE_TEARDOWN(wire)
{
	if (!test_is_orphan()) {
		device_show_logs(&self->lab);
		wire_hub_stop(&self->hub);
		device_deinit(&self->device);
		wire_hub_deinit(&self->hub);
	}
	certs_deinit(&self->certs);
	lab_deinit(&self->lab);
}

/* Device and hub, by the members @who of the configuration; the device connects. */
static void start(struct fixture_wire *self, const char *who)
{
	char config[1024];

	snprintf(config, sizeof(config), "{%s, \"ca-file\": \"%s\", \"port\": %u, \"mount\": \"%s\"}\n", who,
		 self->certs.ca_file, self->port, self->lab.mount);
	lab_write_file(&self->lab, "iothubd.json", config);
	device_init(&self->device, &self->lab);
	wire_hub_init(&self->hub, self->device.loop, &self->certs, self->port);
	device_start(&self->device);
}

static void start_with_key(struct fixture_wire *self, const char *connection_string)
{
	lab_write_file(&self->lab, "dev1.connection-string", connection_string);
	start(self, "\"connection-string-file\": \"dev1.connection-string\"");
}

static void next(struct fixture_wire *self)
{
	self->bytes = wire_hub_next(&self->hub, &self->packet);
}

static void expect_bytes(const struct fixture_wire *self, const char *text)
{
	uint8_t bytes[4096];
	struct bytes want = wire_text(text, bytes, sizeof(bytes));

	EXPECT_EQ(self->bytes.len, want.len);
	for (size_t i = 0; i < want.len && i < self->bytes.len; ++i) {
		if (self->bytes.data[i] == want.data[i])
			continue;
		TEST_LOG("from byte %zu on: %s", i, text);
		EXPECT_EQ(self->bytes.data[i], want.data[i]);
		return;
	}
}

static void property_text(const struct fixture_wire *self, const char *name, char out[static 64])
{
	struct bytes value = BYTES(NULL, 0);

	ASSERT_TRUE(mqtt_user_property_find(self->packet.properties.repeatable, name, &value));
	ASSERT_LT(value.len, 64u);
	memcpy(out, value.data, value.len);
	out[value.len] = '\0';
}

/* The signature as the contract has it, in hexadecimal digits. */
static void sign(const char *client_id, const char *policy, const char *at, const char *expiry,
		 char out[static 65])
{
	uint8_t key[32], digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	char text[512];
	int n = snprintf(text, sizeof(text), "localhost\n%s\n%s\n%s\n%s\n", client_id, policy, at, expiry);

	for (size_t i = 0; i < sizeof(key); ++i)
		key[i] = (uint8_t)i;
	ASSERT_TRUE(HMAC(EVP_sha256(), key, sizeof(key), (const unsigned char *)text, (size_t)n, digest,
			 &len) != NULL);
	ASSERT_EQ(len, 32u);
	for (size_t i = 0; i < len; ++i)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* The times of the signature: from now on, for as long as configured. */
static void signed_times(const struct fixture_wire *self, char at[static 64], char expiry[static 64])
{
	uint64_t now_ms = certs_now_ms(), at_ms;

	property_text(self, "sas-at", at);
	property_text(self, "sas-expiry", expiry);
	at_ms = strtoull(at, NULL, 10);
	EXPECT_LE(at_ms, now_ms + 1000);
	EXPECT_GE(at_ms + 30000, now_ms);
	EXPECT_EQ(strtoull(expiry, NULL, 10), at_ms + LIFETIME_MS);
}

/*
 * CONNECT: protocol level 5; flags 0, so no Clean Start, no will, no user name, no password; keep-alive 240 s.
 * Properties: Session Expiry Interval a day; Authentication Method and Data; Receive Maximum 16; Topic Alias
 * Maximum 8; Maximum Packet Size 256 KiB; the user properties of the contract.
 */
static void expect_connect(struct fixture_wire *self, const char *client_id, const char *policy)
{
	char at[64], expiry[64], signature[65], more[64] = "", want[2048];

	signed_times(self, at, expiry);
	sign(client_id, policy, at, expiry, signature);
	if (policy[0])
		snprintf(more, sizeof(more), "26 ('sas-policy') ('%s')", policy);
	snprintf(want, sizeof(want),
		 "10 | ('MQTT') 05 00 00f0 [ 11 00015180 15 ('SAS') 16 (%s) 21 0010 22 0008 27 00040000"
		 " 26 ('api-version') ('2020-10-01-preview') 26 ('sas-at') ('%s') 26 ('sas-expiry') ('%s') %s"
		 " 26 ('client-agent') ('iothubd/" IOTHUB_VERSION "') ] ('%s')",
		 signature, at, expiry, more, client_id);
	expect_bytes(self, want);
}

TEST_F(wire, connect_by_key_byte_for_byte)
{
	start_with_key(self, "HostName=localhost;DeviceId=dev1;SharedAccessKey=" KEY_TEXT "\n");
	next(self);
	expect_connect(self, "dev1", "");
	EXPECT_FALSE(self->hub.has_certificate);
}

TEST_F(wire, connect_of_a_module_by_a_policy_byte_for_byte)
{
	start_with_key(self, "HostName=localhost;DeviceId=dev1;ModuleId=mod;SharedAccessKeyName=device;"
			     "SharedAccessKey=" KEY_TEXT "\n");
	next(self);
	expect_connect(self, "dev1/mod", "device");
}

/* Copies the certificate (`pem`) or the key (`key`) of @certs to where the device has it. */
static void install(const struct fixture_wire *self, const char *what)
{
	char script[512];

	/* As a tool does that renews certificates. */
	snprintf(script, sizeof(script), "cp %s/server.%s $D/new && mv $D/new $D/x1.%s", self->certs.dir,
		 what, what);
	ASSERT_EQ(lab_shell(&self->lab, "sh", script), 0);
}

static void start_with_certificate(struct fixture_wire *self)
{
	/* Any certificate would do. */
	install(self, "pem");
	install(self, "key");
	start(self, "\"host\": \"localhost\", \"device-id\": \"x1\", \"authentication\": \"x509\", "
		    "\"certificate-file\": \"x1.pem\", \"private-key-file\": \"x1.key\"");
}

/* The method is named, the certificate is shown to the TLS server, and nothing else says who we are. */
TEST_F(wire, connect_by_certificate_byte_for_byte)
{
	start_with_certificate(self);
	next(self);
	expect_bytes(self, "10 | ('MQTT') 05 00 00f0 [ 11 00015180 15 ('X509') 21 0010 22 0008 27 00040000"
			   " 26 ('api-version') ('2020-10-01-preview')"
			   " 26 ('client-agent') ('iothubd/" IOTHUB_VERSION "') ] ('x1')");
	EXPECT_TRUE(self->hub.has_certificate);
}

/* The connection is lost; whether the next one shows the certificate with this fingerprint. */
static bool shows(struct fixture_wire *self, const uint8_t fingerprint[static 32])
{
	backoff_progress(&self->device.link->backoff);
	wire_hub_cut(&self->hub);
	self->hub.has_certificate = false;
	next(self);
	EXPECT_EQ((int)self->packet.type, MQTT_CONNECT);
	return self->hub.has_certificate && memcmp(self->hub.fingerprint, fingerprint, 32) == 0;
}

static void expect_log_lines(const struct fixture_wire *self, const char *text, unsigned int n)
{
	_cleanup_(free_ptr) char *log = lab_log(&self->lab, "device");

	EXPECT_EQ(text_count(log, text), n);
}

TEST_F(wire, a_renewed_certificate_is_shown_by_the_next_connection)
{
	static const char *const names[] = {"localhost"};
	uint8_t old[32], new[32];

	start_with_certificate(self);
	next(self);
	memcpy(old, self->hub.fingerprint, sizeof(old));
	EXPECT_TRUE(shows(self, old));
	/* Half of it is there: that is no certificate of ours. */
	ASSERT_EQ(certs_issue(&self->certs, names, 1, certs_now_ms()), 0);
	install(self, "pem");
	EXPECT_TRUE(shows(self, old));
	EXPECT_TRUE(shows(self, old));
	expect_log_lines(self, "is not that of the certificate in ", 1);
	expect_log_lines(self, "the certificate that was there before stays in use", 1);
	install(self, "key");
	EXPECT_FALSE(shows(self, old));
	memcpy(new, self->hub.fingerprint, sizeof(new));
	expect_log_lines(self, "was renewed: new connections use it", 1);
	/* What is gone is no certificate either. */
	ASSERT_EQ(lab_shell(&self->lab, "sh", "rm $D/x1.pem"), 0);
	EXPECT_TRUE(shows(self, new));
	expect_log_lines(self, "x1.pem\": No such file or directory", 1);
	install(self, "pem");
	EXPECT_TRUE(shows(self, new));
	EXPECT_TRUE(shows(self, new));
	expect_log_lines(self, "was renewed: new connections use it", 2);
}

/* The hub says nothing before: the first bytes are CONNECT, at once and alone, on every connection. */
TEST_F(wire, connect_comes_first_and_at_once)
{
	uint64_t limit_ns = HUB_CONNECT_TIMEOUT_S * NSEC_PER_SEC / 10;

	start_with_key(self, "HostName=localhost;DeviceId=dev1;SharedAccessKey=" KEY_TEXT "\n");
	ASSERT_EQ(link_subscribe(self->device.link, &self->device.commands.sub), 0);
	for (unsigned int i = 1; i <= 3; ++i) {
		next(self);
		EXPECT_EQ(self->hub.n_opened, i);
		EXPECT_EQ((int)self->packet.type, MQTT_CONNECT);
		EXPECT_LT(self->hub.received_ns - self->hub.opened_ns, limit_ns);
		EXPECT_EQ(buf_len(&self->hub.inbox), 0u);
		/* What waits is sent once the hub has accepted us, and not before. */
		if (i == 2) {
			wire_hub_send(&self->hub, "20 | 00 00 []");
			next(self);
			EXPECT_EQ((int)self->packet.type, MQTT_SUBSCRIBE);
		}
		wire_hub_cut(&self->hub);
	}
}

/* Connected, and subscribed to all three. */
static void go_online(struct fixture_wire *self)
{
	struct device *d = &self->device;
	char text[256];
	uint16_t id;

	start_with_key(self, "HostName=localhost;DeviceId=dev1;SharedAccessKey=" KEY_TEXT "\n");
	ASSERT_EQ(link_subscribe(d->link, &d->commands.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->methods.sub), 0);
	ASSERT_EQ(link_subscribe(d->link, &d->desired.sub), 0);
	next(self);
	wire_hub_send(&self->hub, "20 | 00 00 []");
	next(self);
	/* Commands at QoS 1, methods and desired changes at QoS 0. */
	id = self->packet.subscribe.packet_id;
	EXPECT_NE(id, 0);
	snprintf(text, sizeof(text),
		 "82 | %04x [] ('$iothub/commands') 01 ('$iothub/methods/+') 00"
		 " ('$iothub/twin/patch/desired') 00",
		 id);
	expect_bytes(self, text);
	snprintf(text, sizeof(text), "90 | %04x [] 01 00 00", id);
	wire_hub_send(&self->hub, text);
	DEVICE_AWAIT(d, device_topic_is_granted(&d->desired));
}

/* The packet's Correlation Data in hexadecimal digits. */
static void correlation_text(const struct fixture_wire *self,
			     char out[static 2 * HUB_CORRELATION_BYTES_MAX + 1])
{
	struct bytes correlation = self->packet.properties.correlation_data;

	ASSERT_GE(correlation.len, 1u);
	ASSERT_LE(correlation.len, (size_t)HUB_CORRELATION_BYTES_MAX);
	for (size_t i = 0; i < correlation.len; ++i)
		snprintf(out + 2 * i, 3, "%02x", correlation.data[i]);
}

TEST_F(wire, requests_byte_for_byte)
{
	struct device *d = &self->device;
	struct device_question get, patch;
	char text[512], first[33], second[33];

	go_online(self);
	device_ask(d, &get, HUB_TOPIC_TWIN_GET, "", NULL);
	next(self);
	correlation_text(self, first);
	/* PUBLISH at QoS 0 with Correlation Data and nothing else. */
	snprintf(text, sizeof(text), "30 | ('$iothub/twin/get') [ 09 (%s) ]", first);
	expect_bytes(self, text);
	device_ask(d, &patch, HUB_TOPIC_TWIN_REPORTED, "{\"a\":null}", "7");
	next(self);
	correlation_text(self, second);
	EXPECT_NE(strcmp(first, second), 0);
	snprintf(text, sizeof(text),
		 "30 | ('$iothub/twin/patch/reported') [ 09 (%s) 26 ('if-version') ('7') ] '{\"a\":null}'",
		 second);
	expect_bytes(self, text);
	/* In the other order: each gets its own. */
	snprintf(text, sizeof(text), "30 | ('$iothub/responses') [ 09 (%s) 26 ('status') ('0104') ]", second);
	wire_hub_send(&self->hub, text);
	snprintf(text, sizeof(text), "30 | ('$iothub/responses') [ 09 (%s) ] '{}'", first);
	wire_hub_send(&self->hub, text);
	DEVICE_AWAIT(d, get.n && patch.n);
	EXPECT_STREQ(patch.status, "Precondition Failed (0104)");
	EXPECT_EQ(get.error, 0);
	EXPECT_STREQ(get.payload, "{}");
}

TEST_F(wire, settlement_byte_for_byte)
{
	static const struct {
		enum link_settlement settlement;
		const char *puback;
	} rows[] = {
		{LINK_COMPLETE, "40 | 0007"},
		{LINK_ABANDON, "40 | 0007 83 [ 26 ('status') ('0603') ]"},
		{LINK_REJECT, "40 | 0007 83 [ 26 ('status') ('0100') ]"},
	};
	struct device *d = &self->device;

	go_online(self);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); ++i) {
		wire_hub_send(&self->hub,
			      "32 | ('$iothub/commands') 0007 [ 26 ('sequence-no') ('1')"
			      " 26 ('enqueued-time') ('1600987795320') 26 ('delivery-count') ('1') ] 'x'");
		DEVICE_AWAIT(d, d->commands.n == i + 1);
		ASSERT_EQ(link_settle(d->link, &d->commands.deliveries[i], rows[i].settlement), 0);
		next(self);
		expect_bytes(self, rows[i].puback);
	}
}

TEST_F(wire, answers_of_methods_byte_for_byte)
{
	struct device *d = &self->device;
	struct bytes correlation;

	go_online(self);
	wire_hub_send(&self->hub, "30 | ('$iothub/methods/reboot') [ 09 (00ff'call') ] 'in'");
	DEVICE_AWAIT(d, d->methods.n == 1);
	correlation = BYTES(d->methods.correlation, d->methods.correlation_len);
	ASSERT_EQ(link_respond(d->link, correlation, 202, BYTES_LIT("out")), 0);
	next(self);
	expect_bytes(self,
		     "30 | ('$iothub/responses') [ 09 (00ff'call') 26 ('response-code') ('202') ] 'out'");
	ASSERT_EQ(link_respond_unavailable(d->link, correlation), 0);
	next(self);
	expect_bytes(self, "30 | ('$iothub/responses') [ 09 (00ff'call') 26 ('status') ('06A0') ]");
}

TEST_HARNESS_MAIN
