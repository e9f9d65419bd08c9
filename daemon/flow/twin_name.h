/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_NAME_H
#define FLOW_TWIN_NAME_H

/*
 * Keys of a twin as file names. What a name cannot have is written as in an URI: `%`, `/`, bytes below 0x20 and 0x7f as
 * `%` and two hexadecimal digits in upper case, the keys `.` and `..` as `%2E` and `%2E%2E`; the empty key is a `%`
 * alone. All else stands for itself, so each key has one name and each name at most one key. Pure.
 */

/* Of a name and of a key that has one, with its NUL. */
#define TWIN_NAME_SIZE 256

/* Returns 0 or -ENAMETOOLONG. */
int twin_name_encode(const char *key, char out[static TWIN_NAME_SIZE]);

/* Returns 0, or -EINVAL: the name of no key. */
int twin_name_decode(const char *name, char out[static TWIN_NAME_SIZE]);

#endif
