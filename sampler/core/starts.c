/*
 * starts.c - see starts.h.
 */
#include "starts.h"
#include "local.h"

#define NODE_CELLS (1u << MP_STARTS_NODE_BITS)
#define PAGE_NODES 32u
#define PAGES (1u << (MP_STARTS_BITS - 2 * MP_STARTS_NODE_BITS))

static unsigned shift_of(unsigned level) {
    return MP_STARTS_PAGE_SHIFT + MP_STARTS_NODE_BITS * level;
}

/* All bits of an address within a granule. */
static uint64_t within(unsigned level) {
    return (1ULL << shift_of(level)) - 1;
}

static uint32_t *cell_of(unsigned level, uint64_t address) {
    uint64_t granule = address >> shift_of(level);
    uint64_t pages = granule / (NODE_CELLS * PAGE_NODES) << 3 | level;
    uint64_t page = mp_mix(pages + 1) % PAGES;
    return &mp_local.starts
                .cell[page * NODE_CELLS * PAGE_NODES + granule % (NODE_CELLS * PAGE_NODES)];
}

static uint32_t *count_of(uint64_t bytes) {
    return &mp_local.starts.of_size[63 - __builtin_clzll(bytes | 1)];
}

void mp_starts_add(uint64_t address, uint64_t bytes) {
    __atomic_fetch_add(count_of(bytes), 1, __ATOMIC_RELEASE);
    for (unsigned level = 0; level < MP_STARTS_LEVELS; level++)
        __atomic_fetch_add(cell_of(level, address), 1, __ATOMIC_RELEASE);
}

void mp_starts_remove(uint64_t address, uint64_t bytes) {
    __atomic_fetch_sub(count_of(bytes), 1, __ATOMIC_RELEASE);
    for (unsigned level = 0; level < MP_STARTS_LEVELS; level++)
        __atomic_fetch_sub(cell_of(level, address), 1, __ATOMIC_RELEASE);
}

static bool is_empty(unsigned level, uint64_t address) {
    return mp_load_acquire(cell_of(level, address)) == 0;
}

bool mp_starts_hit(uint64_t address) {
    return !is_empty(0, address);
}

/* More than the bytes of any mapping. */
static uint64_t longest(void) {
    for (unsigned bit = MP_STARTS_END_BIT; bit-- > 0;)
        if (mp_load_acquire(&mp_local.starts.of_size[bit]) != 0)
            return 2ULL << bit;
    return 0;
}

/* The largest granule of which `at` is the first address (or the last): the node above was not looked at. */
static unsigned highest(unsigned level, uint64_t at, bool is_last) {
    while (level + 1 < MP_STARTS_LEVELS &&
           (at & within(level + 1)) == (is_last ? within(level + 1) : 0))
        level++;
    return level;
}

bool mp_starts_next(struct mp_starts_search *search, uint64_t end) {
    unsigned level = MP_STARTS_LEVELS - 1;
    search->at = (search->at + within(0)) & ~within(0);
    end = end < MP_STARTS_END ? end : MP_STARTS_END;
    for (; search->at < end && search->steps_left != 0; search->steps_left--) {
        if (is_empty(level, search->at)) {
            search->at = (search->at | within(level)) + 1;
            level = highest(level, search->at, false);
        } else if (level == 0) {
            return true;
        } else {
            level--;
        }
    }
    return false;
}

bool mp_starts_last(struct mp_starts_search *search) {
    unsigned level = MP_STARTS_LEVELS - 1;
    uint64_t reach = longest(), low = search->at < reach ? 0 : search->at - reach;
    for (; search->at - low < MP_STARTS_END && search->steps_left != 0; search->steps_left--) {
        if (is_empty(level, search->at)) {
            search->at = (search->at & ~within(level)) - 1; /* below the first one: no address */
            level = highest(level, search->at, true);
        } else if (level == 0) {
            search->at &= ~within(0);
            return true;
        } else {
            level--;
        }
    }
    return false;
}
