/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The gate: who may map what of an EGM device. All holders of a region share one open file, so a right hangs on the
 * process, as lease numbers that it, its threads and what it forks and executes bear; a table says which bytes a number
 * stands for. Taking a number out of the table ends the right for all who bear it, at once.
 *
 * Only what egmd has put into "devices" is looked at; by number, so nodes made elsewhere count, too. */

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "enforce-table.h"

/* The kernel's, as far as they are needed; offsets are found when the programs are loaded. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct inode {
        __u16 i_mode;
        __u32 i_rdev;
};
struct file {
        struct inode *f_inode;
};
struct seqcount {
        unsigned sequence;
};
/* Counts changes of its mappings: plainly at first, then as a seqcount. */
struct mm_struct {
        struct {
                int counter;
        } mm_users;
        int mm_lock_seq;
};
struct mm_struct___seqcount {
        struct seqcount mm_lock_seq;
};
struct vm_area_struct {
        unsigned long vm_start;
        unsigned long vm_end;
        unsigned long vm_flags;
        unsigned long vm_pgoff;
        struct file *vm_file;
};
struct task_struct {
        unsigned flags;
        int pid;
        int tgid;
        __u64 start_boottime;
        struct task_struct *group_leader;
        struct mm_struct *mm;
};
struct bpf_iter_meta {
        struct seq_file *seq;
};
struct bpf_iter__task {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
};
struct bpf_iter__task_vma {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
        struct vm_area_struct *vma;
};
struct pt_regs {
#if defined(__TARGET_ARCH_x86)
        unsigned long si;
        unsigned long r9;
        unsigned long orig_ax;
#elif defined(__TARGET_ARCH_arm64)
        unsigned long long regs[31];
        int syscallno;
#else
#error "No enforcement on this architecture"
#endif
};
#pragma clang attribute pop
struct linux_binprm;

#if defined(__TARGET_ARCH_x86)
#define NR_MMAP 9
/* clone, fork, vfork, clone3; and those of 32-bit programs, which others may hit with something else: held up in vain, for once */
#define IS_FORK(nr) \
        ((nr) == 56 || (nr) == 57 || (nr) == 58 || (nr) == 435 || (nr) == 2 || (nr) == 120 || \
         (nr) == 190)
#define REGS_NUMBER(r) ((r)->orig_ax)
#define REGS_LENGTH(r) ((r)->si)
#define REGS_OFFSET(r) ((r)->r9)
#else
#define NR_MMAP 222
/* clone, clone3; and those of 32-bit programs */
#define IS_FORK(nr) ((nr) == 220 || (nr) == 435 || (nr) == 2 || (nr) == 120 || (nr) == 190)
#define REGS_NUMBER(r) ((r)->syscallno)
#define REGS_LENGTH(r) ((r)->regs[1])
#define REGS_OFFSET(r) ((r)->regs[5])
#endif

#define EACCES 13
#define ENOMEM 12
#define S_IFMT 0170000
#define S_IFCHR 0020000
#define CLONE_THREAD 0x00010000
#define PF_KTHREAD 0x00200000
#define VM_MAYSHARE 0x80UL
#define MAP_TYPE 0x0f
#define MAP_PRIVATE 0x02
/* The driver's for its list of bad pages; FIOCLEX, FIONCLEX, FIONBIO. Every architecture here has the same numbers. */
#define HARMLESS(command) \
        ((command) == 0x4564 || (command) == 0x5451 || (command) == 0x5450 || (command) == 0x5421)
#define PROT_BITS 7UL /* VM_READ, VM_WRITE and VM_EXEC are the same */

const volatile __u32 page_shift = 12;

struct {
        __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, EnforceBearer);
} bearers SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, ENFORCE_LEASES_MAX);
        __type(key, __u64);
        __type(value, EnforceLease);
} leases SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, ENFORCE_DEVICES_MAX);
        __type(key, __u32);
        __type(value, __u32);
} devices SEC(".maps");

/* The highest lease number that was ever in the table. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, __u64);
} highest SEC(".maps");

/* The first: who is being admitted. The second: children that there was no memory for, ever since. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 2);
        __type(key, __u32);
        __type(value, EnforceAdmission);
} admission SEC(".maps");

static __always_inline int gated(struct file *file, __u32 *ret_rdev) {
        struct inode *inode = file->f_inode;
        __u32 rdev;

        if ((inode->i_mode & S_IFMT) != S_IFCHR)
                return 0;
        rdev = inode->i_rdev;
        *ret_rdev = rdev;
        return bpf_map_lookup_elem(&devices, &rdev) != 0;
}

static __always_inline int holds(EnforceLease *l, __u64 rdev, __u64 start, __u64 size) {
        for (__u32 i = 0; i < ENFORCE_SLICES_MAX; i++) {
                if (i >= l->n)
                        return 0;
                if (l->slices[i].rdev == rdev && start >= l->slices[i].start &&
                    start < l->slices[i].end && size <= l->slices[i].end - start)
                        return 1;
        }
        return 0;
}

/* A value that is deleted can be another lease's while it is being read. It was not, if the number is still there
 * afterwards: numbers do not come back. The addition keeps the two reads in their order. */
static __always_inline int lease_allows(__u64 number, __u64 rdev, __u64 start, __u64 size) {
        EnforceLease *l = bpf_map_lookup_elem(&leases, &number);

        if (!l || !holds(l, rdev, start, size))
                return 0;
        __sync_fetch_and_add(&l->looks, 1);
        return bpf_map_lookup_elem(&leases, &number) == l;
}

typedef struct Search {
        EnforceBearer *bearer;
        __u64 rdev;
        __u64 start;
        __u64 size;
        int found;
} Search;

static long look_for(__u32 i, void *context) {
        Search *s = context;
        __u64 number;

        if (i >= ENFORCE_NUMBERS_MAX)
                return 1;
        number = s->bearer->numbers[i];
        /* A bare one is never there. */
        s->found = number != 0 && lease_allows(number, s->rdev, s->start, s->size);
        return number == 0 || s->found;
}

static __always_inline int bearer_may(__u64 rdev, __u64 start, __u64 size, int by_mmap) {
        struct task_struct *task = bpf_get_current_task_btf();
        EnforceBearer *b = bpf_task_storage_get(&bearers, task->group_leader, 0, 0);
        Search s = {.rdev = rdev, .start = start, .size = size};

        if (!b)
                return 0;
        if (b->flags & ENFORCE_BEARER_ALL)
                return 1;
        if (!by_mmap)
                return 0;
        /* Not a loop of ours: the verifier would go through it number by number, at each start. */
        s.bearer = b;
        (void) bpf_loop(ENFORCE_NUMBERS_MAX, look_for, &s, 0);
        return s.found;
}

/* Offset and length are not among the hook's arguments. No other way to it than mmap() has them where they are expected:
 * remap_file_pages(), calls of 32-bit programs and whatever else there is are refused. The kernel has checked by then that
 * the offset is a page's, and slices end with one, so the length need not be rounded up. */
SEC("lsm/mmap_file")
int BPF_PROG(egm_mmap, struct file *file, unsigned long reqprot, unsigned long prot,
             unsigned long flags, int ret) {
        struct pt_regs *regs;
        __u32 rdev;

        if (ret != 0 || !file || !gated(file, &rdev))
                return ret;
        /* What a private mapping shows, its drain can't tell from the whole device. */
        if ((flags & MAP_TYPE) == MAP_PRIVATE)
                return -EACCES;
        regs = (struct pt_regs *) bpf_task_pt_regs(bpf_get_current_task_btf());
        if (bearer_may(rdev, REGS_OFFSET(regs), REGS_LENGTH(regs), REGS_NUMBER(regs) == NR_MMAP))
                return 0;
        return -EACCES;
}

/* More rights for a mapping that is there: for those only who could make it now. */
SEC("lsm/file_mprotect")
int BPF_PROG(egm_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot,
             int ret) {
        struct file *file = vma->vm_file;
        __u32 rdev;

        if (ret != 0 || !file || !gated(file, &rdev) || (prot & ~vma->vm_flags & PROT_BITS) == 0)
                return ret;
        if (bearer_may(rdev, (__u64) vma->vm_pgoff << page_shift, vma->vm_end - vma->vm_start, 1))
                return 0;
        return -EACCES;
}

/* A driver's ioctl() may hand out any byte by other ways than mappings, as a dma-buf for one, and asks nobody. So none passes but
 * what is known to do no harm. */
static __always_inline int command_passes(struct file *file, unsigned int command) {
        __u32 rdev;

        return HARMLESS(command) || !gated(file, &rdev) || bearer_may(rdev, 0, 0, 0);
}

SEC("lsm/file_ioctl")
int BPF_PROG(egm_ioctl, struct file *file, unsigned int command, unsigned long argument, int ret) {
        return ret != 0 || command_passes(file, command) ? ret : -EACCES;
}

/* Calls of 32-bit programs have a hook of their own since Linux 6.8. Where there is none this one is where the other is. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(egm_ioctl_compat, struct file *file, unsigned int command, unsigned long argument,
             int ret) {
        return ret != 0 || command_passes(file, command) ? ret : -EACCES;
}

/* A child bears what its parent does, or there is no child: one without could not work, and nobody would know why. */
SEC("lsm/task_alloc")
int BPF_PROG(egm_fork, struct task_struct *task, unsigned long clone_flags, int ret) {
        struct task_struct *parent = bpf_get_current_task_btf();
        EnforceBearer *b, *c;

        if (ret != 0 || (clone_flags & CLONE_THREAD))
                return ret;
        b = bpf_task_storage_get(&bearers, parent->group_leader, 0, 0);
        if (!b || b->numbers[0] == 0)
                return 0;
        c = bpf_task_storage_get(&bearers, task, b, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!c)
                return -ENOMEM;
        c->flags = 0;
        return 0;
}

/* 0: it is not there and there is no room. Others may add at the same time, nobody takes away. */
static __always_inline int add_number(EnforceBearer *b, __u64 number) {
        for (__u32 i = 0; i < ENFORCE_NUMBERS_MAX; i++) {
                __u64 *at = b->numbers + i, old = *at;

                if (old == 0)
                        old = __sync_val_compare_and_swap(at, 0, number);
                if (old == 0 || old == number || (old | ENFORCE_NUMBER_BARE) == number)
                        return 1;
                if (old == (number | ENFORCE_NUMBER_BARE)) {
                        *at = number;
                        return 1;
                }
        }
        return 0;
}

/* It began with what was there when the fork began: what came behind comes behind. 0: it has something else there. */
static __always_inline int take_over(EnforceBearer *c, const EnforceBearer *b) {
        for (__u32 i = 0; i < ENFORCE_NUMBERS_MAX; i++) {
                __u64 number = b->numbers[i], old = c->numbers[i];

                if (number == 0)
                        return 1;
                if (old == 0)
                        old = __sync_val_compare_and_swap(c->numbers + i, 0, number);
                if (old != 0 && old != number)
                        return 0;
        }
        return 1;
}

/* The child is there, with its copy of the memory or its share in it, and has not run. What its parent was given since the fork
 * began is its own, too; and what is being given to others who share the parent's memory. First who is being admitted, then what
 * the parent has: the latter comes before the end of the former. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(egm_forked, struct task_struct *parent, struct task_struct *child) {
        EnforceAdmission *a, *trouble;
        __u32 first = 0, second = 1;
        __u64 memory, number = 0;
        EnforceBearer *b, *c;

        a = bpf_map_lookup_elem(&admission, &first);
        trouble = bpf_map_lookup_elem(&admission, &second);
        if (!a || !trouble || child->pid != child->tgid)
                return 0;
        memory = __sync_fetch_and_add(&a->memory, 0);
        if (memory != 0 && memory == (__u64) parent->mm)
                number = a->number | ENFORCE_NUMBER_BARE;
        b = bpf_task_storage_get(&bearers, parent->group_leader, 0, 0);
        if (number == 0 && (!b || b->numbers[0] == 0))
                return 0;
        c = bpf_task_storage_get(&bearers, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!c) {
                __sync_fetch_and_add(&trouble->failed, 1);
                return 0;
        }
        if (b && !take_over(c, b)) {
                for (__u32 i = 0; i < ENFORCE_NUMBERS_MAX; i++)
                        c->numbers[i] = b->numbers[i];
                /* Perhaps without what it was given a moment ago. */
                a->full++;
        }
        if (number != 0 && !add_number(c, number))
                a->full++;
        return 0;
}

/* The thread that executes something becomes its process's leader. This is the last hook before. */
SEC("lsm/bprm_creds_from_file")
int BPF_PROG(egm_exec, struct linux_binprm *bprm, struct file *file, int ret) {
        struct task_struct *task = bpf_get_current_task_btf();
        EnforceBearer *b, *c;

        if (ret != 0)
                return ret;
        b = bpf_task_storage_get(&bearers, task->group_leader, 0, 0);
        if (task->pid == task->tgid) {
                if (b && b->flags)
                        b->flags = 0; /* what it becomes is not egmd */
                return 0;
        }
        (void) bpf_task_storage_delete(&bearers, task);
        if (!b || b->numbers[0] == 0)
                return 0;
        c = bpf_task_storage_get(&bearers, task, b, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!c)
                return -ENOMEM;
        c->flags = 0;
        return 0;
}

/* Gives a process its number, and a bare one to all who share its memory. */
SEC("iter/task")
int egm_admit(struct bpf_iter__task *ctx) {
        struct task_struct *task = ctx->task;
        EnforceAdmission *a;
        struct mm_struct *mm;
        EnforceBearer *b;
        __u32 first = 0;
        __u64 number;

        a = bpf_map_lookup_elem(&admission, &first);
        if (!task || !a || a->pid == 0)
                return 0;
        mm = task->mm;
        if (!mm || (task->flags & PF_KTHREAD))
                return 0;
        number = a->number;
        if ((__u64) task->tgid == a->pid) {
                (void) __sync_lock_test_and_set(&a->memory, (__u64) mm);
                a->users = mm->mm_users.counter;
        } else if ((__u64) mm == a->memory)
                number |= ENFORCE_NUMBER_BARE;
        else
                return 0;
        b = bpf_task_storage_get(&bearers, task->group_leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!b)
                a->failed++;
        else if (!(b->flags & ENFORCE_BEARER_ALL) && !add_number(b, number))
                a->full++;
        else
                a->marked++;
        return 0;
}

/* Threads of bearers inside mmap(): such a one may have passed the gate already, and its mapping is not to be seen yet. The same
 * goes for fork(): the child has its copy of the mappings before anybody can see the child. One that has left is found, too,
 * until it enters the kernel again, be it by an interrupt, or has ended. And all bearers, by their leaders: who was forked while
 * others were looked at can have a mapping from one that has gone. */
SEC("iter/task")
int egm_flights(struct bpf_iter__task *ctx) {
        struct task_struct *task = ctx->task;
        struct seq_file *seq = ctx->meta->seq;
        int maps = 0, forks = 0;
        EnforceFlight flight = {};
        struct pt_regs *regs;
        EnforceBearer *b;

        if (!task)
                return 0;
        b = bpf_task_storage_get(&bearers, task->group_leader, 0, 0);
        if (!b || b->numbers[0] == 0)
                return 0;
        if (task->mm) {
                regs = (struct pt_regs *) bpf_task_pt_regs(task);
                maps = REGS_NUMBER(regs) == NR_MMAP;
                forks = IS_FORK(REGS_NUMBER(regs));
        }
        if (!maps && !forks && task->pid != task->tgid)
                return 0;
        flight.pid = task->tgid;
        flight.started = task->group_leader->start_boottime;
        for (__u32 i = 0; i < ENFORCE_NUMBERS_MAX; i++) {
                __u64 number = b->numbers[i];

                if (number == 0)
                        break;
                flight.number = number & ~ENFORCE_NUMBER_BARE;
                flight.under_way = forks || (maps && flight.number == number);
                bpf_seq_write(seq, &flight, sizeof(flight));
        }
        return 0;
}

/* Moves of mappings, by those who bear numbers. */
SEC("fentry/copy_vma")
int egm_moves(void *ctx) {
        struct task_struct *task = bpf_get_current_task_btf();
        EnforceBearer *b = bpf_task_storage_get(&bearers, task->group_leader, 0, 0);

        if (b)
                __sync_fetch_and_add(&b->moves, 1);
        return 0;
}

static __always_inline __u64 changes_of(struct mm_struct *mm) {
        struct mm_struct___seqcount *s = (void *) mm;

        if (bpf_core_field_exists(s->mm_lock_seq.sequence))
                return BPF_CORE_READ(s, mm_lock_seq.sequence);
        if (bpf_core_field_exists(mm->mm_lock_seq))
                return (__u32) BPF_CORE_READ(mm, mm_lock_seq);
        return 0;
}

/* Who may change mappings, and whether he did: asked before and after they are listed. */
SEC("iter/task")
int egm_bearers(struct bpf_iter__task *ctx) {
        struct task_struct *task = ctx->task, *leader;
        struct seq_file *seq = ctx->meta->seq;
        struct mm_struct___seqcount *s = 0;
        EnforceWatch watch = {};
        struct mm_struct *mm;
        EnforceBearer *b;

        if (!task)
                return 0;
        leader = task->group_leader;
        b = bpf_task_storage_get(&bearers, leader, 0, 0);
        if (!b || b->numbers[0] == 0)
                return 0;
        mm = task->mm;
        /* The first thread may have ended before the others. */
        if (!mm || (task->pid != task->tgid && leader->mm))
                return 0;
        watch.pid = task->tgid;
        watch.memory = (__u64) mm;
        watch.changes = changes_of(mm) + b->moves;
        watch.counted = bpf_core_field_exists(s->mm_lock_seq.sequence) ||
                        bpf_core_field_exists(mm->mm_lock_seq);
        for (__u32 i = 0; i < ENFORCE_NUMBERS_MAX; i++) {
                __u64 number = b->numbers[i];

                if (number == 0)
                        break;
                watch.number = number & ~ENFORCE_NUMBER_BARE;
                bpf_seq_write(seq, &watch, sizeof(watch));
        }
        return 0;
}

/* Everybody's mappings of gated devices. */
SEC("iter/task_vma")
int egm_mappings(struct bpf_iter__task_vma *ctx) {
        struct vm_area_struct *vma = ctx->vma;
        struct task_struct *task = ctx->task;
        struct seq_file *seq = ctx->meta->seq;
        EnforceMapping m = {};
        struct file *file;
        __u32 rdev;

        if (!task || !vma)
                return 0;
        file = vma->vm_file;
        if (!file || !gated(file, &rdev))
                return 0;
        m.rdev = rdev;
        m.pid = task->tgid;
        if (vma->vm_flags & VM_MAYSHARE) {
                m.start = (__u64) vma->vm_pgoff << page_shift;
                m.end = m.start + (vma->vm_end - vma->vm_start);
        } else
                m.end = ~0ULL;
        bpf_seq_write(seq, &m, sizeof(m));
        return 0;
}

/* What the LGPL allows, and the kernel asks of programs like these. */
char _license[] SEC("license") = "GPL";
