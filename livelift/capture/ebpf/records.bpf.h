/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* What both flavours share: the kernel's types (by name and member: CO-RE finds the offsets of the running kernel), the
 * record, the ring, and what happens when the ring is full.
 *
 * No vmlinux.h: these few members are all that is read, and its enumerators collide with ours.
 * Everything here keeps to what Linux 5.10 verifies: no atomics that fetch (-mcpu=v2), loops with constant bounds, and
 * global functions with scalar arguments, which the verifier checks once instead of once for each call.
 */
#ifndef LIVELIFT_RECORDS_BPF_H
#define LIVELIFT_RECORDS_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};
struct kernel_id { /* kuid_t, kgid_t */
	__u32 val;
};
struct inode {
	__u16 i_mode;
	struct kernel_id i_uid, i_gid;
	struct super_block *i_sb;
	unsigned long i_ino;
	__u32 i_nlink, i_rdev, i_generation;
	long long i_size;
};
struct file {
	struct inode *f_inode;
	long long f_pos;
	__u32 f_flags;
};
struct btrfs_root {
	__u32 anon_dev;
};
struct btrfs_inode {
	struct btrfs_root *root;
	struct inode vfs_inode;
};
#pragma clang attribute pop

#define BTRFS_MAGIC 0x9123683E
#define O_APPEND 02000
#define CHUNK 65536 /* bytes of content in the largest record */
#define CHUNKS 64 /* records for one buffer: 4 MiB, what is longer is a DIRTY mark */

/* livelift/capture/ebpf/records.py knows these numbers. */
enum op {
	OP_WRITE = 1, /* payload: the bytes */
	OP_TRUNCATE = 2, /* offset: the new size */
	OP_ALLOCATE = 3, /* flags: 1 = the size stays */
	OP_PUNCH = 4,
	OP_DIRTY = 5, /* something was written, what is not known */
	/* mode `ebpf` only: */
	OP_HELD = 6, /* the place of content that was not resident: its length follows */
	OP_FILL = 7, /* that content (payload), from the same task, for the same offset; no payload: it never came */
	OP_BEGIN = 8, /* an operation begins whose own record comes when the inode is unlocked again */
	OP_END = 9, /* it failed: nothing changed */
	OP_SETTING = 10, /* the place of a TRUNCATE: it, or END, comes when the file system has done it */
	OP_WHOLE = 11, /* the pieces of one call (FLAG_MORE) are complete */
	OP_PAGE = 12, /* payload: what a page of a mapped file holds that is being written to disk */
	OP_MAKE = 13, /* names.bpf.h: an object gets a name, its first or a further one */
	OP_REMOVE = 14,
	OP_MOVE = 15,
	OP_SWAP = 16, /* RENAME_EXCHANGE */
	OP_LOOK = 17, /* something happened to this name that is not told */
	OP_CHANGED = 18, /* attributes.bpf.h: mode, owner, times */
	OP_XATTR = 19, /* payload: name and value */
	OP_ATTRIBUTES = 20, /* an attribute changed, which is not told */
	OP_ZERO = 21, /* fallocate's other modes */
	OP_COLLAPSE = 22,
	OP_INSERT = 23,
	OP_CLONE = 24, /* the place of bytes that another file shares: struct clone; its end says whether it was done */
};
enum flag {
	FLAG_KEEP_SIZE = 1,
	FLAG_LATER = 2, /* DIRTY: the change may still be on its way (asynchronous i/o) */
	FLAG_MORE = 4, /* a piece of a call; behind the last one comes WHOLE */
	FLAG_GONE = 8, /* XATTR: removed */
	FLAG_ENDS = 16, /* the end of what BEGIN began */
};
enum stat {
	STAT_DROPPED, /* records for which the ring had no room; their object is in `lost` */
	STAT_LOST_FULL, /* objects for which `lost` had no room: anything may be missing */
	STAT_FAULTS, /* content that was not resident: a DIRTY mark instead */
	STAT_RACED, /* writes through a shared file position whose offset cannot be told: DIRTY */
	STAT_UNTRACKED, /* files that were mapped writable and for which `mapped` had no room: their stores are not told */
	STAT_COUNT,
};

struct record {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u64 ino;
	__u64 offset;
	__u32 length;
	__u16 volume;
	__u8 op;
	__u8 flags;
	__u64 task; /* pid_tgid of the writer: one system call at a time */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 26); /* set before loading */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} stats SEC(".maps");

/* Objects of which a record was dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u8);
} lost SEC(".maps");

/* st_dev (kernel encoding) of each volume, and its index + 1. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u32);
} volumes SEC(".maps");

/* Processes (thread groups) whose writes are not captured: the agents. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u8);
} skip SEC(".maps");

/* Content that was not resident when its place in the order was taken, by task (pid_tgid). */
#define HELD 16
struct held {
	__u64 ino;
	__u32 volume;
	__u32 count;
	struct {
		__u64 from, offset, length;
	} chunks[HELD];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct held);
} held SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct held);
} nothing_held SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&stats, &which);
	if (value)
		__sync_fetch_and_add(value, 1);
}

/* A record of this object was dropped. The map first, the counter after: who sees the counter finds the object. */
static __always_inline void lose(__u32 volume, __u64 ino)
{
	__u64 key = (__u64)volume << 56 | ino;
	__u8 one = 1;
	if (bpf_map_update_elem(&lost, &key, &one, 0 /* BPF_ANY */))
		count(STAT_LOST_FULL);
	count(STAT_DROPPED);
}

/* What stat(2) calls st_dev. The subvolumes of one btrfs share s_dev, and their inode numbers repeat. */
static __always_inline __u32 device_of(struct inode *inode)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	if (BPF_CORE_READ(sb, s_magic) != BTRFS_MAGIC)
		return BPF_CORE_READ(sb, s_dev);
	if (!bpf_core_type_exists(struct btrfs_inode))
		return 0;
	struct btrfs_inode *whole = (void *)inode - bpf_core_field_offset(struct btrfs_inode, vfs_inode);
	return BPF_CORE_READ(whole, root, anon_dev);
}

static __always_inline int ours(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	return bpf_map_lookup_elem(&skip, &tgid) != 0;
}

/* The volume's index + 1 if it takes part, else 0. */
static __always_inline __u32 volume_with(struct inode *inode)
{
	__u32 device = device_of(inode);
	__u32 *volume = bpf_map_lookup_elem(&volumes, &device);
	return volume ? *volume : 0;
}

static __always_inline int is_regular(struct inode *inode)
{
	return (BPF_CORE_READ(inode, i_mode) & 0170000) == 0100000;
}

/* The same, 0 if it is no regular file. */
static __always_inline __u32 volume_of(struct inode *inode)
{
	return is_regular(inode) ? volume_with(inode) : 0;
}

static __always_inline void head(struct record *r, __u32 volume, __u64 ino, __u8 op, __u64 offset, __u32 length)
{
	r->time = bpf_ktime_get_ns();
	r->ino = ino;
	r->offset = offset;
	r->length = length;
	r->volume = volume;
	r->op = op;
	r->flags = 0;
}

/* A record without payload. ``op``: op | flags << 8. */
static __always_inline void mark(__u32 volume, __u64 ino, __u32 op, __u64 offset, __u64 length)
{
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + 8, 0);
	if (!r) {
		lose(volume, ino);
		return;
	}
	head(r, volume, ino, op & 0xff, offset, 0);
	r->flags = op >> 8;
	*(__u64 *)(r + 1) = length;
	r->task = bpf_get_current_pid_tgid();
	bpf_ringbuf_submit(r, 0);
}

/* Remember this chunk for `fill`. 0: there is no room. */
static __always_inline int hold(__u32 volume, __u64 ino, __u64 from, __u64 offset, __u64 length)
{
	__u64 me = bpf_get_current_pid_tgid();
	__u32 zero = 0;
	struct held *mine = bpf_map_lookup_elem(&held, &me);
	if (!mine) {
		struct held *none = bpf_map_lookup_elem(&nothing_held, &zero);
		if (!none || bpf_map_update_elem(&held, &me, none, 0))
			return 0;
		mine = bpf_map_lookup_elem(&held, &me);
		if (!mine)
			return 0;
		mine->ino = ino;
		mine->volume = volume;
	}
	if (mine->ino != ino || mine->volume != volume)
		return 0;
	__u32 n = mine->count;
	if (n >= HELD)
		return 0;
	mine->chunks[n].from = from;
	mine->chunks[n].offset = offset;
	mine->chunks[n].length = length;
	mine->count = n + 1;
	return 1;
}

/* Where the bytes are, and what to do if they are not resident. */
enum how {
	HOW_MARK, /* the caller's memory; a DIRTY mark in its place */
	HOW_HOLD, /* the same; keep its place: HELD, and a FILL when the system call ends */
	HOW_FILL, /* this is that FILL: empty */
	HOW_TRY, /* the same, but if they are not: nothing, and emit answers 1 */
	HOW_KERNEL, /* kernel memory */
	HOW_PAGE, /* kernel memory: a page of the file itself */
};
/* One argument: a global function of Linux 5.10 takes five scalars and no pointers, and memory of a CPU would not do: where
 * the kernel is preemptible, another task may run a program on this CPU in between. */
#define SAY(how, flags, volume) ((__u32)(how) | (__u32)(flags) << 8 | (__u32)(volume) << 16)

static __always_inline int copy(void *to, __u32 n, __u64 from, __u32 how)
{
	if (how >= HOW_KERNEL)
		return bpf_probe_read_kernel(to, n, (void *)from);
	return bpf_probe_read_user(to, n, (void *)from);
}

/* One record with ``length`` (at most CHUNK) bytes from ``from``. Reservations have constant sizes: the smallest class that
 * holds it. 1: they are not resident, and nothing was told (HOW_TRY). */
#define CLASS(size)                                                                                                  \
	if (length <= (size)) {                                                                                      \
		struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + (size), 0);                               \
		if (!r)                                                                                              \
			goto full;                                                                                   \
		__u64 n = length;                                                                                    \
		asm volatile("" : "+r"(n));                                                                          \
		if (n > (size))                                                                                      \
			n = (size);                                                                                  \
		__u8 op = how == HOW_FILL || how == HOW_TRY ? OP_FILL : how == HOW_PAGE ? OP_PAGE : OP_WRITE;        \
		head(r, volume, ino, op, offset, n);                                                                 \
		r->flags = (say >> 8) & 0xff;                                                                        \
		r->task = bpf_get_current_pid_tgid();                                                                \
		if (copy(r + 1, n, from, how)) {                                                                     \
			if (how == HOW_TRY) {                                                                        \
				bpf_ringbuf_discard(r, 0);                                                           \
				return 1;                                                                            \
			}                                                                                            \
			count(STAT_FAULTS);                                                                          \
			r->length = 0;                                                                               \
			*(__u64 *)(r + 1) = n;                                                                       \
			if (how == HOW_HOLD)                                                                         \
				r->op = hold(volume, ino, from, offset, n) ? OP_HELD : OP_DIRTY;                     \
			else if (how != HOW_FILL)                                                                    \
				r->op = OP_DIRTY;                                                                    \
		}                                                                                                    \
		bpf_ringbuf_submit(r, 0);                                                                            \
		return 0;                                                                                            \
	}

__attribute__((noinline)) int emit(__u64 from, __u64 offset, __u32 length, __u64 ino, __u32 say)
{
	__u32 how = say & 0xff, volume = say >> 16;
	CLASS(128)
	CLASS(512)
	CLASS(2048)
	CLASS(4096)
	CLASS(8192)
	CLASS(16384)
	CLASS(32768)
	CLASS(CHUNK)
full:
	lose(volume, ino);
	return 0;
}

/* ``length`` bytes from ``from``, in records of at most CHUNK; the caller has seen that it is at most CHUNK * CHUNKS. */
__attribute__((noinline)) int emit_all(__u64 from, __u64 offset, __u64 length, __u64 ino, __u32 say)
{
	__u64 done = 0;
	for (int i = 0; i < CHUNKS; i++) {
		if (done >= length)
			break;
		__u64 rest = length - done;
		emit(from + done, offset + done, rest < CHUNK ? rest : CHUNK, ino, say);
		done += CHUNK;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#endif
