/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_JSONFILE_H
#define CONFIG_JSONFILE_H

/*
 * JSON text to one json-c object, strictly: RFC 8259 and nothing more (no comments, no trailing commas, no
 * text after the object), well-formed UTF-8, no field twice in an object.
 */

#include <json-c/json_object.h>

#include "base/bytes.h"
#include "base/log.h"

/* Largest configuration file, in bytes. */
#define JSONFILE_MAX 65536

/* Objects in objects, the outermost counted. */
#define JSONFILE_DEPTH_MAX 8

/* Fields in one file. */
#define JSONFILE_FIELDS_MAX 2048

/*
 * @path is for the log line only. Returns 0 and a reference in @out (json_object_put()), -EINVAL after
 * logging one line with the place and what is wrong there, or -ENOMEM.
 */
int jsonfile_parse(struct json_object **out, struct bytes text, const char *path, struct log *log);

#endif
