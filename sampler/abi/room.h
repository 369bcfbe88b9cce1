/*
 * room.h - the ledger of a folder of segments: their total size, and losses due to its bound.
 *
 * Model: a file beside the segments, which each start of a capture updates under an exclusive
 * flock. It holds an upper estimate, which the next count of all segments replaces; it may be
 * missing, stale or forged without harm.
 *
 * The C compiler reads this header; bindings/mem_profiler/_build.py reads the part between the cffi marks.
 */
#ifndef MP_ROOM_H
#define MP_ROOM_H

#include <stdint.h>

/* cffi: begin */
#define MP_ROOM_MAGIC 0x314d4f4f52504d4dULL /* "MMPROOM1", little-endian */
/* Default bound of all segments in a folder: a share of the file system, between these. */
#define MP_ROOM_SHARE 10
#define MP_ROOM_DEFAULT_MIN_BYTES 0x1000000
#define MP_ROOM_DEFAULT_MAX_BYTES 0x40000000

struct mp_room {
    uint64_t magic;
    uint64_t bound_bytes; /* of the latest start */
    uint64_t held_bytes; /* by all segments, as counted last */
    uint64_t pending_bytes; /* upper bound of additions since then */
    uint64_t counted_ns; /* CLOCK_MONOTONIC; 0: never */
    uint64_t segments; /* as counted last */
    uint64_t dropped_segments; /* unsaved, of dead processes; since the ledger was made */
    uint64_t dropped_bytes;
    uint64_t refused_starts; /* captures that did not begin */
    uint64_t smaller_starts; /* captures that began with a smaller segment */
    uint64_t next_files; /* directory position where the next start resumes its search */
};
/* cffi: end */

/* Cannot be the name of a segment. */
#define MP_ROOM_FILE "room"

#endif
