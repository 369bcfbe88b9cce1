/*
 * test_draws.c - which blocks are samples: logarithm, draws, gate, classes of size.
 */
#include "check.h"
#include "core/local.h"
#include "core/sites.h"
#include "core/stacks.h"

#include <math.h>

static void test_logarithm(void) {
    CASE("mp_ln agrees with libm to 1e-12");
    uint64_t state = 1;
    double worst = 0;
    for (int i = 0; i < 100000; i++) {
        double x = (double)((mp_random(&state) >> 11) + 1) * 0x1p-53;
        double error = fabs(mp_ln(x) - log(x)) / fmax(1e-300, fabs(log(x)));
        worst = x < 1 && error > worst ? error : worst;
    }
    CHECK(worst < 1e-12);
    CASE("a block's weight agrees with libm");
    for (double x = 1e-9; x < 100; x *= 1.7) {
        uint64_t rate = 1 << 20, size = (uint64_t)fmax(1, x * (double)rate);
        double s = (double)size, true_weight = s / -expm1(-s / (double)rate);
        double weight = (double)mp_weight_parts(size, rate) / (1 << MP_PART_BITS);
        CHECK(fabs(weight - true_weight) <= 0.002 + 1e-4 * true_weight);
        CHECK(fabs(mp_exp_minus(x) - exp(-x)) < 1e-12);
    }
    CHECK_EQ(mp_weight_parts(100, UINT64_MAX), mp_weight_parts(100, MP_RATE_MAX_BYTES));
    CHECK(mp_weight_parts(100, 1) == 100 << MP_PART_BITS &&
          mp_weight_parts(0, 1) == 1 << MP_PART_BITS);
    CHECK(mp_ln(1.0) == 0);
    CHECK(fabs(mp_ln(0x1p-53) - log(0x1p-53)) < 1e-10);
}

static void test_sampling_probability(void) {
    CASE("a block of s bytes is sampled with probability 1 - exp(-s/T)");
    const uint64_t rates[] = {2, 64, 1024, 4096}, sizes[] = {1, 16, 300, 1024, 5000};
    for (unsigned r = 0; r < 4; r++) {
        for (unsigned s = 0; s < 5; s++) {
            struct mp_countdown c = {.rng = 12345 + r * 10 + s};
            int64_t gate = (int64_t)1 << MP_GATE_SHIFT;
            int trials = 200000, taken = 0;
            for (int i = 0; i < trials; i++)
                if (mp_countdown_due(&c, sizes[s], gate))
                    taken += mp_countdown_take(&c, sizes[s], gate, rates[r]);
            double p = -expm1(-(double)sizes[s] / (double)rates[r]);
            double sigma = sqrt(p * (1 - p) / trials);
            CHECK(fabs((double)taken / trials - p) <= 5 * sigma + 1e-9);
        }
    }
}

static void test_first_block_of_a_thread(void) {
    CASE("the first block of a thread has no special chance");
    int taken = 0;
    for (int i = 0; i < 100000; i++) {
        struct mp_countdown c = {.rng = mp_mix((uint64_t)i + 1)};
        int64_t gate = (int64_t)3 << MP_GATE_SHIFT;
        if (mp_countdown_due(&c, 100, gate))
            taken += mp_countdown_take(&c, 100, gate, 1000);
    }
    double p = -expm1(-0.1);
    CHECK(fabs(taken / 1e5 - p) < 5 * sqrt(p * (1 - p) / 1e5));
}

static void test_gate(void) {
    CASE("off: nothing is due, whatever is allocated");
    struct mp_countdown c = {.rng = 7};
    for (int i = 0; i < 1000; i++)
        CHECK(!mp_countdown_due(&c, SIZE_MAX, MP_GATE_OFF));
    CASE("rate 1: every block is due, also of 0 bytes");
    int64_t gate = (int64_t)2 << MP_GATE_SHIFT;
    for (int i = 0; i < 1000; i++)
        CHECK(mp_countdown_due(&c, 0, gate) && mp_countdown_take(&c, 0, gate, 1));
    CASE("a new capture is seen at the next block");
    gate = (int64_t)3 << MP_GATE_SHIFT;
    CHECK(mp_countdown_due(&c, 1, gate));
}

static void test_size_classes(void) {
    CASE("size classes are monotonic and at most 1/64 wide");
    uint32_t last = 0;
    uint64_t first_of_class = 0;
    for (uint64_t size = 0; size < 1 << 20; size++) {
        uint32_t cls = mp_size_class(size);
        CHECK(cls == last || cls == last + 1);
        if (cls != last) {
            last = cls;
            first_of_class = size;
        }
        if (size >= 128 && (size - first_of_class) * 64 > first_of_class) {
            CHECK(!"class too wide");
            break;
        }
    }
    CHECK(mp_size_class(1ULL << 39) > mp_size_class((1ULL << 39) - 1));
    CHECK(mp_size_class(UINT64_MAX) < 1u << MP_KEY_CLASS_BITS);
}

int main(void) {
    test_logarithm();
    test_sampling_probability();
    test_first_block_of_a_thread();
    test_gate();
    test_size_classes();
    return check_end();
}
