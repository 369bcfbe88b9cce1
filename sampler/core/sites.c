/*
 * sites.c - the table of sites. See sites.h.
 */
#include "sites.h"
#include "keyed.h"
#include "local.h"

uint32_t mp_site_intern(struct mp_segment *seg, uint64_t key) {
    uint64_t hash = mp_mix(key);
    uint32_t *memo = &mp_local.site_memo[hash >> (64 - MP_SITE_MEMO_BITS)];
    uint32_t site = mp_load_relaxed(memo);
    if (mp_likely(mp_site_at(seg, site, key) != NULL))
        return site;
    struct mp_keyed sites = {.levels = &seg->layout.sites,
                             .table = &seg->control->sites,
                             .lost = &seg->layout.lost_sites};
    site = mp_keyed_intern(seg, &sites, key);
    if (site != MP_SITE_NONE)
        mp_store_relaxed(memo, site);
    return site;
}

struct mp_site_row *mp_site_at(struct mp_segment *seg, uint32_t site, uint64_t key) {
    uint32_t number = site >> 28, row = site & 0x0fffffff;
    const struct mp_level *level;
    if (number == MP_LOST_SITES_LEVEL)
        level = &seg->layout.lost_sites;
    else if (number < mp_table_ready(&seg->layout.sites, &seg->control->sites))
        level = &seg->layout.sites.level[number];
    else
        return NULL;
    if (row >= level->rows || mp_load_acquire(&mp_level_keys(seg, level)[row]) != key)
        return NULL;
    return mp_level_row(seg, level, row);
}
