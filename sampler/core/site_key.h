/*
 * site_key.h - the word that is the whole identity of a site: stack, size class, domain, shard and
 * capture, packed as segment.h says.
 *
 * Threads: HOOK; nothing here touches memory.
 */
#ifndef MP_SITE_KEY_H
#define MP_SITE_KEY_H

#include "abi/segment.h"

#include <stdbool.h>
#include <stdint.h>

/* HOOK. Size class: exact below 128, then 64 classes per power of two. Monotonic in size. */
static inline uint32_t mp_size_class(uint64_t size) {
    if (size < 128)
        return (uint32_t)size;
    uint32_t shift = (uint32_t)(63 - __builtin_clzll(size)) - 6;
    uint32_t cls = 64 * shift + (uint32_t)(size >> shift);
    return cls < (1u << MP_KEY_CLASS_BITS) ? cls : (1u << MP_KEY_CLASS_BITS) - 1;
}

static inline uint64_t mp_site_key(uint32_t stack, uint64_t size, uint32_t domain, uint32_t shard,
                                   uint32_t capture) {
    return (uint64_t)stack << MP_KEY_STACK_SHIFT |
           (uint64_t)mp_size_class(size) << MP_KEY_CLASS_SHIFT |
           (uint64_t)domain << MP_KEY_DOMAIN_SHIFT |
           (uint64_t)(shard & ((1u << MP_KEY_SHARD_BITS) - 1)) << MP_KEY_SHARD_SHIFT |
           (uint64_t)capture << MP_KEY_CAPTURE_SHIFT;
}

/* HOOK. The shard of a thread's row: the first threads own one each, the others share the rest. */
static inline uint32_t mp_shard_of(uint32_t thread) {
    uint32_t shared = (1u << MP_KEY_SHARD_BITS) - MP_SHARDS_OWNED;
    return thread - 1 < MP_SHARDS_OWNED ? thread - 1 : MP_SHARDS_OWNED + thread % shared;
}

static inline bool mp_key_owned(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_SHARD_SHIFT) % (1u << MP_KEY_SHARD_BITS) < MP_SHARDS_OWNED;
}

static inline uint32_t mp_key_capture(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_CAPTURE_SHIFT) & ((1u << MP_KEY_CAPTURE_BITS) - 1);
}

static inline uint32_t mp_key_domain(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_DOMAIN_SHIFT) & ((1u << MP_KEY_DOMAIN_BITS) - 1);
}

static inline uint32_t mp_key_stack(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_STACK_SHIFT) & ((1u << MP_KEY_STACK_BITS) - 1);
}

#endif
