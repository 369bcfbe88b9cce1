/*
 * remote_unwind.h - the callers of a stopped thread, from outside.
 *
 * Model: this code copies the call frame information of a module out of the target's memory at the first
 * need, so that deleted files and other mount namespaces make no difference; the sampler's own reader
 * (unwind/cfi.h) works on the copy. Saved registers come from the thread's stack.
 */
#ifndef MP_INJECT_REMOTE_UNWIND_H
#define MP_INJECT_REMOTE_UNWIND_H

#include "inject.h"
#include "remote.h"

#include <stdbool.h>
#include <stdint.h>

struct mp_remote_unwind {
    int pid;
    const struct mp_inject_module *modules;
    uint64_t count;
    struct mp_remote_image *images; /* one for each module, made when needed */
};

/* 0, or -ENOMEM. */
int mp_remote_unwind_open(struct mp_remote_unwind *u, int pid,
                          const struct mp_inject_module *modules, uint64_t count);
void mp_remote_unwind_close(struct mp_remote_unwind *u);

/* Copy the tables of as many modules as is reasonable now, before any thread must wait. */
void mp_remote_unwind_prepare(struct mp_remote_unwind *u);

/*
 * Fill frames[0..max) with code addresses, innermost first; subtracts one from return addresses, so each
 * is inside its function. *complete: the outermost frame was reached.
 */
unsigned mp_remote_unwind(struct mp_remote_unwind *u, const struct mp_regs *regs, uint64_t *frames,
                          unsigned max, bool *complete);

#endif
