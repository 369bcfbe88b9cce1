/*
 * segment_folder.h - the private folder of this user's segments.
 *
 * Model: its name is DIR/mem_profiler.UID, and the sampler uses it only if it belongs to this user and
 * nobody else may enter it. Everybody can make folders in DIR, so another user may have taken the name;
 * then the sampler uses a folder DIR/mem_profiler.UID.<16 hex digits>, an existing one if there is one.
 * Where DIR itself cannot be used, because it is not there or not this user's to write, /dev/shm takes
 * its place.
 *
 * Every look-up is below an open folder, and follows no link at the end.
 *
 * Threads: INIT, one caller at a time.
 */
#ifndef MP_SEGMENT_FOLDER_H
#define MP_SEGMENT_FOLDER_H

#include <stdbool.h>

#define MP_FOLDER_DEFAULT "/dev/shm"
#define MP_FOLDER_PATH_MAX 300

struct mp_segment_folder {
    int fd;
    bool other; /* not DIR/mem_profiler.UID */
    char path[MP_FOLDER_PATH_MAX];
};

/* Open the folder, making it where there is none. 0, and the caller closes folder->fd, or -errno. */
int mp_segment_folder_open(struct mp_segment_folder *folder, const char *dir);

/* Open one that mp_segment_folder_open() returned earlier; a descriptor, or -errno if it is not the user's own any
 * more. */
int mp_segment_folder_again(const char *path);

#endif
