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

uint32_t mp_site_intern(struct mp_segment *seg, uint64_t key) {
    uint64_t hash = mp_mix(key);
    uint32_t *memo = &mp_local.site_memo[hash >> (64 - MP_SITE_MEMO_BITS)];
    uint32_t site = mp_load_relaxed(memo);
    if (mp_likely(mp_site_at(seg, site, key) != NULL))
        return site;
    struct mp_keyed sites = sites_of(seg);
    site = mp_keyed_intern(seg, &sites, key);
    if (site != MP_SITE_NONE)
        mp_store_relaxed(memo, site);
    return site;
}
