/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_GUARDED_H
#define TESTS_SUPPORT_GUARDED_H

#include "journal/guard.h"

/* The process's guard, which handles SIGBUS from now on; other causes of the signal end the process. */
struct journal_guard *guarded(void);

#endif
