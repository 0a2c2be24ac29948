/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only */
/* Pages: where they are in kernel memory, and what those of mapped files hold when they are written to disk.
 *
 * A store into a mapping makes no call. But the kernel writes the page to disk some time later, or when the program asks for
 * it (msync, fsync), and before it does that it takes the page's write permission away, with the page locked: what the page
 * holds then is what the disk will hold, and all that a program may rely on after a crash. So a log with these contents in
 * their place is one of states that a crash could have left.
 */
#ifndef LIVELIFT_MEMORY_BPF_H
#define LIVELIFT_MEMORY_BPF_H

#include "names.bpf.h"

#define PAGE_SHIFT 12
#define PROT_WRITE 2
#define MAP_TYPE 15
#define MAP_SHARED 1
#define MAP_SHARED_VALIDATE 3
#define VM_SHARED 8

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct address_space {
	struct inode *host;
};
struct page {
	unsigned long flags;
	struct address_space *mapping;
	unsigned long index;
};
struct folio {
	unsigned long flags;
	struct address_space *mapping;
	unsigned long index;
	unsigned int _folio_nr_pages; /* before 6.15 */
	unsigned int _nr_pages;
};
struct page_flags { /* memdesc_flags_t, since 6.18 */
	unsigned long f;
};
struct folio___new {
	struct page_flags flags;
};
struct folio___newer { /* since 6.15 */
	unsigned int _nr_pages;
};
struct mem_section {
	unsigned long section_mem_map;
};
struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};
#pragma clang attribute pop

enum pageflags {
	PG_head = 100,
}; /* the running kernel's value, by name */

/* Files that were ever mapped shared and writable, by volume << 56 | inode. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u8);
} mapped SEC(".maps");

#ifdef __TARGET_ARCH_x86
/* Variables of kernels that place these areas at random (CONFIG_RANDOMIZE_MEMORY); else they are where they always are. */
extern const void vmemmap_base __ksym __weak;
extern const void page_offset_base __ksym __weak;

static __always_inline __u64 address_of(__u64 page)
{
	__u64 table = 0xffffea0000000000, memory = 0xffff888000000000;
	if (&vmemmap_base)
		bpf_probe_read_kernel(&table, sizeof(table), &vmemmap_base);
	if (&page_offset_base)
		bpf_probe_read_kernel(&memory, sizeof(memory), &page_offset_base);
	return memory + ((page - table) / bpf_core_type_size(struct page) << PAGE_SHIFT);
}
#else
/* Where the areas are depends on the configuration, and on arm64 on the version too (6.9 moved them), but the kernel's
 * variables tell: each section of memory that is there names the place where the struct page of frame 0 would be
 * (mm/sparse.c, sparse_encode_mem_map), and memory ends at high_memory, with frame max_low_pfn (arch/arm64/mm/init.c). The
 * canary looks whether what is read there is what was written. */
extern const void mem_section __ksym __weak;
extern const void high_memory __ksym __weak;
extern const void max_low_pfn __ksym __weak;
#define PRESENT 1 /* SECTION_MARKED_PRESENT */

static __always_inline __u64 word_at(const void *at)
{
	__u64 word = 0;
	bpf_probe_read_kernel(&word, sizeof(word), at);
	return word;
}

/* ``bits``: log2 of the frames in a section. What section it is does not matter. 0: that one is not there. */
static __always_inline __u64 frame_0(__u64 last, __u32 bits)
{
	__u32 size = bpf_core_type_size(struct mem_section);
	__u64 section = (last - 1) >> bits, in_root = 4096 / size, root;
	root = word_at((void *)(word_at(&mem_section) + section / in_root * 8));
	if (!root)
		return 0;
	__u64 map = BPF_CORE_READ((struct mem_section *)(root + section % in_root * size), section_mem_map);
	return map & PRESENT ? map & ~0xfffull : 0;
}

static __always_inline __u64 address_of(__u64 page)
{
	if (!&mem_section || !&high_memory || !&max_low_pfn || !bpf_core_type_exists(struct mem_section))
		return 0; /* a DIRTY mark, and mode `ebpf` is blind to stores */
	__u64 last = word_at(&max_low_pfn);
	__u64 table = frame_0(last, 30 - PAGE_SHIFT); /* before 5.12; first, for the other would be out of its table */
	if (!table)
		table = frame_0(last, 27 - PAGE_SHIFT);
	__u64 frame = (page - table) / bpf_core_type_size(struct page);
	if (!table || frame >= last)
		return 0;
	return word_at(&high_memory) - ((last - frame) << PAGE_SHIFT);
}
#endif

static __always_inline void taint(struct file *file)
{
	if (!file)
		return;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 volume = volume_of(inode);
	if (!volume)
		return;
	__u64 key = (__u64)(volume - 1) << 56 | BPF_CORE_READ(inode, i_ino);
	__u8 one = 1;
	if (bpf_map_update_elem(&mapped, &key, &one, 0))
		count(STAT_UNTRACKED);
}

SEC("fentry/security_mmap_file") /* file, protection, flags */
int maps(__u64 *ctx)
{
	__u32 type = argument(&ctx[2]) & MAP_TYPE;
	if (argument(&ctx[1]) & PROT_WRITE && (type == MAP_SHARED || type == MAP_SHARED_VALIDATE))
		taint((struct file *)argument(&ctx[0]));
	return 0;
}

SEC("fentry/security_file_mprotect") /* area, asked protection, protection */
int protects(__u64 *ctx)
{
	struct vm_area_struct *area = (void *)argument(&ctx[0]);
	if ((argument(&ctx[1]) | argument(&ctx[2])) & PROT_WRITE && BPF_CORE_READ(area, vm_flags) & VM_SHARED)
		taint(BPF_CORE_READ(area, vm_file));
	return 0;
}

/* ``pages`` of them, the first is number ``index`` of the file. The agents' own calls count too: the page is not theirs. */
__attribute__((noinline)) int written(__u64 inode_, __u64 page, __u64 index, __u64 pages)
{
	struct inode *inode = (void *)inode_;
	__u32 volume = volume_of(inode);
	if (!volume--)
		return 0;
	__u64 ino = BPF_CORE_READ(inode, i_ino), key = (__u64)volume << 56 | ino;
	if (!bpf_map_lookup_elem(&mapped, &key))
		return 0;
	__u64 offset = index << PAGE_SHIFT, length = pages << PAGE_SHIFT, size = BPF_CORE_READ(inode, i_size);
	if (offset >= size)
		return 0;
	if (length > size - offset)
		length = size - offset;
	__u64 from = address_of(page);
	if (!from || length > CHUNK * CHUNKS)
		mark(volume, ino, OP_DIRTY, offset, length);
	else
		emit_all(from, offset, length, ino, SAY(HOW_PAGE, 0, volume));
	return 0;
}

SEC("fexit/folio_clear_dirty_for_io") /* since 5.16 */
int folio_written(__u64 *ctx)
{
	struct folio *folio = (void *)argument(&ctx[0]);
	if (!(argument(&ctx[1]) & 0xff))
		return 0;
	__u64 pages = 1, flags;
	if (bpf_core_field_exists(((struct folio___new *)folio)->flags.f))
		flags = BPF_CORE_READ((struct folio___new *)folio, flags.f);
	else
		flags = BPF_CORE_READ(folio, flags);
	if (flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1) {
		if (bpf_core_field_exists(folio->_nr_pages))
			pages = BPF_CORE_READ(folio, _nr_pages);
		else
			pages = BPF_CORE_READ(folio, _folio_nr_pages);
	}
	return written((__u64)BPF_CORE_READ(folio, mapping, host), (__u64)folio, BPF_CORE_READ(folio, index), pages);
}

SEC("fexit/clear_page_dirty_for_io") /* before */
int page_written(__u64 *ctx)
{
	struct page *page = (void *)argument(&ctx[0]);
	if (!(__u32)argument(&ctx[1]))
		return 0;
	return written((__u64)BPF_CORE_READ(page, mapping, host), (__u64)page, BPF_CORE_READ(page, index), 1);
}

#endif
