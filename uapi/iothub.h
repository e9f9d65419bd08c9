/* SPDX-License-Identifier: MIT */
#ifndef IOTHUB_H
#define IOTHUB_H

/*
 * What iothubd and the programs that use it agree on: names, default paths and limits. The files themselves
 * are described in iothub(7).
 */

#include <linux/ioctl.h>
#include <linux/types.h>

#define IOTHUB_VERSION "0.1.0"

/* Where the files are, unless the configuration says otherwise: root's daemon, a user's daemon (below
 * $XDG_RUNTIME_DIR). */
#define IOTHUB_MOUNT_DIR      "/run/iothub"
#define IOTHUB_MOUNT_DIR_USER "iothub"

/* What outlives the daemon: root's directory, a user's directory (below $XDG_STATE_HOME). */
#define IOTHUB_STATE_DIR      "/var/lib/iothub"
#define IOTHUB_STATE_DIR_USER "iothub"

/* What outlives the daemon but not the machine's next start: root's directory, a user's (below $XDG_RUNTIME_DIR). Not
 * the mount point, which is in the same place. */
#define IOTHUB_RUN_DIR      "/run/iothubd"
#define IOTHUB_RUN_DIR_USER "iothubd"

/* Names below the mount point. */
#define IOTHUB_FILE_TELEMETRY             "telemetry"     /* each line is one message */
#define IOTHUB_FILE_TELEMETRY_RAW         "telemetry.raw" /* each write(2) is one message */
#define IOTHUB_FILE_TELEMETRY_FILE        "telemetry.file" /* from open(2) to the last close(2) is one message */
#define IOTHUB_FILE_STATUS                "status"         /* key: value lines */
#define IOTHUB_FILE_EVENTS                "events"         /* what happened, a line of JSON each */

#define IOTHUB_DIR_COMMANDS               "commands"
#define IOTHUB_FILE_COMMANDS_NEXT         "next"     /* one command's payload, with a newline at its end */
#define IOTHUB_FILE_COMMANDS_RAW          "next.raw" /* the same, exact bytes */
#define IOTHUB_FILE_COMMANDS_STREAM       "stream"   /* a command is a line of JSON */
#define IOTHUB_FILE_COMMAND_PAYLOAD       "payload"  /* these in commands/SEQUENCE-NO */
#define IOTHUB_FILE_COMMAND_PROPERTIES    "properties.json"
#define IOTHUB_FILE_COMMAND_SETTLE        "settle"  /* complete, abandon or reject */
#define IOTHUB_DIR_METHODS                "methods" /* with a directory for each method */
#define IOTHUB_FILE_METHOD_CALL           "call"    /* one open is one call */
#define IOTHUB_DIR_TWIN                   "twin"
#define IOTHUB_FILE_TWIN_DESIRED          "desired.json"
#define IOTHUB_FILE_TWIN_REPORTED         "reported.json"
#define IOTHUB_FILE_TWIN_DESIRED_VERSION  "desired.version"
#define IOTHUB_FILE_TWIN_REPORTED_VERSION "reported.version"
#define IOTHUB_FILE_TWIN_CHANGES          "changes" /* desired patches, a line of JSON each */
#define IOTHUB_DIR_TWIN_DESIRED           "desired"
#define IOTHUB_DIR_TWIN_REPORTED          "reported"
#define IOTHUB_DIR_CHANNELS               "channels" /* with a directory for each channel */
#define IOTHUB_FILE_CHANNEL_ACK           "ack"      /* these in channels/NAME, with the telemetry files */
#define IOTHUB_FILE_CHANNEL_WHEN_FULL     "when-full"
#define IOTHUB_FILE_CHANNEL_TTL           "ttl"
#define IOTHUB_FILE_CHANNEL_PRIORITY      "priority"
#define IOTHUB_FILE_CHANNEL_STATS         "stats"
#define IOTHUB_DIR_CHANNEL_PROPERTIES     "properties"
#define IOTHUB_DIR_REJECTED               "rejected" /* with a directory for each message the hub refused for good */
#define IOTHUB_FILE_REJECTED_PAYLOAD      "payload"
#define IOTHUB_FILE_REJECTED_PROPERTIES   "properties.json"
#define IOTHUB_FILE_REJECTED_REASON       "reason" /* one line */
#define IOTHUB_FILE_REJECTED_RETRY        "retry"  /* write retry */

/* Group that may use the files, when it exists and the configuration names no other. */
#define IOTHUB_GROUP "iothub"

/* Configuration: root's directory, a user's directory (below $XDG_CONFIG_HOME), and the names in it. */
#define IOTHUB_CONFIG_DIR             "/etc/iothub"
#define IOTHUB_CONFIG_DIR_USER        "iothub"
#define IOTHUB_CONFIG_FILE            "iothubd.json"
#define IOTHUB_CONNECTION_STRING_FILE "connection-string"

/* Largest packet a hub takes, in bytes: a message and its properties have to fit. A larger one is EMSGSIZE.
 */
#define IOTHUB_PACKET_BYTES_MAX 262144

/*
 * ioctl(2) on twin/desired.json and twin/reported.json.
 *
 * SET_IF_VERSION (reported.json): what is written through this open file from now on is for this version of the
 * reported properties; if the hub has another one the write fails with ESTALE, with O_SYNC, or fsync(2) does. 0: for
 * any version, as at first. EINVAL elsewhere.
 *
 * GET_VERSION: of the document that was last read through this open file from its beginning, or of what the hub
 * answered to the last patch that was waited for through it, whatever came last; at first the version there is. 0: not
 * known yet.
 */
#define IOTHUB_IOC_TWIN_SET_IF_VERSION _IOW(0xe7, 1, __u64)
#define IOTHUB_IOC_TWIN_GET_VERSION    _IOR(0xe7, 2, __u64)

#endif
