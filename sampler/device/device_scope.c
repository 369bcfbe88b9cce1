/*
 * device_scope.c - nested driver calls. See device_scope.h.
 */
#include "device_scope.h"
#include "unwind/stack_range.h"

#include <stddef.h>

/* Fences of signals: a handler on this very thread finds a scope whole, or not at all. */
#define SCOPE_MARK ((uintptr_t)0x6d656d2d73636f70ULL)

static __thread struct mp_device_scope *innermost __attribute__((tls_model("initial-exec")));

/* Covers every pointer that the code follows, so that it detects memory that was partly reused. */
static uintptr_t mark_of(const struct mp_device_scope *scope) {
    return SCOPE_MARK ^ (uintptr_t)scope ^ (uintptr_t)scope->outer << 1 ^
           (uintptr_t)scope->top << 2 ^ (uintptr_t)scope->family << 3;
}

/*
 * The thread's innermost scope if its frame surely still exists: it is in a frame around our caller's, on
 * this stack, and has its mark. This ignores a scope on another stack (a signal handler interrupted a
 * driver call).
 */
static struct mp_device_scope *in_force(const struct mp_frame *caller) {
    struct mp_device_scope *scope = innermost;
    struct mp_stack_range stack;
    if (scope == NULL || (uintptr_t)scope < caller->sp)
        return NULL;
    uintptr_t end = (uintptr_t)scope + sizeof *scope;
    mp_stack_find(caller->sp, true, &stack);
    if (end > stack.high && !mp_stack_extend(&stack, end))
        return NULL;
    return scope->mark == mark_of(scope) ? scope : NULL;
}

static struct mp_device_scope *next_of_family(const struct mp_device_scope *scope) {
    struct mp_device_scope *around = scope->outer;
    while (around != NULL && around->family != scope->family)
        around = around->outer;
    return around;
}

void mp_device_enter(struct mp_device_scope *scope, enum mp_device_family family, uintptr_t api_pc,
                     const struct mp_frame *caller) {
    scope->outer = in_force(caller);
    scope->before = innermost;
    scope->family = family;
    scope->counted = scope->refused = false;
    scope->taken_space = 0;
    scope->taken_address = 0;
    scope->api_pc = api_pc;
    scope->caller = *caller;
    const struct mp_device_scope *around = next_of_family(scope);
    scope->top = around != NULL ? around->top : scope;
    scope->mark = mark_of(scope);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    innermost = scope;
}

void mp_device_leave(struct mp_device_scope *scope, bool succeeded) {
    innermost = scope->before;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    scope->mark = 0;
    if (scope->top == scope && scope->refused && !succeeded)
        mp_device_fail(&scope->refusal);
}

void mp_device_scope_alloc(struct mp_device_scope *scope, struct mp_device_block *block) {
    if (scope->counted || block->address == 0)
        return;
    block->api_pc = scope->top->api_pc;
    block->caller = scope->top->caller;
    mp_device_alloc(block);
    for (struct mp_device_scope *around = next_of_family(scope); around != NULL;
         around = next_of_family(around))
        around->counted = true;
}

void mp_device_scope_refused(struct mp_device_scope *scope, const struct mp_device_block *block) {
    struct mp_device_scope *top = scope->top;
    if (top->refused && top->refusal.asked_bytes >= block->asked_bytes)
        return;
    top->refusal = *block;
    top->refusal.api_pc = top->api_pc;
    top->refusal.caller = top->caller;
    top->refused = true;
}

void mp_device_scope_take(struct mp_device_scope *scope, uint32_t space, uint64_t address,
                          struct mp_device_taken *taken) {
    taken->found = false;
    for (const struct mp_device_scope *around = next_of_family(scope); around != NULL;
         around = next_of_family(around))
        if (around->taken_space == space && around->taken_address == address)
            return;
    scope->taken_space = space;
    scope->taken_address = address;
    mp_device_take(space, address, taken);
}
