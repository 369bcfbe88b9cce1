/*
 * segment_room.h - the bound of all segments in a folder together.
 *
 * Model: each start of a capture looks at the first files of the folder, resuming where the
 * previous start stopped, and trims those of dead processes (segment_dead.h). The ledger
 * (abi/room.h) tells how much all segments take at most; when that reaches the bound, the start
 * counts them all, and if they do take nearly all of it, drops the oldest unsaved segments of dead
 * processes until a quarter of the bound is free. Segments of living processes, and those that a
 * controller reads, stay. The new segment may take the remainder.
 *
 * Work: about 200 files a start; a count is one stat a file, at most once a second, and drops at most 512. Nobody
 * waits: where another process counts, this one takes the ledger as it is.
 *
 * Threads: INIT, one caller at a time.
 */
#ifndef MP_SEGMENT_ROOM_H
#define MP_SEGMENT_ROOM_H

#include "abi/room.h"
#include "abi/segment.h"

#include <stdbool.h>

/*
 * The bound of a folder: `wanted_bytes`; 0: a tenth of its file system, 16 MiB to 1 GiB, or more where a segment was
 * asked for (`segment_bytes`, else 0) that would not fit: its share of the bound, of half the file system at most.
 */
uint64_t mp_room_bound_bytes(int folder, uint64_t wanted_bytes, uint64_t segment_bytes);

/* Tidy the folder for a process without a capture. `own` says who the caller is. */
void mp_room_tidy(int folder, const struct mp_control *own);

/*
 * Tidy the folder for a new capture, and make room in it. Returns the size that the new segment may have: that of
 * `wanted_bytes`, or less; 0: it may not be made. The ledger counts either.
 */
uint64_t mp_room_take(int folder, uint64_t bound_bytes, uint64_t wanted_bytes,
                      const struct mp_control *own);

#endif
