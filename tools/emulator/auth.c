/* SPDX-License-Identifier: MIT */
/*
 * Authentication: SAS and X509 for CONNECT, and AUTH, which prolongs a connection with SAS.
 *
 * What a claim is about (an unknown device, a wrong key, another method, an expired token) is one answer to the
 * client, Not Authorized, and a line in the log. A claim with a policy is signed by the policy's key, any other
 * by one of the device's own two. Re-authentication signs the host, client id and policy of its CONNECT.
 */

#include <openssl/crypto.h>
#include <stdlib.h>

#include "connect.h"

/* --- SAS
 * ------------------------------------------------------------------------------------------------------- */

bool emu_claim_times_check(struct emu_claim *claim, struct emu_outcome *outcome)
{
	struct bytes field = claim->packet->properties.repeatable;

	mqtt_user_property_find(field, "sas-at", &claim->sas.at);
	if (!mqtt_user_property_find(field, "sas-expiry", &claim->sas.expiry) ||
	    time_parse(claim->sas.expiry, &claim->expiry_ms) < 0) {
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "sas-expiry is missing");
		return false;
	}
	return true;
}

static const char *policy_check(const struct emu_client *c, struct emu_claim *claim)
{
	const struct emu_policy *policy = emu_registry_policy(c->hub->registry, claim->sas.policy);
	enum emu_policy_right right = claim->is_service ? POLICY_SERVICE_CONNECT : POLICY_DEVICE_CONNECT;

	claim->signed_by = SIGNED_BY_POLICY;
	if (!policy)
		return "no such policy";
	if (policy->right != right)
		return "the policy does not allow this connection";
	if (!emu_sas_is_signed(&claim->sas, emu_key_bytes(&policy->key),
			       claim->packet->properties.authentication_data))
		return "the policy's key did not sign this";
	return NULL;
}

static const char *own_key_check(struct emu_claim *claim)
{
	if (!claim->identity)
		return "the service side needs a policy";
	for (size_t i = 0; i < 2; i++) {
		claim->signed_by = i == 0 ? SIGNED_BY_PRIMARY_KEY : SIGNED_BY_SECONDARY_KEY;
		if (emu_sas_is_signed(&claim->sas, emu_key_bytes(&claim->identity->credentials.keys[i]),
				      claim->packet->properties.authentication_data))
			return NULL;
	}
	return "none of the device's keys signed this";
}

static const char *sas_check(const struct emu_client *c, struct emu_claim *claim)
{
	const char *why;

	if (claim->identity && claim->identity->credentials.authentication != AUTHENTICATION_SAS)
		return "the device is registered for the method X509";
	why = claim->sas.policy.data ? policy_check(c, claim) : own_key_check(claim);
	if (!why && claim->expiry_ms <= c->hub->wall_ms)
		why = "the authentication expired";
	return why;
}

/* --- X509
 * ------------------------------------------------------------------------------------------------------ */

static bool has_thumbprint(const struct emu_credentials *credentials, const uint8_t *thumbprint)
{
	for (size_t i = 0; i < credentials->n_thumbprints; i++) {
		if (CRYPTO_memcmp(credentials->thumbprints[i], thumbprint, THUMBPRINT_LEN) == 0)
			return true;
	}
	return false;
}

/* A module has the certificate of its device. */
static bool is_named(const struct emu_certificate *certificate, const struct emu_identity *identity)
{
	size_t len = strlen(certificate->common_name);

	return (len == identity->device_len || len == strlen(identity->id)) &&
	       memcmp(certificate->common_name, identity->id, len) == 0;
}

static const char *x509_check(const struct emu_client *c, struct emu_claim *claim)
{
	const struct emu_certificate *certificate = &c->certificate;

	claim->signed_by = SIGNED_BY_CERTIFICATE;
	claim->expiry_ms = UINT64_MAX;
	if (claim->is_service)
		return "the service side needs the method SAS";
	switch (claim->identity->credentials.authentication) {
	case AUTHENTICATION_SAS:
		return "the device is registered for the method SAS";
	case AUTHENTICATION_THUMBPRINT:
		if (!certificate->is_present)
			return "no client certificate was shown";
		return has_thumbprint(&claim->identity->credentials, certificate->thumbprint)
			       ? NULL
			       : "the client certificate is another than the registered one";
	case AUTHENTICATION_CA:
		if (!certificate->is_present)
			return "no client certificate was shown";
		if (!certificate->is_trusted)
			return "no registered authority signed the client certificate";
		return is_named(certificate, claim->identity) ? NULL
							      : "the client certificate is of another device";
	}
	return "unknown method";
}

/* --- claims
 * ---------------------------------------------------------------------------------------------------- */

bool emu_claim_check(const struct emu_client *c, struct emu_claim *claim, struct emu_outcome *outcome)
{
	struct bytes method = claim->packet->properties.authentication_method;
	struct bytes id = claim->sas.client_id;
	const char *why;

	claim->identity = emu_registry_find(c->hub->registry, id);
	if (!claim->identity && !claim->is_service)
		why = "unknown device";
	else if (bytes_equal_str(method, "SAS"))
		why = sas_check(c, claim);
	else if (bytes_equal_str(method, "X509"))
		why = x509_check(c, claim);
	else
		why = "no such method; SAS and X509 are";
	if (why)
		emu_outcome_set(outcome, STATUS_NOT_AUTHORIZED, "%.*s: %s", id.len > 64 ? 64 : (int)id.len,
				(const char *)id.data, why);
	else if (claim->signed_by == SIGNED_BY_CERTIFICATE &&
		 mqtt_has(&claim->packet->properties, MQTT_PROP_AUTHENTICATION_DATA))
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "X509 has no Authentication Data");
	else
		return true;
	return false;
}

void emu_claim_accept(struct emu_client *c, const struct emu_claim *claim)
{
	uint64_t ends_ns = TIME_NEVER;

	c->signed_by = claim->signed_by;
	if (claim->expiry_ms == UINT64_MAX ||
	    __builtin_mul_overflow(claim->expiry_ms - c->hub->wall_ms, NSEC_PER_MSEC, &ends_ns) ||
	    __builtin_add_overflow(ends_ns, c->hub->now_ns, &ends_ns))
		ends_ns = TIME_NEVER;
	c->token_ends_ns = ends_ns;
}

/* --- AUTH
 * ------------------------------------------------------------------------------------------------------ */

static bool reauthenticate(struct emu_client *c, const struct mqtt_packet *packet,
			   struct emu_outcome *outcome)
{
	struct emu_claim claim = {.packet = packet, .is_service = emu_client_is_service(c)};

	if (!emu_auth_properties_check(packet->properties.repeatable, outcome))
		return false;
	if (!c->sas_host || !bytes_equal_str(packet->properties.authentication_method, "SAS")) {
		emu_outcome_set(outcome, STATUS_NOT_AUTHORIZED,
				"re-authentication is by SAS, and only of what was by SAS");
		return false;
	}
	claim.sas.host = bytes_from_str(c->sas_host);
	claim.sas.client_id = bytes_from_str(c->id);
	if (c->sas_policy)
		claim.sas.policy = bytes_from_str(c->sas_policy);
	if (!emu_claim_times_check(&claim, outcome) || !emu_claim_check(c, &claim, outcome))
		return false;
	if (!emu_client_is_service(c) && emu_faults_refuse(&c->hub->faults, c->id, OPERATION_AUTH, outcome))
		return false;
	emu_claim_accept(c, &claim);
	return true;
}

void emu_on_auth(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct mqtt_packet success = {.type = MQTT_AUTH};
	struct emu_outcome outcome = EMU_SUCCESS;

	if (packet->disconnect.reason != MQTT_REASON_RE_AUTHENTICATE) {
		emu_client_end(c, MQTT_REASON_PROTOCOL_ERROR);
		return;
	}
	if (!reauthenticate(c, packet, &outcome)) {
		emu_client_end_outcome(c, &outcome);
		return;
	}
	log_debug(c->hub->log, "%s: authenticated again", c->id);
	success.properties.authentication_method = packet->properties.authentication_method;
	mqtt_set(&success.properties, MQTT_PROP_AUTHENTICATION_METHOD);
	emu_client_put(c, &success);
}
