/*
 * glibc_heap.h - which bytes of pages are in use in a heap of glibc's malloc, from a copy of another process's memory.
 *
 * A chunk is 16 bytes aligned; its word at +8 is its size, a multiple of 16, and three flags, of which the lowest
 * says that the chunk before it is in use. It owns the bytes from that word to that of the next chunk. Chunks in
 * bins look free by the next one's flag. Those that a thread keeps for itself (tcache) and those of fastbins look in
 * use, but their first word links them: the next one's address, or 0, xor their own address >> 12 (from 2.32 on).
 *
 * All words are hostile: each is read within the copy, a size leads forwards and not beyond the mapping, and a walk
 * ends at the first doubt. So all work is below the copy's bytes / 16.
 */
#ifndef MP_ABI_GLIBC_HEAP_H
#define MP_ABI_GLIBC_HEAP_H

#include <stdint.h>

/* cffi: begin */
/* `words` copies `bytes` bytes at address `base`, a multiple of `page`; missing pages are 0. [low, high) is the
 * mapping. Of each page: bytes of chunks met, of those in use, and the number of those in use. */
struct mp_heap_copy {
    const uint64_t *words;
    uint64_t base, bytes, page, low, high;
    uint32_t *met, *used, *blocks;
};
/* cffi: end */

#define MP_CHUNK_FLAGS 7u
#define MP_CHUNK_OTHER_ARENA 4u
#define MP_CHUNK_MMAPPED 2u
#define MP_CHUNK_BEFORE_IN_USE 1u
#define MP_CHUNK_FENCE 16u     /* the last chunk of a heap that goes on elsewhere */
#define MP_CHUNK_LEAST 32u
#define MP_CHUNK_CACHED_MAX 1040u /* of tcache */

/* The word at an address; 0, which no size is, outside of the copy. */
static inline uint64_t mp_heap_word(const struct mp_heap_copy *copy, uint64_t at) {
    uint64_t offset = at - copy->base;
    return at >= copy->base && offset % 8 == 0 && offset < copy->bytes ? copy->words[offset / 8]
                                                                       : 0;
}

/* The size in a chunk's word; 0 if it cannot be one. */
static inline uint64_t mp_chunk_size(uint64_t word, uint64_t least) {
    uint64_t size = word & ~(uint64_t)MP_CHUNK_FLAGS;
    return size % 16 == 0 && size >= least && !(word & MP_CHUNK_MMAPPED) ? size : 0;
}

/* Whether a chunk that looks in use is linked to another free one of its size, or to none. */
static inline int mp_chunk_is_cached(const struct mp_heap_copy *copy, uint64_t at, uint64_t size) {
    uint64_t own = at + 16, next = mp_heap_word(copy, own) ^ own >> 12;
    if (size > MP_CHUNK_CACHED_MAX || next == 0)
        return size <= MP_CHUNK_CACHED_MAX;
    if (next % 16 != 0 || next < copy->low || next >= copy->high)
        return 0;
    uint64_t in_tcache = mp_heap_word(copy, next - 8), in_bin = mp_heap_word(copy, next + 8);
    return mp_chunk_size(in_tcache, size) == size || mp_chunk_size(in_bin, size) == size ||
           (in_tcache == 0 && in_bin == 0);
}

static inline void mp_heap_add(const struct mp_heap_copy *copy, uint64_t from, uint64_t to,
                               int in_use) {
    for (uint64_t at = from; at < to && at - copy->base < copy->bytes;) {
        uint64_t k = (at - copy->base) / copy->page, end = copy->base + (k + 1) * copy->page;
        uint32_t bytes = (uint32_t)((end < to ? end : to) - at);
        copy->met[k] += bytes;
        copy->used[k] += in_use ? bytes : 0;
        copy->blocks[k] += in_use ? 1 : 0;
        at = end;
    }
}

/* Count the chunks from the one at `at` to the one at `to`; returns where it ended: `to`, or where a doubt was. A
 * chunk that reaches beyond `to` is none where `exact`, else the last. */
static inline uint64_t mp_heap_walk(const struct mp_heap_copy *copy, uint64_t at, uint64_t to,
                                    int exact) {
    uint64_t word = mp_heap_word(copy, at + 8), arena = word & MP_CHUNK_OTHER_ARENA;
    while (at >= copy->low && at < to) {
        uint64_t size = mp_chunk_size(word, MP_CHUNK_LEAST), next = at + size;
        if (size == 0 || size > copy->high - at || (exact && next > to) ||
            (word & MP_CHUNK_OTHER_ARENA & ~arena))
            break;
        int in_use = 0; /* as the top is, the last chunk of all */
        if (next < copy->high) {
            word = mp_heap_word(copy, next + 8);
            if (mp_chunk_size(word, MP_CHUNK_FENCE) == 0)
                break;
            in_use = (word & MP_CHUNK_BEFORE_IN_USE) && !mp_chunk_is_cached(copy, at, size);
        }
        mp_heap_add(copy, at + 8, next + 8, in_use);
        at = next;
    }
    return at;
}

#endif
