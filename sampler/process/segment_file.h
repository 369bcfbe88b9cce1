/*
 * segment_file.h - make, size and remove this process's segment file.
 *
 * All functions are INIT: they run in the constructor, the destructor, the thread of an attach, or the
 * atfork handler of a followed child, one at a time. They use system calls directly, so that they need no
 * symbol newer than the oldest supported C library, and keep large data in static memory: a thread that
 * forks may have 16 KiB of stack, most of it in use.
 */
#ifndef MP_SEGMENT_FILE_H
#define MP_SEGMENT_FILE_H

#include "core/table.h"
#include "options.h"
#include "segment_folder.h"
#include "segment_place.h"

#define MP_SEGMENT_PATH_MAX 384

/* The file of a segment. */
struct mp_segment_file {
    int fd; /* the caller closes it */
    bool other_folder; /* as struct mp_segment_folder */
    uint32_t folder_length;
    uint64_t device;
    uint64_t inode;
    uint64_t mapped_bytes;
    char path[MP_SEGMENT_PATH_MAX];
};

/*
 * Create FOLDER/<pid>-<start ticks>-<n> with the smallest free n in this user's folder
 * (segment_folder.h), lay its tables out and map it, at `place`, whose size bounds it too. Also tidies that folder
 * (segment_room.h). `captures`: a capture begins at once. 0, and *seg and *file are filled; or -errno, and no
 * segment remains.
 *
 * The size is the smallest of the option, 1/4 of the free space but no less than 8 MiB, 1/16 of the memory limit of
 * the process's control groups (1/4 where the option is set), mp_space_share_bytes(), the limit of file sizes, and for
 * a capture what the bound of all segments leaves; below MP_LIMIT_MIN_BYTES there is no segment.
 */
int mp_segment_create(const struct mp_options *options, const char *exe, struct mp_segment *seg,
                      struct mp_segment_file *file, const struct mp_segment_place *place,
                      bool captures);

/* INIT. How much of the address space that the process may still map (ulimit -v) a segment takes at most: 1/16, or 1/4
 * where the option is set. */
uint64_t mp_space_share_bytes(const struct mp_options *options);

/* One phrase about the latest failure of mp_segment_create(), which returned `rc`. */
const char *mp_segment_why(int rc);

/* Remove the file if it holds no capture, or its last capture has been saved. */
void mp_segment_discard_unused(const struct mp_segment *seg, const struct mp_segment_file *file);

/*
 * INIT. As mmap() with PROT_READ|PROT_WRITE, but without pages beforehand, even in a process that locked
 * all its future memory. `at`: replace the mapping there, at once for all threads; NULL: anywhere.
 * MAP_FAILED and errno on failure.
 */
void *mp_map_lazily(void *at, uint64_t bytes, int flags, int fd);

/* A seccomp filter is or may be in force already: hooks must make no system call. */
bool mp_is_filtered(void);

/* What of this process is resident. */
struct mp_resident mp_resident_now(void);

/* Link of /proc/self/exe into exe[0..n), NUL-terminated; empty when unknown. */
void mp_read_exe(char *exe, size_t n);

#endif
