/*
 * filter_watch.h - notice that the program is about to set a seccomp filter, to make itself
 * undumpable, or to drop rights that a fork child needs to make its segment (core/pending.h).
 *
 * Model: a filter may kill for any system call that the program did not make before, so from then on no
 * hook may make one (MP_FLAG_SECCOMP). A controller sees a filter in /proc only at its next
 * reading, which is too late for hooks, and there may be no controller. So the sampler redirects
 * the program's calls of prctl and syscall, which set filters (libseccomp's too), to wrappers that
 * check the number, set the flag, and forward. They do not notice a filter that the program sets by
 * a system call instruction of its own, or that a library opened later sets.
 *
 * The same calls show that the program makes itself undumpable (PR_SET_DUMPABLE), which a capture
 * respects: the segment would show other processes of the user data that the kernel hides from them.
 */
#ifndef MP_FILTER_WATCH_H
#define MP_FILTER_WATCH_H

#include "redirect/got_slots.h"

/* INIT. Redirect the calls of all modules loaded now, where that is possible. `undumpable` (HOOK) is
 * called before the program makes itself undumpable. */
void mp_filter_watch_install(void (*undumpable)(void));

/* INIT. The set that mp_filter_watch_install() redirects, made at the first call; NULL if nothing
 * can be redirected. */
const struct mp_slot_table *mp_filter_watch_table(void (*undumpable)(void));

#endif
