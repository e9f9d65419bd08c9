/* SPDX-License-Identifier: MIT */
/*
 * Requests and their Correlation Data, see requests.h: a number that never repeats, most significant byte
 * first. Few wait at a time, so every search walks all slots.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "mqtt/requests.h"

void mqtt_requests_init(struct mqtt_requests *r, uint64_t random)
{
	*r = (struct mqtt_requests){.last = random};
}

int mqtt_requests_add(struct mqtt_requests *r, void *cookie, uint64_t deadline_ns,
		      uint8_t correlation[static MQTT_REQUESTS_CORRELATION_BYTES])
{
	for (size_t i = 0; i < ARRAY_SIZE(r->slots); ++i) {
		uint64_t number;

		if (r->slots[i].number)
			continue;
		number = ++r->last ? r->last : ++r->last;
		r->slots[i] = (struct mqtt_request){number, cookie, deadline_ns};
		for (size_t k = MQTT_REQUESTS_CORRELATION_BYTES; k > 0; --k, number >>= 8)
			correlation[k - 1] = (uint8_t)number;
		return 0;
	}
	return -ENOBUFS;
}

static void *request_release(struct mqtt_request *request)
{
	void *cookie = request->cookie;

	*request = (struct mqtt_request){0};
	return cookie;
}

void *mqtt_requests_take(struct mqtt_requests *r, struct bytes correlation)
{
	uint64_t number = 0;

	if (correlation.len != MQTT_REQUESTS_CORRELATION_BYTES)
		return NULL;
	for (size_t k = 0; k < correlation.len; ++k)
		number = number << 8 | correlation.data[k];
	for (size_t i = 0; number && i < ARRAY_SIZE(r->slots); ++i)
		if (r->slots[i].number == number)
			return request_release(&r->slots[i]);
	return NULL;
}

void *mqtt_requests_take_expired(struct mqtt_requests *r, uint64_t now_ns)
{
	for (size_t i = 0; i < ARRAY_SIZE(r->slots); ++i)
		if (r->slots[i].number && r->slots[i].deadline_ns <= now_ns)
			return request_release(&r->slots[i]);
	return NULL;
}

bool mqtt_requests_cancel(struct mqtt_requests *r, const void *cookie)
{
	for (size_t i = 0; i < ARRAY_SIZE(r->slots); ++i) {
		if (r->slots[i].number && r->slots[i].cookie == cookie) {
			request_release(&r->slots[i]);
			return true;
		}
	}
	return false;
}

uint64_t mqtt_requests_deadline_ns(const struct mqtt_requests *r)
{
	uint64_t deadline_ns = TIME_NEVER;

	for (size_t i = 0; i < ARRAY_SIZE(r->slots); ++i)
		if (r->slots[i].number && r->slots[i].deadline_ns < deadline_ns)
			deadline_ns = r->slots[i].deadline_ns;
	return deadline_ns;
}
