/*
 * segment_dead.h - segments that their processes left: which they are, and what becomes of them.
 *
 * Model: whoever maps a segment holds a lock on its file, which the kernel opens with the last mapping, however
 * the process ends; a child that shares the memory counts, and so does another pid namespace. For a file without
 * the lock's flag the pid in it decides. A dead segment without a capture, or with one that is in a file, is
 * removed. Any other gives back its pages without data: its content stays what it is, so that a controller may
 * read it at the same time.
 *
 * The folder is private to this user, and so must be the files: regular, this user's, with one name. Everything
 * else is left alone. A file may have any size and content.
 *
 * Threads: INIT, one caller at a time. Another process may do the same at the same time.
 */
#ifndef MP_SEGMENT_DEAD_H
#define MP_SEGMENT_DEAD_H

#include "abi/segment.h"

#include <stdbool.h>

/* Lock a segment's file for as long as it is mapped. False where the file system knows no such lock. */
bool mp_dead_hold(int fd);

/* Remove or trim the file `name`, if it is a dead segment; one that holds more than `most_bytes` is not trimmed. `own`
 * says who the caller is. Returns the bytes that it gave back. */
uint64_t mp_dead_tidy(int folder, const char *name, const struct mp_control *own,
                      uint64_t most_bytes);

/* Remove half-packed files of processes that are gone (segment_pack.h). */
void mp_dead_tidy_packing(int folder, const char *name);

/* Remove the file even if its capture is unsaved, if it is a dead segment that no controller
 * holds. */
bool mp_dead_drop(int folder, const char *name, const struct mp_control *own);

#endif
