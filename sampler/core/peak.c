/*
 * peak.c - see peak.h.
 */
#include "peak.h"

void mp_peak_write_stamp(uint64_t *word, uint64_t seen, uint32_t epoch, uint32_t live_blocks) {
    mp_cas_u64(word, seen, (uint64_t)epoch << 32 | live_blocks);
}

/* Who raised the total less may come here later. */
static void note_high(struct mp_peak *peak, uint64_t now_ns) {
    uint64_t noted = mp_load_relaxed(&peak->high_ns);
    while (noted < now_ns && !__atomic_compare_exchange_n(&peak->high_ns, &noted, now_ns, true,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

void mp_peak_add(struct mp_peak *peak, uint64_t size_bytes, uint64_t rate_bytes, uint64_t now_ns) {
    if (peak == NULL)
        return;
    int64_t weight = mp_weight_parts(size_bytes, rate_bytes);
    int64_t live = __atomic_add_fetch(&peak->live_parts, weight, __ATOMIC_RELAXED);
    int64_t high = mp_load_relaxed(&peak->high_parts);
    while (live > high) {
        if (!__atomic_compare_exchange_n(&peak->high_parts, &high, live, true, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
            continue;
        note_high(peak, now_ns);
        return;
    }
}

/* The highest total so far is about to end. */
static void begin_epoch(struct mp_peak *peak, int64_t live_parts) {
    uint32_t epoch = mp_load_relaxed(&peak->epoch), next = mp_peak_class(live_parts);
    if (next > epoch)
        mp_cas_u32(&peak->epoch, epoch, next);
}

void mp_peak_remove(struct mp_peak *peak, uint64_t size_bytes, uint64_t rate_bytes) {
    if (peak == NULL)
        return;
    int64_t live = mp_load_relaxed(&peak->live_parts);
    if (live >= mp_load_relaxed(&peak->high_parts))
        begin_epoch(peak, live);
    __atomic_fetch_sub(&peak->live_parts, mp_weight_parts(size_bytes, rate_bytes),
                       __ATOMIC_RELAXED);
}
