/*
 * unwind_walk.c - how a walk takes over the registers of the next frame. See unwind_walk.h.
 */
#include "unwind_walk.h"

#define TURNS_MAX 8

bool mp_walk_enter(struct mp_walk *w, uintptr_t pc, uintptr_t sp, uintptr_t fp) {
    /* Only an interrupted function may not have pushed anything yet. */
    if (sp < w->sp + (w->exact ? 0 : 1) || sp % sizeof(uintptr_t) != 0 || sp > MP_ARCH_PC_LIMIT ||
        (sp > w->range.high && !mp_stack_extend(&w->range, sp))) {
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    }
    if (!mp_walk_check_pc(w, pc))
        return false;
    w->pc = pc;
    w->sp = sp;
    w->fp = fp;
    w->exact = false;
    w->by_record = false;
    return true;
}

bool mp_walk_turn(struct mp_walk *w) {
    return ++w->signals <= TURNS_MAX;
}

bool mp_walk_enter_interrupted(struct mp_walk *w, uintptr_t pc, uintptr_t sp, uintptr_t fp,
                               uintptr_t ra) {
    if (!mp_walk_turn(w) || sp % sizeof(uintptr_t) != 0 || sp == 0)
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    if (!mp_walk_check_pc(w, pc))
        return false;
    w->pc = pc;
    w->fp = fp;
    w->ra = ra;
    w->exact = true;
    w->by_record = false;
    if (sp < w->sp || sp > w->range.high || w->range.foreign)
        mp_stack_find(sp, false, &w->range);
    /* The page of sp only: the one below may be a guard page. */
    uintptr_t page = sp & ~(uintptr_t)4095;
    w->range.low = sp - MP_ARCH_RED_ZONE > page ? sp - MP_ARCH_RED_ZONE : page;
    w->sp = sp;
    return true;
}
