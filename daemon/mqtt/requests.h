/* SPDX-License-Identifier: MIT */
#ifndef MQTT_REQUESTS_H
#define MQTT_REQUESTS_H

/*
 * Requests that wait for their response: each has Correlation Data of its own, a deadline, and a cookie of its
 * owner. Pure; bounded by MQTT_REQUESTS_MAX.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define MQTT_REQUESTS_MAX               16
#define MQTT_REQUESTS_CORRELATION_BYTES 8

struct mqtt_request {
	uint64_t number; /* what the Correlation Data says; 0 = slot is free */
	void *cookie;
	uint64_t deadline_ns;
};

struct mqtt_requests {
	uint64_t last; /* number given */
	struct mqtt_request slots[MQTT_REQUESTS_MAX];
};

/* @random: where numbers begin, so that a response to an earlier process matches nothing. */
void mqtt_requests_init(struct mqtt_requests *r, uint64_t random);

/* Adds a request and writes its Correlation Data. Returns 0, or -ENOBUFS when MQTT_REQUESTS_MAX wait. */
int mqtt_requests_add(struct mqtt_requests *r, void *cookie, uint64_t deadline_ns,
		      uint8_t correlation[static MQTT_REQUESTS_CORRELATION_BYTES]);

/* Takes out the request with this Correlation Data; NULL when none waits for it. */
void *mqtt_requests_take(struct mqtt_requests *r, struct bytes correlation);

/* Takes out one whose deadline is not after @now_ns (TIME_NEVER: any one); NULL when there is none. */
void *mqtt_requests_take_expired(struct mqtt_requests *r, uint64_t now_ns);

/* Takes out the one with this cookie. False: there is none. */
bool mqtt_requests_cancel(struct mqtt_requests *r, const void *cookie);

/* The earliest deadline, TIME_NEVER when nothing waits. */
uint64_t mqtt_requests_deadline_ns(const struct mqtt_requests *r);

#endif
