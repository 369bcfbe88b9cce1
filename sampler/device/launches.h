/*
 * launches.h - device work of the program: kernels, operators, and the tensors that these read and
 * write.
 *
 * Model: a launch is one event in the rings (core/events.h), with its kind, device and thread. Its
 * name, path or tensor is a record of the arena, stored once, that the event names by its id;
 * repeated launches reuse the id. A capture selects its launches (mp_events.launches); others write
 * no event and store no text.
 *
 * Threads: HOOK; errno preserved. An event that cannot be written is counted as any other; a name that cannot be
 * stored is 0, and lost[MP_LOST_LAUNCH] counts it.
 */
#ifndef MP_LAUNCHES_H
#define MP_LAUNCHES_H

#include "abi/segment.h"

#include <stdbool.h>

struct mp_segment;

struct mp_launch {
    enum mp_launch_kind kind;
    int device;      /* < 0: unknown */
    uint32_t name;   /* of mp_launch_text(); 0: unknown */
    uint32_t detail; /* of mp_launch_text() or mp_launch_tensor(); 0: none */
    uint64_t address;
    uint64_t size_bytes;
};

/* Number of the capture that runs, if it wants any of these; 0: it does not, or none runs. */
uint32_t mp_launch_capture(unsigned wants);

/* Does the capture that runs want any of these (bits of enum mp_launch_want)? */
bool mp_launch_wanted(unsigned wants);

/* Moves with each segment that the process gets: ids of an earlier one are none. */
uint32_t mp_launch_epoch(void);

/* Id of a text, of which at most MP_LAUNCH_TEXT_BYTES are kept. 0: it is empty, or was not stored. */
uint32_t mp_launch_text(const char *text, size_t bytes);

/* Id of a tensor. 0: more than MP_LAUNCH_DIMENSIONS dimensions, or it was not stored. */
uint32_t mp_launch_tensor(int type, int format, const int64_t *dimensions, uint64_t count);

/* Count something that makes no sense. */
void mp_launch_lose(void);

/* Write the event, with the time of now; nothing where the capture wants none. */
void mp_launch_add(const struct mp_launch *launch);

/* The same for a caller that has the guard, and the capture's number. */
void mp_launch_write(struct mp_segment *seg, uint32_t capture, const struct mp_launch *launch);

#endif
