/*
 * segment_file.h - making, sizing and removing this process's segment file.
 *
 * All functions are INIT: they run in the constructor, the destructor, or the atfork handler of a
 * followed child, and use system calls directly, so that no symbol newer than the oldest C library
 * served is needed.
 */
#ifndef MP_SEGMENT_FILE_H
#define MP_SEGMENT_FILE_H

#include "options.h"
#include "table.h"

#define MP_SEGMENT_PATH_MAX 384

/*
 * Create DIR/mem_profiler.<uid>/<pid>-<start ticks>-<n> with the smallest free n, lay its tables
 * out and map it. Removes on the way what dead processes left unused in that folder. On success
 * fills *seg and `path`, and *fd with a descriptor the caller closes; 0 or -errno, nothing is left
 * behind on failure.
 */
int mp_segment_create(const struct mp_options *options, const char *exe, struct mp_segment *seg,
                      char path[MP_SEGMENT_PATH_MAX], int *fd);

/* Remove the file if no capture was started in it, or the last one has been written. */
void mp_segment_discard_unused(const struct mp_segment *seg, const char *path);

/* Link of /proc/self/exe into exe[0..n), NUL-terminated; empty when unknown. */
void mp_read_exe(char *exe, size_t n);

#endif
