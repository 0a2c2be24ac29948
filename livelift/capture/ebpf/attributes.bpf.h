/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Attributes: mode, owner, times and size by notify_change, extended attributes with their values, and the rest as a mark. All
 * of them while the inode is locked.
 */
#ifndef LIVELIFT_ATTRIBUTES_BPF_H
#define LIVELIFT_ATTRIBUTES_BPF_H

#include "names.bpf.h"

#define ATTR_SIZE 8 /* linux/fs.h */
#define ATTR_OF_RECORD (1 | 2 | 4 | 16 | 32) /* MODE, UID, GID, ATIME, MTIME */
#define FS_IOC_SETFLAGS 0x40086602
#define FS_IOC_FSSETXATTR 0x401c5820
#define VALUE 65536 /* of an extended attribute: XATTR_SIZE_MAX */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct timespec64 {
	long long tv_sec;
	long tv_nsec;
};
struct iattr {
	__u32 ia_valid;
	long long ia_size;
	struct timespec64 ia_atime, ia_mtime;
};
#pragma clang attribute pop

/* Behind struct record: which of them changed (`valid`: ATTR_*), and what they are now. */
struct changed {
	__u32 valid, mode, uid, gid;
	__s64 atime_s, mtime_s;
	__u32 atime_ns, mtime_ns;
};

static __always_inline int setting(__u64 dentry_, __u64 attributes_)
{
	struct dentry *dentry = (void *)dentry_;
	struct iattr *attributes = (void *)attributes_;
	if (!(BPF_CORE_READ(attributes, ia_valid) & ATTR_SIZE))
		return 0;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	__u32 volume = volume_of(inode);
	if (volume && !ours())
		mark(volume - 1, BPF_CORE_READ(inode, i_ino), OP_SETTING, BPF_CORE_READ(attributes, ia_size), 0);
	return 0;
}

static __always_inline int changed(__u64 dentry_, __u64 attributes_, __s32 result)
{
	struct dentry *dentry = (void *)dentry_;
	struct iattr *attributes = (void *)attributes_;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	__u32 volume = volume_with(inode), valid = BPF_CORE_READ(attributes, ia_valid);
	if (!volume-- || ours())
		return 0;
	__u64 ino = BPF_CORE_READ(inode, i_ino);
	if (valid & ATTR_SIZE && is_regular(inode))
		mark(volume, ino, result ? OP_END : OP_TRUNCATE, BPF_CORE_READ(attributes, ia_size), 0);
	if (result || !(valid & ATTR_OF_RECORD))
		return 0;
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + sizeof(struct changed), 0);
	if (!r) {
		lose(volume, ino);
		return 0;
	}
	struct changed *now = (void *)(r + 1);
	head(r, volume, ino, OP_CHANGED, 0, 0);
	r->task = bpf_get_current_pid_tgid();
	now->valid = valid;
	now->mode = BPF_CORE_READ(inode, i_mode);
	now->uid = BPF_CORE_READ(inode, i_uid.val);
	now->gid = BPF_CORE_READ(inode, i_gid.val);
	now->atime_s = BPF_CORE_READ(attributes, ia_atime.tv_sec);
	now->atime_ns = BPF_CORE_READ(attributes, ia_atime.tv_nsec);
	now->mtime_s = BPF_CORE_READ(attributes, ia_mtime.tv_sec);
	now->mtime_ns = BPF_CORE_READ(attributes, ia_mtime.tv_nsec);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

SEC("fentry/notify_change") /* dentry, iattr, delegated */
int setting_3(__u64 *ctx)
{
	return setting(argument(&ctx[0]), argument(&ctx[1]));
}

SEC("fexit/notify_change")
int changed_3(__u64 *ctx)
{
	return changed(argument(&ctx[0]), argument(&ctx[1]), argument(&ctx[3]));
}

SEC("fentry/notify_change") /* since 5.12 with the mount's id map in front */
int setting_4(__u64 *ctx)
{
	return setting(argument(&ctx[1]), argument(&ctx[2]));
}

SEC("fexit/notify_change")
int changed_4(__u64 *ctx)
{
	return changed(argument(&ctx[1]), argument(&ctx[2]), argument(&ctx[4]));
}

static __always_inline int something(struct inode *inode, __u32 op)
{
	__u32 volume = volume_with(inode);
	if (volume && !ours())
		mark(volume - 1, BPF_CORE_READ(inode, i_ino), op, 0, 0);
	return 0;
}

/* ``size`` bytes of value behind a name of constant room. Its length is the record's offset. */
#define XATTR(room)                                                                                                  \
	if (size <= (room)) {                                                                                        \
		struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + NAME + (room), 0);                        \
		if (!r)                                                                                              \
			goto full;                                                                                   \
		__u64 n = size;                                                                                      \
		asm volatile("" : "+r"(n));                                                                          \
		if (n > (room))                                                                                      \
			n = (room);                                                                                  \
		long length = bpf_probe_read_kernel_str(r + 1, NAME, (void *)key);                                   \
		int failed = length < 0 || bpf_probe_read_kernel((char *)(r + 1) + NAME, n, (void *)value);          \
		head(r, volume - 1, ino, failed ? OP_ATTRIBUTES : OP_XATTR, length - 1, failed ? 0 : n);             \
		r->flags = flags;                                                                                    \
		r->task = bpf_get_current_pid_tgid();                                                                \
		bpf_ringbuf_submit(r, 0);                                                                            \
		return 0;                                                                                            \
	}

__attribute__((noinline)) int xattr(__u64 inode_, __u64 key, __u64 value, __u64 size, __u32 flags)
{
	struct inode *inode = (void *)inode_;
	__u32 volume = volume_with(inode);
	if (!volume || ours())
		return 0;
	__u64 ino = BPF_CORE_READ(inode, i_ino);
	XATTR(128)
	XATTR(4096)
	XATTR(VALUE)
full:
	lose(volume - 1, ino);
	return 0;
}

static __always_inline int set(__u64 dentry, __u64 key, __u64 value, __u64 size, __s32 result)
{
	return result ? 0 : xattr((__u64)BPF_CORE_READ((struct dentry *)dentry, d_inode), key, value, size, 0);
}

SEC("fexit/__vfs_setxattr_noperm") /* dentry, name, value, size, flags */
int xattr_set_5(__u64 *ctx)
{
	return set(argument(&ctx[0]), argument(&ctx[1]), argument(&ctx[2]), argument(&ctx[3]), argument(&ctx[5]));
}

SEC("fexit/__vfs_setxattr_noperm") /* since 5.12 with the mount's id map in front */
int xattr_set_6(__u64 *ctx)
{
	return set(argument(&ctx[1]), argument(&ctx[2]), argument(&ctx[3]), argument(&ctx[4]), argument(&ctx[6]));
}

static __always_inline int gone(__u64 dentry, __u64 key, __s32 result)
{
	return result ? 0 : xattr((__u64)BPF_CORE_READ((struct dentry *)dentry, d_inode), key, key, 0, FLAG_GONE);
}

SEC("fexit/__vfs_removexattr_locked") /* dentry, name, delegated */
int xattr_gone_3(__u64 *ctx)
{
	return gone(argument(&ctx[0]), argument(&ctx[1]), argument(&ctx[3]));
}

SEC("fexit/__vfs_removexattr_locked")
int xattr_gone_4(__u64 *ctx)
{
	return gone(argument(&ctx[1]), argument(&ctx[2]), argument(&ctx[4]));
}

/* Access lists since 6.2 are in the kernel's own form: looked at. (id map, dentry, name, list), (id map, dentry, name) */
SEC("fexit/vfs_set_acl")
int acl_set(__u64 *ctx)
{
	return argument(&ctx[4]) & 0xffffffff ? 0 : something(BPF_CORE_READ((struct dentry *)argument(&ctx[1]), d_inode), OP_ATTRIBUTES);
}

SEC("fexit/vfs_remove_acl")
int acl_gone(__u64 *ctx)
{
	return argument(&ctx[3]) & 0xffffffff ? 0 : something(BPF_CORE_READ((struct dentry *)argument(&ctx[1]), d_inode), OP_ATTRIBUTES);
}

/* Inode flags and project ids: (id map, dentry, what), since 5.13. */
SEC("fexit/vfs_fileattr_set")
int flags_set(__u64 *ctx)
{
	return argument(&ctx[3]) & 0xffffffff ? 0 : something(BPF_CORE_READ((struct dentry *)argument(&ctx[1]), d_inode), OP_ATTRIBUTES);
}

/* Before: by the system call, which has yet to do it. */
SEC("fentry/security_file_ioctl")
int flags_asked(__u64 *ctx)
{
	__u32 command = argument(&ctx[1]);
	if (command != FS_IOC_SETFLAGS && command != FS_IOC_FSSETXATTR)
		return 0;
	struct inode *inode = BPF_CORE_READ((struct file *)argument(&ctx[0]), f_inode);
	return something(inode, OP_ATTRIBUTES | FLAG_LATER << 8);
}

#endif
