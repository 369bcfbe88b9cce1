/*
 * tensors.h - which host blocks are PyTorch tensors: those allocated by c10::alloc_cpu().
 *
 * Model: a capture may restrict host blocks to tensors (MP_LAUNCH_TENSORS): a Python program has a
 * thousand other blocks for each tensor, and their stacks would fill the tables.
 * drivers/libraries.c finds the function when its library is loaded; a block is a tensor if the
 * caller of its allocator is inside that function.
 *
 * Threads: mp_tensors_found() is INIT, one thread at a time; the other is HOOK. It may give one
 * wrong answer while the library is loaded again at another address.
 */
#ifndef MP_TENSORS_H
#define MP_TENSORS_H

#include "abi/atomics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_tensors {
    uintptr_t begin; /* of the function */
    uintptr_t bytes; /* 0: not known yet */
};

/* Outside of mp_local: a fork child has the same libraries. */
extern struct mp_tensors mp_tensors __attribute__((visibility("hidden")));

/* INIT. The function is at `begin`. */
void mp_tensors_found(uintptr_t begin, size_t bytes);

/* HOOK. Does the code that returns to `pc` allocate a tensor? A return address may lie just after
 * the last instruction. */
static inline bool mp_tensors_at(uintptr_t pc) {
    uintptr_t bytes = mp_load_acquire(&mp_tensors.bytes);
    return pc - 1 - mp_load_relaxed(&mp_tensors.begin) < bytes;
}

#endif
