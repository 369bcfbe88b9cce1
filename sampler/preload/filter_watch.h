/*
 * filter_watch.h - notice that the program is about to put itself under a seccomp filter, or out of others' sight.
 *
 * Model: a filter may kill for any system call that the program did not make before, so from then
 * on no hook may make one (MP_FLAG_SECCOMP). A controller sees a filter in /proc at its next look;
 * nothing else could tell the hooks of a process that has none, or in time. So the program's calls
 * of prctl and syscall, through which filters are set (libseccomp's too), are redirected to stand-
 * ins that look at the number, set the flag, and forward. A filter set by a system call instruction
 * of the program's own, or by a library opened later, is not noticed here.
 *
 * The same calls tell that the program makes itself undumpable (PR_SET_DUMPABLE), which a capture respects: the
 * segment would show other processes of the user what the kernel hides from them.
 */
#ifndef MP_FILTER_WATCH_H
#define MP_FILTER_WATCH_H

#include "redirect/slots.h"

/* INIT. Redirect the calls of all modules loaded now; what cannot be redirected is left alone.
 * `undumpable` (HOOK) is called before the program makes itself undumpable. */
void mp_filter_watch_install(void (*undumpable)(void));

/* INIT. What mp_filter_watch_install() redirects, made at the first call; NULL: nothing can be. Redirect its
 * slots only when it came from here. */
const struct mp_slot_table *mp_filter_watch_table(void (*undumpable)(void));

#endif
