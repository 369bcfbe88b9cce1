/*
 * pylabels.h - labels of stacks: the thread and the task that ran, by the names that people gave them.
 *
 * Model: a label is a record of the arena, a task's under that of its thread, and the pair of a stack names the
 * innermost one; so stacks stay the identity of sites. Default names make no labels, or one for all of them.
 * A capture has at most MP_PYTHON_LABELS names of a kind; all others are one label of it ("other tasks"), and
 * lost[MP_LOST_LABEL] counts their samples. A name that cannot be read leaves its label out.
 *
 * What a thread found last is in its scratch buffer, by a hash of the name: a name that is the same again costs
 * its reading. Without the GIL a thread has the label that it had last, and tasks have none: others may be replacing
 * the name.
 *
 * Threads: any, HOOK, under a guard. `mp_local` has the names of the capture, as a set of hashes that grows by one
 * compare-and-swap each; who finds that the capture is a new one empties it. A name that another thread adds
 * meanwhile may count twice.
 */
#ifndef MP_PYLABELS_H
#define MP_PYLABELS_H

#include "python/thread_labels.h"
#include "table.h"

#define MP_PY_LABEL_ROWS 64
#define MP_PY_LABEL_NAMES 1024 /* four times as many as there may be */

struct mp_pylabel {
    uint64_t key; /* of the name in its label; 0: empty */
    uint32_t record; /* 0: it makes no label */
    uint32_t is_other; /* it has none of its own */
};

/* In a scratch buffer. */
struct mp_pylabels {
    uint64_t stamp; /* of the capture to which the records belong */
    uint32_t thread; /* id of the label that the thread had last... */
    uint32_t row; /* ...and whose that is: 1 + row of the thread */
    struct mp_py_owners_seen seen;
    struct mp_pylabel known[MP_PY_LABEL_ROWS];
};

/* In `mp_local`. */
struct mp_pylabel_names {
    uint64_t stamp; /* of the capture that has these names */
    uint32_t count;
    uint64_t name[MP_PY_LABEL_NAMES];
};

/* Frames of the calling thread that say who runs; 0: none does. */
struct mp_py_owners {
    uintptr_t thread;
    uintptr_t task;
    bool whole; /* the outermost frame was seen, so that without `thread` there is no name */
};

/* HOOK. Id of the innermost label; 0: none. `words` has room for MP_PY_LABEL_WORDS. */
uint32_t mp_pylabel_of(struct mp_segment *seg, struct mp_pylabels *labels,
                       const struct mp_py_runtime *r, uintptr_t state,
                       const struct mp_py_owners *owners, uintptr_t *words, uint64_t *lost);

#define MP_PY_LABEL_WORDS ((sizeof(struct mp_python_label) + MP_PYTHON_LABEL_BYTES) / 8)

#endif
