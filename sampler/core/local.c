/*
 * local.c - process-local and thread-local state of the sampler. See local.h.
 */
#include "local.h"
#include "unwind/stack_range.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define GUARD_REFUSALS_MAX 64 /* a handler that interrupted us seldom allocates so often */

struct mp_local mp_local;
const int64_t mp_gate_off = MP_GATE_OFF;
__thread struct mp_thread_state mp_self __attribute__((tls_model("initial-exec")));

/* Zeros, for which whole pages are given back. */
static void empty(void *at, size_t bytes) {
    uintptr_t page = getauxval(AT_PAGESZ), start = ((uintptr_t)at + page - 1) & -page;
    uintptr_t end = ((uintptr_t)at + bytes) & -page;
    if (madvise((void *)start, end - start, MADV_DONTNEED) != 0) {
        memset(at, 0, bytes);
        return;
    }
    memset(at, 0, start - (uintptr_t)at);
    memset((void *)end, 0, (uintptr_t)at + bytes - end);
}

void mp_filter_clear(void) {
    memset(mp_local.filter_small, 0, sizeof mp_local.filter_small);
    empty(mp_local.filter_large, sizeof mp_local.filter_large);
    empty(&mp_local.starts, sizeof mp_local.starts);
}

bool mp_guard_in_force(const struct mp_guard *guard) {
    return guard->mark == (MP_GUARD_MARK ^ (uintptr_t)guard);
}

/* Certainly; coroutines and signal stacks are known by the page alone. */
static bool on_one_stack(uintptr_t a, uintptr_t b) {
    struct mp_stack_range of_a, of_b;
    mp_stack_find(a, true, &of_a);
    mp_stack_find(b, true, &of_b);
    return of_a.high == of_b.high;
}

/*
 * Is the frame that holds the guard gone? It is when the guard is deeper on this stack than ours, and
 * when other code reused its memory. A guard on another stack, above or below (a handler on a sigaltstack interrupted
 * the sampler, or was left by siglongjmp), may be in memory that is gone: nobody reads it, and it counts as
 * gone after a few refusals in a row. To take over from a sampler that is only interrupted costs an event at most.
 */
bool mp_guard_take_over(uintptr_t mine) {
    uintptr_t held = mp_self.guard_sp;
    if (on_one_stack(mine, held))
        return mine >= held || !mp_guard_in_force((const struct mp_guard *)held);
    return ++mp_self.guard_refusals > GUARD_REFUSALS_MAX;
}
