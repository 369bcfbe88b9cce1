/*
 * hooks.c - the exported malloc family.
 *
 * Model: each hook counts down and jumps to the real function; only a block that is due, or a free whose
 * address hits the filter, calls its slow function. A hook records an allocation after the real
 * call (it does not know the address before), a free before it (another thread may get the address right
 * after).
 *
 * Threads: any, also before this library's constructor, in signal handlers, and inside the loader.
 * Pointers, sizes, alignment and errno are those of the real functions.
 */
#include "hooks.h"
#include "core/record.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#define SLOW static __attribute__((noinline))

/* By the linker: the functions of MP_AT_FIRST_CALL. */
extern void (*const __start_mp_first_call[])(void) __attribute__((visibility("hidden")));
extern void (*const __stop_mp_first_call[])(void) __attribute__((visibility("hidden")));

/* The stack of a caller that breaks the ABI is realigned: see record.h. */
static MP_REALIGN __attribute__((noinline, cold)) void first_call(void) {
    int saved_errno = errno;
    mp_elf_from_list(true);
    mp_hooks_resolve();
    for (void (*const *function)(void) = __start_mp_first_call; function < __stop_mp_first_call;
         function++)
        (*function)();
    mp_elf_from_list(false);
    errno = saved_errno;
}

/* Until the first call has looked the real functions up, these are behind the hooks. They jump to the hook once
 * more, which now may take a sample; so its caller is the program's. */
#define BOOT(name, id, needed, result, parameters, arguments)                                      \
    static result boot_##name parameters {                                                         \
        first_call();                                                                              \
        return name arguments;                                                                     \
    }
MP_MALLOC_FAMILY(BOOT)

#define BOOT_FIELD(name, id, needed, result, parameters, arguments) .name = boot_##name,
struct mp_real mp_real = {MP_MALLOC_FAMILY(BOOT_FIELD)};

static void *absent_aligned(size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    errno = ENOMEM;
    return NULL;
}

static void *absent_paged(size_t size) {
    (void)size;
    errno = ENOMEM;
    return NULL;
}

static void use(struct mp_real real) {
    if (real.aligned_alloc == NULL)
        real.aligned_alloc = real.memalign ? real.memalign : absent_aligned;
    if (real.memalign == NULL)
        real.memalign = real.aligned_alloc;
    if (real.valloc == NULL)
        real.valloc = absent_paged;
    if (real.pvalloc == NULL)
        real.pvalloc = absent_paged;
    mp_real = real;
}

void mp_hooks_resolve(void) {
    struct mp_real real = {0};
    if (mp_real_resolve(&real) != 0)
        __builtin_trap(); /* no malloc at all: impossible with a loaded C library */
    use(real);
}

int mp_hooks_resolve_late(void) {
    struct mp_real real = {0};
    int rc = mp_real_resolve_late(&real);
    if (rc == 0)
        use(real);
    return rc;
}

SLOW void *malloc_slow(size_t size) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = mp_real.malloc(size);
    mp_record_alloc(p, size, MP_HOOK_MALLOC, &caller);
    return p;
}

EXPORT void *malloc(size_t size) {
    if (mp_sample_due(size))
        return malloc_slow(size);
    return mp_real.malloc(size);
}

SLOW void *calloc_slow(size_t n, size_t size, size_t total) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = mp_real.calloc(n, size);
    mp_record_alloc(p, total, MP_HOOK_CALLOC, &caller);
    return p;
}

EXPORT void *calloc(size_t n, size_t size) {
    size_t total;
    if (mp_unlikely(__builtin_mul_overflow(n, size, &total)))
        return mp_real.calloc(n, size); /* fails as it does without us */
    if (mp_sample_due(total))
        return calloc_slow(n, size, total);
    return mp_real.calloc(n, size);
}

/* Separate from its caller to keep struct mp_taken off the stack during the unwinding. */
SLOW void *realloc_taken(void *old, size_t size) {
    void *p;
    MP_RECORD_AROUND(old, p = mp_real.realloc(old, size), p == NULL && size != 0);
    return p;
}

SLOW void *realloc_slow(void *old, size_t size, bool due, enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = realloc_taken(old, size);
    if (due)
        mp_record_alloc(p, size, hook, &caller);
    return p;
}

EXPORT void *realloc(void *old, size_t size) {
    bool due = mp_sample_due(size);
    if (due || mp_free_hit(old))
        return realloc_slow(old, size, due, MP_HOOK_REALLOC);
    return mp_real.realloc(old, size);
}

/* This does not forward to the C library's: that one would call our realloc, which would count it. */
EXPORT void *reallocarray(void *old, size_t n, size_t size) {
    size_t total;
    if (mp_unlikely(__builtin_mul_overflow(n, size, &total))) {
        errno = ENOMEM;
        return NULL;
    }
    bool due = mp_sample_due(total);
    if (due || mp_free_hit(old))
        return realloc_slow(old, total, due, MP_HOOK_REALLOCARRAY);
    return mp_real.realloc(old, total);
}

SLOW void free_slow(void *p) {
    mp_record_free(p);
    mp_real.free(p);
}

EXPORT void free(void *p) {
    if (mp_free_hit(p)) {
        free_slow(p);
        return;
    }
    mp_real.free(p);
}

SLOW int posix_memalign_slow(void **out, size_t alignment, size_t size) {
    struct mp_frame caller;
    MP_CALLER(caller);
    int error = mp_real.posix_memalign(out, alignment, size);
    mp_record_alloc(error ? NULL : *out, size, MP_HOOK_POSIX_MEMALIGN, &caller);
    return error;
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
    if (mp_sample_due(size))
        return posix_memalign_slow(out, alignment, size);
    return mp_real.posix_memalign(out, alignment, size);
}

SLOW void *aligned_slow(size_t alignment, size_t size, void *(*real)(size_t, size_t),
                        enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = real(alignment, size);
    mp_record_alloc(p, size, hook, &caller);
    return p;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    if (mp_sample_due(size))
        return aligned_slow(alignment, size, mp_real.aligned_alloc, MP_HOOK_ALIGNED_ALLOC);
    return mp_real.aligned_alloc(alignment, size);
}

EXPORT void *memalign(size_t alignment, size_t size) {
    if (mp_sample_due(size))
        return aligned_slow(alignment, size, mp_real.memalign, MP_HOOK_MEMALIGN);
    return mp_real.memalign(alignment, size);
}

SLOW void *paged_slow(size_t size, void *(*real)(size_t), enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = real(size);
    mp_record_alloc(p, size, hook, &caller);
    return p;
}

EXPORT void *valloc(size_t size) {
    if (mp_sample_due(size))
        return paged_slow(size, mp_real.valloc, MP_HOOK_VALLOC);
    return mp_real.valloc(size);
}

EXPORT void *pvalloc(size_t size) {
    if (mp_sample_due(size))
        return paged_slow(size, mp_real.pvalloc, MP_HOOK_PVALLOC);
    return mp_real.pvalloc(size);
}

#define ONE(name, id, needed, result, parameters, arguments) +1
_Static_assert(MP_MALLOC_ALLOCATING(ONE) == MP_HOOK_MALLOC_FAMILY, "each hook has its function");

void mp_hooks_name_frames(void) {
#define NAME_FRAME(name, id, needed, result, parameters, arguments)                                \
    mp_hook_pc[MP_HOOK_##id] = (uintptr_t)name;
    MP_MALLOC_ALLOCATING(NAME_FRAME)
}
