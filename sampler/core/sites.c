/*
 * sites.c - the table of sites. See sites.h.
 */
#include "sites.h"
#include "local.h"

static inline struct mp_keyed sites_of(struct mp_segment *seg) {
    return (struct mp_keyed){.levels = &seg->layout.sites,
                             .table = &seg->control->sites,
                             .lost = &seg->layout.lost_sites,
                             .lost_reserved = &seg->control->lost_sites};
}

struct mp_site_row *mp_site_at(struct mp_segment *seg, uint32_t site, uint64_t key) {
    struct mp_keyed sites = sites_of(seg);
    return mp_keyed_at(seg, &sites, site, key);
}

struct mp_site_row *mp_site_intern(struct mp_segment *seg, uint64_t key, uint32_t *site) {
    uint64_t hash = mp_mix(key);
    uint32_t *memo = &mp_local.site_memo[hash >> (64 - MP_SITE_MEMO_BITS)];
    struct mp_keyed sites = sites_of(seg);
    *site = mp_load_relaxed(memo);
    struct mp_site_row *row = mp_keyed_at(seg, &sites, *site, key);
    if (mp_likely(row != NULL))
        return row;
    *site = mp_keyed_intern(seg, &sites, key);
    if (*site == MP_SITE_NONE)
        return NULL;
    mp_store_relaxed(memo, *site);
    return mp_keyed_at(seg, &sites, *site, key);
}
