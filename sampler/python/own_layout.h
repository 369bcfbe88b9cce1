/*
 * own_layout.h - the layout that an interpreter tells itself.
 *
 * Model: from 3.13 the runtime begins with a cookie, its version, and the offsets that debuggers need
 * (_Py_DebugOffsets). Of a version in the table they must agree with the table; an interpreter whose structures were
 * changed is read by what it says. So is a version that is newer than the table, if its offsets are where the newest known
 * one has them and make sense: each inside its structure, aligned, of a plausible size. What they do not say (kinds of
 * frames, bits of a text's state) is as in the newest known version; versions of code are not used.
 *
 * Threads: HOOK. Reads the runtime, which is data of a module.
 */
#ifndef MP_PY_OWN_LAYOUT_H
#define MP_PY_OWN_LAYOUT_H

#include "layout.h"

#include <stddef.h>

#define MP_PY_OWN_SINCE 13 /* minor version */

/* HOOK. Is the head of a runtime, of which `bytes` are readable, that of 3.`minor`? Then whether it is free-threaded. */
bool mp_py_own_head(const void *runtime, size_t bytes, unsigned minor, bool *free_threaded);

/*
 * HOOK. Fill `own` with the layout of such a runtime; `like` is the table's, of the same version or the newest. False: the
 * offsets make no sense, or not enough is known.
 */
bool mp_py_own_layout(const void *runtime, size_t bytes, const struct mp_py_layout *like,
                      unsigned minor, struct mp_py_layout *own);

/* HOOK. Do the two say the same of all that a runtime tells? */
bool mp_py_own_agrees(const struct mp_py_layout *own, const struct mp_py_layout *like);

#endif
