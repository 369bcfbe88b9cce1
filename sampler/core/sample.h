/*
 * sample.h - when an allocation is a sample: the byte countdown of one thread.
 *
 * Model: the sampler samples bytes as a Poisson process of mean T. Each thread holds a countdown `c`; an
 * allocation of s bytes subtracts max(s, 1), and is a sample when c falls below the gate. The gate of
 * capture k is G = k << MP_GATE_SHIFT and a draw gives c = G + floor(Exp(T)), with every draw below 1 <<
 * MP_GATE_SHIFT, so one comparison answers three questions: is a capture on (off is INT64_MIN), has this
 * thread drawn for this capture (an older c is below G), and is this block a sample.
 *
 * P(sampled) = P(floor(Exp(T)) < s) = P(Exp(T) < s) = 1 - exp(-s/T) for whole s.
 *
 * Threads: a countdown belongs to one thread. Everything here is HOOK.
 */
#ifndef MP_SAMPLE_H
#define MP_SAMPLE_H

#include "abi/atomics.h"
#include "abi/segment.h"

#define MP_GATE_OFF INT64_MIN
#define MP_STEP_MAX_BYTES (1ULL << 36) /* p is 1 for any rate from here on; keeps c from wrapping */

struct mp_countdown {
    int64_t value;
    int64_t gate_seen; /* gate of the last draw */
    uint64_t rng; /* splitmix64 state; 0: not seeded */
    uint64_t rate_bytes;
};

/* HOOK. Subtract a block of `size` bytes; true if the slow path has to check it. */
static inline bool mp_countdown_due(struct mp_countdown *c, uint64_t size, int64_t gate) {
    uint64_t step = size < MP_STEP_MAX_BYTES ? size : MP_STEP_MAX_BYTES;
    step += step == 0;
    c->value = (int64_t)((uint64_t)c->value - step);
    return mp_unlikely(c->value < gate);
}

/* HOOK. Natural logarithm of x in (0, 1], relative error below 1e-12. Without libm, whose log has a
 * newer symbol version. */
double mp_ln(double x);

/* HOOK. exp(-x) for x >= 0, absolute error below 1e-12. */
double mp_exp_minus(double x);

#define MP_WEIGHT_EXCESS_END 16 /* rates: a block of more stands for itself, to 2e-6 */

/* HOOK. Part of mp_weight_parts(). */
int64_t mp_weight_with_excess(uint64_t size, uint64_t rate_bytes);

/* HOOK. The weight of one sampled block of `size_bytes` at a rate: size / (1 - exp(-size/rate)), at
 * most 1e-4 of it too high, in parts of 2^-MP_PART_BITS bytes: whole bytes would round all blocks
 * of a size the same way. Deterministic. */
static inline int64_t mp_weight_parts(uint64_t size_bytes, uint64_t rate_bytes) {
    uint64_t size = size_bytes < MP_STEP_MAX_BYTES ? size_bytes + (size_bytes == 0) : size_bytes;
    if (rate_bytes > MP_RATE_MAX_BYTES)
        rate_bytes = MP_RATE_MAX_BYTES; /* forged: the product must fit */
    if (rate_bytes <= 1 || size / MP_WEIGHT_EXCESS_END >= rate_bytes)
        return (int64_t)(size << MP_PART_BITS);
    return mp_weight_with_excess(size, rate_bytes);
}

/* HOOK. Uniform 64 bits; advances *state (splitmix64). */
uint64_t mp_random(uint64_t *state);

/* HOOK. floor(Exp(rate_bytes)), below 1 << MP_GATE_SHIFT; 0 when rate_bytes <= 1. */
int64_t mp_draw_bytes(uint64_t *rng, uint64_t rate_bytes);

/*
 * HOOK. Decide about the block of `size` bytes for which mp_countdown_due() said true under `gate`
 * (not MP_GATE_OFF) and leave the countdown ready for the next one. True: it is sampled. A thread
 * that had not drawn for this gate yet draws first, so its first block has no special chance.
 */
bool mp_countdown_take(struct mp_countdown *c, uint64_t size, int64_t gate, uint64_t rate_bytes);

#endif
