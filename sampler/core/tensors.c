/*
 * tensors.c - see tensors.h.
 */
#include "tensors.h"

struct mp_tensors mp_tensors;

void mp_tensors_found(uintptr_t begin, size_t bytes) {
    mp_store_relaxed(&mp_tensors.bytes, 0);
    mp_store_relaxed(&mp_tensors.begin, begin);
    mp_store_release(&mp_tensors.bytes, bytes);
}
