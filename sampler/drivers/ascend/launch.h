/*
 * launch.h - Ascend: what the wrappers of launches share; the names of functions and operators, by the handles that
 * programs launch them with.
 *
 * Model: a table of fixed size, without a lock. A key is a handle and what kind it is, a value the id of a text of
 * the arena (device/launches.h) in one segment. A new name of a handle replaces the old one; keys
 * stay.
 *
 * Threads: HOOK. A handle is named before it is launched; if two threads name it at once, either
 * name is right.
 */
#ifndef MP_ASCEND_LAUNCH_H
#define MP_ASCEND_LAUNCH_H

#include <stdint.h>

enum mp_handle_kind {
    MP_HANDLE_FUNCTION = 1, /* of a kernel */
    MP_HANDLE_OPERATOR,     /* of a library of operators: its name... */
    MP_HANDLE_PATH,         /* ...and its path there */
};

/* Set the text `id` of the handle (0: none). A full table drops it. */
void mp_handle_name(enum mp_handle_kind kind, const void *handle, uint32_t id);

/* 0: unknown, or named in another segment. */
uint32_t mp_handle_text(enum mp_handle_kind kind, const void *handle);

/* HOOK, outside of the sampler's guard: asks the runtime; errno preserved. The device of the calling thread; -1: unknown. */
int mp_ascend_device(void);

#endif
