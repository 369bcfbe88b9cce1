/*
 * segment_place.h - where the segments of an attached process lie in its address space.
 *
 * Model: successive segments of one process use the same place, so that a thread still inside a
 * hook never writes to anything else. Between two of them the place holds private pages without
 * memory. When no thread can be inside any more, a detach unmaps all of it but its first page.
 *
 * Threads: INIT, one at a time, on the thread of an attach.
 */
#ifndef MP_SEGMENT_PLACE_H
#define MP_SEGMENT_PLACE_H

#include <stdbool.h>
#include <stdint.h>

/* Reserved part of the address space. */
struct mp_segment_place {
    void *base; /* NULL: anywhere */
    uint64_t bytes;
    bool released; /* only the first page is still ours */
};

/* Reserve private pages for this use; they take no memory while empty. 0 or -errno. */
int mp_place_fill(struct mp_segment_place *place);

/* Reserve at least so many bytes. If the place grows, the old one stays mapped for threads that may
 * still write there. 0 or -errno, and the place is unchanged. */
int mp_place_take(struct mp_segment_place *place, uint64_t bytes);

/* Unmap it, after the gate was shut, so that no further thread enters the segment. Returns NULL, or
 * why it stays mapped. */
const char *mp_place_release(struct mp_segment_place *place);

#endif
