/*
 * stack_range.c - see stack_range.h.
 *
 * glibc's thread descriptor holds `stackblock` and, in the next words, `stackblock_size` and `guardsize`;
 * the place differs between versions. For the main thread glibc stores __libc_stack_end in the latter, so
 * a search for that value finds the place. When another thread loads the library, the search is for the
 * pair that encloses both the stack pointer and the descriptor. Without a place, or with a descriptor
 * that makes no sense, the stack is foreign.
 */
#include "stack_range.h"
#include "unwind_arch.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE_BYTES 4096 /* of probes: the smallest page there is */
#define PROBES_MAX 64    /* system calls for one stack: 256 KiB of a coroutine */
#define MAIN_BYTES_MAX                                                                             \
    ((uintptr_t)64 << 20) /* where the limit of the main stack is higher, or none */
#define BLOCK_BYTES_MAX                                                                            \
    ((uintptr_t)1 << 40) /* more cannot be a stack: the word was misinterpreted */
#define DESCRIPTOR_BYTES_MAX (16 << 20) /* from it to the end of the block: static TLS on aarch64 */

extern void *__libc_stack_end __attribute__((weak));

static uintptr_t main_low, main_high;
static uintptr_t main_end; /* the limit lets the main stack grow down to here; 0: not known */
static ptrdiff_t block_at; /* of stackblock, from the thread pointer; 0: unknown */
static bool (*may_probe)(void);
static bool probe_works;

static bool plausible_block(uintptr_t start, uintptr_t bytes, uintptr_t thread) {
    uintptr_t end = start + bytes;
    return start != 0 && bytes < BLOCK_BYTES_MAX && start < thread && thread < end &&
           end - thread < DESCRIPTOR_BYTES_MAX;
}

static uintptr_t word_at(uintptr_t thread, ptrdiff_t offset) {
    return *(const uintptr_t *)(thread + (uintptr_t)offset);
}

static bool is_block_size(uintptr_t thread, ptrdiff_t at, bool main_thread) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t value = word_at(thread, at);
    if (main_thread)
        return &__libc_stack_end != NULL && value == (uintptr_t)__libc_stack_end;
    uintptr_t start = word_at(thread, at - 8);
    return plausible_block(start, value, thread) && here > start && here < thread &&
           start % PAGE_BYTES == 0;
}

void mp_stack_find_threads(void) {
    uintptr_t thread = mp_arch_thread_pointer();
    bool main_thread = syscall(SYS_gettid) == getpid();
    block_at = 0;
    for (ptrdiff_t at = MP_ARCH_DESCRIPTOR_FROM + 8; at < MP_ARCH_DESCRIPTOR_TO; at += 8) {
        if (!is_block_size(thread, at, main_thread))
            continue;
        if (block_at != 0) { /* twice: neither can be trusted */
            block_at = 0;
            return;
        }
        block_at = at - 8;
    }
}

/* The kernel counts the stack's limit from here: the path of the program is the last thing on it. */
static uintptr_t main_top(void) {
    uintptr_t path = getauxval(AT_EXECFN);
    return path != 0 ? (path | (PAGE_BYTES - 1)) + 1 : main_high;
}

static void find_main_stack(void) {
    struct rlimit limit;
    uintptr_t bytes = MAIN_BYTES_MAX;
    main_high = &__libc_stack_end != NULL ? (uintptr_t)__libc_stack_end : 0;
    if (main_high == 0) /* the kernel puts these bytes above the program's stack */
        main_high = getauxval(AT_RANDOM) & ~(uintptr_t)15;
    main_end = 0;
    if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < bytes) {
        bytes = limit.rlim_cur;
        main_end = main_top() - bytes;
    }
    main_low = main_high > bytes ? main_high - bytes : 0;
}

void mp_stack_init(bool (*allowed)(void)) {
    uintptr_t word = 0;
    may_probe = allowed;
    find_main_stack();
    mp_stack_find_threads();
    probe_works =
        mp_arch_probe((uintptr_t)&word) == -EINVAL && mp_arch_probe(PAGE_BYTES / 2) == -EFAULT;
}

bool mp_stack_knows_threads(void) {
    return block_at != 0;
}

void mp_stack_find(uintptr_t sp, bool in_use, struct mp_stack_range *out) {
    uintptr_t thread = mp_arch_thread_pointer();
    *out = (struct mp_stack_range){.low = sp};
    if (block_at != 0) {
        uintptr_t start = word_at(thread, block_at);
        uintptr_t bytes = word_at(thread, block_at + 8);
        if (sp > start && sp < thread && plausible_block(start, bytes, thread)) {
            out->high = thread;
            return;
        }
    }
    if (sp > main_low && sp < main_high) {
        out->high = main_high;
        return;
    }
    out->foreign = true;
    out->probes = PROBES_MAX;
    out->high = in_use ? ((sp - 1) | (PAGE_BYTES - 1)) + 1 : sp & ~(uintptr_t)(PAGE_BYTES - 1);
}

bool mp_stack_extend(struct mp_stack_range *range, uintptr_t end) {
    while (range->high < end) {
        if (!range->foreign || range->probes == 0 || !probe_works || may_probe == NULL ||
            !may_probe() || mp_arch_probe(range->high) != -EINVAL) {
            return false;
        }
        range->probes--;
        range->high += PAGE_BYTES;
    }
    return true;
}

/* A bound above sp is invalid. */
static bool is_short_above(uintptr_t end, uintptr_t sp, size_t bytes, uintptr_t high,
                           struct mp_stack_room *room) {
    if (sp < end)
        return false;
    room->low = end;
    room->high = high;
    return sp - end < bytes;
}

static bool is_short_foreign(uintptr_t sp, size_t bytes, uintptr_t *mapped_page) {
    uintptr_t page = (sp - bytes) & ~(uintptr_t)(PAGE_BYTES - 1);
    if (page == (sp & ~(uintptr_t)(PAGE_BYTES - 1)) || page == *mapped_page || !probe_works ||
        may_probe == NULL || !may_probe()) {
        return false;
    }
    if (mp_arch_probe(page) != -EINVAL)
        return true;
    *mapped_page = page;
    return false;
}

bool mp_stack_ask_room(uintptr_t sp, size_t bytes, struct mp_stack_room *room) {
    uintptr_t thread = mp_arch_thread_pointer();
    if (block_at != 0) {
        uintptr_t start = word_at(thread, block_at);
        uintptr_t block = word_at(thread, block_at + 8);
        uintptr_t guard = word_at(thread, block_at + 16);
        if (sp > start && sp < thread && plausible_block(start, block, thread))
            return is_short_above(start + (guard < block ? guard : 0), sp, bytes, thread, room);
    }
    if (sp > main_low && sp < main_high)
        return main_end != 0 && is_short_above(main_end, sp, bytes, main_high, room);
    return is_short_foreign(sp, bytes, &room->mapped_page);
}

bool mp_stack_is_mapped(uintptr_t at, size_t bytes) {
    struct mp_stack_range range = {
        .low = at, .high = at & ~(uintptr_t)(PAGE_BYTES - 1), .foreign = true, .probes = 4};
    return mp_stack_extend(&range, at + bytes);
}

bool mp_stack_copy(uintptr_t at, void *to, size_t bytes) {
    struct iovec here = {to, bytes}, there = {(void *)at, bytes};
    if (may_probe == NULL || !may_probe())
        return false;
    int saved_errno = errno;
    long copied = syscall(SYS_process_vm_readv, (long)getpid(), &here, 1L, &there, 1L, 0L);
    errno = saved_errno;
    return copied == (long)bytes;
}
