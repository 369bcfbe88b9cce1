/*
 * seqlock.h - a row that one writer at a time changes, and readers copy without waiting.
 *
 * Model: the row's version is odd while somebody writes. A writer that finds it odd leaves the row
 * alone; a writer that never finishes leaves it odd, and nobody uses the row again. A reader reads
 * the words between mp_seq_read_begin() and mp_seq_read_whole(), and discards them unless the
 * latter returns true. All words are read and written relaxed.
 *
 * Threads: any; HOOK. The acquire load of the version pairs with the release store that ends a change; the fences
 * (atomics.h) let a reader that saw a new word see a changed version.
 */
#ifndef MP_SEQLOCK_H
#define MP_SEQLOCK_H

#include "atomics.h"

static inline uint32_t mp_seq_read_begin(const uint32_t *version) {
    return mp_load_acquire(version);
}

/* Has nobody begun to write since the version was `begun`? */
static inline bool mp_seq_unchanged(const uint32_t *version, uint32_t begun) {
    mp_fence_acquire();
    return mp_load_relaxed(version) == begun;
}

/* True if nobody wrote meanwhile. */
static inline bool mp_seq_read_whole(const uint32_t *version, uint32_t begun) {
    return mp_seq_unchanged(version, begun) && (begun & 1) == 0;
}

static inline bool mp_seq_is_written(const uint32_t *version) {
    return (mp_load_relaxed(version) & 1) != 0;
}

/* False: somebody else writes. */
static inline bool mp_seq_write_begin(uint32_t *version) {
    uint32_t begun = mp_load_relaxed(version);
    if ((begun & 1) || !mp_cas_u32(version, begun, begun + 1))
        return false;
    mp_fence_release(); /* no word becomes visible before the odd version */
    return true;
}

static inline void mp_seq_write_end(uint32_t *version) {
    mp_store_release(version, mp_load_relaxed(version) + 1);
}

#endif
