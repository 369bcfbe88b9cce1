/*
 * starts.h - where mappings of the process begin, in order: a counting filter of their addresses.
 *
 * Model: a tree of granules, from a page to 4 TiB, 32 to a node. A cell counts the beginnings in one granule; nodes
 * share the cells of a fixed array by a hash, so that nothing is claimed, linked or given back. A cell of 0 says that
 * nothing begins there, any other that something may: the table of live blocks decides. So a thread that dies between
 * two cells leaves work to searches, and no wrong answer. 32 nodes that follow each other share a page. Counts of the
 * mappings by size say how far below an address the one that reaches over it can begin.
 *
 * Threads: any; HOOK. Add before the row can be found, remove after it cannot: the release of the one and the
 * acquire of a search's loads keep the search's look-up behind it.
 *
 * Limits: 4 MiB in mp_local, pages where used. A search ends after MP_STARTS_STEPS cells, and then says so by stopping
 * where it is.
 */
#ifndef MP_STARTS_H
#define MP_STARTS_H

#include <stdbool.h>
#include <stdint.h>

#define MP_STARTS_BITS 20
#define MP_STARTS_PAGE_SHIFT 12 /* the smallest page; on others some cells are never used */
#define MP_STARTS_NODE_BITS 5
#define MP_STARTS_LEVELS 7
#define MP_STARTS_STEPS 65536u
#define MP_STARTS_END_BIT 57
#define MP_STARTS_END (1ULL << MP_STARTS_END_BIT) /* of what a process may map */

struct mp_starts {
    uint32_t cell[1u << MP_STARTS_BITS] __attribute__((aligned(4096)));
    uint32_t of_size[64]; /* by the highest bit of their bytes */
};

void mp_starts_add(uint64_t address, uint64_t bytes);
void mp_starts_remove(uint64_t address, uint64_t bytes);

/* False: none begins in the page of `address`. */
bool mp_starts_hit(uint64_t address);

/* A search. */
struct mp_starts_search {
    uint64_t at;        /* the page found */
    uint32_t steps_left; /* MP_STARTS_STEPS at first; 0: it found no end */
};

/* The first page from `at` on, below `end`, where a mapping may begin. False: there is none. */
bool mp_starts_next(struct mp_starts_search *search, uint64_t end);

/* The last one from the page of `at` on downwards where one may begin that reaches beyond `at`. */
bool mp_starts_last(struct mp_starts_search *search);

#endif
