/*
 * thread_labels.h - who runs the calling thread's Python frames: a thread and an asyncio task that somebody named.
 *
 * Model: two frames of the standard library have the owner as their first local. `Thread._bootstrap(self)` is the
 * outermost Python frame of a thread that `threading` started, and `Handle._run(self)` is further out than all frames of
 * a task's step: its handle has the callback, whose object is the task. Both are frames of this thread, so they say who
 * runs here without a look at other threads' data, and without a search for the thread's event loop.
 *
 * Names are objects that other threads may replace. So they are read only while this thread holds the GIL, which
 * its own thread state tells (to 3.11 the runtime): then all that a living frame leads to stays, and is whole. Each
 * object is what its type says before a word of it is read; a Task must have the size of the version's.
 *
 * Not read: builds without a GIL; tasks of loops that run them without asyncio's `Handle` (uvloop), and
 * of asyncio's Python implementation; names of greenlets, to which no frame leads.
 *
 * Threads: HOOK. A state and frames of the calling thread.
 */
#ifndef MP_PY_OWNERS_H
#define MP_PY_OWNERS_H

#include "abi/segment.h"
#include "runtime.h"

/* What the frames of a function tell. */
enum mp_py_role {
    MP_PY_ROLE_NONE = 0,
    MP_PY_ROLE_THREAD = MP_LABEL_THREAD, /* its first local is a threading.Thread */
    MP_PY_ROLE_TASK = MP_LABEL_TASK,     /* its first local is a handle of asyncio */
};

/* A type that was found to be what it must be: the same object with the same name is it again. */
struct mp_py_type_seen {
    uintptr_t type;
    uintptr_t name;
};

/* What a thread found last, so that it need not be looked for again. All of it belongs to one interpreter. */
struct mp_py_owners_seen {
    struct mp_py_type_seen thread, handle, wrapper, method, task;
    uintptr_t wakeup; /* definition of the built-in function that wakes tasks */
    /* The attribute of `object`, of the type `thread`, is at `slot` as long as the word at `watch`, which is in the
     * object, is `value`. */
    struct {
        uintptr_t object, watch, value, slot;
    } name;
};

/* HOOK. The role of a function by its record. */
enum mp_py_role mp_py_role_of(const struct mp_python_code *record);

/* HOOK. Does the calling thread, whose state this is, hold the GIL? False where nobody knows. */
bool mp_py_holds_gil(const struct mp_py_runtime *r, uintptr_t state);

/* HOOK, with the GIL. The name of the owner to which a frame of that role leads, mostly a str; 0: it has none. */
uintptr_t mp_py_owner_name(const struct mp_py_runtime *r, struct mp_py_owners_seen *seen,
                           enum mp_py_role role, uintptr_t frame);

/* HOOK. Cut what is a number and not a name from the name of a thread or task, in place: "Thread-3 (work)" becomes
 * "Thread (work)". Returns the bytes that are left; 0: none. */
uint16_t mp_py_name_proper(enum mp_py_role role, char *name, uint16_t bytes);

#endif
