/*
 * startup.h - the sampler's life in a process that opens the library while it runs.
 *
 * Model: the constructor of a library opened through /proc does nothing; these functions, in this order,
 * do its work instead: open, ready, close; and again. Segments follow each other at one place of the
 * address space, which holds empty private pages after a detach: a thread that is still inside a hook
 * writes there and harms nobody. Once no thread is inside, all but the first page are unmapped.
 *
 * A preloaded sampler may be behind the program's own malloc and so see no call. Its segment only
 * reports that; an attach, which redirects the program's functions here, replaces it, and the close
 * restores it.
 *
 * Capture numbers go on from one segment to the next, so that no countdown drawn for an earlier capture
 * counts in a later one.
 *
 * Threads: INIT; one caller at a time. All other threads run, also inside hooks.
 */
#ifndef MP_STARTUP_H
#define MP_STARTUP_H

#include "options.h"

/*
 * HOOK. The program is about to make itself undumpable, readable by root alone. Ends a running
 * capture, and prevents further ones, in this process or its fork children.
 */
void mp_startup_withdraw(void);

/* Has the constructor started the sampler, as in a preloaded library? */
bool mp_startup_by_constructor(void);

/* And is this a fork child of such a process: all calls come here, but it has no segment? */
bool mp_startup_is_orphan(void);

/* Is the program's own malloc before a preloaded sampler, in this process or in the parent that it was forked from? */
bool mp_startup_is_behind_program(void);

/*
 * Make the segment, in state STARTING. Modules named in it say `installed_path` for our own, unless that is
 * empty; both strings stay. 0 or -errno with one line in text[0..n), and nothing has changed.
 */
int mp_startup_late_open(const struct mp_options *options, const char *installed_path, char *text,
                         size_t n);

/* All slots point here: allow captures. */
void mp_startup_late_ready(void);

/* End a running capture and prevent further ones: hooks only forward from now on. */
void mp_startup_late_shut(void);

/* Release the segment, after mp_startup_late_shut(). Removes its file unless it holds a capture that is
 * in no file yet. Gives the segment's address space back, but for one page that the hooks' common path reads; where
 * a thread may still use it, all of it stays. Returns one line about that, or NULL. */
const char *mp_startup_late_close(void);

#endif
