/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Mode `ebpf`: what changes is told while it is locked, so that the ring has the order in which the files changed.
 *
 * Content: generic_write_checks is called by every file system of ours with the inode lock held, the position final (O_APPEND
 * too) and the iterator still full: one hook for write, writev, aio, io_uring, sendfile, splice and the kernel's own writers,
 * buffered and direct. Hooks are on functions of the kernel proper that file systems call across a module boundary: never
 * inlined there. Which programs fit this kernel (arguments vary) is decided by its BTF, in livelift/capture/ebpf/hooks.py.
 */
#include "records.bpf.h"
#include "calls.bpf.h"
#include "names.bpf.h"
#include "attributes.bpf.h"
#include "memory.bpf.h"

#define SEGMENTS 64
#define KEEP_SIZE 1 /* linux/falloc.h */
#define PUNCH_HOLE 2
#define COLLAPSE_RANGE 8
#define ZERO_RANGE 16
#define INSERT_RANGE 32
#define REMAP_DEDUP 1 /* linux/fs.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kiocb {
	struct file *ki_filp;
	long long ki_pos;
};
struct iov_iter {
	__u8 iter_type; /* since 5.14 */
	unsigned long iov_offset;
	unsigned long nr_segs;
	const void *__iov; /* since 6.4 */
	const void *kvec; /* in the same place as __iov */
	void *ubuf; /* since 6.0 */
};
struct iov_iter___old {
	__u32 type; /* before 5.14: ITER_IOVEC 4, ITER_KVEC 8, ITER_BVEC 16 | WRITE 1 */
};
#pragma clang attribute pop

enum iter_type {
	ITER_IOVEC = 0,
	ITER_UBUF = 100,
	ITER_KVEC = 101,
	ITER_BVEC = 102,
}; /* the running kernel's values, by name */

/* What the system call of a task began to write: if it returns less, the log has what the file has not. */
struct begun {
	__u64 ino;
	__u64 bytes;
	__u32 volume;
	__u32 calls;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct begun);
} begun SEC(".maps");

/* Bytes of a vector in kernel memory: ``much`` is their number, and << 32 the bytes of its first segment that are left out.
 * Its segments are (address, length), or for HOW_KERNEL | PAGES (page, length, offset). 1: there is more. */
#define PAGES 0x80
__attribute__((noinline)) int emit_segments(__u64 vector, __u64 much, __u64 offset, __u64 ino, __u32 say)
{
	__u64 length = (__u32)much, skip = much >> 32;
	for (int i = 0; i < SEGMENTS; i++) {
		struct {
			__u64 base, length;
		} v = {};
		if (!length)
			return 0;
		if (bpf_probe_read_kernel(&v, sizeof(v), (void *)(vector + i * sizeof(v))))
			return 1;
		if (say & PAGES) { /* struct bio_vec: page, u32 length, u32 offset */
			__u64 at = address_of(v.base);
			if (!at)
				return 1;
			v.base = at + (v.length >> 32);
			v.length = (__u32)v.length;
		}
		__u64 n = v.length > skip ? v.length - skip : 0;
		if (n > length)
			n = length;
		emit_all(v.base + skip, offset, n, ino, say & ~PAGES);
		skip = 0;
		offset += n;
		length -= n;
	}
	return length != 0;
}

/* What kind of iterator: HOW_HOLD for the caller's memory, HOW_KERNEL, HOW_KERNEL | PAGES; 0: another kind. */
static __always_inline __u32 kind_of(struct iov_iter *from)
{
	struct iov_iter___old *old = (void *)from;
	if (!bpf_core_field_exists(from->iter_type)) {
		__u32 type = BPF_CORE_READ(old, type) & ~1;
		return type == 4 ? HOW_HOLD : type == 8 ? HOW_KERNEL : type == 16 ? HOW_KERNEL | PAGES : 0;
	}
	__u8 type = BPF_CORE_READ(from, iter_type);
	if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC))
		return HOW_HOLD;
	if (type == bpf_core_enum_value(enum iter_type, ITER_KVEC))
		return HOW_KERNEL;
	return type == bpf_core_enum_value(enum iter_type, ITER_BVEC) ? HOW_KERNEL | PAGES : 0;
}

static __always_inline int content(struct iov_iter *from, __u64 offset, __u64 length, __u64 ino, __u32 volume)
{
	__u64 skip = BPF_CORE_READ(from, iov_offset), segments = BPF_CORE_READ(from, nr_segs);
	__u32 how = 0, more = length > CHUNK || segments > 1;
	int left;
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) && bpf_core_field_exists(from->iter_type) &&
	    BPF_CORE_READ(from, iter_type) == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		more = length > CHUNK;
		emit_all((__u64)BPF_CORE_READ(from, ubuf) + skip, offset, length, ino,
			 SAY(HOW_HOLD, more ? FLAG_MORE : 0, volume));
		left = 0;
	} else {
		how = kind_of(from);
		if (!how)
			return 1;
		left = emit_segments((__u64)BPF_CORE_READ(from, kvec), length | skip << 32, offset, ino,
				     SAY(how, more ? FLAG_MORE : 0, volume));
	}
	if (more)
		mark(volume, ino, OP_WHOLE, offset, length);
	return left;
}

SEC("fexit/generic_write_checks")
int write_checks(__u64 *ctx)
{
	struct kiocb *iocb = (void *)argument(&ctx[0]);
	struct iov_iter *from = (void *)argument(&ctx[1]);
	__s64 length = argument(&ctx[2]);
	if (length <= 0)
		return 0;
	struct inode *inode = BPF_CORE_READ(iocb, ki_filp, f_inode);
	__u32 volume = volume_of(inode);
	if (!volume-- || ours())
		return 0;
	__u64 ino = BPF_CORE_READ(inode, i_ino), offset = BPF_CORE_READ(iocb, ki_pos), told = length;
	if (length > CHUNK * CHUNKS || content(from, offset, length, ino, volume)) {
		mark(volume, ino, OP_DIRTY | FLAG_LATER << 8, offset, length);
		told = 0; /* it is still to be written: marked again at the end of the call */
	}
	__u64 me = bpf_get_current_pid_tgid();
	struct begun *before = bpf_map_lookup_elem(&begun, &me);
	if (before) {
		before->calls++;
		if (!told)
			before->bytes = 0;
	} else {
		struct begun now = {.ino = ino, .bytes = told, .volume = volume, .calls = 1};
		bpf_map_update_elem(&begun, &me, &now, 0);
	}
	return 0;
}

/* What was not resident at the beginning of a write. ``how``: HOW_FILL at the end of the system call, HOW_TRY before. */
__attribute__((noinline)) int fill(__u64 me, __u32 how)
{
	struct held *mine = bpf_map_lookup_elem(&held, &me);
	if (!mine)
		return 0;
	int left = 0;
	for (int i = 0; i < HELD; i++) {
		if (i >= mine->count)
			break;
		__u32 length = mine->chunks[i].length;
		if (!length)
			continue;
		if (emit(mine->chunks[i].from, mine->chunks[i].offset, length, mine->ino, SAY(how, 0, mine->volume)))
			left++;
		else
			mine->chunks[i].length = 0;
	}
	if (!left)
		bpf_map_delete_elem(&held, &me);
	return 0;
}

/* The file system has made a part of the writer's bytes resident and copies it now: also in the name of a kernel worker, which
 * ends no system call. A chunk is whole when its last page came. (Its caller, fault_in_iov_iter_readable, is in lib/, of which
 * nothing can be traced.) */
SEC("fexit/fault_in_readable") /* since 5.16: address, bytes -> bytes that are not */
int faulted(__u64 *ctx)
{
	return fill(bpf_get_current_pid_tgid(), HOW_TRY);
}

SEC("raw_tp/sys_exit")
int leave(__u64 *ctx)
{
	__u64 me = bpf_get_current_pid_tgid();
	struct begun *mine = bpf_map_lookup_elem(&begun, &me);
	if (!mine)
		return 0;
	fill(me, HOW_FILL);
	struct pt_regs *regs = (void *)ctx[0];
	__s64 result = ctx[1];
	__u32 call = call_of(regs, NUMBER(regs));
	/* Asynchronous calls return something else than bytes. */
	if (!mine->bytes ||
	    (call >= CALL_WRITE && call <= CALL_PWRITEV2 && (mine->calls != 1 || result != mine->bytes)))
		mark(mine->volume, mine->ino, OP_DIRTY, 0, 0);
	bpf_map_delete_elem(&begun, &me);
	return 0;
}

static __always_inline int on_file(struct file *file, __u32 op, __u64 offset, __u64 length)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 volume = volume_of(inode);
	if (volume && !ours())
		mark(volume - 1, BPF_CORE_READ(inode, i_ino), op, offset, length);
	return 0;
}

SEC("fentry/vfs_fallocate")
int fallocate_begins(__u64 *ctx)
{
	return on_file((void *)argument(&ctx[0]), OP_BEGIN, 0, 0);
}

/* After the inode was unlocked; so is what the file system did not do: the beginning needs its end. */
SEC("fexit/vfs_fallocate")
int fallocate_ends(__u64 *ctx)
{
	__s32 mode = argument(&ctx[1]);
	__u32 op = (__s32)argument(&ctx[4]) ? OP_END
		 : mode == 0 ? OP_ALLOCATE : mode == KEEP_SIZE ? OP_ALLOCATE | FLAG_KEEP_SIZE << 8
		 : mode == (PUNCH_HOLE | KEEP_SIZE) ? OP_PUNCH : mode == COLLAPSE_RANGE ? OP_COLLAPSE
		 : mode == ZERO_RANGE ? OP_ZERO : mode == (ZERO_RANGE | KEEP_SIZE) ? OP_ZERO | FLAG_KEEP_SIZE << 8
		 : mode == INSERT_RANGE ? OP_INSERT : OP_DIRTY;
	return on_file((void *)argument(&ctx[0]), op | FLAG_ENDS << 8, argument(&ctx[2]), argument(&ctx[3]));
}

/* Content that comes from another file: the file system shares the blocks (below), or the kernel writes (above). */
SEC("fentry/vfs_copy_file_range")
int copy_begins(__u64 *ctx)
{
	return on_file((void *)argument(&ctx[2]), OP_BEGIN, 0, 0);
}

SEC("fexit/vfs_copy_file_range")
int copy_ends(__u64 *ctx)
{
	__s64 done = argument(&ctx[6]);
	return on_file((void *)argument(&ctx[2]), (done > 0 ? OP_DIRTY : OP_END) | FLAG_ENDS << 8, argument(&ctx[3]), done);
}

SEC("fentry/vfs_clone_file_range")
int clone_begins(__u64 *ctx)
{
	return on_file((void *)argument(&ctx[2]), OP_BEGIN, 0, 0);
}

SEC("fexit/vfs_clone_file_range")
int clone_ends(__u64 *ctx)
{
	__s64 done = argument(&ctx[6]);
	return on_file((void *)argument(&ctx[2]), (done > 0 ? OP_DIRTY : OP_END) | FLAG_ENDS << 8, argument(&ctx[3]), done);
}

/* Behind the length of what is shared: whose bytes. */
struct clone {
	__u64 length, ino, offset;
};

/* Both inodes are locked, and the range is what it will be: source, its offset, file, offset, length, flags. */
SEC("fexit/generic_remap_file_range_prep")
int clones(__u64 *ctx)
{
	struct inode *from = BPF_CORE_READ((struct file *)argument(&ctx[0]), f_inode);
	struct inode *to = BPF_CORE_READ((struct file *)argument(&ctx[2]), f_inode);
	__u32 volume = volume_of(to);
	__s64 length = 0;
	bpf_probe_read_kernel(&length, sizeof(length), (void *)argument(&ctx[4]));
	if (!volume || (__s32)argument(&ctx[6]) || length <= 0 || argument(&ctx[5]) & REMAP_DEDUP || ours())
		return 0;
	__u64 ino = BPF_CORE_READ(to, i_ino);
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + sizeof(struct clone), 0);
	if (!r) {
		lose(volume - 1, ino);
		return 0;
	}
	struct clone *clone = (void *)(r + 1);
	head(r, volume - 1, ino, OP_CLONE, argument(&ctx[3]), 0);
	r->task = bpf_get_current_pid_tgid();
	clone->length = length;
	clone->ino = volume_with(from) == volume ? BPF_CORE_READ(from, i_ino) : 0;
	clone->offset = argument(&ctx[1]);
	bpf_ringbuf_submit(r, 0);
	return 0;
}
