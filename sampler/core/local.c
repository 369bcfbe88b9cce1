/*
 * local.c - process-local and thread-local state of the sampler. See local.h.
 */
#include "local.h"

#define GUARD_MARK ((uintptr_t)0x6d656d2d67756172ULL)

struct mp_local mp_local;
const int64_t mp_gate_off = MP_GATE_OFF;
__thread struct mp_thread_state mp_self __attribute__((tls_model("initial-exec")));

static void cell_add(uint8_t *cell) {
    uint8_t n = mp_load_relaxed(cell);
    do {
        if (n == UINT8_MAX)
            return;
    } while (!__atomic_compare_exchange_n(cell, &n, (uint8_t)(n + 1), true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
}

static void cell_remove(uint8_t *cell) {
    uint8_t n = mp_load_relaxed(cell);
    do {
        if (n == UINT8_MAX || n == 0)
            return;
    } while (!__atomic_compare_exchange_n(cell, &n, (uint8_t)(n - 1), true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
}

void mp_filter_add(const void *p) {
    uint64_t h = mp_filter_hash(p);
    cell_add(&mp_local.filter_large[h >> (64 - MP_FILTER_LARGE_BITS)]);
    cell_add(&mp_local.filter_small[h >> (64 - MP_FILTER_SMALL_BITS)]);
}

void mp_filter_remove(const void *p) {
    uint64_t h = mp_filter_hash(p);
    cell_remove(&mp_local.filter_small[h >> (64 - MP_FILTER_SMALL_BITS)]);
    cell_remove(&mp_local.filter_large[h >> (64 - MP_FILTER_LARGE_BITS)]);
}

/* The guard in force was taken deeper on this stack than `guard`, or its frame has been reused. */
static bool guard_is_stale(const struct mp_guard *guard) {
    uintptr_t held = mp_self.guard_sp;
    if ((uintptr_t)guard >= held) /* equal: the frame that held it was left by a jump */
        return true;
    return ((const struct mp_guard *)held)->mark != (GUARD_MARK ^ held);
}

bool mp_guard_enter(struct mp_guard *guard) {
    if (mp_unlikely(mp_self.guard_sp != 0) && !guard_is_stale(guard))
        return false;
    guard->mark = GUARD_MARK ^ (uintptr_t)guard;
    mp_self.guard_sp = (uintptr_t)guard;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return true;
}

void mp_guard_leave(struct mp_guard *guard) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    guard->mark = 0;
    mp_self.guard_sp = 0;
}
