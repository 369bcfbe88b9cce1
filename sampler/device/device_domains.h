/*
 * device_domains.h - the rows of struct mp_domain, and the first pages of everything that devices need.
 *
 * Model: a row is claimed by one compare-and-swap of its key, a hash of (family, device, kind), so a domain
 * has one row however many threads meet it first; its texts follow, and `published` after them. The row's
 * number is the domain's number in site keys.
 *
 * Threads: any number of HOOK callers. `published` is stored with release after the texts and pairs with the
 * reader's acquire load; `actual_ns` after the three totals of its moment, likewise. Hooks need no more than
 * the key, which the compare-and-swap publishes. Regions are reserved as table.h says.
 */
#ifndef MP_DEVICE_DOMAINS_H
#define MP_DEVICE_DOMAINS_H

#include "core/table.h"
#include "device.h"

/* HOOK. Are the device tables usable? Gives them their first pages if they have none yet. */
bool mp_device_ready(struct mp_segment *seg);

/*
 * HOOK. Make level `ready` usable, at once and whatever other threads are doing: driver calls are slow and
 * few, so a piece may be given pages twice, where a hook of malloc would go on without. True: it is.
 */
bool mp_device_add_level(struct mp_segment *seg, const struct mp_levels *levels,
                         struct mp_table *table, uint32_t ready);

/* HOOK. Row of a domain that this segment knows, or NULL. */
struct mp_domain *mp_domain_at(struct mp_segment *seg, uint32_t domain);

#endif
