/*
 * unwind_cache.h - from an exact code address to its rule, shared by all threads, without a lock.
 *
 * Model: a direct-mapped table of 8-byte entries. Multiplying a 48-bit address by an odd number is a
 * bijection modulo 2^48: the top bits of the product are the index, the other 34 are the tag, so an
 * entry names its address exactly and one load decides between hit and miss.
 *
 *     bits 30..63 tag | bits 24..29 epoch | bits 0..23 rule word (unwind_rule.h)
 *
 * The epoch increases whenever a module may have been unloaded; entries of another epoch never match. It
 * wraps after 64 increases, and the flush then clears the table. A thread that stores a rule with an old
 * epoch reads the sequence number afterwards and takes its entry back if it has changed.
 *
 * Threads: all functions HOOK. Entries are relaxed atomics: two threads that miss on the same address
 * store the same word, and an entry depends on no other memory. Sequence, closing and the store of an
 * entry are sequentially consistent: of a flush and a store that run at once, either the store's second
 * load finds the new sequence, or the flush came after the entry was there and its epoch no longer
 * matches. The acquire load in mp_cache_sequence() pairs with the flush: the derivation of rules comes
 * after it.
 *
 * Limits: 128 KiB.
 */
#ifndef MP_UNWIND_CACHE_H
#define MP_UNWIND_CACHE_H

#include "unwind_rule.h"

#include <stdbool.h>
#include <stdint.h>

#define MP_CACHE_BITS 14
#define MP_CACHE_ENTRIES (1u << MP_CACHE_BITS)
#define MP_CACHE_PC_BITS 48
#define MP_CACHE_EPOCH_BITS 6
#define MP_CACHE_MULTIPLIER 0x9e3779b97f4a7c15ULL

struct mp_cache {
    uint32_t sequence; /* moves with every flush; its low bits are the epoch */
    uint32_t closing;  /* calls that may unload modules, now running */
    uint64_t pad[7];
    uint64_t entry[MP_CACHE_ENTRIES];
};

extern struct mp_cache mp_cache __attribute__((visibility("hidden"), aligned(64)));

/* The product in the top 48 bits. */
static inline uint64_t mp_cache_hash(uintptr_t pc) {
    return (pc * MP_CACHE_MULTIPLIER) << (64 - MP_CACHE_PC_BITS);
}

static inline uint64_t *mp_cache_slot(uint64_t hash) {
    return &mp_cache.entry[hash >> (64 - MP_CACHE_BITS)];
}

static inline uint32_t mp_cache_sequence(void) {
    return __atomic_load_n(&mp_cache.sequence, __ATOMIC_ACQUIRE);
}

/* The bits of an entry that name the epoch. */
static inline uint64_t mp_cache_epoch(uint32_t sequence) {
    return (uint64_t)(sequence & ((1u << MP_CACHE_EPOCH_BITS) - 1)) << MP_RULE_BITS;
}

/* Entry xor key: below 2^24 exactly when the entry is that of `pc` in this epoch; then it is the rule.
 * `pc` must be below 2^48. 0 is no rule: an empty entry seems to be that of an address whose tag is 0. */
static inline uint64_t mp_cache_find(uintptr_t pc, uint64_t epoch) {
    uint64_t hash = mp_cache_hash(pc);
    uint64_t entry = __atomic_load_n(mp_cache_slot(hash), __ATOMIC_RELAXED);
    return entry ^ (hash << MP_CACHE_BITS | epoch);
}

static inline bool mp_cache_hit(uint64_t found) {
    return found - 1 < (1u << MP_RULE_BITS) - 1;
}

/*
 * Remember the rule of `pc`, derived at the sequence number `sequence`. Stores nothing during a possible
 * unloading, unless `permanent` says that the module of `pc` stays.
 */
void mp_cache_store(uintptr_t pc, uint32_t word, uint32_t sequence, bool permanent);

/* Forget everything. */
void mp_cache_flush(void);

/* Forget everything, and remember only rules of permanent modules until the matching end. */
void mp_cache_close_begin(void);
void mp_cache_close_end(void);

#endif
