/*
 * pystacks.h - the Python stack on top of a native one: its frames in the segment, and the pair.
 *
 * Model: python/frames.h walks the interpreter's frames. Here each frame becomes a record under the record of
 * its caller (MP_STACK_PYTHON_FRAME), so that stacks share what they have in common, and a changed innermost
 * line costs one look-up, nearly always in a table of the last frames, which stays in the cache where the segment's
 * index does not. Functions are records too, found again through a table of code objects. The id of
 * the innermost frame and that of the native stack make a pair, whose record is the id of the sample's stack. A
 * pair also names the label of its thread and task (pylabels.h), if they have one.
 * Native stacks do not change, so stack_cache.h recognises them whatever Python does.
 *
 * A thread's last walk and its pair are in a scratch buffer (scratch.h); the thread nearly always
 * gets the same buffer again. The table of code objects, the last frames and the last pairs are in
 * `mp_local`; each entry is written under a version (seqlock.h). A fork child finds all of it
 * empty.
 *
 * Losses: where frames are invalid, too many, or do not fit, the stack keeps the frames that could
 * be read, or only its native ones, and lost[MP_LOST_PYTHON] counts it.
 *
 * Threads: any, HOOK, under a guard.
 */
#ifndef MP_PYSTACKS_H
#define MP_PYSTACKS_H

#include "pylabels.h"
#include "python/frames.h"
#include "table.h"

#define MP_PY_CODES 8192 /* entries of 56 bytes */
#define MP_PY_PAIRS 8192 /* of 24 bytes */
#define MP_PY_NODES 16384 /* of 24 bytes */

/* In a scratch buffer. */
struct mp_pywalk {
    uintptr_t thread; /* owner of the stack in the memo; 0: none */
    uintptr_t state;  /* of the thread, in the interpreter whose frames these are */
    uint32_t epoch;   /* of the segment to which its nodes belong */
    uint32_t native, innermost, label, pair; /* ids of the last pair; pair 0: no pair yet */
    struct mp_py_memo memo;
    struct mp_py_walk walk;
    struct mp_py_owners owners; /* of this walk */
    struct mp_pylabels labels;
};

struct mp_pycode {
    uint32_t version; /* odd: being written */
    uint32_t record;
    uintptr_t code;
    struct mp_py_identity id;
    uint32_t epoch;
    uint32_t role; /* enum mp_py_role */
};

struct mp_pypair {
    uint32_t version; /* odd: being written */
    uint32_t record;
    uint32_t native, python, label;
    uint32_t epoch;
};

/* A frame below its caller. */
struct mp_pynode {
    uint32_t version; /* odd: being written */
    uint32_t record;
    uint32_t caller, code, unit;
    uint32_t epoch_entry; /* the epoch << 1 | is it an entry from C */
};

struct mp_pystacks {
    struct mp_pycode code[MP_PY_CODES];
    struct mp_pypair pair[MP_PY_PAIRS];
    struct mp_pynode node[MP_PY_NODES];
};

struct mp_guard;

/* HOOK. Id of the native stack `native` together with the calling thread's Python stack; `native` itself where
 * there is none. */
uint32_t mp_pystack_pair(struct mp_segment *seg, uint32_t native, const struct mp_guard *guard,
                         uint64_t *lost);

#endif
