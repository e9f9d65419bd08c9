/* SPDX-License-Identifier: MIT */
/*
 * A device in the test's own process, see device.h.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "mqtt/packet.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/device.h"

/* Longer than any test waits for an answer. */
#define ASK_TIMEOUT_NS (20 * NSEC_PER_SEC)

static void text_store(char *out, size_t size, struct bytes text)
{
	ASSERT_LT(text.len, size);
	if (text.len)
		memcpy(out, text.data, text.len);
	out[text.len] = '\0';
}

/* --- the link's events ------------------------------------------------------------------------ */

static void on_online(void *userdata, bool session_present)
{
	struct device *d = userdata;

	++d->n_online;
	d->session_present = session_present;
}

static void on_offline(void *userdata)
{
	++((struct device *)userdata)->n_offline;
}

static void on_writable(void *userdata)
{
	struct device *d = userdata;

	if (d->on_writable)
		d->on_writable(d);
}

static void on_puback(void *userdata, uint64_t cookie, const struct hub_status *status, struct bytes reason)
{
	struct device *d = userdata;

	(void)reason;
	++d->n_pubacks;
	d->cookie = cookie;
	d->status = *status;
}

static void on_changed(void *userdata)
{
	(void)userdata;
}

static const struct link_ops device_ops = {
	.on_online = on_online,
	.on_offline = on_offline,
	.on_writable = on_writable,
	.on_puback = on_puback,
	.on_changed = on_changed,
};

static void on_message(struct link_subscription *sub, const struct link_message *message)
{
	struct device_topic *t = container_of(sub, struct device_topic, sub);
	const struct mqtt_properties *p = message->properties;

	ASSERT_LT(t->n, (unsigned int)DEVICE_MESSAGES_MAX);
	t->deliveries[t->n++] = message->delivery;
	text_store(t->name, sizeof(t->name), message->topic);
	text_store(t->content_type, sizeof(t->content_type),
		   mqtt_has(p, MQTT_PROP_CONTENT_TYPE) ? p->content_type : BYTES(NULL, 0));
	text_store(t->payload, sizeof(t->payload), message->payload);
	ASSERT_LE(p->repeatable.len, sizeof(t->properties));
	t->properties_len = p->repeatable.len;
	if (t->properties_len)
		memcpy(t->properties, p->repeatable.data, t->properties_len);
	ASSERT_LE(p->correlation_data.len, sizeof(t->correlation));
	t->correlation_len = p->correlation_data.len;
	if (t->correlation_len)
		memcpy(t->correlation, p->correlation_data.data, t->correlation_len);
}

static void on_refused(struct link_subscription *sub, const struct hub_status *status)
{
	struct device_topic *t = container_of(sub, struct device_topic, sub);

	EXPECT_TRUE(status->class != HUB_SUCCESS);
	++t->n_refused;
}

static void on_response(struct link_request *request, const struct link_response *response)
{
	struct device_question *q = container_of(request, struct device_question, request);
	struct bytes version = BYTES(NULL, 0);

	++q->n;
	q->error = response->error;
	q->retryable = response->status.retryable;
	hub_status_format(&response->status, q->status);
	text_store(q->reason, sizeof(q->reason), response->reason);
	text_store(q->payload, sizeof(q->payload), response->payload);
	if (response->properties)
		mqtt_user_property_find(response->properties->repeatable, HUB_PROP_VERSION, &version);
	text_store(q->version, sizeof(q->version), version);
}

/* --- life cycle ------------------------------------------------------------------------------- */

void device_init(struct device *d, const struct lab *lab)
{
	char path[LAB_PATH_MAX], log_path[LAB_PATH_MAX];
	const struct config_source source = {
		.config_file = path, .config_dir = "/nowhere", .state_dir = "/nowhere"};
	struct link_options options;

	snprintf(path, sizeof(path), "%s/iothubd.json", lab->dir);
	snprintf(log_path, sizeof(log_path), "%s/device.log", lab->dir);
	*d = (struct device){0};
	d->log = (struct log){.fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
			      .level = LOG_LEVEL_DEBUG};
	ASSERT_GE(d->log.fd, 0);
	ASSERT_EQ(config_load(&d->config, &source, &d->log), 0);
	ASSERT_EQ(loop_new(&d->loop, &(struct loop_options){.log = &d->log}), 0);
	ASSERT_EQ(tls_context_new_client(&d->tls, d->config.ca_file, &d->log), 0);
	if (d->config.authentication == CONFIG_AUTHENTICATION_X509)
		ASSERT_EQ(tls_context_use_certificate(d->tls, d->config.certificate_file,
						      d->config.private_key, &d->log),
			  0);
	ASSERT_EQ(resolver_new(&d->resolver, d->loop, &d->log, NULL), 0);
	options = (struct link_options){
		.loop = d->loop,
		.log = &d->log,
		.config = &d->config,
		.resolver = d->resolver,
		.tls = d->tls,
		.ops = &device_ops,
		.userdata = d,
	};
	ASSERT_EQ(link_new(&d->link, &options), 0);
	device_topic_init(&d->commands, d, HUB_TOPIC_COMMANDS, 1);
	device_topic_init(&d->methods, d, HUB_TOPIC_METHODS_ALL, 0);
	device_topic_init(&d->desired, d, HUB_TOPIC_TWIN_DESIRED, 0);
}

void device_start(struct device *d)
{
	link_start(d->link);
}

void device_deinit(struct device *d)
{
	if (!d->loop)
		return;
	link_free(d->link);
	resolver_free(d->resolver);
	while (loop_n_in_flight(d->loop) > 0)
		ASSERT_EQ(loop_turn(d->loop, TIME_NEVER), 0);
	tls_context_free(d->tls);
	loop_free(d->loop);
	config_deinit(&d->config);
	close(d->log.fd);
	*d = (struct device){0};
}

void device_show_logs(const struct lab *lab)
{
	lab_show_log(lab, "device");
	lab_show_log(lab, "emulator");
}

struct link_info device_info(const struct device *d)
{
	struct link_info info;

	link_info(d->link, &info);
	return info;
}

/* --- topics and questions --------------------------------------------------------------------- */

void device_topic_init(struct device_topic *t, struct device *d, const char *filter, uint8_t qos)
{
	*t = (struct device_topic){.sub = {.filter = bytes_from_str(filter),
					   .qos = qos,
					   .on_message = on_message,
					   .on_refused = on_refused},
				   .device = d};
	link_subscription_init(&t->sub);
}

const char *device_topic_property(const struct device_topic *t, const char *name)
{
	static char out[DEVICE_TEXT_SIZE];
	struct bytes value = BYTES(NULL, 0);

	mqtt_user_property_find(BYTES(t->properties, t->properties_len), name, &value);
	text_store(out, sizeof(out), value);
	return out;
}

void device_question_init(struct device_question *q)
{
	*q = (struct device_question){.request.on_response = on_response};
}

void device_ask(struct device *d, struct device_question *q, const char *topic, const char *payload,
		const char *if_version)
{
	uint8_t scratch[64];
	struct writer w = writer_init(scratch, sizeof(scratch));

	device_question_init(q);
	if (if_version)
		mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_IF_VERSION), bytes_from_str(if_version));
	ASSERT_EQ(link_request(d->link, &q->request, bytes_from_str(topic), writer_bytes(&w),
			       bytes_from_str(payload), ASK_TIMEOUT_NS),
		  0);
}

void device_ask_wait(struct device *d, struct device_question *q, const char *topic, const char *payload,
		     const char *if_version)
{
	device_ask(d, q, topic, payload, if_version);
	DEVICE_AWAIT(d, q->n);
	EXPECT_EQ(q->n, 1u);
}
