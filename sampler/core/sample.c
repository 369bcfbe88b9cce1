/*
 * sample.c - draws of the byte countdown. See sample.h for the model.
 */
#include "sample.h"

#include <string.h>

double mp_ln(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1022;
    bits = (bits & 0x000fffffffffffffULL) | 0x3fe0000000000000ULL; /* mantissa in [0.5, 1) */
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m < 0.70710678118654752440) {
        m *= 2;
        exponent -= 1;
    }
    /* ln m = 2 artanh((m-1)/(m+1)), |s| <= 0.1716: ten terms leave less than 1e-15. */
    double s = (m - 1) / (m + 1), q = s * s, q2 = q * q;
    double low = 1 + q * (1.0 / 3) + q2 * (1.0 / 5 + q * (1.0 / 7));
    double high = 1.0 / 9 + q * (1.0 / 11) + q2 * (1.0 / 13 + q * (1.0 / 15));
    double sum = low + q2 * q2 * (high + q2 * q2 * (1.0 / 17 + q * (1.0 / 19)));
    return 2 * s * sum + exponent * 0.69314718055994530942;
}

double mp_exp_minus(double x) {
    if (!(x < 700))
        return 0;
    /* exp(-x) = 2^-k exp(-r) with 0 <= r < ln 2; sixteen terms leave less than 1e-16. */
    uint64_t k = (uint64_t)(x * 1.44269504088896340736);
    double r = x - (double)k * 0.69314718055994530942, sum = 1;
    for (int n = 16; n > 0; n--)
        sum = 1 - r / n * sum;
    uint64_t bits = (1023 - k) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

/* x / (exp(x) - 1): the excess of the weight of a block of x T bytes over x. 1 at 0. */
static double excess(double x) {
    double e = mp_exp_minus(x);
    return x == 0 ? 1 : x * e / (1 - e);
}

#define EXCESS_STEPS 16 /* per unit of x */

/* excess(i / EXCESS_STEPS), filled on first use. It is convex with a curvature of at most 1/6, so a line
 * between two entries is less than 1e-4 above it. Bits of doubles, for the atomic accesses. */
static uint64_t excess_table[MP_WEIGHT_EXCESS_END * EXCESS_STEPS + 1];

static __attribute__((noinline)) uint64_t fill_excess(unsigned i) {
    double value = excess((double)i / EXCESS_STEPS);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    mp_store_relaxed(&excess_table[i], bits);
    return bits;
}

static inline double excess_at(unsigned i) {
    uint64_t bits = mp_load_relaxed(&excess_table[i]);
    double value;
    if (mp_unlikely(bits == 0))
        bits = fill_excess(i);
    memcpy(&value, &bits, sizeof value);
    return value;
}

int64_t mp_weight_with_excess(uint64_t size, uint64_t rate_bytes) {
    double x = (double)size / (double)rate_bytes * EXCESS_STEPS;
    unsigned i = (unsigned)x;
    double low = excess_at(i), part = x - (double)i;
    double weight = low + (excess_at(i + 1) - low) * part;
    return (int64_t)(((double)size + weight * (double)rate_bytes) * (1 << MP_PART_BITS) + 0.5);
}

uint64_t mp_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

int64_t mp_draw_bytes(uint64_t *rng, uint64_t rate_bytes) {
    if (rate_bytes <= 1)
        return 0;
    if (rate_bytes > MP_RATE_MAX_BYTES)
        rate_bytes = MP_RATE_MAX_BYTES;
    double u = (double)((mp_random(rng) >> 11) + 1) * 0x1p-53; /* (0, 1], 53 bits */
    return (int64_t)(-mp_ln(u) * (double)rate_bytes);
}

bool mp_countdown_take(struct mp_countdown *c, uint64_t size, int64_t gate, uint64_t rate_bytes) {
    if (c->gate_seen != gate) {
        c->gate_seen = gate;
        c->rate_bytes = rate_bytes;
        c->value = gate + mp_draw_bytes(&c->rng, rate_bytes);
        if (!mp_countdown_due(c, size, gate))
            return false;
    }
    c->value = gate + mp_draw_bytes(&c->rng, c->rate_bytes);
    return true;
}
