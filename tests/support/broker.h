/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_BROKER_H
#define TESTS_SUPPORT_BROKER_H

/*
 * A stock Mosquitto as the other side: an MQTT 5 broker that was written from the specification by somebody
 * else. It runs in a directory of its own with a configuration of the test's. The struct holds no pointers: a
 * fixture keeps it in its shared memory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/process.h"

struct broker {
	char dir[64];
	pid_t pid;
};

/* False where mosquitto or mosquitto_sub is missing: a reason to skip. */
bool broker_is_installed(void);

/* "mosquitto version 2.0.11" */
void broker_version(char *text, size_t size);

/* Makes the directory. */
void broker_init(struct broker *b);
/* Kills it and removes the directory. Works with a zeroed broker, and twice. */
void broker_deinit(struct broker *b);

/* Starts it with @config (mosquitto.conf(5)), after lines that let it run and log here, and waits until it
 * listens. */
void broker_start(struct broker *b, const char *config);
int broker_stop(struct broker *b, int signo);

/* What it logged so far; for the caller to free. */
char *broker_log(const struct broker *b);

/*
 * A subscriber to @topic, which keeps its session in the broker under the id `watcher`: subscribed when this
 * returns, so that nothing is missed before broker_watch() and over restarts of the broker. Afterwards every
 * message is a line on *@fd in mosquitto_sub(1)'s @format.
 */
void broker_subscribe(uint16_t port, const char *ca_file, const char *topic);
pid_t broker_watch(const struct broker *b, uint16_t port, const char *ca_file, const char *topic,
		   const char *format, int *fd);

#endif
