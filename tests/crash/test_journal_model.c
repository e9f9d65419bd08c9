/* SPDX-License-Identifier: MIT */
/*
 * A journal and a model of it do the same random steps.
 *
 * A sequence is a journal's life: several processes, one after the other, open it, take random steps and compare what
 * they see with the model (journal_model.h). Each stops, is killed between two steps or in the middle of a record, or
 * loses its power: then any subset of the sectors that differ from what was synced is on the disk. In every other sequence
 * bits are flipped as well, while a process has the files open and in between, and files are cut and deleted. In the
 * end the journal is emptied, and no file may be left. Two of three sequences wait in each turn until nothing is in flight,
 * so they can be repeated; the others go on meanwhile, and kill some starts on the way.
 *
 * $IOTHUB_MODEL: how many sequences. $IOTHUB_MODEL_SEED: this one only, as a failure tells.
 */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/journal_image.h"
#include "tests/support/journal_model.h"

#define N_SEQUENCES   120
#define SECTOR        512u
#define STEPS_MAX     500
#define FILES_MAX     64
#define FLIP_ATTEMPTS 200
/* A start that is killed: after so many microseconds at most. */
#define START_MAX_US 1500

DEFINE_CLEANUP(DIR *, closedir)

enum step {
	STEP_APPEND,
	STEP_BATCH,
	STEP_SEND,
	STEP_END,
	STEP_END_FIRST,
	STEP_WITHDRAW,
	STEP_FIND,
	STEP_WALK,
	STEP_HOLD,
	STEP_UNHOLD,
	STEP_SYNC,
	STEP_TURN,
	STEP_FLUSH,
	STEP_PUT_LANE,
	STEP_FLIP,
	STEP_DELETE,
	N_STEPS,
};

/* What a process does, and how it ends. */
struct mood {
	unsigned int weights[N_STEPS];
	unsigned int payload_max;
	unsigned int n_lanes;
	unsigned int n_steps;
	enum model_end end;
	bool half; /* killed while it appends */
};

FIXTURE(model)
{
	char dir[128];
	struct model m;
	bool has_damage;
	bool has_withdrawals;
	bool is_told;
	enum model_end end; /* of the last process, as it was in the end */
	uint64_t n_processes, n_kills, n_cuts, n_flips, n_files_hurt;
};

FIXTURE_SETUP(model)
{
	image_make_dir(self->dir);
}

FIXTURE_TEARDOWN(model)
{
	if (harness_state.result->n_failed)
		TEST_LOG("once more: IOTHUB_MODEL_SEED=0x%" PRIx64, self->m.seed);
	if (self->dir[0])
		image_clear(self->dir);
}

/* What happens, when it is one sequence only. */
#define tell(self, ...)                                                                                      \
	do {                                                                                                 \
		if ((self)->is_told)                                                                         \
			TEST_LOG(__VA_ARGS__);                                                               \
	} while (0)

/* --- damage ----------------------------------------------------------------------------------- */

struct file {
	char name[64];
	ino_t inode;
	uint64_t id; /* 0: no segment */
};

static int compare_files(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* Those of the directory, in the order they were made. */
static size_t list_files(const char *path, struct file out[static FILES_MAX])
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(path);
	struct dirent *entry;
	size_t n = 0;

	ASSERT_TRUE(dir != NULL);
	while ((entry = readdir(dir))) {
		bool is_segment = strstr(entry->d_name, ".segment") != NULL;

		if (!is_segment && strcmp(entry->d_name, "lock") != 0)
			continue;
		ASSERT_LT(n, (size_t)FILES_MAX);
		out[n] = (struct file){.inode = entry->d_ino,
				       .id = is_segment ? strtoull(entry->d_name, NULL, 16) : 0};
		snprintf(out[n++].name, sizeof(out->name), "%.63s", entry->d_name);
	}
	qsort(out, n, sizeof(out[0]), compare_files);
	return n;
}

/* Opens a random file. Returns the descriptor, negative: there is none any more. */
static int open_some_file(struct fixture_model *self, struct file *out, uint64_t *size)
{
	struct file files[FILES_MAX];
	size_t n = list_files(self->dir, files);
	char path[256];
	struct stat st;
	int fd;

	if (n == 0)
		return -1;
	*out = files[model_random(&self->m, n)];
	snprintf(path, sizeof(path), "%s/%s", self->dir, out->name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		ASSERT_EQ(fstat(fd, &st), 0);
	*size = fd >= 0 ? (uint64_t)st.st_size : 0;
	return fd;
}

/* Half of the flips are where something is: most of a file is what was never written. */
static void flip(struct fixture_model *self)
{
	bool where_something_is = model_random(&self->m, 2);
	int bit = (int)model_random(&self->m, 8);
	uint64_t size, at = 0;
	uint8_t byte = 0;
	struct file file;
	_cleanup_(close_fd) int fd = open_some_file(self, &file, &size);

	if (fd < 0 || size == 0)
		return;
	for (int i = 0; i < FLIP_ATTEMPTS; ++i) {
		at = model_random(&self->m, model_random(&self->m, 4) ? size : size < 4096 ? size : 4096);
		ASSERT_EQ(pread(fd, &byte, 1, (off_t)at), 1);
		if (byte || !where_something_is)
			break;
	}
	tell(self, "flips bit %d of byte %" PRIu64 " of %s", bit, at, file.name);
	model_hit(&self->m, file.id, at);
	byte ^= (uint8_t)(1u << bit);
	ASSERT_EQ(pwrite(fd, &byte, 1, (off_t)at), 1);
	++self->n_flips;
}

static void delete_some(struct fixture_model *self)
{
	uint64_t size;
	struct file file;
	_cleanup_(close_fd) int fd = open_some_file(self, &file, &size);
	char path[256];

	if (fd < 0)
		return;
	tell(self, "deletes %s", file.name);
	model_hit_from(&self->m, file.id, 0);
	snprintf(path, sizeof(path), "%s/%s", self->dir, file.name);
	ASSERT_EQ(unlink(path), 0);
	++self->n_files_hurt;
}

static void cut_some(struct fixture_model *self)
{
	uint64_t size;
	struct file file;
	_cleanup_(close_fd) int fd = open_some_file(self, &file, &size);

	if (fd < 0 || size == 0)
		return;
	size = model_random(&self->m, size);
	tell(self, "cuts %s to %" PRIu64 " bytes", file.name, size);
	model_hit_from(&self->m, file.id, size);
	ASSERT_EQ(ftruncate(fd, (off_t)size), 0);
	++self->n_files_hurt;
}

static void damage(struct fixture_model *self)
{
	switch (model_random(&self->m, 8)) {
	case 0:
		delete_some(self);
		return;
	case 1:
		cut_some(self);
		return;
	default:
		for (uint64_t n = 1 + model_random(&self->m, 3); n > 0; --n)
			flip(self);
	}
}

/* --- power ------------------------------------------------------------------------------------ */

/* Of what differs, each sector comes to the disk or not; @before may be NULL: the file was not there. */
static void mix_file(struct model *m, struct image_file *out, const struct image_file *before,
		     const struct image_file *after, uint64_t chance)
{
	*out = (struct image_file){.data = calloc(1, after->len + 1), .len = after->len};
	ASSERT_TRUE(out->data != NULL);
	strcpy(out->name, after->name);
	for (size_t at = 0; at < after->len; at += SECTOR) {
		size_t n = after->len - at < SECTOR ? after->len - at : SECTOR;
		const struct image_file *from = model_random(m, 100) < chance ? after : before;

		if (from)
			memcpy(out->data + at, from->data + at, n);
	}
}

/* What may be on the disk. False: files were renamed meanwhile, with a sync that is not known here. */
static bool mix(struct model *m, struct image *out, struct image *before, struct image *after)
{
	uint64_t chance = 1 + model_random(m, 99);
	size_t n_new = 0, n_old = 0;

	out->n = 0;
	for (size_t i = 0; i < after->n; ++i)
		n_new += !image_find(before, after->files[i].name);
	for (size_t i = 0; i < before->n; ++i)
		n_old += !image_find(after, before->files[i].name);
	if (n_new && n_old)
		return false;
	for (size_t i = 0; i < after->n; ++i) {
		const struct image_file *old = image_find(before, after->files[i].name);

		if (old)
			ASSERT_EQ(old->len, after->files[i].len);
		if (old || model_random(m, 8))
			mix_file(m, &out->files[out->n++], old, &after->files[i], chance);
	}
	for (size_t i = 0; i < before->n; ++i)
		if (!image_find(after, before->files[i].name) && model_random(m, 2))
			mix_file(m, &out->files[out->n++], NULL, &before->files[i], 100);
	return true;
}

/* --- steps ------------------------------------------------------------------------------------ */

static size_t some_length(struct model *m, unsigned int max)
{
	return model_random(m, 200) ? model_random(m, max + 1) : model_random(m, 100000);
}

static void step_append(struct model_run *run, const struct mood *mood)
{
	struct model *m = run->model;
	unsigned int lane = (unsigned int)model_random(m, mood->n_lanes);

	for (uint64_t n = 1 + model_random(m, 12); n > 0; --n)
		model_append(run, lane, model_random(m, 60), some_length(m, mood->payload_max));
}

static void step_send(struct model_run *run)
{
	for (uint64_t n = 1 + model_random(run->model, 40); n > 0 && model_send(run); --n)
		;
}

static void step_end(struct model_run *run)
{
	for (uint64_t n = 1 + model_random(run->model, 40); n > 0 && run->n_flight > 0; --n)
		model_end_one(run, model_random(run->model, run->n_flight));
}

static void step_of_one(struct model_run *run, enum step step)
{
	struct model *m = run->model;

	if (m->n == 0)
		return;
	if (step == STEP_FIND)
		model_find(run, 1 + model_random(m, m->n));
	else
		model_withdraw(run, m->n - model_random(m, m->n < 100 ? m->n : 100));
}

static void step_room(struct model_run *run, enum step step)
{
	struct model *m = run->model;

	if (step == STEP_HOLD)
		model_hold(run, model_random(m, MODEL_HELD_MAX));
	else
		model_unhold(run, model_random(m, run->held + 1));
}

static void step(struct fixture_model *self, struct model_run *run, const struct mood *mood, enum step step)
{
	struct model *m = run->model;
	unsigned int lane = (unsigned int)model_random(m, mood->n_lanes);

	switch (step) {
	case STEP_APPEND:
		return step_append(run, mood);
	case STEP_BATCH:
		return model_append_batch(run, lane, 1 + model_random(m, 20), mood->payload_max);
	case STEP_SEND:
		return step_send(run);
	case STEP_END:
		return step_end(run);
	case STEP_END_FIRST:
		model_end_first(run, lane);
		return;
	case STEP_WITHDRAW:
	case STEP_FIND:
		return step_of_one(run, step);
	case STEP_WALK:
		return model_walk(run);
	case STEP_HOLD:
	case STEP_UNHOLD:
		return step_room(run, step);
	case STEP_SYNC:
		return journal_sync(run->box.j);
	case STEP_TURN:
		return model_turn(run);
	case STEP_FLUSH:
		return model_flush(run);
	case STEP_PUT_LANE:
		return model_put_lane(run, lane);
	case STEP_FLIP:
		return flip(self);
	case STEP_DELETE:
		return delete_some(self);
	case N_STEPS:
		return;
	}
}

static enum step some_step(struct model *m, const struct mood *mood)
{
	unsigned int sum = 0;
	uint64_t at;

	for (int i = 0; i < N_STEPS; ++i)
		sum += mood->weights[i];
	at = model_random(m, sum);
	for (int i = 0; i < N_STEPS; ++i) {
		if (at < mood->weights[i])
			return (enum step)i;
		at -= mood->weights[i];
	}
	return N_STEPS;
}

static void take_steps(struct fixture_model *self, struct model_run *run, const struct mood *mood,
		       unsigned int n)
{
	while (n-- > 0) {
		/* What a step takes does not change what comes after it. */
		uint64_t next = model_random(run->model, UINT64_MAX);

		step(self, run, mood, some_step(run->model, mood));
		run->model->random = next;
		if (run->box.n_stored)
			ASSERT_EQ(run->box.stored_error, 0);
		model_check_counters(run);
	}
}

static struct mood some_mood(struct fixture_model *self)
{
	static const unsigned int payloads[] = {20, 300, 3000};
	struct model *m = &self->m;
	struct mood mood = {
		.weights = {[STEP_APPEND] = (unsigned int)(5 + model_random(m, 30)),
			    [STEP_BATCH] = 3,
			    [STEP_SEND] = (unsigned int)model_random(m, 15),
			    [STEP_END] = (unsigned int)model_random(m, 15),
			    [STEP_FIND] = 3,
			    [STEP_WALK] = 1,
			    [STEP_HOLD] = 2,
			    [STEP_UNHOLD] = 3,
			    [STEP_SYNC] = 4,
			    [STEP_TURN] = 12,
			    [STEP_FLUSH] = 4,
			    [STEP_PUT_LANE] = 2},
		.payload_max = payloads[model_random(m, 3)],
		.n_lanes = (unsigned int)(1 + model_random(m, MODEL_LANES)),
		.n_steps = (unsigned int)model_random(m, model_random(m, 2) ? STEPS_MAX : 30),
		.end = (enum model_end)model_random(m, 3),
		.half = model_random(m, 4) == 0,
	};

	if (self->has_withdrawals) {
		mood.weights[STEP_END_FIRST] = (unsigned int)model_random(m, 6);
		mood.weights[STEP_WITHDRAW] = (unsigned int)model_random(m, 20);
	}
	if (self->has_damage) {
		mood.weights[STEP_FLIP] = 1;
		mood.weights[STEP_DELETE] = model_random(m, 8) == 0;
	}
	return mood;
}

/* --- processes -------------------------------------------------------------------------------- */

/* Some more steps, none of them a sync; and what the disk may have then. */
static void lose_power(struct fixture_model *self, struct model_run *run, struct mood mood)
{
	struct image before, after, mixed;
	unsigned int n_stored;
	bool is_known;

	model_sync(run);
	model_turn(run);
	image_take(&before, self->dir);
	model_snapshot(&self->m);
	n_stored = run->box.n_stored;
	mood.weights[STEP_SYNC] = mood.weights[STEP_FLIP] = mood.weights[STEP_DELETE] = 0;
	take_steps(self, run, &mood, (unsigned int)model_random(&self->m, 30));
	while (loop_n_in_flight(run->box.loop) > 0)
		model_turn(run);
	image_take(&after, self->dir);
	is_known = n_stored == run->box.n_stored && mix(&self->m, &mixed, &before, &after);
	box_close(&run->box);
	if (!is_known)
		return;
	image_put(&mixed, self->dir);
	self->end = MODEL_CUT;
}

static void live(struct fixture_model *self)
{
	struct mood mood = some_mood(self);
	struct model_run run;

	self->end = MODEL_STOP;
	model_open(&run, &self->m, self->dir);
	if (model_random(&self->m, 4))
		model_walk(&run);
	take_steps(self, &run, &mood, mood.n_steps);
	if (mood.end == MODEL_CUT)
		return lose_power(self, &run, mood);
	if (mood.end == MODEL_STOP)
		return box_close(&run.box);
	self->end = MODEL_KILL;
	if (mood.half)
		model_append_half(&run, 0, model_random(&self->m, 1000));
	raise(SIGKILL);
}

static void end_life(struct fixture_model *self)
{
	struct model_run run;

	self->end = MODEL_STOP;
	model_open(&run, &self->m, self->dir);
	if (model_random(&self->m, 2))
		model_walk(&run);
	model_drain(&run);
	box_close(&run.box);
}

static void open_only(struct fixture_model *self)
{
	struct model_run run;

	self->end = MODEL_KILL;
	model_open(&run, &self->m, self->dir);
	for (;;)
		model_turn(&run);
}

struct life {
	struct fixture_model *self;
	void (*run)(struct fixture_model *self);
};

static void run_life(void *userdata)
{
	const struct life *life = userdata;

	life->run(life->self);
}

static pid_t fork_life(struct fixture_model *self, void (*run)(struct fixture_model *self))
{
	struct life life = {.self = self, .run = run};
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		harness_call(run_life, &life);
		_exit(0);
	}
	++self->n_processes;
	return pid;
}

/* As it ended; nothing it expected went wrong. */
static void await_life(struct fixture_model *self, pid_t pid)
{
	static const char *const names[] = {"stops", "is killed", "loses its power"};
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(harness_state.result->n_failed, 0);
	tell(self, "the process %s with %" PRIu64 " records in the model", names[self->end], self->m.n);
	ASSERT_EQ(WIFSIGNALED(status) ? WTERMSIG(status) : 0, self->end == MODEL_KILL ? SIGKILL : 0);
	model_ended(&self->m, self->end);
	self->n_kills += self->end == MODEL_KILL;
	self->n_cuts += self->end == MODEL_CUT;
}

/* A start that does not get far. */
static void kill_start(struct fixture_model *self)
{
	struct timespec pause = {.tv_nsec = (long)model_random(&self->m, START_MAX_US) * 1000};
	pid_t pid;

	self->end = MODEL_KILL;
	pid = fork_life(self, open_only);
	nanosleep(&pause, NULL);
	kill(pid, SIGKILL);
	await_life(self, pid);
}

/* --- sequences -------------------------------------------------------------------------------- */

static void sequence(struct fixture_model *self, uint64_t seed)
{
	static const uint64_t bounds[] = {200 << 10, 1 << 20, 64 << 20};
	struct model *m = &self->m;
	struct file files[FILES_MAX];

	model_init(m, seed);
	m->max_bytes = bounds[model_random(m, 3)];
	m->is_calm = model_random(m, 3);
	self->has_damage = model_random(m, 2);
	self->has_withdrawals = model_random(m, 3);
	image_clear(self->dir);
	for (uint64_t n = 1 + model_random(m, 6); n > 0; --n) {
		await_life(self, fork_life(self, live));
		if (self->has_damage && model_random(m, 2))
			damage(self);
		if (!m->is_calm && model_random(m, 8) == 0)
			kill_start(self);
	}
	await_life(self, fork_life(self, end_life));
	for (size_t n = list_files(self->dir, files); n > 0; --n)
		ASSERT_TRUE(files[n - 1].id == 0 || model_is_lost_file(m, files[n - 1].id));
}

TEST_F_TIMEOUT(model, random_steps, 10800)
{
	uint64_t n = image_samples("IOTHUB_MODEL", N_SEQUENCES), seed = image_samples("IOTHUB_MODEL_SEED", 0);
	uint64_t n_checked = 0, n_lost = 0;

	self->is_told = seed != 0;
	for (uint64_t i = 0; i < (seed ? 1 : n); ++i) {
		sequence(self, seed ? seed : test_random());
		n_checked += self->m.n_checked;
		n_lost += self->m.n_lost;
	}
	TEST_LOG("%" PRIu64 " processes, %" PRIu64 " killed, %" PRIu64 " cuts of power, %" PRIu64
		 " flips, %" PRIu64 " files cut or deleted; %" PRIu64 " records read, %" PRIu64 " lost",
		 self->n_processes, self->n_kills, self->n_cuts, self->n_flips, self->n_files_hurt, n_checked,
		 n_lost);
}

TEST_HARNESS_MAIN
