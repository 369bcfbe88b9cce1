/*
 * hooks.h - the exported malloc family and the real functions behind it.
 */
#ifndef MP_HOOKS_H
#define MP_HOOKS_H

#include "real.h"

/* The functions underneath. Before mp_hooks_resolve() they look themselves up at their
 * first call. */
extern struct mp_real mp_real;

/* INIT. Look the real functions up now. Calls no allocator and no dlsym. */
void mp_hooks_resolve(void);

/* INIT, in a process that the library was put into: the same, by mp_real_resolve_late(). 0 or -ENOENT. */
int mp_hooks_resolve_late(void);

/* INIT. Tell record.h the address of each hook: frame 0 of its stacks. */
void mp_hooks_name_frames(void);

#endif
