/*
 * hooks_cxx.c - wrappers around operator new/delete, mallocx, tc_malloc and their like.
 *
 * Model: as hooks.c: count down and jump to the real function; only a block that is due, or a free whose
 * address hits the filter, takes the slow function. The wrappers differ in the order of their arguments,
 * and one macro per shape makes them. An exception of a real operator new passes through the slow frame,
 * which has nothing to clean up: there is no block to record.
 *
 * Threads: any; HOOK.
 */
#include "hooks_cxx.h"
#include "core/record.h"

#include <stdbool.h>

#define SLOW static __attribute__((noinline))

typedef uintptr_t word;
typedef void *alloc1(size_t);
typedef void *alloc2(size_t, word);
typedef void *alloc3(size_t, word, word);
typedef void *aligned(word, size_t);
typedef int posix_form(void **, word, size_t);
typedef void *realloc2(void *, size_t);
typedef void *realloc3(void *, size_t, word);
typedef size_t xalloc4(void *, size_t, size_t, word);
typedef void free3(void *, word, word);

uintptr_t mp_cxx_real[MP_CXX_COUNT];

SLOW void *alloc_slow(size_t size, word x, word y, enum mp_cxx_id id, enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = ((alloc3 *)mp_cxx_real[id])(size, x, y);
    mp_record_alloc(p, size, hook, &caller);
    return p;
}

SLOW void *aligned_slow(word x, size_t size, enum mp_cxx_id id, enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = ((aligned *)mp_cxx_real[id])(x, size);
    mp_record_alloc(p, size, hook, &caller);
    return p;
}

SLOW void *calloc_slow(size_t n, size_t size, size_t total, enum mp_cxx_id id) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p = ((alloc2 *)mp_cxx_real[id])(n, size);
    mp_record_alloc(p, total, MP_HOOK_CALLOC, &caller);
    return p;
}

SLOW int posix_slow(void **out, word alignment, size_t size, enum mp_cxx_id id) {
    struct mp_frame caller;
    MP_CALLER(caller);
    int error = ((posix_form *)mp_cxx_real[id])(out, alignment, size);
    mp_record_alloc(error ? NULL : *out, size, MP_HOOK_POSIX_MEMALIGN, &caller);
    return error;
}

SLOW void *realloc_slow(void *old, size_t size, word x, bool due, enum mp_cxx_id id) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p;
    MP_RECORD_AROUND(old, p = ((realloc3 *)mp_cxx_real[id])(old, size, x), p == NULL && size != 0);
    if (due)
        mp_record_alloc(p, size, MP_HOOK_REALLOC, &caller);
    return p;
}

/* Resizes in place or not at all; what it returns is the usable size, so only a result below the
 * requested size shows that the block did not change. */
SLOW size_t xalloc_slow(void *p, size_t size, size_t extra, word flags, bool due,
                        enum mp_cxx_id id) {
    struct mp_frame caller;
    MP_CALLER(caller);
    size_t usable;
    MP_RECORD_AROUND(p, usable = ((xalloc4 *)mp_cxx_real[id])(p, size, extra, flags),
                     usable < size);
    if (due)
        mp_record_alloc(usable < size ? NULL : p, size, MP_HOOK_REALLOC, &caller);
    return usable;
}

SLOW void free_slow(void *p, word x, word y, enum mp_cxx_id id) {
    mp_record_free(p);
    ((free3 *)mp_cxx_real[id])(p, x, y);
}

#define WRAP_ALLOC1(id, hook)                                                                      \
    static void *wrap_##id(size_t size) {                                                          \
        if (mp_sample_due(size))                                                                   \
            return alloc_slow(size, 0, 0, MP_CXX_##id, MP_HOOK_##hook);                            \
        return ((alloc1 *)mp_cxx_real[MP_CXX_##id])(size);                                         \
    }
#define WRAP_ALLOC2(id, hook)                                                                      \
    static void *wrap_##id(size_t size, word x) {                                                  \
        if (mp_sample_due(size))                                                                   \
            return alloc_slow(size, x, 0, MP_CXX_##id, MP_HOOK_##hook);                            \
        return ((alloc2 *)mp_cxx_real[MP_CXX_##id])(size, x);                                      \
    }
#define WRAP_ALLOC3(id, hook)                                                                      \
    static void *wrap_##id(size_t size, word x, word y) {                                          \
        if (mp_sample_due(size))                                                                   \
            return alloc_slow(size, x, y, MP_CXX_##id, MP_HOOK_##hook);                            \
        return ((alloc3 *)mp_cxx_real[MP_CXX_##id])(size, x, y);                                   \
    }
#define WRAP_ALIGNED(id, hook)                                                                     \
    static void *wrap_##id(word x, size_t size) {                                                  \
        if (mp_sample_due(size))                                                                   \
            return aligned_slow(x, size, MP_CXX_##id, MP_HOOK_##hook);                             \
        return ((aligned *)mp_cxx_real[MP_CXX_##id])(x, size);                                     \
    }
#define WRAP_CALLOC(id, hook)                                                                      \
    static void *wrap_##id(size_t n, size_t size) {                                                \
        size_t total;                                                                              \
        if (!__builtin_mul_overflow(n, size, &total) && mp_sample_due(total))                      \
            return calloc_slow(n, size, total, MP_CXX_##id);                                       \
        return ((alloc2 *)mp_cxx_real[MP_CXX_##id])(n, size);                                      \
    }
#define WRAP_POSIX(id, hook)                                                                       \
    static int wrap_##id(void **out, word x, size_t size) {                                        \
        if (mp_sample_due(size))                                                                   \
            return posix_slow(out, x, size, MP_CXX_##id);                                          \
        return ((posix_form *)mp_cxx_real[MP_CXX_##id])(out, x, size);                             \
    }
#define WRAP_REALLOC(id, hook)                                                                     \
    static void *wrap_##id(void *old, size_t size) {                                               \
        bool due = mp_sample_due(size);                                                            \
        if (due || mp_free_hit(old))                                                               \
            return realloc_slow(old, size, 0, due, MP_CXX_##id);                                   \
        return ((realloc2 *)mp_cxx_real[MP_CXX_##id])(old, size);                                  \
    }
#define WRAP_RALLOCX(id, hook)                                                                     \
    static void *wrap_##id(void *old, size_t size, word x) {                                       \
        bool due = mp_sample_due(size);                                                            \
        if (due || mp_free_hit(old))                                                               \
            return realloc_slow(old, size, x, due, MP_CXX_##id);                                   \
        return ((realloc3 *)mp_cxx_real[MP_CXX_##id])(old, size, x);                               \
    }
#define WRAP_XALLOCX(id, hook)                                                                     \
    static size_t wrap_##id(void *p, size_t size, size_t extra, word x) {                          \
        bool due = mp_sample_due(size);                                                            \
        if (due || mp_free_hit(p))                                                                 \
            return xalloc_slow(p, size, extra, x, due, MP_CXX_##id);                               \
        return ((xalloc4 *)mp_cxx_real[MP_CXX_##id])(p, size, extra, x);                           \
    }
#define WRAP_FREE3(id, hook)                                                                       \
    static void wrap_##id(void *p, word x, word y) {                                               \
        if (mp_free_hit(p)) {                                                                      \
            free_slow(p, x, y, MP_CXX_##id);                                                       \
            return;                                                                                \
        }                                                                                          \
        ((free3 *)mp_cxx_real[MP_CXX_##id])(p, x, y);                                              \
    }
/* The wrapper passes words that the caller did not set on from the registers, and never reads them. */
#define WRAP_FREE1 WRAP_FREE3
#define WRAP_FREE2 WRAP_FREE3

#define WRAP(id, symbol, shape, hook, undo) WRAP_##shape(id, hook)
MP_CXX_FAMILY(WRAP)

const struct mp_cxx_entry mp_cxx_entries[MP_CXX_COUNT] = {
#define ENTRY(id, name, form, frame, trial)                                                        \
    [MP_CXX_##id] = {.symbol = name,                                                               \
                     .shape = MP_SHAPE_##form,                                                     \
                     .undo = MP_CXX_##trial,                                                       \
                     .hook = (uintptr_t)wrap_##id},
    MP_CXX_FAMILY(ENTRY)
#undef ENTRY
};
