/*
 * stacks.h - intern stacks: the arena stores every distinct one once, with an id.
 *
 * Model: an append-only arena of struct mp_stack records, and the table stack_index whose 64-bit entries
 * are 38 bits of the hash above the 26-bit id (byte offset in the arena / 8). One compare-and-swap
 * publishes an entry after its record is complete; the loser of a race wastes its record. A deep native stack is
 * stored as runs of frames, which it shares with others. The last 16th of the arena is for stacks that a thread
 * interns while its mp_self.of_device is set: the few blocks of a device keep their names when the host's fill it.
 *
 * Threads: any number of HOOK callers. The writer stores the hash last, with release; this pairs with the
 * acquire load of it before a comparison of records. The index entry (compare-and-swap, acquire loads)
 * points only to records with a stored hash.
 */
#ifndef MP_STACKS_H
#define MP_STACKS_H

#include "table.h"

/* The identity of a record: all that struct mp_stack has. */
struct mp_stack_identity {
    const uintptr_t *frames;
    uint32_t depth;
    uint16_t truncated;
    uint16_t kind; /* enum mp_stack_kind */
    uint32_t generation;
    uint32_t interpreter;
};

/*
 * HOOK. Id of a stack, added if new; *is_new tells. Returns an enum mp_stack_lost value,
 * all of which are below MP_STACK_LOST_MAX, when there is no room; nothing is published then.
 */
uint32_t mp_stack_intern(struct mp_segment *seg, const struct mp_stack_identity *stack,
                         bool *is_new);

/* HOOK. The same for a stack of kind MP_STACK_NATIVE, without an interpreter: a deep one is stored by its runs. */
uint32_t mp_stack_intern_native(struct mp_segment *seg, const struct mp_stack_identity *stack,
                                bool *is_new);

#endif
