/* SPDX-License-Identifier: MIT */
#ifndef FLOW_KEY_NAME_H
#define FLOW_KEY_NAME_H

/*
 * Keys as file names: those of a twin, and names of properties. What a name cannot have is written as in an URI: `%`,
 * `/`, bytes below 0x20 and 0x7f as `%` and two hexadecimal digits in upper case, the keys `.` and `..` as `%2E` and
 * `%2E%2E`; the empty key is a `%` alone. All else stands for itself, so each key has one name and each name at most
 * one key. Pure.
 */

/* Of a name and of a key that has one, with its NUL. */
#define KEY_NAME_SIZE 256

/* Returns 0 or -ENAMETOOLONG. */
int key_name_encode(const char *key, char out[static KEY_NAME_SIZE]);

/* Returns 0, or -EINVAL: the name of no key. */
int key_name_decode(const char *name, char out[static KEY_NAME_SIZE]);

#endif
