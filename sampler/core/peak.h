/*
 * peak.h - the highest live total of a capture, kept while it goes on.
 *
 * Model: each sampled block stands for its weight, s / (1 - exp(-s/T)) bytes. The weights of the blocks alive
 * are added up in one word of the segment, and the highest sum is kept beside it. That is two more contended
 * operations for each sample, so it is done only for captures whose starter asked for it.
 *
 * Threads: HOOK. The sum may be off for an instant by what other threads are adding.
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
