/*
 * runtime.h - the CPython interpreters of this process, and what each keeps for the calling thread.
 *
 * Model: a module that defines `_PyRuntime` is an interpreter. The sampler meets a module when a stack first
 * runs through it, reads its symbols, and checks what the version's layout says about three type objects.
 * There may be several (embedding programs with private copies); each has a key of its own for thread states.
 *
 * The state of a thread is the one that its interpreter bound to the thread, also while the thread does not
 * hold the GIL: read with pthread_getspecific(), which takes no lock and allocates nothing. A state that names
 * another thread is nobody's.
 *
 * Threads: HOOK, any. A row is complete before `ready` is stored with release; the acquire load of it pairs
 * with that. A module that was closed takes its row with it.
 */
#ifndef MP_PY_RUNTIME_H
#define MP_PY_RUNTIME_H

#include "abi/atomics.h"
#include "layout.h"

#include <link.h>

#define MP_PY_RUNTIMES 4

struct mp_py_runtime {
    uint32_t ready; /* 0: the row is free, 1: a thread is filling it, 2: in use */
    uint32_t alive; /* its key was there when a thread looked last; nobody relies on it */
    uintptr_t module_start;
    uintptr_t state; /* _PyRuntime */
    uintptr_t code_type, text_type, bytes_type;
    /* the interpreter's slot of pthread_getspecific(): ours of another namespace (dlmopen) would take its
     * values for old ones, and clear them */
    const uintptr_t *getspecific;
    const uintptr_t *finalizing; /* not 0: the thread state that ends the interpreter */
    const struct mp_py_layout *layout;
};

extern struct mp_py_runtime mp_py_runtimes[MP_PY_RUNTIMES];
extern uint32_t
    mp_py_beginnings; /* moves when an interpreter begins: numbers that it gave begin again too */
extern uint32_t mp_py_met; /* a runtime was found in this process */

typedef void *mp_py_getspecific(unsigned key);

/* INIT. The C library's pthread_getspecific; NULL: no Python frames are read. We do not link it, since it lived
 * in another library before glibc 2.34. */
void mp_py_init(mp_py_getspecific *getspecific);

/* HOOK. A stack ran through this module for the first time. */
void mp_py_meet(uintptr_t module_start, uintptr_t bias, const ElfW(Phdr) * phdr, unsigned phdrs);

/* HOOK. An interpreter is beginning. */
void mp_py_begins(void);

/* HOOK. The module that began there was closed. */
void mp_py_leave(uintptr_t module_start);

/* HOOK. Has any stack run through an interpreter? One load: all that a program without Python pays. */
static inline bool mp_py_present(void) {
    return mp_load_relaxed(&mp_py_met) != 0;
}

/* HOOK. The state of the calling thread, and whose it is; 0: it has none. */
uintptr_t mp_py_thread_state(const struct mp_py_runtime **whose);

#endif
