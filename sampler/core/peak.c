/*
 * peak.c - see peak.h.
 */
#include "peak.h"

void mp_peak_write_stamp(uint64_t *word, uint64_t seen, uint32_t epoch, uint32_t live_blocks) {
    mp_cas_u64(word, seen, (uint64_t)epoch << 32 | live_blocks);
}

/* A thread that raised the total less may arrive later. */
static void note_high(struct mp_peak *peak, uint64_t now_ns) {
    uint64_t noted = mp_load_relaxed(&peak->high_ns);
    while (noted < now_ns && !__atomic_compare_exchange_n(&peak->high_ns, &noted, now_ns, true,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

void mp_peak_raise(struct mp_peak *peak, int64_t live_parts, uint64_t now_ns) {
    int64_t high = mp_load_relaxed(&peak->high_parts);
    while (live_parts > high) {
        if (!__atomic_compare_exchange_n(&peak->high_parts, &high, live_parts, true,
                                         __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        note_high(peak, now_ns);
        return;
    }
}

void mp_peak_begin_epoch(struct mp_peak *peak, int64_t live_parts) {
    uint32_t epoch = mp_load_relaxed(&peak->epoch), next = mp_peak_class(live_parts);
    if (next > epoch)
        mp_cas_u32(&peak->epoch, epoch, next);
}
