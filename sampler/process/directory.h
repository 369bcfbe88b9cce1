/*
 * directory.h - list an open folder without allocating and with little stack.
 *
 * Threads: INIT, one caller at a time.
 */
#ifndef MP_DIRECTORY_H
#define MP_DIRECTORY_H

#include <stdbool.h>

/* Call visit(name, arg) for at most `most` entries of `fd`, from its present position, until it returns true.
 * It may not call this function. A full buffer of entries is visited whole. Returns true at the end of the
 * directory. */
bool mp_directory_each(int fd, unsigned most, bool (*visit)(const char *name, void *arg),
                       void *arg);

#endif
