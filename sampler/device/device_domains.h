/*
 * device_domains.h - the rows of struct mp_domain, and the first pages of all device tables.
 *
 * Model: one compare-and-swap of its key, a hash of (family, device, kind), claims a row, so a domain has
 * one row for any number of threads; its texts follow, and `published` after them. The row's number is
 * the domain's number in site keys.
 *
 * Threads: any number of HOOK callers. the release store of `published` comes after the texts and pairs
 * with the reader's acquire load; `actual_ns` after the three totals of its moment, likewise. Hooks need
 * no more than the key, which the compare-and-swap publishes. table.h says how to reserve regions.
 */
#ifndef MP_DEVICE_DOMAINS_H
#define MP_DEVICE_DOMAINS_H

#include "core/capture.h"
#include "core/table.h"
#include "device.h"

/* HOOK. Are the device tables usable? Gives them their first pages if they have none yet. */
bool mp_device_ready(struct mp_segment *seg);

/*
 * HOOK. Make level `ready` usable, at once and without waiting for other threads: driver calls are slow
 * and few, so a piece may get pages twice, where a hook of malloc would go on without. True: it is.
 */
bool mp_device_add_level(struct mp_segment *seg, const struct mp_levels *levels,
                         struct mp_table *table, uint32_t ready);

/* HOOK. Row of a domain that this segment knows, or NULL. */
struct mp_domain *mp_domain_at(struct mp_segment *seg, uint32_t domain);

#define MP_DOMAIN_KIND_MASK 15ULL /* of a key */

static inline enum mp_memory_kind mp_domain_kind(const struct mp_domain *row) {
    return (enum mp_memory_kind)(mp_load_relaxed(&row->key) & MP_DOMAIN_KIND_MASK);
}

/* HOOK. T of a domain (NULL: of the devices) in a capture. */
static inline uint64_t mp_domain_rate(const struct mp_segment *seg, const struct mp_domain *row,
                                      uint32_t capture) {
    enum mp_memory_kind kind = row != NULL ? mp_domain_kind(row) : MP_MEMORY_DEVICE;
    if (kind == MP_MEMORY_HEAP || kind == MP_MEMORY_HEAP_OWN)
        return mp_capture_rate(seg, capture);
    return mp_kind_is_heap(kind) || mp_kind_is_mapped(kind) ? 1
                                                            : mp_capture_device_rate(seg, capture);
}

#endif
