/* SPDX-License-Identifier: MIT */
#ifndef FLOW_METHOD_FILES_H
#define FLOW_METHOD_FILES_H

/*
 * The directory `methods`: mkdir registers a method with the hub, rmdir takes it back, and
 *
 *   methods/<name>/call   one open, for reading and writing (else EINVAL), is at most one call of the method:
 *                         read the request to its end, write the response in one write.
 *
 * mkdir fails with EINVAL for a name no method can have, with ENOSPC over the hub's subscriptions. rmdir fails
 * with EBUSY while a call has been read from and not been answered; else who has `call` open gets ENODEV.
 *
 * read waits for a call (EAGAIN with O_NONBLOCK), gives the request in pieces of any size, then end of file.
 * ETIMEDOUT: the call has ended. EBUSY: somebody else waits in a read of the same open file.
 *
 * write takes `<response-code>`, with a newline or without, or `<response-code> <payload>`. It returns when the
 * hub's machine has acknowledged the response, with O_NONBLOCK at once. With these errors the call stays open:
 * EINVAL, not such a text; EMSGSIZE, more than the hub takes; ENOBUFS, no room here. ENOTCONN: there is no call
 * yet. ETIMEDOUT: too late, the call has ended; or the response went out and nothing was heard of it, with a signal
 * for METHOD_HURRY_NS. ECONNRESET, and EINTR (a signal while the response had not gone out yet): whether the
 * response arrived is not known. EALREADY: the call has its response.
 */

#include "config/config.h"
#include "flow/events.h"
#include "flow/methods.h"
#include "fuse/tree.h"

struct method_files;

/*
 * Adds the directory to @parent and registers @names. @access: of the files `call`; the directories get 0555 and
 * the write permissions of it. @events: what was refused and why goes there; borrowed, may be NULL. Returns 0, -ENOMEM, or as methods_register(), for names that are not all different,
 * valid, and few enough. After an error @out may be there all the same, for method_files_free().
 */
int method_files_new(struct method_files **out, struct methods *methods, struct fuse_node *parent,
		     const struct config_access *access, char *const *names, size_t n_names,
		     struct events *events);
/* After the tree, before the methods. NULL is fine. */
void method_files_free(struct method_files *files);

#endif
