/*
 * tensors.h - which blocks of the host are PyTorch's tensors: those that c10::alloc_cpu() asks for.
 *
 * Model: a capture may want of the host's blocks those of tensors alone (MP_LAUNCH_TENSORS): a Python program has a
 * thousand others for each, and their stacks would fill the tables. drivers/libraries.c finds the function when its library
 * is loaded; a block is a tensor's if its allocator's caller is inside. Before that there are no tensors.
 *
 * Threads: mp_tensors_found() is INIT, one thread at a time; the other is HOOK. One that reads while the library is loaded
 * again elsewhere may be wrong once.
 */
#ifndef MP_TENSORS_H
#define MP_TENSORS_H

#include "abi/atomics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_tensors {
    uintptr_t begin; /* of the function */
    uintptr_t bytes; /* 0: it is not known */
};

/* Outside of mp_local: a fork child has the same libraries. */
extern struct mp_tensors mp_tensors __attribute__((visibility("hidden")));

/* INIT. The function is at `begin`. */
void mp_tensors_found(uintptr_t begin, size_t bytes);

/* HOOK. Does the code that returns to `pc` allocate a tensor? A return address may be behind the last instruction. */
static inline bool mp_tensors_at(uintptr_t pc) {
    uintptr_t bytes = mp_load_acquire(&mp_tensors.bytes);
    return pc - 1 - mp_load_relaxed(&mp_tensors.begin) < bytes;
}

#endif
