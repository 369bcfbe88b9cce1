/*
 * device_actual.c - used and total bytes of a device, beside the tracked bytes at that moment. See device.h.
 *
 * Model: the sampler seldom asks a driver, so its answer may be older than the blocks that a reader
 * finds. So it stores the sum of the domain's sites at the moment of the answer with it: only these two
 * allow a subtraction.
 */
#include "core/births.h"
#include "core/capture.h"
#include "core/sample.h"
#include "core/site_key.h"
#include "device.h"
#include "device_domains.h"
#include "launches.h"

#define ACTUAL_EVERY_NS 100000000u /* seldom: each answer is a call of the driver */

/* The estimated bytes of the blocks of one site: bytes taken, or asked for where those are not known. */
static double held_by(const struct mp_device_site_row *row, uint64_t rate_bytes) {
    uint64_t blocks =
        mp_births_blocks(mp_load_relaxed(&row->alloc_blocks)) - mp_load_relaxed(&row->freed_blocks);
    uint64_t asked = mp_load_relaxed(&row->alloc_bytes) - mp_load_relaxed(&row->freed_bytes);
    uint64_t taken =
        mp_load_relaxed(&row->alloc_taken_bytes) - mp_load_relaxed(&row->freed_taken_bytes);
    if ((int64_t)blocks <= 0 || (int64_t)asked < 0 || (int64_t)taken < 0)
        return 0; /* a free between two loads */
    double mean = (double)asked / (double)blocks;
    double chance =
        rate_bytes <= 1 ? 1 : 1 - mp_exp_minus((mean < 1 ? 1 : mean) / (double)rate_bytes);
    return (double)(taken != 0 ? taken : asked) / chance;
}

static uint64_t tracked_bytes(const struct mp_capture_view *capture, uint32_t domain) {
    struct mp_segment *seg = capture->segment;
    const struct mp_levels *levels = &seg->layout.device_sites;
    uint32_t ready = mp_table_ready(levels, &seg->control->device_sites);
    uint64_t rate_bytes = mp_capture_device_rate(seg, capture->number);
    double total = 0;
    for (uint32_t i = 0; i <= ready; i++) {
        const struct mp_level *level =
            i < ready ? &levels->level[i] : &seg->layout.device_lost_sites;
        const uint64_t *keys = mp_level_keys(seg, level);
        for (uint32_t row = 0; row < level->rows; row++) {
            uint64_t key = mp_load_acquire(&keys[row]);
            if (key != 0 && key != MP_KEY_RECYCLING && mp_key_capture(key) == capture->number &&
                mp_key_domain(key) == domain)
                total += held_by(mp_level_row(seg, level, row), rate_bytes);
        }
    }
    return (uint64_t)total;
}

bool mp_device_actual_due(uint32_t domain) {
    struct mp_capture_view capture;
    if (!mp_capture_view(&capture))
        return false;
    struct mp_domain *row = mp_domain_at(capture.segment, domain);
    if (row == NULL)
        return false;
    uint64_t last = mp_load_relaxed(&row->asked_ns);
    return (last == 0 || capture.now_ns - last >= ACTUAL_EVERY_NS) &&
           mp_cas_u64(&row->asked_ns, last, capture.now_ns);
}

void mp_device_actual(uint32_t domain, uint64_t used_bytes, uint64_t total_bytes) {
    struct mp_capture_view capture;
    if (!mp_capture_view(&capture))
        return;
    struct mp_domain *row = mp_domain_at(capture.segment, domain);
    if (row == NULL)
        return;
    mp_store_relaxed(&row->actual_tracked_bytes, tracked_bytes(&capture, domain));
    mp_store_relaxed(&row->actual_used_bytes, used_bytes);
    mp_store_relaxed(&row->actual_total_bytes, total_bytes);
    mp_store_release(&row->actual_ns, capture.now_ns);
    struct mp_launch fact = {.kind = MP_LAUNCH_USED,
                             .device = row->device,
                             .address = used_bytes,
                             .size_bytes = total_bytes};
    mp_launch_add(&fact);
}
