/*
 * remote_unwind.h - the callers of a stopped thread, from outside.
 *
 * Model: this code copies the call frame information of modules out of the target's memory, so that
 * deleted files and other mount namespaces make no difference; the sampler's own reader (unwind/cfi.h)
 * works on the copy. Saved registers come from the thread's stack. A stopped thread must not wait for
 * copies of megabytes: mp_remote_unwind_prepare() makes them before, and an unwinding that meets a module
 * without a copy ends there and leaves it to the next preparation.
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
    struct mp_remote_image *images; /* one for each module */
    uint64_t room;                  /* bytes of tables that may still be copied */
    uint64_t wanted;                /* a module that the last unwinding needed; count: none */
};

/* 0, or -ENOMEM. */
int mp_remote_unwind_open(struct mp_remote_unwind *u, int pid,
                          const struct mp_inject_module *modules, uint64_t count);
void mp_remote_unwind_close(struct mp_remote_unwind *u);

/* Copy the tables of the module that is wanted, and of all others that there is room for. */
void mp_remote_unwind_prepare(struct mp_remote_unwind *u);

/*
 * Fill frames[0..max) with code addresses, innermost first; subtracts one from return addresses, so each
 * is inside its function. *complete: the outermost frame was reached. *unprepared: it ended at a module
 * whose tables are not copied yet.
 */
unsigned mp_remote_unwind(struct mp_remote_unwind *u, const struct mp_regs *regs, uint64_t *frames,
                          unsigned max, bool *complete, bool *unprepared);

#endif
