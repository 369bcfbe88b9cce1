/*
 * device_ranges.h - blocks of which a program may end any part: mappings of the process's own memory.
 *
 * Model: blocks have no byte in common. What a range clears ends; a block that reaches beyond
 * keeps the rest, as one or two blocks with its stack and birth. The end of the one and the births of the others
 * count as any; the bytes that go on are also counted as taken, for a reader to subtract from both.
 *
 * To clear a whole block, or its beginning, is one look-up; everything else is a search for the block before and
 * those within (core/starts.h), where any was ever recorded.
 *
 * Threads: HOOK; errno preserved. Clear before the kernel's call, so that nobody has the addresses yet. Two
 * threads that at once end parts of one block may leave a part that is gone: the reader compares with
 * /proc/PID/maps.
 */
#ifndef MP_DEVICE_RANGES_H
#define MP_DEVICE_RANGES_H

#include "device.h"

#include <stdbool.h>

#define MP_RANGE_ROWS 4u

/* What mp_range_clear() ended, to undo it or to move it. Beyond those in `rows`, `kept` ones wait in the table. */
struct mp_range_cleared {
    uint64_t from, to;
    uint32_t count;
    bool keeps, kept;
    struct mp_device_live_row rows[MP_RANGE_ROWS]; /* whole, as they were */
};

/* A block of whole pages that mp_range_clear() may find. What was there ended by calls that nobody saw. */
void mp_range_set(const struct mp_device_block *block);

/* `keeps`: the call may fail for other reasons than an exhausted kernel, or moves the blocks. */
void mp_range_clear(uint64_t from, uint64_t to, bool keeps, struct mp_range_cleared *cleared);

/* The block that begins there. */
void mp_range_clear_block(uint64_t from, struct mp_range_cleared *cleared);

/* Then one of three. The kernel did it; */
void mp_range_end(const struct mp_range_cleared *cleared);

/* it refused; */
void mp_range_restore(const struct mp_range_cleared *cleared);

/* it moved what was there to [from, to), cut or longer at the end: with stack and birth. */
void mp_range_move(const struct mp_range_cleared *cleared, uint64_t from, uint64_t to);

/* Was a block ever set, or inherited? */
bool mp_range_is_any(void);

/* In a forked child, where mp_inherited_begin() says `some`. */
void mp_range_after_fork(bool some);

#endif
