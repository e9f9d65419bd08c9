/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_CONNSTR_H
#define CONFIG_CONNSTR_H

/*
 * Connection strings: `HostName=hub.example;DeviceId=dev1;SharedAccessKey=…`, or `…;x509=true` for a device with a
 * certificate, fields in any order, their names in any case.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Longest connection string, in bytes. */
#define CONNSTR_MAX 4096

/* What a connection string can have. */
enum connstr_field {
	CONNSTR_HOST,         /* HostName */
	CONNSTR_DEVICE,       /* DeviceId */
	CONNSTR_KEY,          /* SharedAccessKey */
	CONNSTR_MODULE,       /* ModuleId */
	CONNSTR_GATEWAY_HOST, /* GatewayHostName */
	CONNSTR_KEY_NAME,     /* SharedAccessKeyName */
	CONNSTR_PORT,         /* Port */
	CONNSTR_X509,         /* x509 */
	CONNSTR_N_FIELDS,
};

/* The parts, borrowed from the text; data NULL = absent. HostName and DeviceId are never absent, SharedAccessKey
 * exactly with @x509. */
struct connstr {
	struct bytes fields[CONNSTR_N_FIELDS];
	uint16_t port; /* 0 = absent */
	bool x509;
};

/* Longest error text with its NUL. */
#define CONNSTR_ERROR_SIZE 256

/* "HostName" for CONNSTR_HOST. */
const char *connstr_field_name(enum connstr_field field);

/*
 * Cuts @text into its parts and checks each but the key, which is for hub_key_decode(). Returns 0, or -EINVAL
 * with a text in @error that names the field and what to do; it never has a value of SharedAccessKey in it,
 * wherever in the text that value stands.
 */
int connstr_parse(struct bytes text, struct connstr *out, char error[static CONNSTR_ERROR_SIZE]);

#endif
