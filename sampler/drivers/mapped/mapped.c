/*
 * mapped.c - mappings that the program itself makes: wrappers of libc's mmap, mmap64, mremap, munmap, of shmat, shmdt,
 * brk and sbrk. What a program gives back by madvise needs none: the reader asks the kernel what is resident.
 *
 * Model: slots and answers of dlsym lead to the wrappers, as to those of a driver. So the C library's own
 * calls, and the loader's, are not seen; those of an allocator that is a library, of one inside the program
 * and of CPython's, which come here while a hook counts their blocks, are told apart and left out.
 * Lengths count as the kernel rounds them. A mapping keeps the kind it was made with, whatever mprotect does.
 *
 * The wrappers have the names of their functions for the symbol table alone: other files of the sampler
 * mean the C library's.
 *
 * Threads: any; HOOK.
 */
#include "abi/raw_syscall.h"
#include "core/capture.h"
#include "core/local.h"
#include "device/device_inherited.h"
#include "device/device_ranges.h"
#include "drivers/backend.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/types.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif
#define MAP_KINDS 0xf /* MAP_TYPE */
#define HUGE_SHIFT 26
#define HUGE_MASK 0x3f
#define HUGE_DEFAULT 21 /* 2 MiB, where the flags do not say how large */

typedef void *map_fn(void *, size_t, int, int, int, off_t);
typedef int unmap_fn(void *, size_t);
typedef void *remap_fn(void *, size_t, size_t, int, ...);
typedef void *attach_fn(int, const void *, int);
typedef int detach_fn(const void *);
typedef int set_break_fn(void *);
typedef void *move_break_fn(intptr_t);

static void *map(void *, size_t, int, int, int, off_t) __asm__("mmap");
static void *map64(void *, size_t, int, int, int, off_t) __asm__("mmap64");
static int unmap(void *, size_t) __asm__("munmap");
static void *remap(void *, size_t, size_t, int, void *) __asm__("mremap");
static void *attach(int, const void *, int) __asm__("shmat");
static int detach(const void *) __asm__("shmdt");
static int set_break(void *) __asm__("brk");
static void *move_break(intptr_t) __asm__("sbrk");

#define ROW(function, name)                                                                        \
    static struct mp_device_row row_##function = {.symbol = name, .wrapper = (uintptr_t)function};
ROW(map, "mmap")
ROW(map64, "mmap64")
ROW(unmap, "munmap")
ROW(remap, "mremap")
ROW(attach, "shmat")
ROW(detach, "shmdt")
ROW(set_break, "brk")
ROW(move_break, "sbrk")

/* Has it a segment, or may it have one, and is it no call by which an allocator gets room for blocks? A fork child that
 * waits for its segment needs it for the mappings that it has. */
static bool is_seen(const struct mp_frame *caller) {
    bool has_segment = mp_local.segment.control != NULL || mp_pending_waits();
    if (!has_segment || !mp_backend_on(MP_BACKEND_MMAP))
        return false;
    mp_device_backend_call(MP_BACKEND_MMAP);
    bool seen = !mp_counted_further_out(caller->sp) && !mp_backend_is_allocator(caller->pc);
    if (seen && mp_inherited_wait())
        mp_pending_open();
    return seen;
}

/* 0: it is none that the kernel takes. */
static uint64_t rounded(uint64_t bytes, unsigned huge_bits) {
    uint64_t page = huge_bits != 0 ? 1ULL << huge_bits : getauxval(AT_PAGESZ);
    uint64_t whole = (bytes + page - 1) & ~(page - 1);
    return whole < bytes ? 0 : whole;
}

static unsigned huge_bits(int flags) {
    unsigned bits = (unsigned)flags >> HUGE_SHIFT & HUGE_MASK;
    return (flags & MAP_HUGETLB) == 0 ? 0 : bits != 0 ? bits : HUGE_DEFAULT;
}

static enum mp_memory_kind kind_of(int prot, int flags) {
    int sharing = flags & MAP_KINDS;
    if ((flags & MAP_ANONYMOUS) == 0)
        return MP_MEMORY_MAPPED_FILE;
    if (sharing == MAP_SHARED || sharing == MAP_SHARED_VALIDATE)
        return MP_MEMORY_MAPPED_SHARED;
    return prot == PROT_NONE ? MP_MEMORY_MAPPED_RESERVED : MP_MEMORY_MAPPED;
}

static void set(enum mp_memory_kind kind, void *at, uint64_t bytes, uintptr_t api_pc,
                const struct mp_frame *caller) {
    struct mp_device_block block = {.domain = mp_domain_intern("mmap", -1, kind),
                                    .space = MP_SPACE_HOST,
                                    .address = (uintptr_t)at,
                                    .asked_bytes = bytes,
                                    .api_pc = api_pc,
                                    .caller = *caller};
    if (block.domain != MP_DOMAIN_NONE && bytes != 0)
        mp_range_set(&block);
}

/* What a call with a fixed address or a length that the kernel refuses leaves alone. */
static void clear(void *at, uint64_t bytes, bool keeps, struct mp_range_cleared *cleared) {
    uint64_t from = (uintptr_t)at, page = getauxval(AT_PAGESZ);
    bool sane = (from & (page - 1)) == 0 && from + bytes > from;
    mp_range_clear(from, sane ? from + bytes : from, keeps, cleared);
}

static inline __attribute__((always_inline)) void *map_as(const struct mp_device_row *row,
                                                          const struct mp_frame *caller, void *at,
                                                          size_t length, int prot, int flags,
                                                          int fd, off_t offset) {
    map_fn *real = (map_fn *)mp_row_real(row);
    struct mp_range_cleared cleared;
    if (!is_seen(caller))
        return real(at, length, prot, flags, fd, offset);
    uint64_t bytes = rounded(length, huge_bits(flags));
    clear(at, (flags & MAP_FIXED) != 0 ? bytes : 0, true, &cleared);
    void *got = real(at, length, prot, flags, fd, offset);
    int saved_errno = errno;
    if (got == MAP_FAILED) {
        mp_range_restore(&cleared);
    } else {
        mp_range_end(&cleared);
        set(kind_of(prot, flags), got, bytes, row->wrapper, caller);
    }
    errno = saved_errno;
    return got;
}

static __attribute__((noinline)) void *map(void *at, size_t length, int prot, int flags, int fd,
                                           off_t offset) {
    struct mp_frame caller;
    MP_CALLER(caller);
    return map_as(&row_map, &caller, at, length, prot, flags, fd, offset);
}

static __attribute__((noinline)) void *map64(void *at, size_t length, int prot, int flags, int fd,
                                             off_t offset) {
    struct mp_frame caller;
    MP_CALLER(caller);
    return map_as(&row_map64, &caller, at, length, prot, flags, fd, offset);
}

static __attribute__((noinline)) int unmap(void *at, size_t length) {
    unmap_fn *real = (unmap_fn *)mp_row_real(&row_unmap);
    struct mp_range_cleared cleared;
    struct mp_frame caller;
    MP_CALLER(caller);
    if (!is_seen(&caller))
        return real(at, length);
    clear(at, rounded(length, 0), false, &cleared);
    int rc = real(at, length);
    if (rc != 0)
        mp_range_restore(&cleared);
    return rc;
}

/* A copy of shared pages (length 0), or of the addresses alone (MREMAP_DONTUNMAP), is a mapping of this call. */
static __attribute__((noinline)) void *remap(void *old, size_t old_length, size_t length, int flags,
                                             void *to) {
    remap_fn *real = (remap_fn *)mp_row_real(&row_remap);
    struct mp_range_cleared moved, replaced;
    struct mp_frame caller;
    MP_CALLER(caller);
    if (!is_seen(&caller))
        return real(old, old_length, length, flags, to);
    bool is_copy = old_length == 0 || (flags & MREMAP_DONTUNMAP) != 0;
    uint64_t bytes = rounded(length, 0);
    clear(old, is_copy ? 0 : rounded(old_length, 0), true, &moved);
    clear(to, (flags & MREMAP_FIXED) != 0 ? bytes : 0, true, &replaced);
    void *got = real(old, old_length, length, flags, to);
    int saved_errno = errno;
    if (got == MAP_FAILED) {
        mp_range_restore(&replaced);
        mp_range_restore(&moved);
    } else if (is_copy) {
        mp_range_end(&replaced);
        set(old_length == 0 ? MP_MEMORY_MAPPED_SHARED : MP_MEMORY_MAPPED, got, bytes,
            row_remap.wrapper, &caller);
    } else {
        mp_range_end(&replaced);
        mp_range_move(&moved, (uintptr_t)got, (uintptr_t)got + bytes);
    }
    errno = saved_errno;
    return got;
}

/* Bytes of a segment of shared memory; 0: unknown, as where hooks make no system call. */
static uint64_t bytes_of(int id) {
    struct shmid_ds told;
    if (!mp_backend_may_ask() || mp_syscall4(SYS_shmctl, id, IPC_STAT, (long)&told, 0) < 0)
        return 0;
    return rounded(told.shm_segsz, 0);
}

static __attribute__((noinline)) void *attach(int id, const void *at, int flags) {
    attach_fn *real = (attach_fn *)mp_row_real(&row_attach);
    struct mp_range_cleared cleared;
    struct mp_frame caller;
    MP_CALLER(caller);
    if (!is_seen(&caller))
        return real(id, at, flags);
    uint64_t bytes = bytes_of(id);
    clear((void *)(uintptr_t)at, (flags & SHM_REMAP) != 0 ? bytes : 0, true, &cleared);
    void *got = real(id, at, flags);
    int saved_errno = errno;
    if (got == MAP_FAILED) {
        mp_range_restore(&cleared);
    } else {
        mp_range_end(&cleared);
        set(MP_MEMORY_MAPPED_SHARED, got, bytes, row_attach.wrapper, &caller);
    }
    errno = saved_errno;
    return got;
}

static __attribute__((noinline)) int detach(const void *at) {
    detach_fn *real = (detach_fn *)mp_row_real(&row_detach);
    struct mp_range_cleared cleared;
    struct mp_frame caller;
    MP_CALLER(caller);
    if (!is_seen(&caller))
        return real(at);
    mp_range_clear_block((uintptr_t)at, &cleared);
    int rc = real(at);
    if (rc != 0)
        mp_range_restore(&cleared);
    return rc;
}

/* The break was at `old`, and is at `now`: to the byte, of which the kernel makes pages. */
static void broke(uintptr_t old, uintptr_t now, uintptr_t api_pc, const struct mp_frame *caller) {
    struct mp_range_cleared cleared;
    old = rounded(old, 0);
    now = rounded(now, 0);
    if (now < old)
        mp_range_clear(now, old, false, &cleared);
    else if (now > old)
        set(MP_MEMORY_MAPPED, (void *)old, now - old, api_pc, caller);
}

static __attribute__((noinline)) int set_break(void *to) {
    move_break_fn *move = (move_break_fn *)mp_row_real(&row_move_break);
    struct mp_frame caller;
    MP_CALLER(caller);
    bool seen = move != NULL && is_seen(&caller);
    uintptr_t old = seen ? (uintptr_t)move(0) : 0;
    int rc = ((set_break_fn *)mp_row_real(&row_set_break))(to);
    int saved_errno = errno;
    if (rc == 0 && seen)
        broke(old, (uintptr_t)to, row_set_break.wrapper, &caller);
    errno = saved_errno;
    return rc;
}

static __attribute__((noinline)) void *move_break(intptr_t by) {
    void *old = ((move_break_fn *)mp_row_real(&row_move_break))(by);
    struct mp_frame caller;
    MP_CALLER(caller);
    int saved_errno = errno;
    if (old != MAP_FAILED && by != 0 && is_seen(&caller))
        broke((uintptr_t)old, (uintptr_t)old + (uintptr_t)by, row_move_break.wrapper, &caller);
    errno = saved_errno;
    return old;
}

MP_LIBRARY(mapped, MP_BACKEND_MMAP, ("libc.so."), &row_map, &row_map64, &row_unmap, &row_remap,
           &row_attach, &row_detach, &row_set_break, &row_move_break, );
