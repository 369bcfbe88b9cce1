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

/* Where a segment must lie: part of the address space that is ours alone. */
struct mp_segment_place {
    void *base; /* NULL: anywhere */
    uint64_t bytes;
};

/*
 * Create DIR/mem_profiler.<uid>/<pid>-<start ticks>-<n> with the smallest free n, lay its tables
 * out and map it, at `place`, whose size bounds it too. Removes on the way what dead processes left unused in that folder. On success
 * fills *seg and `path`, and *fd with a descriptor the caller closes; 0 or -errno, nothing is left
 * behind on failure.
 */
int mp_segment_create(const struct mp_options *options, const char *exe, struct mp_segment *seg,
                      char path[MP_SEGMENT_PATH_MAX], int *fd,
                      const struct mp_segment_place *place);

/* Remove the file if no capture was started in it, or the last one has been written. */
void mp_segment_discard_unused(const struct mp_segment *seg, const char *path);

/*
 * INIT. As mmap() with PROT_READ|PROT_WRITE, but no page is made beforehand, even in a process that locked all
 * its future memory. `at`: replace what is mapped there, at once for all threads; NULL: anywhere.
 * MAP_FAILED and errno on failure.
 */
void *mp_map_lazily(void *at, uint64_t bytes, int flags, int fd);

/* Link of /proc/self/exe into exe[0..n), NUL-terminated; empty when unknown. */
void mp_read_exe(char *exe, size_t n);

#endif
