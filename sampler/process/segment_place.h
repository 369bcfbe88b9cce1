/*
 * segment_place.h - where the segments of an attached process lie in its address space.
 *
 * Model: segments of one process follow each other at one place, so that a thread that is late in a hook never meets
 * anything else there. Between two of them the place holds private pages without memory. When no thread can be
 * inside any more, a detach gives all of it back but its first page.
 *
 * Threads: INIT, one at a time, on the thread of an attach.
 */
#ifndef MP_SEGMENT_PLACE_H
#define MP_SEGMENT_PLACE_H

#include <stdbool.h>
#include <stdint.h>

/* Part of the address space that is ours alone. */
struct mp_segment_place {
    void *base; /* NULL: anywhere */
    uint64_t bytes;
    bool released; /* only the first page is still ours */
};

/* Private pages that no other use can take, and that cost nothing while they are empty. 0 or -errno. */
int mp_place_fill(struct mp_segment_place *place);

/* Have a place of at least so many bytes. A larger one than before leaves the old one to threads that may still
 * write there. 0 or -errno: the place is what it was. */
int mp_place_take(struct mp_segment_place *place, uint64_t bytes);

/* Give it back. The gate has been shut: no thread comes to the segment any more. NULL, or why it stays. */
const char *mp_place_release(struct mp_segment_place *place);

#endif
