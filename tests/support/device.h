/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_DEVICE_H
#define TESTS_SUPPORT_DEVICE_H

/*
 * A device in the test's own process: the link with the configuration of a lab, on a loop that the test turns, and
 * what came of subscriptions, requests and messages in flight. What goes wrong ends the test with an assertion.
 */

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "flow/link.h"
#include "hub/contract.h"
#include "hub/status.h"
#include "tests/support/lab.h"

#define DEVICE_MESSAGES_MAX   32
#define DEVICE_TEXT_SIZE      512
#define DEVICE_PROPERTIES_MAX 2048
#define DEVICE_PAYLOAD_SIZE   4096

struct device;

/* A topic, and what came to it. */
struct device_topic {
	struct link_subscription sub;
	struct device *device;
	unsigned int n_refused;
	unsigned int n;
	struct link_delivery deliveries[DEVICE_MESSAGES_MAX];
	char name[DEVICE_TEXT_SIZE]; /* of the last message, as is the rest */
	char content_type[DEVICE_TEXT_SIZE];
	char payload[DEVICE_PAYLOAD_SIZE];
	uint8_t properties[DEVICE_PROPERTIES_MAX]; /* User Properties, encoded */
	size_t properties_len;
	uint8_t correlation[HUB_CORRELATION_BYTES_MAX];
	size_t correlation_len;
};

/* A request, and what became of it. */
struct device_question {
	struct link_request request;
	unsigned int n; /* responses */
	int error;
	bool retryable;
	char status[HUB_STATUS_TEXT_SIZE];
	char reason[DEVICE_TEXT_SIZE];
	char version[DEVICE_TEXT_SIZE];
	char payload[DEVICE_PAYLOAD_SIZE];
};

struct device {
	struct config config;
	struct log log;
	struct loop *loop;
	struct tls_context *tls;
	struct resolver *resolver;
	struct link *link;
	unsigned int n_online, n_offline;
	bool session_present;                  /* of the last time */
	void (*on_writable)(struct device *d); /* when there is room to send; may be NULL */
	unsigned int n_pubacks;
	uint64_t cookie; /* of the last one, as is the rest */
	struct hub_status status;
	struct device_topic commands, methods, desired; /* with their filters, and not subscribed to */
};

/* Makes it with the configuration the lab has; it does nothing before device_start(). Its log is the lab's
 * `device`. */
void device_init(struct device *d, const struct lab *lab);
/* Starts connecting. */
void device_start(struct device *d);
/* Says good-bye to the hub and ends everything. Works with a zeroed device, and twice. */
void device_deinit(struct device *d);

/* What device and emulator wrote, as comments of the test, if it failed. */
void device_show_logs(const struct lab *lab);

/* Turns the loop until something has happened. */
#define DEVICE_AWAIT(d, condition)                                                                           \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			ASSERT_EQ(loop_turn((d)->loop, TIME_NEVER), 0);                                      \
	} while (0)

struct link_info device_info(const struct device *d);

/* For link_subscribe(). @filter is borrowed. */
void device_topic_init(struct device_topic *t, struct device *d, const char *filter, uint8_t qos);

static inline bool device_topic_is_granted(const struct device_topic *t)
{
	return t->sub.state == LINK_TOPIC_GRANTED;
}

/* The User Property @name of the last message, "" when it has none; a static buffer, good for one call. */
const char *device_topic_property(const struct device_topic *t, const char *name);

/* For link_request(). */
void device_question_init(struct device_question *q);
/* Asks; the answer is there once @q->n is. @if_version NULL = none. */
void device_ask(struct device *d, struct device_question *q, const char *topic, const char *payload,
		const char *if_version);
/* Asks and waits for the answer. */
void device_ask_wait(struct device *d, struct device_question *q, const char *topic, const char *payload,
		     const char *if_version);

#endif
