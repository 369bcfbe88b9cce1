/*
 * glob.h - does a name match a pattern? `*`, `?`, `[a-z]`, `[!a]` and `\\` as in fnmatch(3), by bytes.
 *
 * Threads: any; allocates nothing, and calls no other library.
 */
#ifndef MP_GLOB_H
#define MP_GLOB_H

#include <stdbool.h>

bool mp_glob_matches(const char *pattern, const char *name);

#endif
