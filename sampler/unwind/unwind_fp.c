/*
 * unwind_fp.c - see unwind_fp.h.
 *
 * Only for code without call frame information (machine code made at run time, assembly, stripped tables):
 * where there is a table, the walk uses it, so that code without a frame pointer does not hide its caller.
 */
#include "unwind_fp.h"
#include "unwind_cache.h"
#include "unwind_code.h"

/* How far above its own record that of the caller may lie, where the end of the stack is not known. */
#define FRAME_BYTES_MAX ((uintptr_t)1 << 20)

struct record {
    uintptr_t at;
    uintptr_t fp; /* the caller's */
    uintptr_t pc;
};

static bool leads_up(const struct record *r, const struct mp_stack_range *range) {
    if (r->fp == 0)
        return true;
    if (r->fp % sizeof(uintptr_t) != 0 || r->fp < r->at + MP_FP_RECORD_BYTES)
        return false;
    return r->fp < range->high || (range->foreign && r->fp - r->at < FRAME_BYTES_MAX);
}

/* Go's outermost frame "returns" to an address that no call left. */
static bool is_bottom(const struct mp_walk *w, const struct record *r) {
    return r->fp == 0 && r->at >= w->sp && r->at < w->range.high;
}

static bool leads_to_code(const struct mp_walk *w, const struct record *r,
                          const struct mp_stack_range *range) {
    struct mp_module module;
    if (r->pc >= MP_ARCH_PC_LIMIT)
        return false;
    if (mp_cache_hit(mp_cache_find(r->pc, mp_cache_epoch(w->sequence))))
        return true;
    if (mp_module_find(r->pc - 1, &module))
        return mp_code_is_after_call(&module, r->pc) ||
               (is_bottom(w, r) && mp_code_in_module(&module, r->pc - 1));
    return leads_up(r, range) && mp_code_outside(r->pc - 1, range);
}

static bool enter(struct mp_walk *w, const struct record *r) {
    if (r->pc == 0 && r->fp == 0)
        return mp_walk_fail(w, MP_UNWIND_OUTERMOST);
    if (r->pc == 0 || !leads_to_code(w, r, &w->range) ||
        !mp_walk_enter(w, r->pc, r->at + MP_FP_RECORD_BYTES, r->fp))
        return false;
    w->by_record = true;
    return true;
}

/* The same for a record that is not on the stack in use. */
static __attribute__((noinline)) bool enter_elsewhere(struct mp_walk *w) {
    uintptr_t word[2];
    struct mp_stack_range range;
    if (!mp_stack_copy(w->fp, word, sizeof(word)))
        return false;
    struct record r = {.at = w->fp, .fp = word[0], .pc = mp_arch_return_address(word[1])};
    mp_stack_find(r.at, false, &range);
    if (r.pc == 0 || !leads_to_code(w, &r, &range) || !mp_walk_turn(w))
        return false;
    w->range = range;
    w->sp = r.at;
    return enter(w, &r);
}

bool mp_fp_step(struct mp_walk *w, bool in_module) {
    struct record r = {.at = w->fp};
    uintptr_t word;
    if (r.at == 0 && w->by_record)
        return mp_walk_fail(w, MP_UNWIND_OUTERMOST);
    if (r.at % sizeof(uintptr_t) != 0 || r.at > MP_ARCH_PC_LIMIT)
        return false;
    if (r.at < w->sp && r.at >= w->range.low)
        return false;
    if (r.at < w->sp || (w->range.foreign && r.at - w->sp > FRAME_BYTES_MAX) ||
        !mp_stack_read(&w->range, r.at, &r.fp) ||
        !mp_stack_read(&w->range, r.at + sizeof(uintptr_t), &word)) {
        return in_module && enter_elsewhere(w);
    }
    r.pc = mp_arch_return_address(word);
    return enter(w, &r);
}
