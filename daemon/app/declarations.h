/* SPDX-License-Identifier: MIT */
#ifndef APP_DECLARATIONS_H
#define APP_DECLARATIONS_H

/*
 * Channels as the configuration has them, which knows nothing of channels, as these want them.
 */

#include "config/config.h"
#include "flow/channel.h"

/* As many as @config->n_channels; strings are those of @config. The caller frees @out with free(). Returns 0 or -ENOMEM. */
int declarations_new(struct channel_declaration **out, const struct config *config);

#endif
