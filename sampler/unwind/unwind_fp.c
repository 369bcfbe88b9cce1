/*
 * unwind_fp.c - one step by the frame record that the frame pointer register points to.
 *
 * Only for code without call frame information (machine code made at run time, stripped tables): where
 * there is a table, the walk uses it, so that code without a frame pointer does not hide its caller. Code
 * without a table may keep any value in the register; this step refuses a value that does not point up
 * the stack.
 */
#include "unwind_fp.h"

#define RECORD_BYTES (2 * sizeof(uintptr_t))

MP_RAW_READS bool mp_fp_step(struct mp_walk *w) {
    uintptr_t record = w->fp, saved, word;
    if (record < w->sp || record > UINTPTR_MAX - RECORD_BYTES ||
        !mp_stack_read(&w->range, record, &saved) ||
        !mp_stack_read(&w->range, record + sizeof(uintptr_t), &word)) {
        return false;
    }
    uintptr_t pc = mp_arch_return_address(word);
    if (pc >= MP_ARCH_PC_LIMIT)
        return false;
    return mp_walk_enter(w, pc, record + RECORD_BYTES, saved);
}
