/* SPDX-License-Identifier: MIT */
/*
 * The FUSE wire format. Integers are in host order; all structures are those of linux/fuse.h, 64-bit aligned.
 *
 *   request       fuse_in_header (40 bytes) | fuse_<op>_in | names, each with NUL, or data | extensions
 *   reply         fuse_out_header (16 bytes) | fuse_<op>_out or data
 *   notification  fuse_out_header with unique 0 and the code in `error` | fuse_notify_<code>_out
 *
 * A request is valid when header.len is the number of bytes read, the structure of its opcode is there in
 * full, a name ends with the only NUL in it, at the end of the request, and the data is as long as the
 * structure says. The kernel keeps to this; it is checked nevertheless, because nothing after this file
 * checks lengths again.
 *
 * Extensions (header.total_extlen, in units of 8 bytes) come only with INIT flags that are not taken; they
 * are cut off.
 */

#include "fuse/wire.h"

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Before 7.23 fuse_init_out is shorter; every structure used here is final since then. */
#define MIN_MINOR_VERSION 23

/* Bytes of fuse_init_in before flags2, all that kernels before 7.36 send. */
#define INIT_IN_SHORT_SIZE 16
/* Of a kernel with another major version only major and minor are defined. */
#define INIT_IN_VERSION_SIZE 8

#define MAX_BACKGROUND       64
#define CONGESTION_THRESHOLD 48

/* REQUEST_TIMEOUT is not among them: it would abort the mount for a reader that waits for its record. */
#define WANTED_FLAGS                                                                                         \
	(FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR | FUSE_MAX_PAGES |  \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_INIT_EXT | FUSE_HAS_RESEND)

enum tail {
	TAIL_IGNORED,
	TAIL_NAME,
	TAIL_TWO_NAMES,
	TAIL_DATA,
};

struct format {
	size_t arg_size;
	enum tail tail;
};

static const struct format formats[] = {
	[FUSE_LOOKUP] = {.tail = TAIL_NAME},
	[FUSE_FORGET] = {.arg_size = sizeof(struct fuse_forget_in)},
	[FUSE_BATCH_FORGET] = {.arg_size = sizeof(struct fuse_batch_forget_in), .tail = TAIL_DATA},
	[FUSE_GETATTR] = {.arg_size = sizeof(struct fuse_getattr_in)},
	[FUSE_SETATTR] = {.arg_size = sizeof(struct fuse_setattr_in)},
	[FUSE_OPEN] = {.arg_size = sizeof(struct fuse_open_in)},
	[FUSE_OPENDIR] = {.arg_size = sizeof(struct fuse_open_in)},
	[FUSE_READ] = {.arg_size = sizeof(struct fuse_read_in)},
	[FUSE_READDIR] = {.arg_size = sizeof(struct fuse_read_in)},
	[FUSE_WRITE] = {.arg_size = sizeof(struct fuse_write_in), .tail = TAIL_DATA},
	[FUSE_RELEASE] = {.arg_size = sizeof(struct fuse_release_in)},
	[FUSE_RELEASEDIR] = {.arg_size = sizeof(struct fuse_release_in)},
	[FUSE_FSYNC] = {.arg_size = sizeof(struct fuse_fsync_in)},
	[FUSE_FSYNCDIR] = {.arg_size = sizeof(struct fuse_fsync_in)},
	[FUSE_POLL] = {.arg_size = sizeof(struct fuse_poll_in)},
	[FUSE_INTERRUPT] = {.arg_size = sizeof(struct fuse_interrupt_in)},
	[FUSE_FLUSH] = {.arg_size = sizeof(struct fuse_flush_in)},
	[FUSE_MKDIR] = {.arg_size = sizeof(struct fuse_mkdir_in), .tail = TAIL_NAME},
	[FUSE_CREATE] = {.arg_size = sizeof(struct fuse_create_in), .tail = TAIL_NAME},
	[FUSE_UNLINK] = {.tail = TAIL_NAME},
	[FUSE_RMDIR] = {.tail = TAIL_NAME},
	[FUSE_RENAME] = {.arg_size = sizeof(struct fuse_rename_in), .tail = TAIL_TWO_NAMES},
	[FUSE_RENAME2] = {.arg_size = sizeof(struct fuse_rename2_in), .tail = TAIL_TWO_NAMES},
	[FUSE_IOCTL] = {.arg_size = sizeof(struct fuse_ioctl_in), .tail = TAIL_DATA},
};

static int parse_header(struct fuse_in_header *out, struct bytes src, struct bytes *body)
{
	size_t extensions_len;

	if (src.len < sizeof(*out))
		return -EBADMSG;
	memcpy(out, src.data, sizeof(*out));
	if (out->len != src.len)
		return -EBADMSG;

	*body = BYTES(src.data + sizeof(*out), src.len - sizeof(*out));
	extensions_len = (size_t)out->total_extlen * 8;
	if (extensions_len > body->len)
		return -EINVAL;
	body->len -= extensions_len;
	return 0;
}

static int parse_init(struct fuse_init_in *out, struct bytes body)
{
	if (body.len < INIT_IN_VERSION_SIZE)
		return -EINVAL;
	memcpy(out, body.data, body.len < sizeof(*out) ? body.len : sizeof(*out));
	if (out->major == FUSE_KERNEL_VERSION && body.len < INIT_IN_SHORT_SIZE)
		return -EINVAL;
	if (body.len < sizeof(*out))
		out->flags2 = 0;
	return 0;
}

static int parse_name(struct bytes *out, struct bytes tail)
{
	const uint8_t *nul = tail.len > 0 ? memchr(tail.data, '\0', tail.len) : NULL;

	if (!nul || nul == tail.data || nul + 1 != tail.data + tail.len)
		return -EINVAL;
	*out = BYTES(tail.data, tail.len - 1);
	return 0;
}

static int parse_two_names(struct fuse_wire_request *out, struct bytes tail)
{
	const uint8_t *nul = tail.len > 0 ? memchr(tail.data, '\0', tail.len) : NULL;
	size_t len = nul ? (size_t)(nul - tail.data) + 1 : tail.len;
	int r = parse_name(&out->name, BYTES(tail.data, len));

	return r < 0 ? r : parse_name(&out->new_name, BYTES(tail.data + len, tail.len - len));
}

static int parse_data(struct fuse_wire_request *out, struct bytes tail)
{
	if (out->header.opcode == FUSE_WRITE) {
		if (out->write.size != tail.len)
			return -EINVAL;
	} else if (out->header.opcode == FUSE_IOCTL) {
		if (out->ioctl.in_size != tail.len)
			return -EINVAL;
	} else {
		assert(out->header.opcode == FUSE_BATCH_FORGET);
		if (tail.len / sizeof(struct fuse_forget_one) < out->batch_forget.count)
			return -EINVAL;
	}
	out->data = tail;
	return 0;
}

int fuse_wire_parse(struct fuse_wire_request *out, struct bytes src)
{
	const struct format *format;
	struct bytes body, tail;
	int r;

	memset(out, 0, sizeof(*out));
	r = parse_header(&out->header, src, &body);
	if (r < 0)
		return r;
	if (out->header.opcode == FUSE_INIT)
		return parse_init(&out->init, body);
	if (out->header.opcode >= ARRAY_SIZE(formats))
		return 0;

	format = &formats[out->header.opcode];
	if (body.len < format->arg_size)
		return -EINVAL;
	/* Whichever member of the union it is, they all begin at the same place. */
	memcpy((uint8_t *)out + offsetof(struct fuse_wire_request, init), body.data, format->arg_size);
	tail = BYTES(body.data + format->arg_size, body.len - format->arg_size);
	switch (format->tail) {
	case TAIL_IGNORED:
		return 0;
	case TAIL_NAME:
		return parse_name(&out->name, tail);
	case TAIL_TWO_NAMES:
		return parse_two_names(out, tail);
	case TAIL_DATA:
		return parse_data(out, tail);
	}
	return 0;
}

struct fuse_forget_one fuse_wire_forget_one(const struct fuse_wire_request *request, uint32_t i)
{
	struct fuse_forget_one one;

	assert(i < request->batch_forget.count);
	memcpy(&one, request->data.data + (size_t)i * sizeof(one), sizeof(one));
	return one;
}

bool fuse_wire_is_answered(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* Pages for the largest write from a buffer that begins in the middle of a page. */
static uint32_t init_max_pages(uint32_t limit)
{
	uint32_t n = FUSE_WIRE_MAX_WRITE / (uint32_t)sysconf(_SC_PAGESIZE) + 1;

	if (n > UINT16_MAX)
		n = UINT16_MAX;
	return n < limit ? n : limit;
}

int fuse_wire_init(const struct fuse_init_in *in, uint32_t max_pages, struct fuse_init_out *out)
{
	uint64_t flags;

	*out = (struct fuse_init_out){.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
	if (in->major > FUSE_KERNEL_VERSION)
		return 1;
	if (in->major < FUSE_KERNEL_VERSION || in->minor < MIN_MINOR_VERSION)
		return -EPROTO;

	flags = in->flags;
	if (in->flags & FUSE_INIT_EXT)
		flags |= (uint64_t)in->flags2 << 32;
	flags &= WANTED_FLAGS;

	out->minor = in->minor < FUSE_KERNEL_MINOR_VERSION ? in->minor : FUSE_KERNEL_MINOR_VERSION;
	out->max_readahead = in->max_readahead;
	out->flags = (uint32_t)flags;
	out->flags2 = (uint32_t)(flags >> 32);
	out->max_background = MAX_BACKGROUND;
	out->congestion_threshold = CONGESTION_THRESHOLD;
	out->max_write = FUSE_WIRE_MAX_WRITE;
	out->time_gran = 1;
	if (flags & FUSE_MAX_PAGES)
		out->max_pages = (uint16_t)init_max_pages(max_pages);
	return 0;
}

static void message_add(struct fuse_wire_message *m, struct bytes part)
{
	if (part.len == 0)
		return;
	m->header.len += (uint32_t)part.len;
	/* struct iovec has no const; writev(2) only reads. */
	memcpy(&m->iov[m->n_iov].iov_base, &part.data, sizeof(part.data));
	m->iov[m->n_iov].iov_len = part.len;
	m->n_iov++;
}

static void message_init(struct fuse_wire_message *out, uint64_t unique, int error, struct bytes body)
{
	out->header = (struct fuse_out_header){
		.len = sizeof(out->header),
		.error = error,
		.unique = unique,
	};
	out->iov[0] = (struct iovec){.iov_base = &out->header, .iov_len = sizeof(out->header)};
	out->n_iov = 1;
	message_add(out, body);
}

void fuse_wire_reply(struct fuse_wire_message *out, uint64_t unique, struct bytes body)
{
	message_init(out, unique, 0, body);
}

void fuse_wire_reply_parts(struct fuse_wire_message *out, uint64_t unique, struct bytes head,
			   struct bytes body)
{
	message_init(out, unique, 0, head);
	message_add(out, body);
}

void fuse_wire_error(struct fuse_wire_message *out, uint64_t unique, int error)
{
	assert(error <= 0 && error > -512);
	message_init(out, unique, error, BYTES(NULL, 0));
}

void fuse_wire_notify(struct fuse_wire_message *out, int code, struct bytes body)
{
	message_init(out, 0, code, body);
}

bool fuse_wire_dirent(struct writer *w, uint64_t ino, uint64_t next_offset, uint32_t type, struct bytes name)
{
	struct fuse_dirent head = {
		.ino = ino,
		.off = next_offset,
		.namelen = (uint32_t)name.len,
		.type = (type & S_IFMT) >> 12,
	};
	size_t len = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name.len);
	uint8_t *dst;

	assert(name.len > 0 && name.len <= FUSE_WIRE_NAME_MAX);
	if ((size_t)(w->end - w->pos) < len)
		return false;
	dst = writer_reserve(w, len);
	if (!dst)
		return false;
	memcpy(dst, &head, FUSE_NAME_OFFSET);
	memcpy(dst + FUSE_NAME_OFFSET, name.data, name.len);
	memset(dst + FUSE_NAME_OFFSET + name.len, 0, len - FUSE_NAME_OFFSET - name.len);
	return true;
}
