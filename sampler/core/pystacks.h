/*
 * pystacks.h - the Python stack on top of a native one: its frames in the segment, and the pair.
 *
 * Model: python/frames.h walks the interpreter's frames. Here each frame becomes a record under the record of
 * its caller (MP_STACK_PYTHON_FRAME), so that stacks share what they have in common, and a changed innermost
 * line costs one look-up. Functions are records too, found again through a table of code objects. The id of
 * the innermost frame and that of the native stack make a pair, whose record is the id of the sample's stack.
 * Native stacks stay what they are: known.h recognises them whatever Python does.
 *
 * What a thread walked last, and the walk itself, are in a scratch buffer (scratch.h); nearly always the thread
 * gets the same one again. The table of code objects and the last pairs are in `mp_local`; each entry is
 * written under an odd version, as in known.h. A fork child finds all of it empty.
 *
 * Losses: where frames make no sense, are too many, or find no room, the stack has what could be read, or only
 * its native frames, and lost[MP_LOST_PYTHON] counts it.
 *
 * Threads: any, HOOK, under a guard.
 */
#ifndef MP_PYSTACKS_H
#define MP_PYSTACKS_H

#include "python/frames.h"
#include "table.h"

#define MP_PY_CODES 8192 /* entries of 56 bytes */
#define MP_PY_PAIRS 8192 /* of 24 bytes */

/* In a scratch buffer. */
struct mp_pywalk {
    uintptr_t thread; /* whose last stack the memo has; 0: nobody's */
    uint32_t epoch;   /* of the segment to which its nodes belong */
    struct mp_py_memo memo;
    struct mp_py_walk walk;
};

struct mp_pycode {
    uint32_t version; /* odd: being written */
    uint32_t record;
    uintptr_t code;
    uintptr_t id[MP_PY_ID_WORDS];
    uint32_t epoch;
};

struct mp_pypair {
    uint32_t version; /* odd: being written */
    uint32_t record;
    uint32_t native, python;
    uint32_t epoch;
};

struct mp_pystacks {
    struct mp_pycode code[MP_PY_CODES];
    struct mp_pypair pair[MP_PY_PAIRS];
};

struct mp_guard;

/* HOOK. Id of the native stack `native` together with the calling thread's Python stack; `native` itself where
 * there is none. */
uint32_t mp_pystack_pair(struct mp_segment *seg, uint32_t native, const struct mp_guard *guard,
                         uint64_t *lost);

#endif
