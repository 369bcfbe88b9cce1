/*
 * scratch.c - see scratch.h.
 */
#include "scratch.h"
#include "local.h"
#include "unwind/stack_range.h"
#include "unwind/unwind_arch.h"

_Static_assert((MP_SCRATCHES & (MP_SCRATCHES - 1)) == 0, "a power of two");

static unsigned first_of_thread(void) {
    return (unsigned)(mp_arch_thread_pointer() * 0x9e3779b97f4a7c15ULL >> 40) % MP_SCRATCHES;
}

/* Is the frame that claimed a buffer certainly gone? It does not read below our frame: that memory may be
 * unmapped. */
static bool is_left_behind(uintptr_t claim, const struct mp_guard *mine,
                           const struct mp_stack_range *stack) {
    if (claim == (uintptr_t)mine)
        return true;
    return !stack->foreign && claim > (uintptr_t)mine && claim < stack->high &&
           !mp_guard_in_force((const struct mp_guard *)claim);
}

static __attribute__((noinline, cold)) struct mp_scratch *search(unsigned first,
                                                                 const struct mp_guard *guard) {
    struct mp_stack_range stack;
    mp_stack_find((uintptr_t)guard, true, &stack);
    for (unsigned i = 0; i < MP_SCRATCHES; i++) {
        struct mp_scratch *s = &mp_local.scratch[(first + i) % MP_SCRATCHES];
        uint64_t claim = mp_load_relaxed(&s->claim);
        if ((claim == 0 || is_left_behind((uintptr_t)claim, guard, &stack)) &&
            mp_cas_u64(&s->claim, claim, (uintptr_t)guard))
            return s;
    }
    return NULL;
}

struct mp_scratch *mp_scratch_take(const struct mp_guard *guard) {
    unsigned first = first_of_thread();
    struct mp_scratch *s = &mp_local.scratch[first];
    if (mp_likely(mp_cas_u64(&s->claim, 0, (uintptr_t)guard)))
        return s;
    return search(first, guard);
}

void mp_scratch_give_back(struct mp_scratch *scratch) {
    mp_store_release(&scratch->claim, (uint64_t)0);
}
