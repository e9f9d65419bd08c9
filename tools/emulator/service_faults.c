/* SPDX-License-Identifier: MIT */
/*
 * The service side's faults: those for the table, and those that act at once.
 */

#include "base/cleanup.h"
#include "fault_json.h"
#include "service.h"
#include "state.h"

static inline void json_object_put_ptr(json_object **object)
{
	json_object_put(*object);
}

/* --- at once
 * --------------------------------------------------------------------------------------------------- */

static void act_on_client(struct emu_client *c, const struct emu_fault *fault)
{
	struct emu_outcome outcome = EMU_SUCCESS;

	switch (fault->kind) {
	case FAULT_EXPIRE:
		emu_outcome_set(&outcome, STATUS_NOT_AUTHORIZED, "the authentication expired");
		emu_client_end_outcome(c, &outcome);
		break;
	case FAULT_TAKE_OVER:
		emu_client_end(c, MQTT_REASON_SESSION_TAKEN_OVER);
		break;
	case FAULT_DISCONNECT:
		if (fault->status)
			emu_outcome_set(&outcome, fault->status, "on demand");
		emu_client_disconnect(c, fault->reason, &outcome, fault->server_reference);
		break;
	case FAULT_DROP:
	case FAULT_FORGET_SESSION:
		emu_client_cut(c);
		break;
	case FAULT_STATUS:
	case FAULT_THROTTLE:
	case FAULT_QUOTA:
	case FAULT_DELAY:
	case FAULT_LOSE_PUBACK:
	case FAULT_CUT:
	case FAULT_SLOW:
	case FAULT_REFUSE:
	case FAULT_SUBACK:
	case FAULT_LIMITS:
		break;
	}
}

/* Returns how many connections, or sessions, it met. */
static uint64_t act_at_once(struct emu_hub *hub, const struct emu_fault *fault)
{
	uint64_t hits = 0;

	for (size_t i = 0; i < emu_registry_n_identities(hub->registry); i++) {
		struct emu_identity *identity = emu_registry_identity(hub->registry, i);
		bool forget = fault->kind == FAULT_FORGET_SESSION &&
			      emu_session_is_present(&identity->session, hub->now_ns);

		if (!emu_fault_is_about(fault, identity->id) || (!identity->session.client && !forget))
			continue;
		hits++;
		/* First, so that the end of the connection ends the session and its deliveries, too. */
		if (forget)
			identity->session.expiry_s = 0;
		if (identity->session.client)
			act_on_client(identity->session.client, fault);
		if (forget) {
			emu_session_deinit(&identity->session);
			identity->session.ends_at_ns = 0;
			emu_state_session(hub, identity);
		}
	}
	return hits;
}

/* --- requests
 * -------------------------------------------------------------------------------------------------- */

static void number_answer(struct emu_service_request *rq, const char *name, uint64_t value)
{
	rq->payload = json_object_new_object();
	json_object_object_add(rq->payload, name, json_object_new_uint64(value));
}

void emu_service_faults_set(struct emu_service_request *rq)
{
	_cleanup_(json_object_put_ptr) json_object *object = NULL;
	struct emu_hub *hub = rq->client->hub;
	const struct emu_fault *added;
	struct emu_fault fault;

	if (!emu_service_payload(rq, &object) || !emu_fault_from_json(object, &fault, rq->outcome))
		return;
	if (fault.device[0] && !emu_registry_find(hub->registry, bytes_from_str(fault.device))) {
		emu_outcome_set(rq->outcome, STATUS_NOT_FOUND, "no such device");
		return;
	}
	if (emu_fault_is_immediate(&fault)) {
		number_answer(rq, "hits", act_at_once(hub, &fault));
		return;
	}
	added = emu_faults_add(&hub->faults, &fault);
	if (added)
		number_answer(rq, "id", added->id);
	else
		emu_outcome_set(rq->outcome, STATUS_QUOTA_EXCEEDED, "%d faults are set", EMU_FAULTS_MAX);
}

void emu_service_faults_list(struct emu_service_request *rq)
{
	const struct emu_faults *faults = &rq->client->hub->faults;

	rq->payload = json_object_new_array();
	for (size_t i = 0; i < faults->n; i++)
		json_object_array_add(rq->payload, emu_fault_to_json(&faults->table[i]));
}

void emu_service_faults_clear(struct emu_service_request *rq)
{
	uint64_t id = emu_service_number(rq, "id", 0);
	struct bytes text;
	bool all = !mqtt_user_property_find(rq->field, "id", &text);
	size_t n = 0;

	if (all || (id > 0 && id <= UINT32_MAX))
		n = emu_faults_clear(&rq->client->hub->faults, (uint32_t)id);
	if (!all && n == 0)
		emu_outcome_set(rq->outcome, STATUS_NOT_FOUND, "no such fault");
	else
		number_answer(rq, "cleared", n);
}
