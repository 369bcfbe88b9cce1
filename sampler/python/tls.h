/*
 * tls.h - read a thread-local variable of another module, for the calling thread.
 *
 * Model: tls_code.h tells the variable from a function that returns it; what the code leads to (slots, pairs,
 * descriptors) counts only where the loader filled it in, which the module's relocations say. Nearly always the
 * variable is at one offset from the thread pointer in every thread. The block of a module that was opened later is
 * somewhere in memory: the thread's own vector (dtv) tells where, if it has one. An old vector may have the block of a
 * module that was closed and whose number this one got, so what is read there is uncertain, and it is copied
 * by a system call that cannot fault: such a variable is read only where hooks may make one.
 *
 * Limits: glibc's vectors; on aarch64 no variable of a module that was opened later and found no room beside the others.
 *
 * Threads: HOOK.
 */
#ifndef MP_PY_TLS_H
#define MP_PY_TLS_H

#include "redirect/elf_lookup.h"

enum mp_py_tls_kind {
    MP_PY_TLS_NOWHERE = 0, /* it was not found */
    MP_PY_TLS_FIXED,       /* `offset` behind the thread pointer */
    MP_PY_TLS_IN_BLOCK,    /* `offset` in the block of module number `module` */
};

struct mp_py_tls {
    uint32_t kind;
    int64_t offset;
    uintptr_t module;
};

/* HOOK. Where the variable is that `function` of the module returns. False: it was not found. */
bool mp_py_tls_find(const struct mp_elf *elf, const char *function, struct mp_py_tls *tls);

/* HOOK. The calling thread's word there; 0 also where the thread has none. Of MP_PY_TLS_IN_BLOCK it may be any word. */
uintptr_t mp_py_tls_read(const struct mp_py_tls *tls);

#endif
