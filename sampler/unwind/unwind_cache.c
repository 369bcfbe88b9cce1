/*
 * unwind_cache.c - what unwinding remembers: see unwind_cache.h and unwind_memo.h. A memo gets its pages at
 * the first unwinding of a thread of its slot.
 */
#include "unwind_cache.h"
#include "unwind_memo.h"

struct mp_cache mp_cache;
struct mp_memo mp_memos[MP_MEMO_SLOTS];

void mp_cache_store(uintptr_t pc, uint32_t word, uint32_t sequence, bool permanent) {
    uint64_t hash = mp_cache_hash(pc);
    uint64_t *slot = mp_cache_slot(hash);
    uint64_t entry = hash << MP_CACHE_BITS | mp_cache_epoch(sequence) | word;
    if (__atomic_load_n(&mp_cache.closing, __ATOMIC_SEQ_CST) != 0 && !permanent)
        return;
    __atomic_store_n(slot, entry, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&mp_cache.sequence, __ATOMIC_SEQ_CST) != sequence)
        __atomic_compare_exchange_n(slot, &entry, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void mp_cache_flush(void) {
    uint32_t sequence = __atomic_add_fetch(&mp_cache.sequence, 1, __ATOMIC_SEQ_CST);
    if (mp_cache_epoch(sequence) != 0)
        return;
    for (unsigned i = 0; i < MP_CACHE_ENTRIES; i++)
        __atomic_store_n(&mp_cache.entry[i], 0, __ATOMIC_RELAXED);
}

void mp_cache_close_begin(void) {
    __atomic_fetch_add(&mp_cache.closing, 1, __ATOMIC_SEQ_CST);
    mp_cache_flush();
}

void mp_cache_close_end(void) {
    mp_cache_flush();
    __atomic_fetch_sub(&mp_cache.closing, 1, __ATOMIC_SEQ_CST);
}
