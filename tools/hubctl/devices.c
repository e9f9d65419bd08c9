/* SPDX-License-Identifier: MIT */
/*
 * `hubctl devices add|list|show|remove|keys`: the hub's registry.
 *
 * Connection strings hold a key. They go to standard output, or, with --output, to a file that only its owner
 * can read.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/cleanup.h"
#include "output.h"
#include "verb.h"

#define N_THUMBPRINTS_MAX 2
#define THUMBPRINT_LEN    64

/* --- a device alone --------------------------------------------------------------------------- */

static const char show_help[] = "Usage: hubctl devices show DEVICE[/MODULE] [OPTION]...\n"
				"Prints what the hub knows about a device or a module.\n"
				"\n" ARGS_COMMON_HELP;

const struct verb verb_devices_show = {
	.name = "devices show",
	.what = "what the hub knows about one",
	.help = show_help,
	VERB_OF_DEVICE,
	.topic = "$service/devices/show",
	.type = json_type_object,
	.show = output_object,
};

static const char remove_help[] = "Usage: hubctl devices remove DEVICE[/MODULE] [OPTION]...\n"
				  "Removes a device or a module, with its twin, its commands and its keys;\n"
				  "a device with its modules. Its connection ends.\n"
				  "\n" ARGS_COMMON_HELP;

static int print_removed(struct session *s, const struct args *args, const struct session_reply *reply,
			 void *own)
{
	const char *device = args->words[0];
	json_object *object;

	(void)s;
	(void)reply;
	(void)own;
	if (!args->json) {
		printf("removed %s\n", device);
		return 0;
	}
	object = json_object_new_object();
	json_object_object_add(object, "removed", json_object_new_string(device));
	output_json(object);
	json_object_put(object);
	return 0;
}

const struct verb verb_devices_remove = {
	.name = "devices remove",
	.what = "remove one and all that is its",
	.help = remove_help,
	VERB_OF_DEVICE,
	.topic = "$service/devices/remove",
	.print = print_removed,
};

/* --- all of them ------------------------------------------------------------------------------ */

static const char list_help[] =
	"Usage: hubctl devices list [OPTION]...\n"
	"Prints which devices and modules there are.\n"
	"\n"
	"  --ids                          their names only, one per line\n" ARGS_COMMON_HELP;

static int list_apply(void *own, int id, const char *value)
{
	bool *ids_only = own;

	(void)id;
	(void)value;
	*ids_only = true;
	return 0;
}

static void list_print(const struct args *args, json_object *list, const void *own)
{
	const bool *ids_only = own;
	static const struct output_column columns[] = {
		{"DEVICE", "/device"},           {"AUTHENTICATION", "/authentication"},
		{"CONNECTED", "/connected"},     {"SINCE", "/connected-since"},
		{"QUEUED", "/commands/queued"},  {"DEAD", "/commands/dead-lettered"},
		{"DESIRED", "/desired-version"}, {"REPORTED", "/reported-version"},
	};

	if (args->json) {
		output_json(list);
		return;
	}
	if (!*ids_only) {
		output_table(list, columns, ARRAY_SIZE(columns), "no devices; hubctl devices add makes one");
		return;
	}
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *id;

		if (json_object_object_get_ex(json_object_array_get_idx(list, i), "device", &id))
			puts(json_object_get_string(id));
	}
}

static int list_run(const struct args *args, void *own)
{
	static const struct list_request rq = {.topic = "$service/devices/list", .key = "device"};

	return request_list_run(args, &rq, list_print, own);
}

static const struct option list_options[] = {
	{"ids", no_argument, NULL, 'i'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_devices_list = {
	.name = "devices list",
	.what = "which there are, and whether they are connected",
	.help = list_help,
	.options = list_options,
	.apply = list_apply,
	.own_size = sizeof(bool),
	.run = list_run,
};

/* --- keys ------------------------------------------------------------------------------------- */

/* Writes @text and a newline to the file @path, for its owner's eyes. Returns 0, or -1 when all is said. */
static int secret_save(struct session *s, const char *path, const char *text)
{
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || fchmod(fd, 0600) < 0 || dprintf(fd, "%s\n", text) < 0 || fsync(fd) < 0) {
		session_fail(s, "%s: %s; hubctl devices keys prints the connection string again", path,
			     strerror(errno));
		return -1;
	}
	return 0;
}

static const char *member(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_object_get_string(value) : "";
}

static const char keys_help[] =
	"Usage: hubctl devices keys DEVICE[/MODULE] [OPTION]...\n"
	"Prints the two keys and the connection string.\n"
	"\n"
	"  --regenerate KEY               make it new first: primary, secondary or both\n"
	"  --output FILE                  save the connection string there instead\n" ARGS_COMMON_HELP;

struct keys_options {
	const char *regenerate;
	const char *output;
};

static int keys_apply(void *own, int id, const char *value)
{
	struct keys_options *o = own;

	if (id == 'o') {
		o->output = value;
		return *value ? 0 : -EINVAL;
	}
	o->regenerate = value;
	return strcmp(value, "primary") == 0 || strcmp(value, "secondary") == 0 || strcmp(value, "both") == 0
		       ? 0
		       : -EINVAL;
}

static int print_keys(struct session *s, const struct args *args, const struct session_reply *reply,
		      void *own)
{
	const struct keys_options *o = own;
	json_object *keys;
	int r;

	if (!o->output)
		return request_print_json(s, args, reply, json_type_object, output_object);
	keys = request_reply_json(s, reply, json_type_object);
	if (!keys)
		return -1;
	r = secret_save(s, o->output, member(keys, "connection-string"));
	json_object_put(keys);
	return r;
}

static int keys_build(struct request *q, struct args *args, const void *own)
{
	const struct keys_options *o = own;

	(void)args;
	request_property(q, "regenerate", o->regenerate);
	return -1;
}

static const struct option keys_options[] = {
	{"regenerate", required_argument, NULL, 'g'},
	{"output", required_argument, NULL, 'o'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_devices_keys = {
	.name = "devices keys",
	.what = "print its keys, or make new ones",
	.help = keys_help,
	VERB_OF_DEVICE,
	.options = keys_options,
	.apply = keys_apply,
	.own_size = sizeof(struct keys_options),
	.topic = "$service/devices/keys",
	.build = keys_build,
	.print = print_keys,
};

/* --- a new one -------------------------------------------------------------------------------- */

static const char add_help[] =
	"Usage: hubctl devices add DEVICE[/MODULE] [OPTION]...\n"
	"Makes a device, or a module of one. It connects with a key, and its connection string is\n"
	"printed, unless one of the --x509 options is there.\n"
	"\n"
	"  --primary-key KEY              base64, instead of one that is made up\n"
	"  --secondary-key KEY            likewise\n"
	"  --x509-thumbprint HEX          it connects with the certificate of this SHA-256\n"
	"                                 fingerprint; up to two times\n"
	"  --x509-certificate FILE        likewise, with this certificate (PEM)\n"
	"  --x509-ca                      it connects with any certificate in its name of a\n"
	"                                 registered authority\n"
	"  --output FILE                  save the connection string there instead\n" ARGS_COMMON_HELP;

struct add_options {
	const char *primary_key, *secondary_key, *output;
	char thumbprints[N_THUMBPRINTS_MAX][THUMBPRINT_LEN + 1];
	size_t n_thumbprints;
	bool is_by_ca;
};

/* 64 hexadecimal digits in either case, with colons between the bytes or not. */
static int thumbprint_parse(const char *text, char out[static THUMBPRINT_LEN + 1])
{
	size_t n = 0;

	for (; *text && n < THUMBPRINT_LEN; text++) {
		if (*text == ':' && n > 0 && n % 2 == 0 && text[-1] != ':')
			continue;
		if (!strchr("0123456789abcdefABCDEF", *text))
			return -EINVAL;
		out[n++] = *text;
	}
	out[n] = '\0';
	return n == THUMBPRINT_LEN && !*text ? 0 : -EINVAL;
}

static void x509_free(X509 **certificate)
{
	X509_free(*certificate);
}

static int thumbprint_of(const char *path, char out[static THUMBPRINT_LEN + 1])
{
	_cleanup_(fclose_ptr) FILE *f = fopen(path, "re");
	_cleanup_(x509_free) X509 *certificate = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (!certificate || X509_digest(certificate, EVP_sha256(), digest, &len) != 1)
		return -EINVAL;
	for (unsigned int i = 0; i < THUMBPRINT_LEN / 2; i++)
		snprintf(out + (size_t)i * 2, 3, "%02x", digest[i]);
	return 0;
}

static int add_apply(void *own, int id, const char *value)
{
	struct add_options *o = own;

	switch (id) {
	case 'p':
		o->primary_key = value;
		return 0;
	case 's':
		o->secondary_key = value;
		return 0;
	case 'o':
		o->output = value;
		return *value ? 0 : -EINVAL;
	case 'a':
		o->is_by_ca = true;
		return 0;
	default:
		if (o->n_thumbprints == N_THUMBPRINTS_MAX)
			return -EINVAL;
		return id == 't' ? thumbprint_parse(value, o->thumbprints[o->n_thumbprints++])
				 : thumbprint_of(value, o->thumbprints[o->n_thumbprints++]);
	}
}

static bool add_is_x509(const struct add_options *o)
{
	return o->is_by_ca || o->n_thumbprints > 0;
}

static json_object *add_to_json(const struct add_options *o)
{
	json_object *object = json_object_new_object(), *thumbprints;

	json_object_object_add(object, "authentication",
			       json_object_new_string(add_is_x509(o) ? "x509" : "sas"));
	if (o->primary_key)
		json_object_object_add(object, "primary-key", json_object_new_string(o->primary_key));
	if (o->secondary_key)
		json_object_object_add(object, "secondary-key", json_object_new_string(o->secondary_key));
	if (o->is_by_ca)
		json_object_object_add(object, "ca", json_object_new_boolean(true));
	if (o->n_thumbprints == 0)
		return object;
	thumbprints = json_object_new_array();
	for (size_t i = 0; i < o->n_thumbprints; i++)
		json_object_array_add(thumbprints, json_object_new_string(o->thumbprints[i]));
	json_object_object_add(object, "thumbprints", thumbprints);
	return object;
}

/* The connection string, for which it asks; --json has it beside what devices/add answered in @device. */
static int print_connection_string(struct session *s, const struct args *args, const char *output,
				   json_object *device)
{
	struct request q = {.topic = "$service/devices/keys", .about = args->words[0]};
	struct session_reply reply;
	json_object *keys = NULL;
	const char *text;
	int r;

	request_property(&q, "device", q.about);
	r = request_send(s, args, &q, &reply);
	if (r == 0)
		keys = request_reply_json(s, &reply, json_type_object);
	session_reply_deinit(&reply);
	if (!keys)
		return -1;
	text = member(keys, "connection-string");
	if (output)
		r = secret_save(s, output, text);
	else if (args->json)
		json_object_object_add(device, "connection-string", json_object_new_string(text));
	else
		puts(text);
	json_object_put(keys);
	return r;
}

static int print_added(struct session *s, const struct args *args, const struct session_reply *reply,
		       void *own)
{
	const struct add_options *o = own;
	json_object *device = request_reply_json(s, reply, json_type_object);
	int r = device ? 0 : -1;

	if (r == 0 && !add_is_x509(o))
		r = print_connection_string(s, args, o->output, device);
	if (r == 0 && args->json)
		output_json(device);
	else if (r == 0 && add_is_x509(o))
		printf("added %s, which connects with its certificate\n", args->words[0]);
	json_object_put(device);
	return r;
}

static int add_check(const struct verb *verb, const struct args *args, const void *own)
{
	const struct add_options *o = own;

	(void)args;
	if (add_is_x509(o) && (o->primary_key || o->secondary_key))
		return args_wrong(verb, "a device has keys or X.509, not both");
	if (add_is_x509(o) && o->output)
		return args_wrong(verb, "with X.509 there is no connection string to save");
	if (o->is_by_ca && o->n_thumbprints > 0)
		return args_wrong(verb, "--x509-ca goes without thumbprints");
	return -1;
}

static int add_build(struct request *q, struct args *args, const void *own)
{
	json_object *body = add_to_json(own);

	(void)args;
	request_payload_json(q, body);
	json_object_put(body);
	return -1;
}

static const struct option add_options[] = {
	{"primary-key", required_argument, NULL, 'p'},
	{"secondary-key", required_argument, NULL, 's'},
	{"x509-thumbprint", required_argument, NULL, 't'},
	{"x509-certificate", required_argument, NULL, 'f'},
	{"x509-ca", no_argument, NULL, 'a'},
	{"output", required_argument, NULL, 'o'},
	{NULL, 0, NULL, 0},
};

const struct verb verb_devices_add = {
	.name = "devices add",
	.what = "make a device or a module; prints its connection string",
	.help = add_help,
	VERB_OF_DEVICE,
	.options = add_options,
	.apply = add_apply,
	.own_size = sizeof(struct add_options),
	.check = add_check,
	.topic = "$service/devices/add",
	.build = add_build,
	.print = print_added,
};
