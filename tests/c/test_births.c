/*
 * test_births.c - the time buckets of a site, host's and device's, as time goes on.
 */
#include "check.h"
#include "core/sites.h"

static void test_births(void) {
    CASE("births are in eight buckets that cover the time so far, seven of them or more");
    for (unsigned step = 1; step < 40; step += 6) {
        struct mp_site_row row = {0};
        uint32_t device[MP_BUCKETS] = {0};
        uint64_t blocks = 0;
        for (uint64_t t = 0; t < 5000; t += step) {
            mp_site_add(&row, 1, t, step % 4 == 1);
            mp_add_relaxed(&device[mp_births_bucket(&blocks, device, MP_BUCKETS, t)], 1);
            mp_add_relaxed(&blocks, 1);
            unsigned scale = (unsigned)(row.alloc_blocks >> MP_SCALE_SHIFT);
            CHECK_EQ(row.alloc_blocks, blocks);
            uint64_t width = 1ULL << scale / 8, rest = mp_births_blocks(row.alloc_blocks),
                     begin = 0;
            CHECK(t < width * (8 + scale % 8) && (scale == 0 || t >= width * (7 + scale % 8)));
            for (uint64_t k = 0; k < MP_BUCKETS; k++) {
                uint64_t end = begin + (k < scale % 8 ? 2 * width : width);
                end = end <= t ? end : t + 1;
                CHECK_EQ(device[k], (end - 1 + step) / step - (begin + step - 1) / step);
                CHECK_EQ(k == MP_BUCKETS - 1 ? rest : row.births[k], device[k]);
                rest -= device[k];
                begin = end;
            }
        }
    }
    CASE("a birth of any time has a bucket, whatever the row says");
    struct mp_site_row row = {.alloc_blocks = UINT64_MAX};
    mp_site_add(&row, 1, UINT64_MAX, false);
    row.alloc_blocks = 0;
    mp_site_add(&row, 1, UINT64_MAX, false);
    CHECK_EQ(row.alloc_blocks, (488ULL << MP_SCALE_SHIFT) + 1);
}

int main(void) {
    test_births();
    return check_end();
}
