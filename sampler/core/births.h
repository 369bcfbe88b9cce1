/*
 * births.h - when the blocks of a site were born, in eight time buckets that cover the capture so far.
 *
 * Model: the first bucket begins with the capture; at first each is as wide as the capture's unit. When a birth is
 * later than all eight, the first two of the same width become one, and the others move up: after eight of these steps
 * all are twice as wide. So whatever time was planned, seven buckets or more have ages of the time so far. The scale of a
 * row counts its steps so far, in the bits of alloc_blocks from MP_SCALE_SHIFT on; it is that of its newest birth. The
 * reader takes all rows to the same scale.
 *
 * Threads: HOOK; any number. The one that sets the busy bit adds up the pairs; nobody waits for it: what others count
 * meanwhile may be in a bucket nearby, but none is lost, none is counted twice.
 */
#ifndef MP_BIRTHS_H
#define MP_BIRTHS_H

#include "abi/atomics.h"
#include "abi/segment.h"

#define MP_BIRTHS_BUSY (1ULL << 63)

/* The blocks in a word of alloc_blocks. */
static inline uint64_t mp_births_blocks(uint64_t word) {
    return word & ((1ULL << MP_SCALE_SHIFT) - 1);
}

/* The scale at which the last of eight buckets ends after `units`. */
static inline unsigned mp_births_scale(uint64_t units) {
    if (units < MP_BUCKETS)
        return 0;
    unsigned doubled = 60 - (unsigned)__builtin_clzll(units);
    return MP_BUCKETS * doubled + (unsigned)(units >> doubled) - (MP_BUCKETS - 1);
}

/* The bucket of `units` at a scale; the last one where it is later. */
static inline unsigned mp_births_at(unsigned scale, uint64_t units) {
    unsigned wide = scale % MP_BUCKETS;
    uint64_t at = units >> (scale / MP_BUCKETS);
    uint64_t bucket = at < 2 * wide ? at / 2 : at - wide;
    return bucket < MP_BUCKETS ? (unsigned)bucket : MP_BUCKETS - 1;
}

/* The bucket of a smaller scale `from` that a bucket becomes part of at scale `to`. */
static inline unsigned mp_births_moved(unsigned from, unsigned to, unsigned bucket) {
    unsigned wide = from % MP_BUCKETS;
    uint64_t at = bucket < wide ? 2 * bucket : bucket + wide;
    return mp_births_at(to, at << (from / MP_BUCKETS));
}

/* HOOK. Raise the scale of a row. `stored` buckets have a counter; the last may be without, and then has the rest of
 * alloc_blocks. */
static __attribute__((noinline, unused)) void
mp_births_raise(uint64_t *alloc_blocks, uint32_t *births, unsigned stored, unsigned scale) {
    uint64_t seen;
    do {
        seen = mp_load_relaxed(alloc_blocks);
        if (seen >> MP_SCALE_SHIFT >= scale)
            return; /* raised, or busy */
    } while (!mp_cas_u64(alloc_blocks, seen, seen | MP_BIRTHS_BUSY));
    unsigned from = (unsigned)(seen >> MP_SCALE_SHIFT);
    uint64_t born = mp_load_relaxed(&births[0]);
    for (unsigned i = 1; i < stored; i++) {
        uint32_t n = __atomic_exchange_n(&births[i], 0, __ATOMIC_RELAXED);
        mp_add_relaxed(&births[mp_births_moved(from, scale, i)], n);
        born += n;
    }
    unsigned to = mp_births_moved(from, scale, MP_BUCKETS - 1); /* may be the last one still */
    if (stored < MP_BUCKETS && to < stored && mp_births_blocks(seen) > born)
        mp_add_relaxed(&births[to], (uint32_t)(mp_births_blocks(seen) - born));
    __atomic_fetch_add(alloc_blocks, ((uint64_t)(scale - from) << MP_SCALE_SHIFT) - MP_BIRTHS_BUSY,
                       __ATOMIC_RELEASE);
}

/* HOOK. The bucket of a row for a block that was born `units` of the capture after its start. */
static inline unsigned mp_births_bucket(uint64_t *alloc_blocks, uint32_t *births, unsigned stored,
                                        uint64_t units) {
    unsigned scale = mp_births_scale(units);
    if (mp_unlikely(mp_load_relaxed(alloc_blocks) >> MP_SCALE_SHIFT < scale))
        mp_births_raise(alloc_blocks, births, stored, scale);
    return mp_births_at(mp_load_relaxed(alloc_blocks) >> MP_SCALE_SHIFT & MP_SCALE_MAX, units);
}

#endif
