/*
 * stacks.c - stacks of threads, by who made the thread: a wrapper of pthread_create.
 *
 * Model: the C library maps a stack by itself, and puts the thread's descriptor, whose address is its
 * pthread_t, into the last page. It keeps a stack when its thread has ended, and gives it to a later one, which is
 * then whose it is: a block has the address of its stack, so the newer one replaces it. Not recorded: stacks that the
 * program brings along, and any under a seccomp filter, as the size is the kernel's limit where the program names none.
 *
 * When pthread_create returns, the thread may have ended and freed the object that held its pthread_t: the attributes
 * are read before the call, and what is read after it is copied by a system call that cannot fault.
 *
 * Only glibc for x86-64, whose layouts of pthread_attr_t and of the last page are known.
 *
 * Threads: any; HOOK.
 */
#include "abi/raw_syscall.h"
#include "core/capture.h"
#include "device/device_ranges.h"
#include "drivers/backend.h"
#include "unwind/stack_range.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static int create(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                  void *) __asm__("pthread_create");

static struct mp_device_row row_create = {.symbol = "pthread_create", .wrapper = (uintptr_t)create};

/* What pthread_attr_t holds (glibc's struct pthread_attr). */
struct attributes {
    int priority, policy, flags, pad;
    uint64_t guard_bytes, stack, stack_bytes;
};
#define HAS_STACK 0x8 /* a flag: the program brings the stack along */
#define DEFAULT_BYTES (2ULL << 20) /* where there is no limit */

#if defined(__x86_64__)
/* 0: unknown. */
static uint64_t stack_bytes(const pthread_attr_t *attr) {
    struct attributes told = {0};
    uint64_t limit[2] = {0}, page = getauxval(AT_PAGESZ);
    if (attr != NULL)
        memcpy(&told, attr, sizeof told);
    if ((told.flags & HAS_STACK) != 0)
        return 0;
    if (told.stack_bytes == 0) {
        if (!mp_backend_may_ask() ||
            mp_syscall4(SYS_prlimit64, 0, RLIMIT_STACK, 0, (long)limit) < 0)
            return 0;
        told.stack_bytes = limit[0] == RLIM64_INFINITY ? DEFAULT_BYTES : limit[0];
    }
    return told.stack_bytes & ~(page - 1);
}

/* The descriptor of the thread, whose first and third words are its address (tcbhead_t); 0: it is gone. */
static uint64_t descriptor_of(const pthread_t *thread) {
    uint64_t at = 0, head[3] = {0};
    bool there = mp_stack_copy((uintptr_t)thread, &at, sizeof at) &&
                 mp_stack_copy(at, head, sizeof head) && head[0] == at && head[2] == at;
    return there ? at : 0;
}

static void record(const pthread_t *thread, uint64_t bytes, const struct mp_frame *caller) {
    uint64_t page = getauxval(AT_PAGESZ), descriptor = descriptor_of(thread);
    uint64_t end = (descriptor | (page - 1)) + 1;
    if (descriptor == 0 || bytes >= end)
        return;
    struct mp_device_block block = {.domain = mp_domain_intern("mmap", -1, MP_MEMORY_MAPPED_STACK),
                                    .space = MP_SPACE_HOST,
                                    .address = end - bytes,
                                    .asked_bytes = bytes,
                                    .api_pc = row_create.wrapper,
                                    .caller = *caller};
    mp_device_backend_call(MP_BACKEND_MMAP);
    if (block.domain != MP_DOMAIN_NONE)
        mp_range_set(&block);
}
#else
static uint64_t stack_bytes(const pthread_attr_t *attr) {
    (void)attr;
    return 0;
}

static void record(const pthread_t *thread, uint64_t bytes, const struct mp_frame *caller) {
    (void)thread, (void)bytes, (void)caller;
}
#endif

static __attribute__((noinline)) int create(pthread_t *thread, const pthread_attr_t *attr,
                                            void *(*begin)(void *), void *arg) {
    struct mp_frame caller;
    MP_CALLER(caller);
    uint64_t bytes = stack_bytes(attr);
    int rc = ((create_fn *)mp_row_real(&row_create))(thread, attr, begin, arg);
    int saved_errno = errno;
    if (rc == 0 && bytes != 0)
        record(thread, bytes, &caller);
    errno = saved_errno;
    return rc;
}

MP_LIBRARY(stacks, MP_BACKEND_MMAP, ("libc.so.", "libpthread.so."), &row_create, );
