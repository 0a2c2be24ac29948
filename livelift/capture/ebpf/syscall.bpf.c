/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Mode `ebpf-syscall`: what system calls wrote, read at their end from the caller's memory by two raw tracepoints.
 *
 * For kernels that refuse fexit programs. Weaker by nature: the order is that of the returns, not of the changes, and the
 * caller's other threads may have changed the buffer since. What it cannot tell exactly it says as DIRTY, and what does
 * not pass through these calls (io_uring, 32-bit programs, the kernel's own writes) is left to fanotify.
 */
#include "records.bpf.h"
#include "calls.bpf.h"

#define VECTORS 64
#define O_TRUNC 01000
#define O_PATH 010000000
#define RWF_APPEND 0x10

/* Who writes at a file's position. `entered` and `left` only grow: a call was alone with the position if nobody entered and
 * nobody left between its beginning and its end. A missing entry, or a count that does not add up, means DIRTY. */
struct turns {
	__u64 entered, left;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct turns);
} positions SEC(".maps");

struct stash {
	__u64 file, entered, left;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct stash);
} stashes SEC(".maps");

struct vector {
	__u64 base, length;
};

struct iocb { /* linux/aio_abi.h */
	__u64 data;
	__u32 key, rw_flags;
	__u16 opcode;
	__u16 priority;
	__u32 fd;
	__u64 buffer, bytes, offset;
};
#define IOCB_PWRITE 1
#define IOCB_PWRITEV 8

struct event {
	__u64 data, object;
	__s64 result, result2;
};

static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = 0;
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file;
}

SEC("raw_tp/sys_enter")
int enter(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	__u32 call = call_of(regs, ctx[1]);
	if (call != CALL_WRITE && call != CALL_WRITEV)
		return 0;
	struct file *file = file_of(FIRST(regs));
	if (!file || !volume_of(BPF_CORE_READ(file, f_inode)) || ours())
		return 0;
	__u64 key = (__u64)file, me = bpf_get_current_pid_tgid();
	struct turns *turns = bpf_map_lookup_elem(&positions, &key);
	if (!turns) {
		struct turns none = {};
		bpf_map_update_elem(&positions, &key, &none, 1 /* BPF_NOEXIST */);
		turns = bpf_map_lookup_elem(&positions, &key);
		if (!turns)
			return 0;
	}
	__sync_fetch_and_add(&turns->entered, 1);
	struct stash stash = {.file = key, .entered = *(volatile __u64 *)&turns->entered,
			      .left = *(volatile __u64 *)&turns->left};
	bpf_map_update_elem(&stashes, &me, &stash, 0);
	return 0;
}

/* True if the call that ends here was the only one that moved the file's position meanwhile. */
static __always_inline int alone(struct file *file)
{
	__u64 key = (__u64)file, me = bpf_get_current_pid_tgid();
	int result = 0;
	struct stash *stash = bpf_map_lookup_elem(&stashes, &me);
	struct turns *turns = bpf_map_lookup_elem(&positions, &key);
	if (stash && turns && stash->file == key) {
		__u64 entered = *(volatile __u64 *)&turns->entered, left = *(volatile __u64 *)&turns->left;
		result = entered == stash->entered && left == stash->left && entered - left == 1;
		__sync_fetch_and_add(&turns->left, 1);
	}
	bpf_map_delete_elem(&stashes, &me);
	return result;
}

/* ``length`` bytes that were gathered from a vector: global, verified once. */
__attribute__((noinline)) int emit_vector(__u64 vectors, __u64 offset, __u64 length, __u64 ino, __u32 say)
{
	for (int i = 0; i < VECTORS; i++) {
		struct vector v = {};
		if (!length)
			return 0;
		if (bpf_probe_read_user(&v, sizeof(v), (void *)(vectors + i * sizeof(v))))
			return 1;
		__u64 n = v.length < length ? v.length : length;
		emit_all(v.base, offset, n, ino, say);
		offset += n;
		length -= n;
	}
	return length != 0;
}

static __always_inline void written(__u32 volume, __u64 ino, __u64 from, __u64 count_, __u64 offset, __u64 length, int vector)
{
	__u32 say = SAY(HOW_MARK, 0, volume);
	if (length > CHUNK * CHUNKS) {
		mark(volume, ino, OP_DIRTY, offset, length);
	} else if (!vector) {
		emit_all(from, offset, length, ino, say);
	} else if (count_ > VECTORS || emit_vector(from, offset, length, ino, say)) {
		mark(volume, ino, OP_DIRTY, offset, length);
	}
}

/* A record without range on a descriptor of the calling process. */
__attribute__((noinline)) int dirty(__u32 fd, __u32 op)
{
	struct file *file = file_of(fd);
	if (!file)
		return 0;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 volume = volume_of(inode);
	if (volume && !ours())
		mark(volume - 1, BPF_CORE_READ(inode, i_ino), op, 0, 0);
	return 0;
}

/* An asynchronous write that has ended: its control block is still as it was submitted. */
__attribute__((noinline)) int reaped(__u64 at, __u64 done)
{
	struct iocb cb = {};
	if (bpf_probe_read_user(&cb, sizeof(cb), (void *)at))
		return 0; /* io_submit has marked it */
	if (cb.opcode != IOCB_PWRITE && cb.opcode != IOCB_PWRITEV)
		return 0;
	struct file *file = file_of(cb.fd);
	if (!file)
		return 0;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 volume = volume_of(inode);
	if (!volume || ours())
		return 0;
	__u64 ino = BPF_CORE_READ(inode, i_ino);
	if (BPF_CORE_READ(file, f_flags) & O_APPEND || cb.rw_flags & RWF_APPEND)
		mark(volume - 1, ino, OP_DIRTY, 0, 0);
	else
		written(volume - 1, ino, cb.buffer, cb.bytes, cb.offset, done, cb.opcode == IOCB_PWRITEV);
	return 0;
}

__attribute__((noinline)) int reap(__u64 events, __u64 n)
{
	for (int i = 0; i < VECTORS; i++) {
		struct event event = {};
		if (i >= n)
			return 0;
		if (bpf_probe_read_user(&event, sizeof(event), (void *)(events + i * sizeof(event))))
			return 0;
		if (event.result > 0)
			reaped(event.object, event.result);
	}
	return 0;
}

__attribute__((noinline)) int submitted(__u64 blocks, __u64 n)
{
	for (int i = 0; i < VECTORS; i++) {
		struct iocb cb = {};
		__u64 at = 0;
		if (i >= n)
			return 0;
		if (bpf_probe_read_user(&at, sizeof(at), (void *)(blocks + i * 8)) ||
		    bpf_probe_read_user(&cb, sizeof(cb), (void *)at))
			return 0;
		if (cb.opcode == IOCB_PWRITE || cb.opcode == IOCB_PWRITEV)
			dirty(cb.fd, OP_DIRTY | FLAG_LATER << 8);
	}
	return 0;
}

/* Calls whose first argument is a descriptor of which something exact can be said. */
static __always_inline void on_descriptor(struct pt_regs *regs, __u32 call, __u64 result)
{
	struct file *file = file_of(FIRST(regs));
	if (!file)
		return;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 volume = volume_of(inode);
	if (!volume--)
		return;
	__u64 ino = BPF_CORE_READ(inode, i_ino);
	__u64 second = SECOND(regs), third = THIRD(regs), fourth = FOURTH(regs);
	int vector = call == CALL_WRITEV || call == CALL_PWRITEV || call == CALL_PWRITEV2;
	if (call == CALL_WRITE || call == CALL_WRITEV) {
		int sure = alone(file);
		if (!result || ours())
			return;
		if (sure) {
			written(volume, ino, second, third, BPF_CORE_READ(file, f_pos) - result, result, vector);
		} else {
			count(STAT_RACED);
			mark(volume, ino, OP_DIRTY, 0, 0);
		}
		return;
	}
	if (ours())
		return;
	if (call == CALL_FTRUNCATE) {
		mark(volume, ino, OP_TRUNCATE, second, 0);
	} else if (call == CALL_FALLOCATE) {
		__u32 op = second == 0 ? OP_ALLOCATE : second == 1 ? OP_ALLOCATE | FLAG_KEEP_SIZE << 8
			 : second == 3 ? OP_PUNCH : OP_DIRTY;
		mark(volume, ino, op, third, fourth);
	} else if (result) {
		/* With O_APPEND Linux ignores the offset of pwrite (pwrite(2), bugs). */
		__u64 flags = call == CALL_PWRITEV2 ? SIXTH(regs) : 0;
		if (BPF_CORE_READ(file, f_flags) & O_APPEND || flags & RWF_APPEND || (__s64)fourth < 0)
			mark(volume, ino, OP_DIRTY, 0, 0);
		else
			written(volume, ino, second, third, fourth, result, vector);
	}
}

/* An open that cut the file: TRUNCATE to 0 on what it opened. */
static __always_inline void opened(struct pt_regs *regs, __u32 call, __u64 fd)
{
	__u64 flags = O_TRUNC;
	if (call == CALL_OPEN)
		flags = SECOND(regs);
	else if (call == CALL_OPENAT)
		flags = THIRD(regs);
	else if (call == CALL_OPENAT2 && bpf_probe_read_user(&flags, sizeof(flags), (void *)THIRD(regs))) {
		dirty(fd, OP_DIRTY);
		return;
	}
	if (flags & O_TRUNC && !(flags & O_PATH))
		dirty(fd, OP_TRUNCATE);
}

SEC("raw_tp/sys_exit")
int leave(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	__s64 result = ctx[1];
	__u32 call = call_of(regs, NUMBER(regs));
	if (call == CALL_NONE)
		return 0;
	if (result < 0 && call != CALL_WRITE && call != CALL_WRITEV)
		return 0;
	if (result < 0)
		result = 0; /* the position's turn still ends */
	if (call <= CALL_FALLOCATE)
		on_descriptor(regs, call, result);
	else if (call <= CALL_OPENAT2)
		opened(regs, call, result);
	else if (call == CALL_DIRTY1)
		dirty(FIRST(regs), OP_DIRTY);
	else if (call == CALL_DIRTY3)
		dirty(THIRD(regs), OP_DIRTY);
	else if (call == CALL_SUBMIT)
		submitted(THIRD(regs), result);
	else if (call == CALL_REAP)
		reap(FOURTH(regs), result);
	return 0;
}
