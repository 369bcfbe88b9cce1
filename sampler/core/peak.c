/*
 * peak.c - see peak.h.
 */
#include "peak.h"

void mp_peak_add(struct mp_segment *seg, uint32_t capture, uint64_t size_bytes, uint64_t rate_bytes,
                 uint64_t now_ns) {
    struct mp_peak *peak = &seg->control->peak[capture & 1];
    int64_t weight = mp_weight_bytes(size_bytes, rate_bytes);
    int64_t live = __atomic_add_fetch(&peak->live_bytes, weight, __ATOMIC_RELAXED);
    int64_t high = mp_load_relaxed(&peak->high_bytes);
    while (live > high) {
        if (!__atomic_compare_exchange_n(&peak->high_bytes, &high, live, true, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
            continue;
        mp_store_relaxed(&peak->high_ns, now_ns);
        return;
    }
}

void mp_peak_remove(struct mp_segment *seg, uint32_t capture, uint64_t size_bytes,
                    uint64_t rate_bytes) {
    struct mp_peak *peak = &seg->control->peak[capture & 1];
    __atomic_fetch_sub(&peak->live_bytes, mp_weight_bytes(size_bytes, rate_bytes),
                       __ATOMIC_RELAXED);
}
