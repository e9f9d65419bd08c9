/* SPDX-License-Identifier: MIT */
#ifndef APP_APP_H
#define APP_APP_H

/*
 * The daemon as one object: owns everything, starts it in order and takes it down in reverse.
 */

#include "base/log.h"
#include "base/time.h"
#include "config/config.h"
#include "journal/guard.h"

struct app;

/* Looks at what can be wrong with a configuration that is well formed, short of connecting: what fails has logged one
 * line. Returns 0 or a negative error. */
int app_check(const struct config *config, struct log *log);

/*
 * Builds everything up to the mount, so that files are there when this returns. What fails has logged one
 * line. @config is borrowed, and so is @guard, which the handler of SIGBUS asks. Returns 0 or a negative error.
 */
int app_new(struct app **out, const struct config *config, struct log *log, struct journal_guard *guard);

/* What is queued when the daemon stops gets this long to reach the hub: a moment, when it is safe where it is. */
#define APP_DRAIN_NS          NSEC_PER_SEC
#define APP_DRAIN_VOLATILE_NS (5 * NSEC_PER_SEC)

/* What is on its way to a disk, this long to arrive. */
#define APP_SETTLE_NS (5 * NSEC_PER_SEC)

/*
 * Tells the service manager that the files are there, connects, and runs until SIGTERM, SIGINT, SIGHUP, SIGQUIT or
 * the loss of the mount. Then files take nothing new (ESHUTDOWN), what is queued gets APP_DRAIN_NS (or the other) if the hub is
 * there, the mount goes away and the connection is closed; a second signal skips the wait. Returns 0, -ENODEV when
 * somebody else unmounted, or the error of the loop.
 */
int app_run(struct app *app);

/*
 * What is on its way to a disk gets APP_SETTLE_NS to arrive. Returns 0, or an error after which what is in flight could
 * not be freed, and the process should end: -ETIMEDOUT, or that of the loop. NULL is fine.
 */
int app_free(struct app *app);

#endif
