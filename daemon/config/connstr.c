/* SPDX-License-Identifier: MIT */
/*
 * Connection strings, see connstr.h:
 *
 *	string = part *( ";" part )
 *	part   = name "=" value        an empty part (a ';' at the end) is skipped
 *
 * A name ends at the first '=', so a value may contain more of them (base64 does). Error texts are written
 *for a log, and somebody may have put the bare key where the string belongs: what stands in a name's place is
 *repeated only when it cannot be one.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "config/connstr.h"
#include "hub/identity.h"

#define FORM "HostName=...;DeviceId=...;SharedAccessKey=..."

/* Longest unknown name that an error repeats. A bare key of 16 bytes already has 22 letters before its '='.
 */
#define NAME_SHOWN_MAX 20

static const char *const field_names[CONNSTR_N_FIELDS] = {
	[CONNSTR_HOST] = "HostName",
	[CONNSTR_DEVICE] = "DeviceId",
	[CONNSTR_KEY] = "SharedAccessKey",
	[CONNSTR_MODULE] = "ModuleId",
	[CONNSTR_GATEWAY_HOST] = "GatewayHostName",
	[CONNSTR_KEY_NAME] = "SharedAccessKeyName",
	[CONNSTR_PORT] = "Port",
	[CONNSTR_X509] = "x509",
};

const char *connstr_field_name(enum connstr_field field)
{
	return field_names[field];
}

__attribute__((format(printf, 2, 3))) static int fail(char error[static CONNSTR_ERROR_SIZE], const char *fmt,
						      ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, CONNSTR_ERROR_SIZE, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int field_find(struct bytes name)
{
	for (int i = 0; i < CONNSTR_N_FIELDS; ++i)
		if (strlen(field_names[i]) == name.len &&
		    strncasecmp(field_names[i], (const char *)name.data, name.len) == 0)
			return i;
	return -1;
}

static bool name_can_be_shown(struct bytes name, struct bytes value)
{
	if (name.len == 0 || name.len > NAME_SHOWN_MAX || value.len == 0 || bytes_equal_str(value, "="))
		return false;
	for (size_t i = 0; i < name.len; ++i)
		if (!((name.data[i] | 0x20) >= 'a' && (name.data[i] | 0x20) <= 'z'))
			return false;
	return true;
}

static int fail_unknown(struct bytes name, struct bytes value, unsigned int n, char *error)
{
	if (!name_can_be_shown(name, value))
		return fail(error, "part %u has no known name: the form is " FORM, n);
	for (int i = 0; i < CONNSTR_N_FIELDS; ++i) {
		struct bytes known = bytes_from_str(field_names[i]);

		if (check_is_near(name, known, check_distance(name, known)))
			return fail(error, "%.*s is not known: did you mean %s?", (int)name.len,
				    (const char *)name.data, field_names[i]);
	}
	return fail(error, "%.*s is not known: leave it out, the form is " FORM, (int)name.len,
		    (const char *)name.data);
}

static int part_parse(struct connstr *out, struct bytes part, unsigned int n, char *error)
{
	const uint8_t *equals = memchr(part.data, '=', part.len);
	struct bytes name, value;
	int field;

	if (!equals)
		return fail(error, "part %u has no '=': the form is " FORM, n);
	name = BYTES(part.data, (size_t)(equals - part.data));
	value = BYTES(equals + 1, part.len - name.len - 1);
	field = field_find(name);
	if (field < 0)
		return fail_unknown(name, value, n, error);
	if (out->fields[field].data)
		return fail(error, "%s is there twice: keep one", field_names[field]);
	if (value.len == 0)
		return fail(error, "%s has no value: fill it in, the form is " FORM, field_names[field]);
	out->fields[field] = value;
	return 0;
}

static int values_check(struct connstr *out, char *error)
{
	static const enum connstr_field hosts[] = {CONNSTR_HOST, CONNSTR_GATEWAY_HOST};
	static const enum connstr_field ids[] = {CONNSTR_DEVICE, CONNSTR_MODULE, CONNSTR_KEY_NAME};
	uint64_t port;

	for (size_t i = 0; i < ARRAY_SIZE(hosts); ++i)
		if (out->fields[hosts[i]].data && !check_host(out->fields[hosts[i]]))
			return fail(
				error,
				"%s is not a host name: write a DNS name or an IP address, without a port",
				field_names[hosts[i]]);
	for (size_t i = 0; i < ARRAY_SIZE(ids); ++i)
		if (out->fields[ids[i]].data && !hub_id_is_valid(out->fields[ids[i]]))
			return fail(error,
				    "%s is not valid: use 1 to %d ASCII letters, digits and -.%%_*?!(),:=@$'",
				    field_names[ids[i]], HUB_ID_MAX);
	if (out->fields[CONNSTR_PORT].data) {
		if (check_u64(out->fields[CONNSTR_PORT], 1, UINT16_MAX, &port))
			return fail(error, "Port must be a number from 1 to 65535");
		out->port = (uint16_t)port;
	}
	return 0;
}

/* A key or a certificate: exactly one of them. */
static int proof_check(struct connstr *out, char *error)
{
	struct bytes x509 = out->fields[CONNSTR_X509], key = out->fields[CONNSTR_KEY];

	if (x509.data && (x509.len != 4 || strncasecmp((const char *)x509.data, "true", 4) != 0))
		return fail(error, "x509 must be true, or be left out");
	out->x509 = x509.data != NULL;
	if (!out->x509 && !key.data)
		return fail(error, "SharedAccessKey is missing: the form is " FORM);
	if (out->x509 && (key.data || out->fields[CONNSTR_KEY_NAME].data))
		return fail(error, "x509 and %s are both there: keep one",
			    field_names[key.data ? CONNSTR_KEY : CONNSTR_KEY_NAME]);
	return 0;
}

int connstr_parse(struct bytes text, struct connstr *out, char error[static CONNSTR_ERROR_SIZE])
{
	static const enum connstr_field needed[] = {CONNSTR_HOST, CONNSTR_DEVICE};
	unsigned int n = 0;
	int r;

	*out = (struct connstr){0};
	error[0] = '\0';
	for (size_t at = 0; at < text.len;) {
		const uint8_t *end = memchr(text.data + at, ';', text.len - at);
		size_t len = end ? (size_t)(end - text.data) - at : text.len - at;

		++n;
		r = len ? part_parse(out, BYTES(text.data + at, len), n, error) : 0;
		if (r)
			return r;
		at += len + 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(needed); ++i)
		if (!out->fields[needed[i]].data)
			return fail(error, "%s is missing: the form is " FORM, field_names[needed[i]]);
	r = proof_check(out, error);
	return r ? r : values_check(out, error);
}
