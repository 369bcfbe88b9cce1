/*
 * pylabels.h - labels of stacks: the user-given names of the running thread and task.
 *
 * Model: a label is a record in the arena; a task's label is a child of its thread's. The pair of a
 * stack names the innermost label, so stacks stay the identity of sites. Default names get no
 * labels, or share one. A capture has at most MP_PYTHON_LABELS names of a kind; all others are one
 * label of it ("other tasks"), and lost[MP_LOST_LABEL] counts their samples. A name that cannot be
 * read gets no label.
 *
 * A thread's latest labels are cached in its scratch buffer by a hash of the name, so an unchanged
 * name costs only reading it. Without the GIL, another thread may be replacing a name, so a thread
 * keeps its last label and tasks get none.
 *
 * Threads: any, HOOK, under a guard. `mp_local` has the names of the capture, as a set of hashes that grows by one
 * compare-and-swap each; the first thread to see a new capture empties it. A name that another
 * thread adds meanwhile may count twice.
 */
#ifndef MP_PYLABELS_H
#define MP_PYLABELS_H

#include "python/thread_labels.h"
#include "table.h"

#define MP_PY_LABEL_ROWS 64
#define MP_PY_LABEL_NAMES 1024 /* four times as many as there may be */

struct mp_pylabel {
    uint64_t key; /* hash of the name; 0: empty */
    uint32_t record; /* 0: the name gets no label */
    uint32_t is_other; /* it is one of the "other" names */
};

/* In a scratch buffer. */
struct mp_pylabels {
    uint64_t stamp; /* of the capture to which the records belong */
    uint32_t thread; /* id id of the thread's last label... */
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

/* Frames of the calling thread that identify its thread and task; 0 if there is none. */
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
