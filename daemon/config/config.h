/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

/*
 * The configuration of one daemon: a JSON file (iothubd.json(5)), a connection string, credentials, and what
 * the command line overrides, made into one checked struct. Whoever gets a struct config can rely on every
 * value being in range and every name being valid.
 */

#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "hub/identity.h"
#include "hub/sas.h"

/* Ranges and defaults; seconds where no unit is named. */
#define CONFIG_QUEUE_BYTES_MIN (UINT64_C(1) << 20)
#define CONFIG_QUEUE_BYTES_MAX (UINT64_C(1) << 40)
/* On a disk: three days of a message a second with 64 bytes; fits beside a system on the smallest flash in use. */
#define CONFIG_QUEUE_BYTES_PERSISTENT (UINT64_C(64) << 20)
/* In memory. */
#define CONFIG_QUEUE_BYTES_VOLATILE   (UINT64_C(16) << 20)
#define CONFIG_ACK_TIMEOUT_MAX        86400
#define CONFIG_ACK_TIMEOUT_DEFAULT    60
#define CONFIG_KEEP_ALIVE_MIN         10
#define CONFIG_KEEP_ALIVE_DEFAULT     240
#define CONFIG_TOKEN_LIFETIME_MIN     10
#define CONFIG_TOKEN_LIFETIME_MAX     31536000
#define CONFIG_TOKEN_LIFETIME_DEFAULT 3600
#define CONFIG_SESSION_EXPIRY_DEFAULT 86400
#define CONFIG_METHOD_WAIT_MAX        300
#define CONFIG_METHOD_WAIT_DEFAULT    0
#define CONFIG_METHOD_TIMEOUT_MIN     1
#define CONFIG_METHOD_TIMEOUT_MAX     3600
#define CONFIG_METHOD_TIMEOUT_DEFAULT 300
/* Methods that are registered from the start: as many as there can be beside commands and the twin. */
#define CONFIG_METHODS_MAX 48
/* Channels that can be declared, besides `default`; and of one: the longest value and name of a property, in bytes, its
 * properties, and the bytes of all it sends, encoded. */
#define CONFIG_CHANNELS_MAX               63
#define CONFIG_CHANNEL_VALUE_MAX          1024
#define CONFIG_CHANNEL_PROPERTY_NAME_MAX  255
#define CONFIG_CHANNEL_PROPERTIES_MAX     64
#define CONFIG_CHANNEL_PROPERTY_BYTES_MAX 16384
#define CONFIG_CHANNEL_TTL_MAX            315360000
#define CONFIG_CHANNEL_PRIORITY_MAX       9
#define CONFIG_CHANNEL_PRIORITY_DEFAULT   5
#define CONFIG_CHANNEL_DEFAULT            "default"

/* How the hub is told who we are. */
enum config_authentication {
	CONFIG_AUTHENTICATION_SAS,
	CONFIG_AUTHENTICATION_X509, /* by the certificate of the TLS connection */
	CONFIG_AUTHENTICATION_NONE, /* not at all: a broker that asks for nothing */
};

/* Where what is queued for the hub is kept. */
enum config_storage {
	CONFIG_STORAGE_PERSISTENT, /* in the state directory */
	CONFIG_STORAGE_VOLATILE,   /* in memory: until the machine stops */
};

/* What is said of a channel; the same words as in its files. */
enum config_ack {
	CONFIG_ACK_QUEUED,
	CONFIG_ACK_STORED,
	CONFIG_ACK_HUB,
};

enum config_when_full {
	CONFIG_FULL_REJECT,
	CONFIG_FULL_BLOCK,
	CONFIG_FULL_DROP_OLDEST,
};

enum config_channel_text {
	CONFIG_CHANNEL_CONTENT_TYPE,
	CONFIG_CHANNEL_CONTENT_ENCODING,
	CONFIG_CHANNEL_USER_ID,
	CONFIG_CHANNEL_CORRELATION_ID,
	CONFIG_CHANNEL_N_TEXTS,
};

/* A channel that is declared. Strings are owned. */
struct config_channel {
	char *name;
	enum config_ack ack;
	enum config_when_full when_full;
	uint32_t ttl_s;
	uint8_t priority;
	char *texts[CONFIG_CHANNEL_N_TEXTS]; /* NULL = not sent */
	char **property_names;               /* without the '@', none twice */
	char **property_values;
	size_t n_properties;
};

/* The files with a mode, owner and group of their own. */
enum config_file {
	CONFIG_FILE_TELEMETRY,
	CONFIG_FILE_TELEMETRY_RAW,
	CONFIG_FILE_TELEMETRY_FILE,
	CONFIG_FILE_STATUS,
	CONFIG_FILE_EVENTS,
	CONFIG_FILE_COMMANDS, /* all below commands/ but settle */
	CONFIG_FILE_SETTLE,
	CONFIG_FILE_METHODS,  /* the call files; who may write may make methods */
	CONFIG_FILE_TWIN,     /* all below twin/ but what is reported */
	CONFIG_FILE_REPORTED, /* reported.json and the tree */
	CONFIG_FILE_CHANNELS, /* what can be set of a channel; who may write may make channels */
	CONFIG_FILE_REJECTED, /* all below rejected/; who may write may drop and retry */
	CONFIG_N_FILES,
};

struct config_access {
	mode_t mode; /* permission bits, at most 0666 */
	uid_t uid;
	gid_t gid;
};

/* Strings are owned; NULL where a comment allows it. */
struct config {
	char *host;         /* the hub's name: signed, and verified unless there is a gateway */
	uint16_t port;      /* 1 … 65535 */
	char *gateway_host; /* NULL = none; else where to connect and whose certificate to verify */
	char *device_id;
	char *module_id; /* NULL = none */
	enum config_authentication authentication;
	char *key_name;         /* sas-policy; NULL = the device's own key */
	struct hub_key key;     /* secret; only with SAS */
	char *certificate_file; /* X509: PEM, the leaf first */
	char *private_key;      /* X509: a file, or a URI such as `pkcs11:object=dev1` */
	char client_id[HUB_CLIENT_ID_SIZE];

	char *ca_file; /* NULL = the system's store */
	char *mount;   /* absolute */
	uid_t uid;     /* of the directory, and of files without a rule */
	gid_t gid;
	struct config_access files[CONFIG_N_FILES];

	enum config_storage storage;
	uint64_t queue_bytes;
	struct config_channel *channels; /* none twice */
	size_t n_channels;
	uint32_t ack_timeout_s; /* 0 = wait for ever */
	uint16_t keep_alive_s;
	uint32_t token_lifetime_s;
	uint32_t session_expiry_s; /* 0xffffffff = never */
	char **methods;            /* names, each valid and none twice */
	size_t n_methods;
	uint32_t method_wait_s;    /* for somebody to open a method that is called; 0 = not at all */
	uint32_t method_timeout_s; /* for a method's response */
	char *state_dir;           /* what outlives the daemon; NULL = nowhere, and storage is volatile */
	char *run_dir; /* what outlives it until the machine stops; NULL = nowhere, and storage is persistent */
	enum log_level log_level;

	char *config_path;   /* the JSON file that was read; NULL = none */
	char *identity_path; /* the file with the key or certificate; NULL without authentication */
};

/* Where to look. Strings are borrowed for the call of config_load(); NULL = not given. */
struct config_source {
	/* From the command line. */
	const char *config_file;
	const char *connection_string_file; /* replaces everything the JSON file says about hub and device */
	const char *ca_file;
	const char *mount;
	const char *log_level;

	/* From the environment. */
	const char *config_dir;      /* with iothubd.json and connection-string; NULL = none (no home) */
	const char *runtime_dir;     /* the default mount point's parent; NULL = none */
	const char *state_dir;       /* the default state directory; NULL = none */
	const char *run_dir;         /* where volatile storage is; NULL = none */
	const char *credentials_dir; /* $CREDENTIALS_DIRECTORY */
	uid_t uid;
	gid_t gid;
};

/* Room for what config_source_init() has to compose. */
struct config_source_paths {
	char config_dir[4096];
	char runtime_dir[4096];
	char state_dir[4096];
	char run_dir[4096];
};

/* Fills the environment's part (root: /etc/iothub, /run, $STATE_DIRECTORY or /var/lib/iothub, $RUNTIME_DIRECTORY or
 * /run/iothubd; a user: $XDG_CONFIG_HOME or ~/.config, $XDG_RUNTIME_DIR, $XDG_STATE_HOME or ~/.local/state) and clears the rest. @paths must live as long as @out. */
void config_source_init(struct config_source *out, struct config_source_paths *paths);

/*
 * Loads the configuration. Each failure logs exactly one line that names the thing (file, field) and what to
 * do, and no secret. Returns 0; -ENOENT: a named file is missing, or nothing says which hub to connect to;
 * -EINVAL: a wrong value, field or syntax; -ENOMEM; or the error of reading a file. On failure @out is empty.
 */
int config_load(struct config *out, const struct config_source *source, struct log *log);

/* Wipes the key and frees the rest. Idempotent. */
void config_deinit(struct config *config);

/* The name of the file in the mount: "telemetry.raw". */
const char *config_file_name(enum config_file file);

/* Reads `error`, `warning`, `info` or `debug`. Returns 0 or -EINVAL. */
int config_log_level_parse(const char *text, enum log_level *out);

#endif
