/*
 * say.h - what the sampler says by itself: one line on the program's standard error, for whoever asked for a capture
 * from its start.
 *
 * `exe` is the program's path. Threads: INIT; one caller at a time.
 */
#ifndef MP_SAY_H
#define MP_SAY_H

#include <stdbool.h>

/* Nothing is captured, because of `why`. */
void mp_say_unprofiled(const char *exe, const char *why);

/* Nothing is captured: `first`, or the program itself, gets the calls of malloc. */
void mp_say_shadowed(const char *exe, const char *first, bool in_program);

/* There is no segment in `folder`, because of `why`. */
void mp_say_no_capture(const char *exe, const char *folder, const char *why);

/* The segment is at `path`, since `folder` has no private place for it. */
void mp_say_other_folder(const char *exe, const char *folder, const char *path);

#endif
