/*
 * entry_hooks.c - see entry_hooks.h.
 */
#include "entry_hooks.h"
#include "core/record.h"

typedef uintptr_t word;
typedef word function(word a, word b, word c, word d, word e);

struct mp_word_set mp_entry_heaps;

#define ARGUMENTS word a, word b, word c, word d, word e, const struct mp_entry_record *r
#define REAL ((function *)r->real)
#define HERE ((word)__builtin_frame_address(0))

/* Marks this frame as the outermost hook of the thread. Fences of signals: handlers run on this very thread. */
static inline word enter(void) {
    word before = mp_self.entry_sp;
    mp_self.entry_sp = HERE;
    if (!mp_counted_further_out(HERE))
        mp_self.counting_sp = HERE;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return before;
}

/* A frame below ours is gone (an exception passed through it); one above was interrupted by a signal. */
static inline void leave(word before) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    mp_self.entry_sp = before > HERE ? before : 0;
    if (mp_self.counting_sp == HERE)
        mp_self.counting_sp = 0;
}

static inline word argument(const word *arguments, uint8_t index) {
    return index < 5 ? arguments[index] : 0;
}

/* False: the product is no size, and the function will fail. */
static inline bool size_of(const word *arguments, const struct mp_entry_record *r, size_t *size) {
    size_t count = r->count_argument < 5 ? arguments[r->count_argument] : 1;
    return !__builtin_mul_overflow(argument(arguments, r->size_argument), count, size);
}

static enum mp_hook frame_of(const struct mp_entry_record *r) {
    return r->count_argument < 5 ? MP_HOOK_CALLOC : MP_HOOK_MALLOC;
}

static __attribute__((noinline)) word on_alloc(ARGUMENTS) {
    word arguments[] = {a, b, c, d, e}, before = enter();
    size_t size;
    bool due = size_of(arguments, r, &size) && mp_sample_due(size);
    word block = REAL(a, b, c, d, e);
    if (due) {
        struct mp_frame caller;
        MP_CALLER(caller);
        mp_record_alloc((void *)block, size, frame_of(r), &caller);
        if (r->of_heap && a != 0)
            mp_word_set_add(&mp_entry_heaps, a);
    }
    leave(before);
    return block;
}

static __attribute__((noinline)) word on_posix(ARGUMENTS) {
    word arguments[] = {a, b, c, d, e}, before = enter();
    size_t size;
    bool due = size_of(arguments, r, &size) && mp_sample_due(size);
    word error = REAL(a, b, c, d, e);
    if (due) {
        struct mp_frame caller;
        MP_CALLER(caller);
        void **out = (void **)argument(arguments, r->block_argument);
        mp_record_alloc((int)error == 0 ? *out : NULL, size, MP_HOOK_POSIX_MEMALIGN, &caller);
    }
    leave(before);
    return error;
}

static __attribute__((noinline)) word on_realloc(ARGUMENTS) {
    word arguments[] = {a, b, c, d, e}, before = enter();
    void *old = (void *)argument(arguments, r->block_argument);
    size_t size = 0;
    bool fits = size_of(arguments, r, &size), due = fits && mp_sample_due(size);
    word block;
    MP_RECORD_AROUND(old, block = REAL(a, b, c, d, e),
                     block == 0 && (size != 0 || !fits) && !(r->flags & MP_ENTRY_FREES_ON_FAILURE));
    if (due) {
        struct mp_frame caller;
        MP_CALLER(caller);
        mp_record_alloc((void *)block, size, MP_HOOK_REALLOC, &caller);
        if (r->of_heap && a != 0)
            mp_word_set_add(&mp_entry_heaps, a);
    }
    leave(before);
    return block;
}

/* `block_argument` points to the block; the int result is 0 on success. */
static __attribute__((noinline)) word on_realloc_at(ARGUMENTS) {
    word arguments[] = {a, b, c, d, e}, before = enter();
    void **at = (void **)argument(arguments, r->block_argument);
    void *old = at != NULL ? *at : NULL;
    size_t size = 0;
    bool due = size_of(arguments, r, &size) && mp_sample_due(size);
    word error;
    MP_RECORD_AROUND(old, error = REAL(a, b, c, d, e), (int)error != 0);
    if (due) {
        struct mp_frame caller;
        MP_CALLER(caller);
        mp_record_alloc((int)error == 0 && at != NULL ? *at : NULL, size, MP_HOOK_REALLOC, &caller);
    }
    leave(before);
    return error;
}

static __attribute__((noinline)) word on_resize(ARGUMENTS) {
    word arguments[] = {a, b, c, d, e}, before = enter();
    void *block = (void *)argument(arguments, r->block_argument);
    size_t size = 0;
    bool due = size_of(arguments, r, &size) && mp_sample_due(size);
    word usable;
    MP_RECORD_AROUND(block, usable = REAL(a, b, c, d, e), usable < size);
    if (due) {
        struct mp_frame caller;
        MP_CALLER(caller);
        mp_record_alloc(usable < size ? NULL : block, size, MP_HOOK_REALLOC, &caller);
    }
    leave(before);
    return usable;
}

static __attribute__((noinline)) word on_free(ARGUMENTS) {
    word arguments[] = {a, b, c, d, e}, before = enter();
    void *block = (void *)argument(arguments, r->block_argument);
    if (mp_free_hit(block))
        mp_record_free(block);
    word result = REAL(a, b, c, d, e);
    leave(before);
    return result;
}

uintptr_t mp_entry_hook(enum mp_entry_kind kind) {
    static word (*const hooks[MP_ENTRY_KINDS])(ARGUMENTS) = {
        [MP_ENTRY_ALLOC] = on_alloc,     [MP_ENTRY_POSIX] = on_posix,
        [MP_ENTRY_REALLOC] = on_realloc, [MP_ENTRY_RESIZE] = on_resize,
        [MP_ENTRY_FREE] = on_free,       [MP_ENTRY_REALLOC_AT] = on_realloc_at};
    return (uintptr_t)hooks[kind];
}
