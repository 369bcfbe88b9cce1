/*
 * identity.h - is a code object the one that was at its address before?
 *
 * Model: while the ends of code objects are counted (code_lifetime.h), the count at its address tells. Else its content does:
 * two of its pointers, first line, what its name and file say, and from 3.12 its version; before, also the first part of
 * its table of lines: addresses are reused, with the same texts behind them. A version is unique until the
 * interpreter begins again, and is then all that is compared; who keeps identities for longer asks mp_py_beginnings.
 *
 * An identity of one way is never equal to one of the other: a code object has a table of lines.
 *
 * Threads: HOOK. The code object is that of a frame of the calling thread.
 */
#ifndef MP_PY_IDENTITY_H
#define MP_PY_IDENTITY_H

#include "code_lifetime.h"
#include "layout.h"

#define MP_PY_ID_WORDS 4

struct mp_py_identity {
    /* version, table of lines, name, hash of the content; or the count, and 0 */
    uintptr_t word[MP_PY_ID_WORDS];
};

/* HOOK. Identity of the code object, by the way that `counted` says. */
void mp_py_identify(const struct mp_py_layout *layout, uintptr_t code, bool counted,
                    struct mp_py_identity *id);

/* HOOK. Is it the one with that identity? */
bool mp_py_is_identical(const struct mp_py_layout *layout, uintptr_t code, bool counted,
                        const struct mp_py_identity *id);

#endif
