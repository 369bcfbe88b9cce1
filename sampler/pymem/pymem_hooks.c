/*
 * pymem_hooks.c - see pymem_hooks.h.
 *
 * While no capture runs, the hooks do not even count down: a countdown from before a capture is below its gate,
 * whatever it was.
 */
#include "pymem_hooks.h"

#define SLOW static __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline))
#define HERE ((uintptr_t)__builtin_frame_address(0))

typedef const struct mp_pymem_row row_t;

/* Fences of signals: handlers run on this very thread. */
static inline void begin_counting(uintptr_t here) {
    mp_self.counting_sp = here;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void end_counting(void) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    mp_self.counting_sp = 0;
}

/* Nothing to do but to forward: no capture, or a hook further out counts. */
static inline bool is_idle(int64_t gate, uintptr_t here) {
    return gate == MP_GATE_OFF || mp_unlikely(mp_counted_further_out(here + 1));
}

static inline bool is_due(int64_t gate, size_t size) {
    return mp_countdown_due(&mp_self.countdown, size, gate);
}

SLOW void *malloc_slow(row_t *row, size_t size, enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    begin_counting(HERE);
    void *p = row->real.malloc(row->real.ctx, size);
    end_counting();
    mp_record_alloc(p, size, hook, &caller);
    return p;
}

INLINE void *on_malloc(row_t *row, size_t size, enum mp_hook hook) {
    int64_t gate = mp_gate();
    if (is_idle(gate, HERE))
        return row->real.malloc(row->real.ctx, size);
    if (is_due(gate, size))
        return malloc_slow(row, size, hook);
    begin_counting(HERE);
    void *p = row->real.malloc(row->real.ctx, size);
    end_counting();
    return p;
}

SLOW void *calloc_slow(row_t *row, size_t n, size_t size, size_t total, enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    begin_counting(HERE);
    void *p = row->real.calloc(row->real.ctx, n, size);
    end_counting();
    mp_record_alloc(p, total, hook, &caller);
    return p;
}

INLINE void *on_calloc(row_t *row, size_t n, size_t size, enum mp_hook hook) {
    int64_t gate = mp_gate();
    size_t total;
    if (is_idle(gate, HERE) || mp_unlikely(__builtin_mul_overflow(n, size, &total)))
        return row->real.calloc(row->real.ctx, n, size);
    if (is_due(gate, total))
        return calloc_slow(row, n, size, total, hook);
    begin_counting(HERE);
    void *p = row->real.calloc(row->real.ctx, n, size);
    end_counting();
    return p;
}

INLINE void *realloc_counting(row_t *row, void *old, size_t size) {
    bool inner = mp_counted_further_out(HERE + 1);
    if (!inner)
        begin_counting(HERE);
    void *p = row->real.realloc(row->real.ctx, old, size);
    if (!inner)
        end_counting();
    return p;
}

/* These return NULL only where they fail, also for 0 bytes: `old` is still there. */
SLOW void *realloc_slow(row_t *row, void *old, size_t size, bool due, enum mp_hook hook) {
    struct mp_frame caller;
    MP_CALLER(caller);
    void *p;
    MP_RECORD_AROUND(old, p = realloc_counting(row, old, size), p == NULL);
    if (due)
        mp_record_alloc(p, size, hook, &caller);
    return p;
}

INLINE void *on_realloc(row_t *row, void *old, size_t size, enum mp_hook hook) {
    int64_t gate = mp_gate();
    bool idle = is_idle(gate, HERE), due = !idle && is_due(gate, size);
    if (due || mp_free_hit(old))
        return realloc_slow(row, old, size, due, hook);
    if (idle)
        return row->real.realloc(row->real.ctx, old, size);
    begin_counting(HERE);
    void *p = row->real.realloc(row->real.ctx, old, size);
    end_counting();
    return p;
}

SLOW void free_slow(row_t *row, void *block) {
    mp_record_free(block);
    row->real.free(row->real.ctx, block);
}

static void on_free(void *ctx, void *block) {
    row_t *row = ctx;
    if (mp_free_hit(block)) {
        free_slow(row, block);
        return;
    }
    row->real.free(row->real.ctx, block);
}

/* The hooks of one domain. Reports show these names as the innermost frame. */
#define DOMAIN_HOOKS(prefix, first)                                                                \
    static void *prefix##Malloc(void *ctx, size_t size) {                                          \
        return on_malloc(ctx, size, (first));                                                      \
    }                                                                                              \
    static void *prefix##Calloc(void *ctx, size_t n, size_t size) {                                \
        return on_calloc(ctx, n, size, (first) + 1);                                               \
    }                                                                                              \
    static void *prefix##Realloc(void *ctx, void *old, size_t size) {                              \
        return on_realloc(ctx, old, size, (first) + 2);                                            \
    }

DOMAIN_HOOKS(PyMem_Raw, MP_HOOK_PYMEM)
DOMAIN_HOOKS(PyMem_, MP_HOOK_PYMEM + 3)
DOMAIN_HOOKS(PyObject_, MP_HOOK_PYMEM + 6)

static void *PyObject_ArenaMmap(void *ctx, size_t size) {
    return on_malloc(ctx, size, MP_HOOK_PYARENA);
}

static void on_unmap(void *ctx, void *arena, size_t size) {
    row_t *row = ctx;
    if (mp_free_hit(arena))
        mp_record_free(arena);
    row->unmap(row->real.ctx, arena, size);
}

static const struct mp_pymem_allocator hooked[MP_PYMEM_DOMAINS] = {
#define HOOKED(prefix)                                                                             \
    {.malloc = prefix##Malloc,                                                                     \
     .calloc = prefix##Calloc,                                                                     \
     .realloc = prefix##Realloc,                                                                   \
     .free = on_free}
    [MP_PYMEM_RAW] = HOOKED(PyMem_Raw),
    [MP_PYMEM_MEM] = HOOKED(PyMem_),
    [MP_PYMEM_OBJECT] = HOOKED(PyObject_)};

void mp_pymem_name_frames(void) {
    for (int domain = 0; domain < MP_PYMEM_DOMAINS; domain++) {
        uintptr_t *pc = mp_hook_pc + MP_HOOK_PYMEM + 3 * domain;
        pc[0] = (uintptr_t)hooked[domain].malloc;
        pc[1] = (uintptr_t)hooked[domain].calloc;
        pc[2] = (uintptr_t)hooked[domain].realloc;
    }
    mp_hook_pc[MP_HOOK_PYARENA] = (uintptr_t)PyObject_ArenaMmap;
}

struct mp_pymem_allocator mp_pymem_hooked(enum mp_pymem_domain domain, struct mp_pymem_row *row) {
    struct mp_pymem_allocator allocator = hooked[domain];
    allocator.ctx = row;
    return allocator;
}

const struct mp_pymem_row *mp_pymem_row_of(const struct mp_pymem_allocator *allocator) {
    return allocator->free == on_free ? allocator->ctx : NULL;
}

struct mp_pymem_arenas mp_pymem_hooked_arenas(struct mp_pymem_row *row) {
    return (struct mp_pymem_arenas){.ctx = row, .map = PyObject_ArenaMmap, .unmap = on_unmap};
}

const struct mp_pymem_row *mp_pymem_row_of_arenas(const struct mp_pymem_arenas *arenas) {
    return arenas->unmap == on_unmap ? arenas->ctx : NULL;
}
