/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Mode `ebpf`: content taken while the inode is locked, so that the ring has the order in which the files changed.
 *
 * generic_write_checks is called by every file system of ours with the inode lock held, the position final (O_APPEND too)
 * and the iterator still full: one hook for write, writev, aio and io_uring, buffered and direct. Hooks are on functions of
 * the kernel proper that file systems call across a module boundary: never inlined there.
 * Which programs fit this kernel (arguments vary) is decided by its BTF, in livelift/capture/ebpf/hooks.py.
 */
#include "records.bpf.h"
#include "calls.bpf.h"

#define SEGMENTS 64
#define ATTR_SIZE 8 /* linux/fs.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kiocb {
	struct file *ki_filp;
	long long ki_pos;
};
struct iovec {
	void *iov_base;
	unsigned long iov_len;
};
struct iov_iter {
	__u8 iter_type; /* since 5.14 */
	unsigned long iov_offset;
	unsigned long nr_segs;
	const struct iovec *__iov; /* since 6.4 */
	void *ubuf; /* since 6.0 */
};
struct iov_iter___old {
	__u32 type; /* before 5.14: ITER_IOVEC 4 | WRITE 1 */
	const struct iovec *iov; /* before 6.4 */
};
struct iattr {
	__u32 ia_valid;
	long long ia_size;
};
struct dentry {
	struct inode *d_inode;
};
#pragma clang attribute pop

enum iter_type {
	ITER_IOVEC = 0,
	ITER_UBUF = 100,
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

/* ``length`` bytes of a vector in kernel memory, from ``skip`` bytes into its first segment; 1: there is more. */
__attribute__((noinline)) int emit_segments(__u64 vector, __u64 skip, __u64 offset, __u64 length)
{
	for (int i = 0; i < SEGMENTS; i++) {
		struct {
			__u64 base, length;
		} v = {};
		if (!length)
			return 0;
		if (bpf_probe_read_kernel(&v, sizeof(v), (void *)(vector + i * sizeof(v))))
			return 1;
		__u64 n = v.length > skip ? v.length - skip : 0;
		if (n > length)
			n = length;
		emit_all(v.base + skip, offset, n, HOW_HOLD);
		skip = 0;
		offset += n;
		length -= n;
	}
	return length != 0;
}

static __always_inline int content(struct iov_iter *from, __u64 offset, __u64 length)
{
	struct iov_iter___old *old = (void *)from;
	__u64 skip = BPF_CORE_READ(from, iov_offset);
	__u64 vector;
	if (bpf_core_field_exists(from->iter_type)) {
		__u8 type = BPF_CORE_READ(from, iter_type);
		if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
		    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
			emit_all((__u64)BPF_CORE_READ(from, ubuf) + skip, offset, length, HOW_HOLD);
			return 0;
		}
		if (type != bpf_core_enum_value(enum iter_type, ITER_IOVEC))
			return 1;
	} else if ((BPF_CORE_READ(old, type) & ~1) != 4) {
		return 1;
	}
	if (bpf_core_field_exists(from->__iov))
		vector = (__u64)BPF_CORE_READ(from, __iov);
	else
		vector = (__u64)BPF_CORE_READ(old, iov);
	return emit_segments(vector, skip, offset, length);
}

SEC("fexit/generic_write_checks")
int write_checks(__u64 *ctx)
{
	struct kiocb *iocb;
	struct iov_iter *from;
	__s64 length = ctx[2];
	if (length <= 0)
		return 0;
	bpf_probe_read_kernel(&iocb, sizeof(iocb), &ctx[0]);
	bpf_probe_read_kernel(&from, sizeof(from), &ctx[1]);
	struct inode *inode = BPF_CORE_READ(iocb, ki_filp, f_inode);
	__u32 volume = volume_of(inode);
	if (!volume-- || ours())
		return 0;
	__u64 ino = BPF_CORE_READ(inode, i_ino), offset = BPF_CORE_READ(iocb, ki_pos);
	if (!speak_of(volume, ino))
		return 0;
	if (length > CHUNK * CHUNKS || content(from, offset, length))
		mark(volume, ino, OP_DIRTY, offset, length);
	__u64 me = bpf_get_current_pid_tgid();
	struct begun *before = bpf_map_lookup_elem(&begun, &me);
	if (before) {
		before->calls++;
	} else {
		struct begun now = {.ino = ino, .bytes = length, .volume = volume, .calls = 1};
		bpf_map_update_elem(&begun, &me, &now, 0);
	}
	return 0;
}

/* The end of the system call: what was not resident at its beginning is now, for the file system has copied it. */
__attribute__((noinline)) int fill(__u64 me)
{
	struct held *mine = bpf_map_lookup_elem(&held, &me);
	if (!mine)
		return 0;
	if (speak_of(mine->volume, mine->ino)) {
		for (int i = 0; i < HELD; i++) {
			if (i >= mine->count)
				break;
			emit(mine->chunks[i].from, mine->chunks[i].offset, mine->chunks[i].length, HOW_FILL);
		}
	}
	bpf_map_delete_elem(&held, &me);
	return 0;
}

SEC("raw_tp/sys_exit")
int leave(__u64 *ctx)
{
	__u64 me = bpf_get_current_pid_tgid();
	struct begun *mine = bpf_map_lookup_elem(&begun, &me);
	if (!mine)
		return 0;
	fill(me);
	struct pt_regs *regs = (void *)ctx[0];
	__s64 result = ctx[1];
	__u32 call = call_of(regs, BPF_CORE_READ(regs, orig_ax));
	/* Asynchronous calls return something else than bytes. */
	if (call >= CALL_WRITE && call <= CALL_PWRITEV2 && (mine->calls != 1 || result != mine->bytes))
		mark(mine->volume, mine->ino, OP_DIRTY, 0, 0);
	bpf_map_delete_elem(&begun, &me);
	return 0;
}

static __always_inline int changed(__u64 dentry_, __u64 attributes_, __s64 result)
{
	struct dentry *dentry = (void *)dentry_;
	struct iattr *attributes = (void *)attributes_;
	if (result || !(BPF_CORE_READ(attributes, ia_valid) & ATTR_SIZE))
		return 0;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	__u32 volume = volume_of(inode);
	if (volume && !ours())
		mark(volume - 1, BPF_CORE_READ(inode, i_ino), OP_TRUNCATE, BPF_CORE_READ(attributes, ia_size), 0);
	return 0;
}

static __always_inline __u64 argument(__u64 *at)
{
	__u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), at);
	return value;
}

SEC("fexit/notify_change") /* dentry, iattr, delegated */
int notify_change_3(__u64 *ctx)
{
	return changed(argument(&ctx[0]), argument(&ctx[1]), (__s32)argument(&ctx[3]));
}

SEC("fexit/notify_change") /* since 5.12 with the mount's id map in front */
int notify_change_4(__u64 *ctx)
{
	return changed(argument(&ctx[1]), argument(&ctx[2]), (__s32)argument(&ctx[4]));
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
		 : mode == 0 ? OP_ALLOCATE : mode == 1 ? OP_ALLOCATE | FLAG_KEEP_SIZE << 8 : mode == 3 ? OP_PUNCH : OP_DIRTY;
	return on_file((void *)argument(&ctx[0]), op, argument(&ctx[2]), argument(&ctx[3]));
}

/* Content that comes from another file: its bytes are in no buffer. */
SEC("fexit/vfs_copy_file_range")
int copies(__u64 *ctx)
{
	return (__s64)argument(&ctx[6]) > 0 ? on_file((void *)argument(&ctx[2]), OP_DIRTY, argument(&ctx[3]), 0) : 0;
}

SEC("fexit/vfs_clone_file_range")
int clones(__u64 *ctx)
{
	return (__s64)argument(&ctx[6]) >= 0 ? on_file((void *)argument(&ctx[2]), OP_DIRTY, argument(&ctx[3]), 0) : 0;
}
