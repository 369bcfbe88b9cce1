/*
 * unwind_libgcc.h - the whole stack by _Unwind_Backtrace of a libgcc that the program has loaded.
 */
#ifndef MP_UNWIND_LIBGCC_H
#define MP_UNWIND_LIBGCC_H

#include "unwind.h"

/* INIT. 0, or -ENOENT where none is loaded. `find_symbol` as in mp_unwind_config. */
int mp_libgcc_init(void *(*find_symbol)(const char *name));

/* HOOK. As mp_unwind(). */
unsigned mp_libgcc_unwind(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                          struct mp_unwind_result *result);

#endif
