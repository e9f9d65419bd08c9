/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions and the hub's messages.
 *
 * Objects: the wanted topics, a list of their owners' subscriptions; the stale ones, which the hub has and nobody
 * wants any more; and the subscriptions of the SUBSCRIBE under way, in its order. Once a turn the difference to
 * what the hub has becomes at most one SUBSCRIBE and one UNSUBSCRIBE. A session the hub still has keeps what it
 * granted; one it has lost begins with everything wanted.
 *
 * A session left behind by an earlier process can have topics that are unknown here. Their messages tell: the
 * topic is given back, and a message that wants an answer is abandoned, so that the hub keeps it for whoever
 * subscribes next.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "flow/link_internal.h"

/* Bytes of filters in one SUBSCRIBE; what has no room goes into the next one. */
#define FILTERS_BYTES_MAX (16 * 1024)

struct stale_topic {
	struct list link;
	bool asked; /* in the UNSUBSCRIBE under way */
	bool again; /* wanted and given back meanwhile: to be asked once more */
	size_t len;
	uint8_t filter[];
};

/* --- what is stale ---------------------------------------------------------------------------- */

static void stale_free(struct link *link, struct stale_topic *stale)
{
	list_remove(&stale->link);
	--link->n_stale;
	free(stale);
}

static struct stale_topic *stale_find(struct link *link, struct bytes filter)
{
	list_for_each (iter, &link->stale) {
		struct stale_topic *stale = container_of(iter, struct stale_topic, link);

		if (bytes_equal(BYTES(stale->filter, stale->len), filter))
			return stale;
	}
	return NULL;
}

static bool topic_is_wanted(struct link *link, struct bytes filter)
{
	list_for_each (iter, &link->topics)
		if (bytes_equal(container_of(iter, struct link_subscription, link)->filter, filter))
			return true;
	return false;
}

/* Without room or memory the topic stays with the hub; its messages bring us here again. */
static void stale_add(struct link *link, struct bytes filter)
{
	struct stale_topic *stale = stale_find(link, filter);

	if (stale)
		stale->again = stale->asked;
	if (stale || link->n_stale >= LINK_STALE_MAX || topic_is_wanted(link, filter))
		return;
	stale = malloc(sizeof(*stale) + filter.len);
	if (!stale)
		return;
	stale->asked = false;
	stale->again = false;
	stale->len = filter.len;
	memcpy(stale->filter, filter.data, filter.len);
	list_append(&link->stale, &stale->link);
	++link->n_stale;
}

/* --- what is wanted --------------------------------------------------------------------------- */

int link_subscribe(struct link *link, struct link_subscription *sub)
{
	struct stale_topic *stale;

	assert(!list_is_linked(&sub->link));
	if (!sub->filter.len || sub->filter.len > LINK_FILTER_MAX)
		return -EINVAL;
	if (topic_is_wanted(link, sub->filter))
		return -EEXIST;
	if (link->n_topics >= HUB_SUBSCRIPTIONS_MAX)
		return -ENOSPC;
	stale = stale_find(link, sub->filter);
	if (stale)
		stale->again = false;
	if (stale && !stale->asked)
		stale_free(link, stale);
	sub->state = LINK_TOPIC_WANTED;
	list_append(&link->topics, &sub->link);
	++link->n_topics;
	link_kick(link);
	return 0;
}

void link_unsubscribe(struct link *link, struct link_subscription *sub)
{
	if (!list_is_linked(&sub->link))
		return;
	list_remove(&sub->link);
	--link->n_topics;
	for (uint16_t i = 0; i < link->n_asked; ++i)
		if (link->asked[i] == sub)
			link->asked[i] = NULL;
	if (sub->state == LINK_TOPIC_ASKED || sub->state == LINK_TOPIC_GRANTED)
		stale_add(link, sub->filter);
	link_kick(link);
}

void link_topics_init(struct link *link)
{
	list_init(&link->topics);
	list_init(&link->stale);
}

void link_topics_deinit(struct link *link)
{
	list_for_each_safe (iter, &link->stale)
		stale_free(link, container_of(iter, struct stale_topic, link));
	/* Their owners may go after the link. */
	list_for_each_safe (iter, &link->topics)
		list_remove(iter);
	link->n_topics = 0;
}

void link_topics_online(struct link *link, bool session_present)
{
	++link->connection;
	link->n_unwanted = 0;
	list_for_each (iter, &link->topics) {
		struct link_subscription *sub = container_of(iter, struct link_subscription, link);

		if (!session_present || sub->state != LINK_TOPIC_GRANTED)
			sub->state = LINK_TOPIC_WANTED;
	}
	if (session_present)
		return;
	list_for_each_safe (iter, &link->stale)
		stale_free(link, container_of(iter, struct stale_topic, link));
}

void link_topics_offline(struct link *link)
{
	link->n_asked = 0;
	list_for_each_safe (iter, &link->stale) {
		struct stale_topic *stale = container_of(iter, struct stale_topic, link);

		stale->asked = false;
		stale->again = false;
		/* Given back before it was wanted anew: in the session the later SUBSCRIBE counts. */
		if (topic_is_wanted(link, BYTES(stale->filter, stale->len)))
			stale_free(link, stale);
	}
}

/* --- SUBSCRIBE and UNSUBSCRIBE ---------------------------------------------------------------- */

/* Header, packet identifier and property length of the packet around the filters. */
#define FILTERS_PACKET_OVERHEAD 8

/* A filter takes its length, itself, and options. */
static bool filter_has_room(const struct link *link, const struct writer *w, struct bytes filter)
{
	size_t max = link->packet_bytes_max;

	max -= max < FILTERS_PACKET_OVERHEAD ? max : FILTERS_PACKET_OVERHEAD;
	return writer_len(w) + filter.len + 3 <= (max < FILTERS_BYTES_MAX ? max : FILTERS_BYTES_MAX);
}

static void link_send_unsubscribe(struct link *link)
{
	uint8_t filters[FILTERS_BYTES_MAX];
	struct writer w = writer_init(filters, sizeof(filters));
	uint16_t n = 0;
	int r;

	list_for_each (iter, &link->stale) {
		struct stale_topic *stale = container_of(iter, struct stale_topic, link);
		struct bytes filter = BYTES(stale->filter, stale->len);

		if (stale->asked)
			return; /* one at a time */
		if (!filter_has_room(link, &w, filter))
			break;
		mqtt_filter_put(&w, MQTT_UNSUBSCRIBE, filter, 0);
		++n;
	}
	if (!n)
		return;
	r = w.error ? w.error : mqtt_session_unsubscribe(link->session, writer_bytes(&w), n);
	if (r == -EBUSY || r == -ENOBUFS || r == -ENOMEM || r == -ENOTCONN)
		return;
	list_for_each_safe (iter, &link->stale) {
		struct stale_topic *stale = container_of(iter, struct stale_topic, link);

		if (!n--)
			break;
		stale->asked = true;
		/* A topic that cannot be a filter, or a hub that takes no packet of this size. */
		if (r)
			stale_free(link, stale);
	}
}

static void link_send_subscribe(struct link *link)
{
	uint8_t filters[FILTERS_BYTES_MAX];
	struct writer w = writer_init(filters, sizeof(filters));
	struct link_subscription *asked[HUB_SUBSCRIPTIONS_MAX];
	uint16_t n = 0;
	int r;

	list_for_each (iter, &link->topics) {
		struct link_subscription *sub = container_of(iter, struct link_subscription, link);

		if (sub->state != LINK_TOPIC_WANTED || !filter_has_room(link, &w, sub->filter))
			continue;
		mqtt_filter_put(&w, MQTT_SUBSCRIBE, sub->filter, sub->qos);
		asked[n++] = sub;
	}
	if (!n)
		return;
	r = w.error ? w.error : mqtt_session_subscribe(link->session, writer_bytes(&w), n);
	if (r == -EBUSY || r == -ENOBUFS || r == -ENOMEM)
		return;
	for (uint16_t i = 0; i < n; ++i) {
		asked[i]->state = r ? LINK_TOPIC_REFUSED : LINK_TOPIC_ASKED;
		link->asked[i] = asked[i];
	}
	link->n_asked = r ? 0 : n;
	if (r)
		log_error(link->log, "cannot subscribe at %s: %s", link_server(link), strerror(-r));
}

void link_topics_sync(struct link *link)
{
	/* First: the hub counts. */
	if (link->n_stale)
		link_send_unsubscribe(link);
	if (link->n_topics && !link->n_asked)
		link_send_subscribe(link);
}

static void link_on_unsuback(struct link *link)
{
	/* Whatever the reasons say, asking again would not change them. */
	list_for_each_safe (iter, &link->stale) {
		struct stale_topic *stale = container_of(iter, struct stale_topic, link);

		if (!stale->asked)
			continue;
		if (!stale->again)
			stale_free(link, stale);
		else
			stale->asked = stale->again = false;
	}
}

void link_on_suback(void *userdata, const struct mqtt_packet *suback)
{
	struct link *link = userdata;
	uint16_t n = link->n_asked;
	struct bytes reasons = suback->suback.reasons;

	link_kick(link);
	if (suback->type == MQTT_UNSUBACK) {
		link_on_unsuback(link);
		return;
	}
	assert(reasons.len == n);
	for (uint16_t i = 0; i < n; ++i) {
		struct link_subscription *sub = link->asked[i];
		struct hub_status status = hub_status_from_reason(reasons.data[i]);

		if (!sub)
			continue;
		sub->state = status.class == HUB_SUCCESS ? LINK_TOPIC_GRANTED : LINK_TOPIC_REFUSED;
		if (status.class == HUB_SUCCESS)
			continue;
		log_warning(link->log, "%s refused the subscription to %.*s: %s", link_server(link),
			    (int)sub->filter.len, (const char *)sub->filter.data,
			    mqtt_reason_name(reasons.data[i]));
		/* May take back others, which link_unsubscribe() then removes from what is left here. */
		if (sub->on_refused)
			sub->on_refused(sub, &status);
	}
	link->n_asked = 0;
}

/* --- messages --------------------------------------------------------------------------------- */

/* `+` at the end of a filter stands for one level that is not empty (HUB-CONTRACT section 2). */
static bool filter_matches(struct bytes filter, struct bytes topic)
{
	size_t prefix = filter.len - 1;

	if (filter.data[prefix] != '+')
		return bytes_equal(filter, topic);
	return topic.len > prefix && memcmp(filter.data, topic.data, prefix) == 0 &&
	       !memchr(topic.data + prefix, '/', topic.len - prefix);
}

static struct link_subscription *topic_owner(struct link *link, struct bytes topic)
{
	list_for_each (iter, &link->topics) {
		struct link_subscription *sub = container_of(iter, struct link_subscription, link);

		if (filter_matches(sub->filter, topic))
			return sub;
	}
	return NULL;
}

/* A message nobody wants. */
static void link_on_unwanted(struct link *link, const struct link_message *message)
{
	struct bytes topic = message->topic;

	log_debug(link->log, "nobody wants messages to %.*s", (int)topic.len, (const char *)topic.data);
	/* A hub that goes on with it all the same is not asked for ever. */
	if (link->n_unwanted < LINK_STALE_MAX) {
		++link->n_unwanted;
		if (topic.len <= LINK_FILTER_MAX)
			stale_add(link, topic);
		if (bytes_start_with(topic, BYTES_LIT(HUB_TOPIC_METHODS_PREFIX)))
			stale_add(link, BYTES_LIT(HUB_TOPIC_METHODS_ALL));
		link_send_unsubscribe(link);
	}
	if (message->delivery.packet_id)
		(void)link_settle(link, &message->delivery, LINK_ABANDON);
	else if (bytes_start_with(topic, BYTES_LIT(HUB_TOPIC_METHODS_PREFIX)))
		(void)link_respond_unavailable(link, message->properties->correlation_data);
}

void link_on_publish(void *userdata, const struct mqtt_packet *publish)
{
	struct link *link = userdata;
	const struct link_message message = {
		.topic = publish->publish.topic,
		.properties = &publish->properties,
		.payload = publish->publish.payload,
		.delivery = {.connection = link->connection, .packet_id = publish->publish.packet_id},
	};
	struct link_subscription *sub;

	link_kick(link);
	if (bytes_equal_str(message.topic, HUB_TOPIC_RESPONSES)) {
		link_on_response(link, publish);
		if (message.delivery.packet_id)
			(void)link_settle(link, &message.delivery, LINK_COMPLETE);
		return;
	}
	sub = topic_owner(link, message.topic);
	if (sub)
		sub->on_message(sub, &message);
	else
		link_on_unwanted(link, &message);
}

int link_settle(struct link *link, const struct link_delivery *delivery, enum link_settlement settlement)
{
	static const char *const statuses[] = {
		[LINK_COMPLETE] = NULL,
		[LINK_ABANDON] = "0603",
		[LINK_REJECT] = "0100",
	};
	const char *status = statuses[settlement];
	uint8_t properties[32];
	struct writer w = writer_init(properties, sizeof(properties));
	int r;

	/* The hub sends it again on a later connection, as another delivery. */
	if (link->state != LINK_ONLINE || delivery->connection != link->connection)
		return -ESTALE;
	if (status)
		mqtt_user_property_put(&w, BYTES_LIT(HUB_PROP_STATUS), bytes_from_str(status));
	r = mqtt_session_puback(link->session, delivery->packet_id,
				status ? MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR : MQTT_REASON_SUCCESS,
				writer_bytes(&w));
	if (!r)
		link_kick(link);
	return r == -ENOENT || r == -ENOTCONN ? -ESTALE : r;
}
