/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Names, at the moment at which the kernel's directory cache learns of them: under the locks of the directories, after the
 * file system has done it and before anybody can see it. So a name's record is before everything that depends on it, and
 * nothing can fail any more. The d_ functions are exported and called by every file system and by fs/namei.c: the same five
 * from Linux 5.10 on, also where vfs_rmdir is inlined (5.10) or open creates without vfs_create.
 */
#ifndef LIVELIFT_NAMES_BPF_H
#define LIVELIFT_NAMES_BPF_H

#include "records.bpf.h"

#define NAME 256 /* room for a name: 255 bytes */
#define TEXT 4096 /* and for a symbolic link's text: 4095 */
#define RENAME_WHITEOUT 4

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr {
	__u32 len;
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};
struct renamedata { /* since 5.12 */
	__u32 flags;
};
#pragma clang attribute pop

/* Behind struct record, whose `ino` is the object's (0: it is on another volume) and whose `offset` is the directory's inode;
 * behind it the name, then the new name or a symbolic link's text. */
struct named {
	__u64 new_parent, victim, size;
	__u32 mode, uid, gid, rdev, nlink, generation;
	__u16 length, new_length;
	__u32 pad;
};

/* By task: the text of the symbolic link that is being made; that the rename leaves a whiteout. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} texts SEC(".maps"), whiteouts SEC(".maps");

static __always_inline void read_name(char *to, __u16 *length, struct dentry *dentry)
{
	__u32 n = BPF_CORE_READ(dentry, d_name.len);
	if (n >= NAME)
		n = NAME - 1;
	n &= NAME - 1;
	*length = bpf_probe_read_kernel(to, n, BPF_CORE_READ(dentry, d_name.name)) ? 0 : n;
}

/* The object's number if it is on the same volume as the directory: a subvolume's root is not. */
static __always_inline __u64 number_of(struct inode *inode, __u32 volume)
{
	return inode && volume_with(inode) == volume ? BPF_CORE_READ(inode, i_ino) : 0;
}

static __always_inline struct named *begin_named(struct record *r, __u32 op, __u32 volume, struct dentry *at, struct inode *inode)
{
	struct named *named = (void *)(r + 1);
	head(r, volume - 1, number_of(inode, volume), op, BPF_CORE_READ(at, d_parent, d_inode, i_ino), 0);
	r->task = bpf_get_current_pid_tgid();
	named->new_parent = named->victim = 0;
	named->new_length = 0;
	named->pad = 0;
	named->size = inode ? BPF_CORE_READ(inode, i_size) : 0;
	named->mode = inode ? BPF_CORE_READ(inode, i_mode) : 0;
	named->uid = inode ? BPF_CORE_READ(inode, i_uid.val) : 0;
	named->gid = inode ? BPF_CORE_READ(inode, i_gid.val) : 0;
	named->rdev = inode ? BPF_CORE_READ(inode, i_rdev) : 0;
	named->nlink = inode ? BPF_CORE_READ(inode, i_nlink) : 0;
	named->generation = inode ? BPF_CORE_READ(inode, i_generation) : 0;
	read_name((void *)(named + 1), &named->length, at);
	return named;
}

/* One name: OP_MAKE, OP_REMOVE, OP_LOOK. */
__attribute__((noinline)) int name(__u64 dentry_, __u64 inode_, __u32 op)
{
	struct dentry *dentry = (void *)dentry_;
	struct inode *inode = (void *)inode_;
	struct inode *directory = BPF_CORE_READ(dentry, d_parent, d_inode);
	__u32 volume = volume_with(directory);
	if (!volume || ours())
		return 0;
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + sizeof(struct named) + NAME, 0);
	if (!r) {
		lose(volume - 1, BPF_CORE_READ(directory, i_ino));
		return 0;
	}
	begin_named(r, op, volume, dentry, inode);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* OP_MAKE of a symbolic link, with its text. */
__attribute__((noinline)) int name_link(__u64 dentry_, __u64 inode_, __u64 text)
{
	struct dentry *dentry = (void *)dentry_;
	struct inode *inode = (void *)inode_;
	struct inode *directory = BPF_CORE_READ(dentry, d_parent, d_inode);
	__u32 volume = volume_with(directory);
	if (!volume || ours())
		return 0;
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + sizeof(struct named) + NAME + TEXT, 0);
	if (!r) {
		lose(volume - 1, BPF_CORE_READ(directory, i_ino));
		return 0;
	}
	struct named *named = begin_named(r, OP_MAKE, volume, dentry, inode);
	long n = bpf_probe_read_kernel_str((char *)(named + 1) + NAME, TEXT, (void *)text);
	named->new_length = n > 0 && n <= TEXT ? n - 1 : 0; /* without its end */
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* Two names: OP_MOVE, OP_SWAP. */
__attribute__((noinline)) int rename(__u64 from_, __u64 to_, __u32 op)
{
	struct dentry *from = (void *)from_, *to = (void *)to_;
	struct inode *old = BPF_CORE_READ(from, d_parent, d_inode), *new = BPF_CORE_READ(to, d_parent, d_inode);
	__u32 volume = volume_with(old), other = volume_with(new);
	if ((!volume && !other) || ours())
		return 0;
	if (volume != other || !number_of(BPF_CORE_READ(from, d_inode), volume)) { /* the root of a subvolume moves */
		name(from_, 0, OP_LOOK);
		name(to_, 0, OP_LOOK);
		return 0;
	}
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r) + sizeof(struct named) + 2 * NAME, 0);
	if (!r) {
		lose(volume - 1, BPF_CORE_READ(old, i_ino));
		lose(volume - 1, BPF_CORE_READ(new, i_ino));
		return 0;
	}
	struct named *named = begin_named(r, op, volume, from, BPF_CORE_READ(from, d_inode));
	named->new_parent = BPF_CORE_READ(new, i_ino);
	named->victim = number_of(BPF_CORE_READ(to, d_inode), volume);
	read_name((char *)(named + 1) + NAME, &named->new_length, to);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

static __always_inline int make(struct dentry *dentry, struct inode *inode)
{
	if (!inode || !BPF_CORE_READ(inode, i_nlink)) /* O_TMPFILE: it has no name */
		return 0;
	if ((BPF_CORE_READ(inode, i_mode) & 0170000) == 0120000) {
		__u64 me = bpf_get_current_pid_tgid();
		__u64 *text = bpf_map_lookup_elem(&texts, &me);
		if (text)
			return name_link((__u64)dentry, (__u64)inode, *text);
	}
	return name((__u64)dentry, (__u64)inode, OP_MAKE);
}

/* An argument as a number: a global function of Linux 5.10 takes no pointer. */
static __always_inline __u64 argument(__u64 *at)
{
	__u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), at);
	return value;
}

SEC("fentry/d_instantiate")
int name_made(__u64 *ctx)
{
	return make((void *)argument(&ctx[0]), (void *)argument(&ctx[1]));
}

SEC("fentry/d_instantiate_new")
int name_made_new(__u64 *ctx)
{
	return make((void *)argument(&ctx[0]), (void *)argument(&ctx[1]));
}

SEC("fentry/d_delete")
int name_removed(__u64 *ctx)
{
	struct dentry *dentry = (void *)argument(&ctx[0]);
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	return inode ? name((__u64)dentry, (__u64)inode, OP_REMOVE) : 0;
}

SEC("fentry/d_move")
int name_moved(__u64 *ctx)
{
	__u64 me = bpf_get_current_pid_tgid();
	rename(argument(&ctx[0]), argument(&ctx[1]), OP_MOVE);
	if (bpf_map_lookup_elem(&whiteouts, &me))
		name(argument(&ctx[0]), 0, OP_LOOK);
	return 0;
}

SEC("fentry/d_exchange")
int names_swapped(__u64 *ctx)
{
	return rename(argument(&ctx[0]), argument(&ctx[1]), OP_SWAP);
}

/* The text of a symbolic link: kernel memory of the caller for as long as the call lasts. */
static __always_inline int links(__u64 text)
{
	__u64 me = bpf_get_current_pid_tgid();
	bpf_map_update_elem(&texts, &me, &text, 0);
	return 0;
}

static __always_inline int linked(void)
{
	__u64 me = bpf_get_current_pid_tgid();
	bpf_map_delete_elem(&texts, &me);
	return 0;
}

SEC("fentry/vfs_symlink") /* directory, dentry, text */
int symlink_3(__u64 *ctx)
{
	return links(argument(&ctx[2]));
}

SEC("fexit/vfs_symlink")
int symlinked_3(__u64 *ctx)
{
	return linked();
}

SEC("fentry/vfs_symlink") /* since 5.12 with the mount's id map in front */
int symlink_4(__u64 *ctx)
{
	return links(argument(&ctx[3]));
}

SEC("fexit/vfs_symlink")
int symlinked_4(__u64 *ctx)
{
	return linked();
}

static __always_inline int renames(__u32 flags)
{
	__u64 me = bpf_get_current_pid_tgid(), one = 1;
	if (flags & RENAME_WHITEOUT)
		bpf_map_update_elem(&whiteouts, &me, &one, 0);
	return 0;
}

static __always_inline int renamed(__u32 flags)
{
	__u64 me = bpf_get_current_pid_tgid();
	if (flags & RENAME_WHITEOUT)
		bpf_map_delete_elem(&whiteouts, &me);
	return 0;
}

SEC("fentry/vfs_rename") /* old directory, dentry, new directory, dentry, delegated, flags */
int rename_6(__u64 *ctx)
{
	return renames(argument(&ctx[5]));
}

SEC("fexit/vfs_rename")
int renamed_6(__u64 *ctx)
{
	return renamed(argument(&ctx[5]));
}

SEC("fentry/vfs_rename") /* since 5.12 */
int rename_1(__u64 *ctx)
{
	return renames(BPF_CORE_READ((struct renamedata *)argument(&ctx[0]), flags));
}

SEC("fexit/vfs_rename")
int renamed_1(__u64 *ctx)
{
	return renamed(BPF_CORE_READ((struct renamedata *)argument(&ctx[0]), flags));
}

#endif
