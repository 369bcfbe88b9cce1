/*
 * runtime.h - the CPython interpreters of this process, and what each keeps for the calling thread.
 *
 * Model: a module that defines `_PyRuntime` is an interpreter. The sampler meets a module when a stack first
 * runs through it, reads its symbols, and checks what the version's layout says about three type objects.
 * There may be several (embedding programs with private copies); each has a key of its own for thread states. From
 * then on the ends of its code objects are counted (code_lifetime.h).
 *
 * The state of a thread is the one that its interpreter bound to the thread, also while the thread does not
 * hold the GIL: read with pthread_getspecific(), which takes no lock and allocates nothing, and from 3.15 in a thread-local
 * variable (tls.h). A state that names another thread is nobody's.
 *
 * Subinterpreters: from 3.12 the bound state is that of the interpreter which the thread is in, or was in last. To 3.11
 * it stays that of the first, and the runtime names the state that holds the GIL. Whose that is only the state itself
 * says, which may be another thread's and gone by now: where there are several interpreters, its id is copied
 * by a system call that cannot fault. A thread of such an inner interpreter that lets go of the GIL has the
 * frames of its outer one.
 *
 * Where a program has several CPythons, a thread may have a state of each. One that is attached goes first: that
 * which runs, or which called what runs.
 *
 * Threads: HOOK, any. A row is complete before `ready` is stored with release; the acquire load of it pairs
 * with that. A module that was closed takes its row with it.
 */
#ifndef MP_PY_RUNTIME_H
#define MP_PY_RUNTIME_H

#include "abi/atomics.h"
#include "code_lifetime.h"
#include "layout.h"
#include "tls.h"

#include <link.h>

#define MP_PY_RUNTIMES 4

struct mp_py_runtime {
    uint32_t ready; /* 0: the row is free, 1: a thread is filling it, 2: in use */
    uint32_t alive; /* its key was there when a thread looked last; nobody relies on it */
    uintptr_t module_start;
    uintptr_t state; /* _PyRuntime */
    uintptr_t code_type, text_type, bytes_type;
    struct mp_py_dealloc *dealloc; /* of code objects */
    /* the interpreter's slot of pthread_getspecific(): ours of another namespace (dlmopen) would take its
     * values for old ones, and clear them */
    const uintptr_t *getspecific;
    const uintptr_t *finalizing; /* not 0: the thread state that ends the interpreter */
    const struct mp_py_layout *layout;
    struct mp_py_layout own; /* where no layout of the table is that of the interpreter */
    struct mp_py_tls bound,
        attached; /* variables of a thread; `bound` from 3.15, `attached` from 3.12 */
    uint64_t made; /* how many interpreters there were when a thread looked last */
    uint32_t ended; /* it ended once: another thread's bound state may be one of that life */
};

extern struct mp_py_runtime mp_py_runtimes[MP_PY_RUNTIMES];
extern uint32_t
    mp_py_beginnings; /* moves when an interpreter begins: numbers that it gave begin again too */
extern uint32_t mp_py_met; /* a runtime was found in this process */
/* 1 + the minor version of an interpreter that is read by what it says itself, and of one that cannot be read, 1
 * if that has none; 0: there was none. */
extern uint32_t mp_py_unlisted, mp_py_unread;

typedef void *mp_py_getspecific(unsigned key);

/* INIT. The C library's pthread_getspecific; NULL: no Python frames are read. We do not link it, since it lived
 * in another library before glibc 2.34. */
void mp_py_init(mp_py_getspecific *getspecific);

/* HOOK. A stack ran through this module for the first time in this segment. */
void mp_py_meet(uintptr_t module_start, uintptr_t bias, const ElfW(Phdr) * phdr, unsigned phdrs);

/* HOOK. An interpreter is beginning. */
void mp_py_begins(void);

/* HOOK. The module that began there was closed. */
void mp_py_leave(uintptr_t module_start);

/* INIT. Leave the interpreters as they were found: ends of their code objects are not counted until a stack runs
 * through them in another segment. */
void mp_py_withdraw(void);

/* HOOK. Has any stack run through an interpreter? One load: all that a program without Python pays. */
static inline bool mp_py_present(void) {
    return mp_load_relaxed(&mp_py_met) != 0;
}

/* HOOK. The state of the calling thread, and whose it is; 0: it has none. */
uintptr_t mp_py_thread_state(const struct mp_py_runtime **whose);

#endif
