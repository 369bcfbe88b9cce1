/*
 * peak.h - the highest live total of a capture, kept while it goes on.
 *
 * Model: each sampled block stands for its weight, s / (1 - exp(-s/T)) bytes. One word of the segment
 * holds the sum of the weights of the live blocks, and the word beside it the highest sum. That is two
 * more contended operations for each sample, so the sampler does it only for captures whose starter asked
 * for it.
 *
 * Threads: HOOK. The sum may be wrong for an instant by the adds of other threads.
 */
#ifndef MP_PEAK_H
#define MP_PEAK_H

#include "sample.h"
#include "table.h"

/* HOOK. Is the peak of this capture kept? */
static inline bool mp_peak_kept(const struct mp_segment *seg, uint32_t capture) {
    return mp_unlikely(mp_load_relaxed(&seg->control->peak[capture & 1].capture) == capture);
}

/* HOOK. A block was sampled; ask mp_peak_kept() before. */
void mp_peak_add(struct mp_segment *seg, uint32_t capture, uint64_t size_bytes, uint64_t rate_bytes,
                 uint64_t now_ns);

/* HOOK. It was freed. */
void mp_peak_remove(struct mp_segment *seg, uint32_t capture, uint64_t size_bytes,
                    uint64_t rate_bytes);

#endif
