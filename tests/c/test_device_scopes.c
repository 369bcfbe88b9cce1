/*
 * test_device_scopes.c - nested driver calls: which one names a block, and which one counts it.
 */
#include "device/device_scope.h"
#include "device_segment.h"

#include <setjmp.h>

/* A driver of two layers: outer_alloc -> inner_alloc; the inner one refuses sizes with bit 0 set. */
static uint32_t scope_domain;
static struct mp_device_taken inner_taken;

static __attribute__((noinline)) bool inner_alloc(uint64_t address, uint64_t size) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)inner_alloc, &caller);
    struct mp_device_block block = {
        .domain = scope_domain, .space = SPACE, .address = address, .asked_bytes = size};
    bool ok = size % 2 == 0;
    if (ok)
        mp_device_scope_alloc(&scope, &block);
    else
        mp_device_scope_refused(&scope, &block);
    mp_device_leave(&scope, ok);
    return ok;
}

static __attribute__((noinline)) bool outer_alloc(uint64_t address, uint64_t size, bool retry) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)outer_alloc, &caller);
    bool ok = inner_alloc(address, size) || (retry && inner_alloc(address, size + 1));
    struct mp_device_block block = {
        .domain = scope_domain, .space = SPACE, .address = address, .asked_bytes = size};
    if (ok)
        mp_device_scope_alloc(&scope, &block);
    CHECK(!mp_device_scope_nested(&scope));
    mp_device_leave(&scope, ok);
    return ok;
}

static __attribute__((noinline)) void inner_free(uint64_t address) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)inner_free, &caller);
    mp_device_scope_take(&scope, SPACE, address, &inner_taken);
    mp_device_leave(&scope, true);
}

static __attribute__((noinline)) void outer_free(uint64_t address) {
    struct mp_device_scope scope;
    struct mp_device_taken taken;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)outer_free, &caller);
    mp_device_scope_take(&scope, SPACE, address, &taken);
    CHECK(taken.found);
    inner_free(address);
    CHECK(!inner_taken.found);
    mp_device_leave(&scope, true);
}

/* Whether frame 0 of some stored stack is `pc`. */
static bool named(uintptr_t pc) {
    struct mp_segment *seg = &mp_local.segment;
    const uint64_t *arena = mp_array_at(seg, MP_ARRAY_STACKS);
    for (uint64_t at = MP_STACK_LOST_MAX; at < seg->control->arena_cursor / 8;) {
        const struct mp_stack *stack = (const struct mp_stack *)(arena + at);
        if (arena[at + sizeof *stack / 8] == pc)
            return true;
        at += sizeof *stack / 8 + stack->depth;
    }
    return false;
}

static jmp_buf escape;

static __attribute__((noinline)) void left_by_longjmp(void) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)left_by_longjmp, &caller);
    longjmp(escape, 1);
}

static void test_scopes(void) {
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    scope_domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE);
    CASE("nested calls count a block once, and the outermost names it");
    CHECK(outer_alloc(0x1000, 100, false));
    CHECK_EQ(sums(scope_domain, 1).alloc_blocks, 1);
    CHECK(named((uintptr_t)outer_alloc) && !named((uintptr_t)inner_alloc));
    CASE("a refusal followed by success is none; else it counts once, at the outermost call");
    CHECK(outer_alloc(0x2000, 201, true));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 0);
    CHECK(!outer_alloc(0x3000, 301, false));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 1);
    CHECK_EQ(sums(scope_domain, 1).failed_bytes, 301);
    CHECK(!inner_alloc(0x3000, 303));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 2);
    CASE("nested frees drop one owner");
    mp_device_retain(SPACE, 0x1000);
    outer_free(0x1000);
    CHECK_EQ(sums(scope_domain, 1).freed_blocks, 0);
    outer_free(0x1000);
    CHECK_EQ(sums(scope_domain, 1).freed_blocks, 1);
    CASE("a scope that was left by longjmp is forgotten");
    if (setjmp(escape) == 0)
        left_by_longjmp();
    CHECK(inner_alloc(0x4000, 400));
    CHECK(named((uintptr_t)inner_alloc) && !named((uintptr_t)left_by_longjmp));
    close_segment();
}

int main(void) {
    start_unwinder();
    test_scopes();
    return check_end();
}
