/* SPDX-License-Identifier: MIT */
/*
 * Requests to the hub, which answers to $iothub/responses, and responses of ours to its own. Both are QoS 0: a
 * request lives as long as its connection and its time limit, and ends exactly once.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "flow/link_internal.h"

/* Room for the properties of a request or response. */
#define PROPERTIES_BYTES_MAX 1024

/* PUBLISH with Correlation Data and encoded User Properties. */
static int link_send_correlated(struct link *link, struct bytes topic, struct bytes correlation,
				struct bytes user_properties, struct bytes payload)
{
	struct mqtt_properties p = {.correlation_data = correlation, .repeatable = user_properties};
	uint8_t properties[PROPERTIES_BYTES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	int r;

	mqtt_set(&p, MQTT_PROP_CORRELATION_DATA);
	mqtt_properties_encode(&w, &p, MQTT_PUBLISH);
	if (w.error)
		return w.error == -ENOSPC ? -EMSGSIZE : w.error;
	r = mqtt_session_send(link->session, topic, writer_bytes(&w), payload);
	if (!r)
		link_kick(link);
	return r;
}

/* --- requests --------------------------------------------------------------------------------- */

static void request_end(struct link_request *request, int error)
{
	const struct link_response response = {
		.status = {.class = HUB_SERVER_ERROR,
			   .retryable = true,
			   .error = error,
			   .name = "no response"},
		.error = error,
	};

	request->on_response(request, &response);
}

static void link_arm_requests(struct link *link)
{
	loop_timer_arm(link->loop, &link->request_timer, mqtt_requests_deadline_ns(&link->requests));
}

static void link_on_request_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct link *link = container_of(timer, struct link, request_timer);
	struct link_request *request;

	while ((request = mqtt_requests_take_expired(&link->requests, now_ns)))
		request_end(request, -ETIMEDOUT);
	link_arm_requests(link);
}

int link_requests_init(struct link *link)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	mqtt_requests_init(&link->requests, random);
	loop_timer_init(&link->request_timer, link_on_request_timer);
	return 0;
}

void link_requests_offline(struct link *link)
{
	struct link_request *request;

	assert(link->state != LINK_ONLINE);
	loop_timer_disarm(&link->request_timer);
	while ((request = mqtt_requests_take_expired(&link->requests, TIME_NEVER)))
		request_end(request, -ENOTCONN);
}

int link_request(struct link *link, struct link_request *request, struct bytes topic,
		 struct bytes user_properties, struct bytes payload, uint64_t timeout_ns)
{
	uint8_t correlation[MQTT_REQUESTS_CORRELATION_BYTES];
	int r;

	if (link->state != LINK_ONLINE)
		return -ENOTCONN;
	r = mqtt_requests_add(&link->requests, request, loop_now_ns(link->loop) + timeout_ns, correlation);
	if (r)
		return r;
	r = link_send_correlated(link, topic, BYTES(correlation, sizeof(correlation)), user_properties,
				 payload);
	if (r) {
		mqtt_requests_cancel(&link->requests, request);
		return r;
	}
	link_arm_requests(link);
	return 0;
}

void link_request_cancel(struct link *link, struct link_request *request)
{
	mqtt_requests_cancel(&link->requests, request);
}

void link_on_response(struct link *link, const struct mqtt_packet *publish)
{
	struct bytes text = BYTES(NULL, 0), reason = BYTES(NULL, 0);
	struct link_response response = {
		.properties = &publish->properties,
		.payload = publish->publish.payload,
	};
	struct link_request *request =
		mqtt_requests_take(&link->requests, publish->properties.correlation_data);

	if (!request) {
		log_debug(link->log, "%s answered a request that does not wait any more", link_server(link));
		return;
	}
	mqtt_user_property_find(publish->properties.repeatable, HUB_PROP_STATUS, &text);
	mqtt_user_property_find(publish->properties.repeatable, HUB_PROP_REASON, &reason);
	response.status = hub_status_from_packet(MQTT_REASON_SUCCESS, text);
	response.error = response.status.error;
	response.reason = reason;
	request->on_response(request, &response);
}

/* --- responses -------------------------------------------------------------------------------- */

static int link_respond_with(struct link *link, struct bytes correlation, const char *name, const char *value,
			     struct bytes payload)
{
	uint8_t properties[64];
	struct writer w = writer_init(properties, sizeof(properties));

	if (!correlation.len || correlation.len > HUB_CORRELATION_BYTES_MAX)
		return -EINVAL;
	mqtt_user_property_put(&w, bytes_from_str(name), bytes_from_str(value));
	return link_send_correlated(link, BYTES_LIT(HUB_TOPIC_RESPONSES), correlation, writer_bytes(&w),
				    payload);
}

int link_respond(struct link *link, struct bytes correlation, uint32_t response_code, struct bytes payload)
{
	char text[16];

	snprintf(text, sizeof(text), "%" PRIu32, response_code);
	return link_respond_with(link, correlation, HUB_PROP_RESPONSE_CODE, text, payload);
}

int link_respond_unavailable(struct link *link, struct bytes correlation)
{
	char text[8];

	snprintf(text, sizeof(text), "%04X", HUB_STATUS_TARGET_UNAVAILABLE);
	return link_respond_with(link, correlation, HUB_PROP_STATUS, text, BYTES(NULL, 0));
}
