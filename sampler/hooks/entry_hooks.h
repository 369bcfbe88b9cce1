/*
 * entry_hooks.h - hooks for functions that jump here at their first instruction (entry_plan.h).
 *
 * Model: one hook for each kind of function. A record says which argument is the size; the stub before
 * the hook (inline_patch.c) puts its address into the sixth argument register; the functions have five
 * arguments at most. The hook calls the real function through the copy of its beginning.
 *
 * Functions of one allocator call each other. While a thread is in a hook, mp_self.entry_sp holds an
 * address of the hook's frame, and stubs that find it above their own stack pointer go on in the real
 * function with all registers as they are: only the outermost function counts the block. What the real function takes
 * by malloc is inside of it, and counts nowhere (mp_self.counting_sp).
 *
 * Threads: any; HOOK.
 */
#ifndef MP_ENTRY_HOOKS_H
#define MP_ENTRY_HOOKS_H

#include "abi/entry_plan.h"
#include "core/word_set.h"

#include <stdbool.h>

struct mp_entry_record {
    uintptr_t real; /* the copy of the function's beginning, which goes on in the function */
    uint8_t kind, flags, size_argument, count_argument, block_argument;
    bool of_heap; /* argument 0 is a heap, whose blocks may end all at once */
};

/* Heaps, of blocks that may be samples. */
extern struct mp_word_set mp_entry_heaps;

/* The hook of a kind. */
uintptr_t mp_entry_hook(enum mp_entry_kind kind);

#endif
