/* SPDX-License-Identifier: MIT */
/*
 * Connection string, signature and client of the service side.
 *
 * The signature is HMAC-SHA256 with the policy's key over
 * `host\nclient-id\nsas-policy\nsas-at\nsas-expiry\n`, sent as Authentication Data. libmosquitto cannot
 * authenticate again while connected, so one signature has to last: a year.
 */

#include "service.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include <mqtt_protocol.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/time.h"

#define DEFAULT_PORT          8883
#define API_VERSION           "2020-10-01-preview"
#define SIGNATURE_LIFE_MS     (UINT64_C(365) * 24 * 3600 * MSEC_PER_SEC)
#define KEEP_ALIVE_S          60
#define CONNECTION_STRING_MAX 4096

__attribute__((format(printf, 3, 4))) static int fail(char error[static SERVICE_ERROR_MAX], int code,
						      const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(error, SERVICE_ERROR_MAX, fmt, args);
	va_end(args);
	return code;
}

/* --- where the connection string is ----------------------------------------------------------- */

/* Where iothub-emulator puts it without --state. */
static int default_path(char out[static PATH_MAX])
{
	const char *env = getenv("IOTHUB_SERVICE_CONNECTION_STRING_FILE");
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	const char *name = "iothub-emulator/service.connection-string";
	int n;

	if (env && *env)
		n = snprintf(out, PATH_MAX, "%s", env);
	else if (geteuid() == 0)
		n = snprintf(out, PATH_MAX, "/var/lib/%s", name);
	else if (xdg && *xdg == '/')
		n = snprintf(out, PATH_MAX, "%s/%s", xdg, name);
	else
		n = snprintf(out, PATH_MAX, "%s/.local/state/%s", home ? home : "", name);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int read_line(const char *path, char out[static CONNECTION_STRING_MAX],
		     char error[static SERVICE_ERROR_MAX])
{
	_cleanup_(fclose_ptr) FILE *f = fopen(path, "re");

	if (!f)
		return fail(error, -errno,
			    "%s: %s; name the service connection string with --connection-string-file", path,
			    strerror(errno));
	if (!fgets(out, CONNECTION_STRING_MAX, f))
		return fail(error, -EINVAL, "%s is empty", path);
	out[strcspn(out, "\r\n")] = '\0';
	return 0;
}

/* --- what is in it ---------------------------------------------------------------------------- */

static int copy_text(char *dst, size_t size, const char *value)
{
	size_t len = strlen(value);

	if (len == 0 || len >= size)
		return -EINVAL;
	memcpy(dst, value, len + 1);
	return 0;
}

static int port_parse(uint16_t *port, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n == 0 || n > UINT16_MAX)
		return -EINVAL;
	*port = (uint16_t)n;
	return 0;
}

static int item_apply(struct service_target *t, const char *name, const char *value)
{
	ssize_t n;

	if (strcasecmp(name, "HostName") == 0)
		return copy_text(t->host, sizeof(t->host), value);
	if (strcasecmp(name, "SharedAccessKeyName") == 0)
		return copy_text(t->policy, sizeof(t->policy), value);
	if (strcasecmp(name, "Port") == 0)
		return port_parse(&t->port, value);
	if (strcasecmp(name, "SharedAccessKey") != 0)
		return -ENOENT;
	n = base64_decode(bytes_from_str(value), t->key, sizeof(t->key));
	if (n <= 0)
		return -EINVAL;
	t->key_len = (size_t)n;
	return 0;
}

static int parse(struct service_target *t, char *text, const char *path, char error[static SERVICE_ERROR_MAX])
{
	char *save = NULL;

	for (char *item = strtok_r(text, ";", &save); item; item = strtok_r(NULL, ";", &save)) {
		char *value = strchr(item, '=');

		if (!value)
			return fail(error, -EINVAL, "%s: an item without `=`", path);
		*value++ = '\0';
		/* The value may be the key: it stays out of the message. */
		switch (item_apply(t, item, value)) {
		case 0:
			break;
		case -ENOENT:
			return fail(error, -EINVAL, "%s: a service connection string has no %.64s", path,
				    item);
		default:
			return fail(error, -EINVAL, "%s: the value of %.64s is not valid", path, item);
		}
	}
	if (!t->host[0] || !t->policy[0] || t->key_len == 0)
		return fail(error, -EINVAL, "%s: %s is missing", path,
			    !t->host[0]     ? "HostName"
			    : !t->policy[0] ? "SharedAccessKeyName"
					    : "SharedAccessKey");
	return 0;
}

static int ca_find(struct service_target *t, const char *path, const char *ca_file,
		   char error[static SERVICE_ERROR_MAX])
{
	char copy[PATH_MAX];
	int n;

	if (ca_file) {
		if (access(ca_file, R_OK) < 0)
			return fail(error, -errno, "%s: %s", ca_file, strerror(errno));
		n = snprintf(t->ca_file, sizeof(t->ca_file), "%s", ca_file);
	} else {
		snprintf(copy, sizeof(copy), "%s", path);
		n = snprintf(t->ca_file, sizeof(t->ca_file), "%s/ca.pem", dirname(copy));
		if (access(t->ca_file, R_OK) < 0)
			t->ca_file[0] = '\0';
	}
	return n < (int)sizeof(t->ca_file)
		       ? 0
		       : fail(error, -ENAMETOOLONG, "the path of the CA file is too long");
}

static int client_id_make(struct service_target *t)
{
	uint64_t random;

	if (RAND_bytes((unsigned char *)&random, sizeof(random)) != 1)
		return -EIO;
	snprintf(t->client_id, sizeof(t->client_id), "service/hubctl-%016" PRIx64, random);
	return 0;
}

int service_target_read(struct service_target *t, const char *path, const char *ca_file,
			char error[static SERVICE_ERROR_MAX])
{
	char text[CONNECTION_STRING_MAX], found[PATH_MAX];
	int r;

	*t = (struct service_target){.port = DEFAULT_PORT};
	if (!path) {
		r = default_path(found);
		if (r < 0)
			return fail(error, r, "the path of the connection string file is too long");
		path = found;
	}
	r = read_line(path, text, error);
	if (r == 0)
		r = parse(t, text, path, error);
	if (r == 0)
		r = ca_find(t, path, ca_file, error);
	if (r == 0 && client_id_make(t) < 0)
		r = fail(error, -EIO, "no random numbers for a client id");
	OPENSSL_cleanse(text, sizeof(text));
	return r;
}

void service_target_wipe(struct service_target *t)
{
	OPENSSL_cleanse(t->key, sizeof(t->key));
	t->key_len = 0;
}

/* --- client ----------------------------------------------------------------------------------- */

int service_client_new(struct mosquitto **out, const struct service_target *t, void *userdata,
		       char error[static SERVICE_ERROR_MAX])
{
	struct mosquitto *client = mosquitto_new(t->client_id, true, userdata);
	int r;

	if (!client)
		return fail(error, -ENOMEM, "cannot make an MQTT client: %s", strerror(errno));
	mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	if (t->ca_file[0])
		r = mosquitto_tls_set(client, t->ca_file, NULL, NULL, NULL, NULL);
	else
		r = mosquitto_int_option(client, MOSQ_OPT_TLS_USE_OS_CERTS, 1);
	if (r != MOSQ_ERR_SUCCESS) {
		mosquitto_destroy(client);
		return fail(error, -EINVAL, "%s: %s", t->ca_file[0] ? t->ca_file : "system certificates",
			    mosquitto_strerror(r));
	}
	*out = client;
	return 0;
}

static int sign(const struct service_target *t, uint64_t at_ms, uint64_t expiry_ms,
		uint8_t out[static EVP_MAX_MD_SIZE], unsigned int *len)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "%s\n%s\n%s\n%" PRIu64 "\n%" PRIu64 "\n", t->host, t->client_id,
			 t->policy, at_ms, expiry_ms);

	if (n >= (int)sizeof(text))
		return -ENAMETOOLONG;
	if (!HMAC(EVP_sha256(), t->key, (int)t->key_len, (const unsigned char *)text, (size_t)n, out, len))
		return -EIO;
	return 0;
}

static int user_property(mosquitto_property **properties, const char *name, const char *value)
{
	return mosquitto_property_add_string_pair(properties, MQTT_PROP_USER_PROPERTY, name, value);
}

static int properties_make(mosquitto_property **properties, const struct service_target *t)
{
	uint8_t signature[EVP_MAX_MD_SIZE];
	char at[24], expiry[24];
	struct timespec now;
	unsigned int len = 0;
	uint64_t at_ms;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	at_ms = (uint64_t)now.tv_sec * MSEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_MSEC;
	snprintf(at, sizeof(at), "%" PRIu64, at_ms);
	snprintf(expiry, sizeof(expiry), "%" PRIu64, at_ms + SIGNATURE_LIFE_MS);
	if (sign(t, at_ms, at_ms + SIGNATURE_LIFE_MS, signature, &len) < 0)
		return MOSQ_ERR_UNKNOWN;
	r = mosquitto_property_add_string(properties, MQTT_PROP_AUTHENTICATION_METHOD, "SAS");
	if (r == MOSQ_ERR_SUCCESS)
		r = mosquitto_property_add_binary(properties, MQTT_PROP_AUTHENTICATION_DATA, signature,
						  (uint16_t)len);
	if (r == MOSQ_ERR_SUCCESS)
		r = user_property(properties, "api-version", API_VERSION);
	if (r == MOSQ_ERR_SUCCESS)
		r = user_property(properties, "host", t->host);
	if (r == MOSQ_ERR_SUCCESS)
		r = user_property(properties, "sas-policy", t->policy);
	if (r == MOSQ_ERR_SUCCESS)
		r = user_property(properties, "sas-at", at);
	if (r == MOSQ_ERR_SUCCESS)
		r = user_property(properties, "sas-expiry", expiry);
	if (r == MOSQ_ERR_SUCCESS)
		r = user_property(properties, "client-agent", "hubctl/" IOTHUB_VERSION);
	return r;
}

int service_client_connect(struct mosquitto *client, const struct service_target *t,
			   char error[static SERVICE_ERROR_MAX])
{
	mosquitto_property *properties = NULL;
	int r = properties_make(&properties, t);

	if (r == MOSQ_ERR_SUCCESS)
		r = mosquitto_connect_bind_v5(client, t->host, t->port, KEEP_ALIVE_S, NULL, properties);
	mosquitto_property_free_all(&properties);
	if (r == MOSQ_ERR_SUCCESS)
		return 0;
	if (r == MOSQ_ERR_TLS)
		return fail(error, -EPROTO, "cannot connect to %s:%u by TLS", t->host, t->port);
	return fail(error, -EIO, "cannot connect to %s:%u: %s", t->host, t->port,
		    r == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(r));
}
