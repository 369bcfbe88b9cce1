/*
 * word_set.h - which heaps had a sample: a set of words other than 0 that forgets none, and may say of others that they
 * are in it.
 *
 * Threads: HOOK; any number of them. Two that add one word at once may put it in twice, and one of them stays.
 */
#ifndef MP_WORD_SET_H
#define MP_WORD_SET_H

#include "abi/atomics.h"
#include "table.h"

#include <stdbool.h>

#define MP_WORD_SET_WORDS 1024u
#define MP_WORD_SET_PROBES 4u

struct mp_word_set {
    uint64_t word[MP_WORD_SET_WORDS]; /* 0: free */
    bool overflowed;                  /* a word got no place: any may be in the set */
};

static inline uint64_t *mp_word_set_place(struct mp_word_set *set, uint64_t word, unsigned probe) {
    return &set->word[(mp_mix(word) + probe) % MP_WORD_SET_WORDS];
}

static inline void mp_word_set_add(struct mp_word_set *set, uint64_t word) {
    for (unsigned i = 0; i < MP_WORD_SET_PROBES; i++)
        if (mp_load_relaxed(mp_word_set_place(set, word, i)) == word)
            return;
    for (unsigned i = 0; i < MP_WORD_SET_PROBES; i++)
        if (mp_cas_u64(mp_word_set_place(set, word, i), 0, word))
            return;
    mp_store_relaxed(&set->overflowed, true);
}

/* May it have been in the set? */
static inline bool mp_word_set_remove(struct mp_word_set *set, uint64_t word) {
    for (unsigned i = 0; i < MP_WORD_SET_PROBES; i++)
        if (mp_cas_u64(mp_word_set_place(set, word, i), word, 0))
            return true;
    return mp_load_relaxed(&set->overflowed);
}

#endif
