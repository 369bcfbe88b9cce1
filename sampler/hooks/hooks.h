/*
 * hooks.h - the exported malloc family and the real functions behind it.
 */
#ifndef MP_HOOKS_H
#define MP_HOOKS_H

#include "real.h"

/* The real functions. The first call of a hook looks them up, runs the MP_AT_FIRST_CALL functions,
 * and is then treated like any other. */
extern struct mp_real mp_real;

/*
 * `function` (INIT) runs inside the first call of a hook: possibly before any constructor of a library, also of
 * the C library, and inside the loader. It must not call into another library, and keeps errno.
 * Calls of other threads do not wait for it.
 */
#define MP_AT_FIRST_CALL(function)                                                                 \
    static void (*const first_call_##function)(void)                                               \
        __attribute__((used, section("mp_first_call"))) = (function)

/* INIT. Look the real functions up now. Calls no allocator and no dlsym. */
void mp_hooks_resolve(void);

/* INIT, in a process into which the library was injected: the same, by mp_real_resolve_late(). 0 or
 * -ENOENT. */
int mp_hooks_resolve_late(void);

/* INIT. Tell record.h the address of each hook: frame 0 of its stacks. */
void mp_hooks_name_frames(void);

#endif
