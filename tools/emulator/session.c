/* SPDX-License-Identifier: MIT */
/*
 * Sessions in memory. A session is connected (client set), waiting (no client, ends_at_ns in the future) or
 * absent (ends_at_ns 0). Expiry is looked at when a client asks for the session, so nothing has to run when
 * it passes, and the number of sessions is bounded by the number of identities, which own them.
 */

#include "session.h"

#include <errno.h>
#include <stdlib.h>

#include "base/time.h"

void emu_session_init(struct emu_session *s)
{
	*s = (struct emu_session){.ends_at_ns = 0};
}

void emu_session_deinit(struct emu_session *s)
{
	for (size_t i = 0; i < s->n_subscriptions; i++)
		free(s->subscriptions[i].topic);
	s->n_subscriptions = 0;
}

bool emu_session_is_present(struct emu_session *s, uint64_t now_ns)
{
	if (s->client || s->ends_at_ns > now_ns)
		return true;
	emu_session_deinit(s);
	s->ends_at_ns = 0;
	return false;
}

void emu_session_open(struct emu_session *s, struct emu_client *client, bool resumed)
{
	if (!resumed)
		emu_session_deinit(s);
	s->client = client;
	s->ends_at_ns = 0;
}

void emu_session_close(struct emu_session *s, uint64_t now_ns)
{
	s->client = NULL;
	if (s->expiry_s == SESSION_EXPIRY_NEVER)
		s->ends_at_ns = TIME_NEVER;
	else if (s->expiry_s > 0)
		s->ends_at_ns = now_ns + s->expiry_s * NSEC_PER_SEC;
	else
		emu_session_deinit(s);
}

static struct emu_subscription *subscription_find(struct emu_session *s, struct bytes topic)
{
	for (size_t i = 0; i < s->n_subscriptions; i++) {
		if (bytes_equal_str(topic, s->subscriptions[i].topic))
			return &s->subscriptions[i];
	}
	return NULL;
}

int emu_session_subscribe(struct emu_session *s, struct bytes topic, uint8_t qos)
{
	struct emu_subscription *found = subscription_find(s, topic);
	char *copy;

	if (found) {
		found->qos = qos;
		return 0;
	}
	if (s->n_subscriptions == CONTRACT_SUBSCRIPTIONS_MAX)
		return -ENOSPC;
	copy = strndup((const char *)topic.data, topic.len);
	if (!copy)
		return -ENOMEM;
	s->subscriptions[s->n_subscriptions++] = (struct emu_subscription){.topic = copy, .qos = qos};
	return 0;
}

bool emu_session_unsubscribe(struct emu_session *s, struct bytes topic)
{
	struct emu_subscription *found = subscription_find(s, topic);

	if (!found)
		return false;
	free(found->topic);
	*found = s->subscriptions[--s->n_subscriptions];
	return true;
}
