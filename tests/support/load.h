/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_LOAD_H
#define TESTS_SUPPORT_LOAD_H

/*
 * Writers that go on whatever happens to the daemon, and a judge that compares what the hub's monitor saw with what
 * the writers were told. Each is a process of its own.
 *
 * A writer numbers its messages and never writes one twice: what write(2) said of it is its outcome. The judge counts
 * deliveries; it knows every message by its bytes. load_verify() then holds the two against each other:
 *
 *   - what was acknowledged is delivered,
 *   - what was refused because there is no room, or no writing, is not,
 *   - a message is delivered for the first time after all those of its writer with smaller numbers,
 *   - deliveries of one message have one message-id, those of two have two.
 *
 * A message whose write ended in another way (the daemon went, the disk failed before it was stored) may arrive or not.
 *
 * All is in the struct, without pointers: a fixture keeps it in its shared memory, zeroed. It is large; what is not used
 * takes no memory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/lab.h"

#define LOAD_WRITERS_MAX  64
#define LOAD_MESSAGES_MAX 65536 /* of one writer, which then stops */

enum load_level {
	LOAD_QUEUED,
	LOAD_STORED, /* O_DSYNC */
};

/* Outcomes besides errno. */
#define LOAD_NOT_TRIED 0
#define LOAD_SHORT     253 /* a part was written: must not be */
#define LOAD_TRIED     254 /* no answer */
#define LOAD_ACKED     255

struct load_message {
	uint8_t outcome;
	uint8_t n_delivered; /* 255: as many or more */
	uint64_t id;         /* hash of the message-id */
};

struct load_writer {
	enum load_level level;
	pid_t pid;
	uint32_t n_tried, n_acked;
	uint32_t n_away;     /* times the file could not be opened */
	uint32_t last_first; /* the largest number delivered */
	struct load_message messages[LOAD_MESSAGES_MAX];
};

struct load_verdict {
	uint32_t n_delivered, n_twice;
	/* Each of these must be 0. */
	uint32_t n_misordered; /* first deliveries after one with a larger number */
	uint32_t n_other_id;   /* delivered again with another message-id */
	uint32_t n_unknown;    /* nobody wrote that */
	uint32_t n_missed;     /* by the monitor, so there is no verdict */
	uint32_t n_lost;
	uint32_t n_refused; /* delivered, though it was refused */
	uint32_t n_same_id; /* as another message */
	uint32_t n_short;
	char first[256]; /* the first of them, as text */
};

struct load {
	unsigned int n_writers;
	uint32_t pause_us; /* longest, between two writes of a writer */
	size_t pad_max;    /* bytes behind the number, at most LOAD_PAD_MAX */
	uint64_t seed;
	bool stop;
	uint32_t power; /* even: on; see load_power() */
	pid_t judge;
	int wake[2];
	uint32_t fence; /* the last one delivered */
	uint32_t n_fences;
	struct load_verdict verdict;
	struct load_writer writers[LOAD_WRITERS_MAX];
};

#define LOAD_PAD_MAX 4096

/* Starts the judge, on lab_start_monitor()'s output. */
void load_start_judge(struct load *load, struct lab *lab);

/* Starts @n_writers, one level and the other in turn or, with @all_stored, at stored only. They go on with the numbers
 * they had. */
void load_start(struct load *load, const struct lab *lab, unsigned int n_writers, bool all_stored);
/* Ends the writers, each after the write it is in; so the daemon must be there, or not be mounted. */
void load_stop(struct load *load);
/* One more message of @writer, written here. Returns whether it was acknowledged. Only without load_start(). */
bool load_write(struct load *load, unsigned int writer, int fd);
/* Kills what runs. Works with a zeroed load, and twice. */
void load_deinit(struct load *load);

/* The power is about to go, and is back. What is acknowledged in between, or to a write that began before, promises
 * nothing: on a machine without power nobody would have seen it. (And a file system that was shut down while it syncs may
 * call that a success.) */
void load_power(struct load *load, bool on);

/* Acknowledged so far; at a level, or of all. */
uint32_t load_n_acked(const struct load *load, enum load_level level);
uint32_t load_n_acked_all(const struct load *load);
/* Writes that ended with this errno. */
uint32_t load_n_failed(const struct load *load, int error);

/* Writes one more message and waits until the hub and the judge have it, and so all that was queued before. */
void load_fence(struct load *load, const struct lab *lab);
/* Likewise, at level hub; returns false when that is not possible, or a signal ends it. */
bool load_try_fence(struct load *load, const struct lab *lab);
/* Acknowledged and not delivered, so far. */
uint32_t load_n_missing(const struct load *load);

/* Messages acknowledged at @promise and above must be there. Says what is not, and what else is wrong, with EXPECT. */
void load_verify(struct load *load, enum load_level promise);

/* Waits a random time, at most @max_ns: a moment nobody chose. And as long as trouble is to last. */
void load_pause(uint64_t max_ns);
void load_last(uint64_t ns);

/* Refuses connections and ends those there are; and accepts them again. */
void load_hub_down(const struct lab *lab);
void load_hub_up(const struct lab *lab);

/* Writes messages at the level until one is acknowledged. Returns how long it took, at most @limit_ns. Its messages do
 * not count. */
uint64_t load_resumed_ns(const struct lab *lab, enum load_level level, uint64_t limit_ns);

#endif
