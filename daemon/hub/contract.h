/* SPDX-License-Identifier: MIT */
#ifndef HUB_CONTRACT_H
#define HUB_CONTRACT_H

/*
 * Names and limits of "IoT Hub data plane over MQTT 5", API version 2.0: what stands on the wire, in one
 * place. User Properties have dash-case names; Content Type, Correlation Data and the authentication
 * properties are properties of MQTT itself and have no name here.
 */

#define HUB_API_VERSION "2020-10-01-preview"

#define HUB_PORT        8883 /* MQTT over TLS */

/* Authentication Method of CONNECT and AUTH. */
#define HUB_AUTH_SAS  "SAS"
#define HUB_AUTH_X509 "X509"

/* User Properties of CONNECT and AUTH. */
#define HUB_PROP_API_VERSION  "api-version"
#define HUB_PROP_HOST         "host"         /* only when the name of the TLS connection is not the hub's */
#define HUB_PROP_SAS_AT       "sas-at"       /* time */
#define HUB_PROP_SAS_EXPIRY   "sas-expiry"   /* time */
#define HUB_PROP_SAS_POLICY   "sas-policy"   /* absent: the device's own key signs */
#define HUB_PROP_CLIENT_AGENT "client-agent" /* free text */

/* Topics. Case-sensitive, and they match exactly. */
#define HUB_TOPIC_TELEMETRY      "$iothub/telemetry"
#define HUB_TOPIC_TWIN_GET       "$iothub/twin/get"
#define HUB_TOPIC_TWIN_REPORTED  "$iothub/twin/patch/reported"
#define HUB_TOPIC_TWIN_DESIRED   "$iothub/twin/patch/desired"
#define HUB_TOPIC_COMMANDS       "$iothub/commands"
#define HUB_TOPIC_METHODS_PREFIX "$iothub/methods/" /* and the method's name */
#define HUB_TOPIC_METHODS_ALL    "$iothub/methods/+"
#define HUB_TOPIC_RESPONSES      "$iothub/responses"

/* User Properties of messages. */
#define HUB_PROP_CONTENT_ENCODING "content-encoding"
#define HUB_PROP_MESSAGE_ID       "message-id"
#define HUB_PROP_USER_ID          "user-id"
#define HUB_PROP_CORRELATION_ID   "correlation-id"
#define HUB_PROP_CREATION_TIME    "creation-time"  /* time */
#define HUB_PROP_SEQUENCE_NO      "sequence-no"    /* u64, of a command */
#define HUB_PROP_ENQUEUED_TIME    "enqueued-time"  /* time */
#define HUB_PROP_DELIVERY_COUNT   "delivery-count" /* u32 */
#define HUB_PROP_RESPONSE_CODE    "response-code"  /* u32, of a method */
#define HUB_PROP_VERSION          "version"        /* u64, of the twin */
#define HUB_PROP_IF_VERSION       "if-version"     /* u64 */

/* A User Property whose name starts with this belongs to the application. */
#define HUB_APPLICATION_PREFIX '@'

/* User Properties of outcomes: PUBACK, DISCONNECT, CONNACK, responses. */
#define HUB_PROP_STATUS   "status" /* 4 hexadecimal digits, see status.h; absent on success */
#define HUB_PROP_REASON   "reason" /* for people */
#define HUB_PROP_TRACE_ID "trace-id"

/* Limits. The hub's own CONNACK has the last word on those it names. */
#define HUB_PACKET_BYTES_MAX      262144
#define HUB_RECEIVE_MAX           16
#define HUB_TOPIC_ALIAS_MAX       10
#define HUB_KEEP_ALIVE_MAX_S      1140
#define HUB_SUBSCRIPTIONS_MAX     50
#define HUB_CORRELATION_BYTES_MAX 16
#define HUB_CONNECT_TIMEOUT_S     30 /* from the end of the TLS handshake to CONNECT */

#endif
