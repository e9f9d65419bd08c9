/* SPDX-License-Identifier: MIT */
#ifndef APP_APP_H
#define APP_APP_H

/*
 * The daemon as one object: owns everything, starts it in order and takes it down in reverse.
 */

#include "base/log.h"
#include "config/config.h"

struct app;

/*
 * Builds everything up to the mount, so that files are there when this returns. What fails has logged one
 * line. @config is borrowed. Returns 0 or a negative error.
 */
int app_new(struct app **out, const struct config *config, struct log *log);

/*
 * Tells the service manager that the files are there, connects, and runs until SIGTERM, SIGINT or the loss of
 * the mount; then unmounts, gives what is queued APP_DRAIN_NS to reach the hub, and disconnects. Returns 0,
 * -ENODEV when somebody else unmounted, or the error of the loop.
 */
int app_run(struct app *app);

/* NULL is fine. */
void app_free(struct app *app);

#endif
