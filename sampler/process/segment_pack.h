/*
 * segment_pack.h - rewrite a dead segment as small as possible.
 *
 * Model: the hash places the rows of a table, so a few samples occupy many pages. Readers do not
 * depend on the hash: they find the table through the control page. The packed segment has only the
 * rows in use, back to back, under the same name, which a rename gives it at once. A segment that
 * has data anywhere else, as in tables of devices, stays as it is, so that data this code does not
 * know is never dropped.
 *
 * Threads: INIT, one caller at a time.
 */
#ifndef MP_SEGMENT_PACK_H
#define MP_SEGMENT_PACK_H

#include "abi/segment.h"

#include <stdbool.h>
#include <sys/stat.h>

#define MP_PACK_PREFIX "pack-" /* of a file that is not whole yet; the writer's pid follows */

/* Pack the segment `fd`, which is `name` in `folder` and has no other page with data than its tables need; `control` is a
 * copy of its control page, `st` its file before anything changed. The caller holds the controllers' lock. False,
 * and nothing has changed: it has other data, or there is no room. */
bool mp_pack(int folder, const char *name, int fd, const struct mp_control *control,
             const struct stat *st);

#endif
