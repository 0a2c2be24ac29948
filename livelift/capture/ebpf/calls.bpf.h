/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Which system call this is, by a table that the loader fills. */
#ifndef LIVELIFT_CALLS_BPF_H
#define LIVELIFT_CALLS_BPF_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct thread_info {
	__u32 status; /* x86 */
	unsigned long flags;
};
struct fdtable {
	__u32 max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct task_struct {
	struct thread_info thread_info;
	struct files_struct *files;
};
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10, r9, r8, dx, si, di, orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#endif
#pragma clang attribute pop

/* The number of a system call and its arguments, also when it ends; whether it came by the 32-bit door. */
#if defined(__TARGET_ARCH_x86)
#define NUMBER(regs) BPF_CORE_READ(regs, orig_ax)
#define FIRST(regs) BPF_CORE_READ(regs, di)
#define SECOND(regs) BPF_CORE_READ(regs, si)
#define THIRD(regs) BPF_CORE_READ(regs, dx)
#define FOURTH(regs) BPF_CORE_READ(regs, r10)
#define SIXTH(regs) BPF_CORE_READ(regs, r9)
#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define IS_COMPAT(task) \
	(bpf_core_field_exists((task)->thread_info.status) && BPF_CORE_READ(task, thread_info.status) & TS_COMPAT)
#elif defined(__TARGET_ARCH_arm64)
#define NUMBER(regs) BPF_CORE_READ(regs, syscallno)
#define FIRST(regs) BPF_CORE_READ(regs, orig_x0) /* regs[0] has the result by then */
#define SECOND(regs) BPF_CORE_READ(regs, regs[1])
#define THIRD(regs) BPF_CORE_READ(regs, regs[2])
#define FOURTH(regs) BPF_CORE_READ(regs, regs[3])
#define SIXTH(regs) BPF_CORE_READ(regs, regs[5])
#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */
#define IS_COMPAT(task) (BPF_CORE_READ(task, thread_info.flags) >> TIF_32BIT & 1)
#else
#error "the registers of this architecture are not known"
#endif
#define CALLS 512

/* livelift/capture/ebpf/syscalls.py knows these numbers. */
enum call {
	CALL_NONE,
	CALL_WRITE, /* fd, buffer, length: at the file's position */
	CALL_WRITEV,
	CALL_PWRITE,
	CALL_PWRITEV, /* fd, vector, count, offset */
	CALL_PWRITEV2, /* the same; offset -1: at the file's position; flags in the sixth */
	CALL_FTRUNCATE,
	CALL_FALLOCATE,
	CALL_OPEN, /* flags in the second argument */
	CALL_OPENAT, /* in the third */
	CALL_CREAT,
	CALL_OPENAT2, /* behind the third */
	CALL_DIRTY1, /* something was written to the descriptor in the first argument: sendfile */
	CALL_DIRTY3, /* in the third: splice, copy_file_range */
	CALL_SUBMIT, /* io_submit: context, count, iocbs */
	CALL_REAP, /* io_getevents: context, min, count, events */
};

/* System call number: enum call. Filled by the loader, so that this program knows no architecture's numbers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CALLS);
	__type(key, __u32);
	__type(value, __u32);
} calls SEC(".maps");

static __always_inline __u32 call_of(struct pt_regs *regs, __u64 number)
{
	__u32 nr = number;
	if (number >= CALLS)
		return CALL_NONE;
	__u32 *call = bpf_map_lookup_elem(&calls, &nr);
	if (!call || *call == CALL_NONE)
		return CALL_NONE;
	struct task_struct *task = (void *)bpf_get_current_task();
	if (IS_COMPAT(task))
		return CALL_NONE; /* other numbers, other arguments */
	return *call;
}

#endif
