/*
 * heaps.h - blocks that an allocator of the program reports: sampled, found again, and ended all at once.
 *
 * Model: a heap is an object of the program, with a name; heaps of one name and kind share the domain
 * "heap-<name>". A block of it is a row of the live table as a device's is, but chosen by the thread's countdown (a
 * part of an exponential draw that is used up for two kinds of memory has the same distribution as two draws), and
 * its free asks the filter of free() first.
 *
 * Reset: the sampled blocks of an arena are a list from the heap's own words, so that ending them costs what they are,
 * not what the live table is. A node of the list names a block; a free leaves it there, and once a list is twice as
 * long as after its last cleaning, the next sample drops what is gone. A block that gets no node, because there are
 * too many, marks its heap: then a reset searches the table. The list is in force for one segment (`epoch`).
 * The blocks of a pool, which has no words, have no nodes: its end searches the table, if it had a sample.
 *
 * Threads: HOOK; any number of them, but a reset has its heap alone. Nodes are pushed by compare-and-swap (release,
 * pairs with the exchange of whoever takes the whole list); free nodes have a tag against ABA.
 */
#ifndef MP_HEAPS_H
#define MP_HEAPS_H

#include "device.h"

/* In the program's object; zeros at first. */
struct mp_heap_words {
    uint64_t domain; /* epoch << 32 | number; as the two below, worthless under another epoch */
    uint64_t list;   /* epoch << 32 | first node + 1 */
    uint64_t counts; /* epoch << 32 | 1 if a block has no node << 31 | nodes in the list */
    uint64_t limit;  /* nodes at which the list is cleaned */
};

struct mp_heap {
    struct mp_heap_words *words; /* its address is the heap's identity */
    const char *name;
    enum mp_memory_kind kind; /* MP_MEMORY_HEAP and above */
    bool is_arena;            /* is reset often */
};

struct mp_heap_block {
    uint64_t address, bytes;
    uint64_t pool; /* the address of the one whose end ends it; 0: the heap's own reset does */
    uintptr_t api_pc; /* frame 0 */
    struct mp_frame caller;
};

/* A block for which the countdown, or the kind, said that it may be a sample. */
void mp_heap_alloc(const struct mp_heap *heap, const struct mp_heap_block *block);

/* Its end. */
void mp_heap_free(const struct mp_heap *heap, uint64_t address);

/* The end of all blocks of the heap. */
void mp_heap_reset(const struct mp_heap *heap);

/* The end of all blocks of a pool of the heap. */
void mp_heap_end_pool(const struct mp_heap *heap, uint64_t pool);

/* INIT. Forget all nodes: nobody is in a heap, as in a forked child or before an attach. */
void mp_heaps_forget(void);

#endif
