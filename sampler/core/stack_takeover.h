/*
 * stack_takeover.h - store a stack of the parent's segment in that of a fork child.
 *
 * Model: records of an arena are only ever appended, so the parent's mapping, which a child keeps, has each record that
 * it had at the fork; but its file may have been cut since, so all is read by system calls that cannot fault. What a
 * record refers to is stored before it.
 *
 * Threads: HOOK, one at a time, under a guard.
 */
#ifndef MP_STACK_TAKEOVER_H
#define MP_STACK_TAKEOVER_H

#include "scratch.h"
#include "table.h"

/* Before the first stack of `from` for `seg`. */
void mp_takeover_begin(struct mp_segment *seg, const struct mp_segment *from);

/* Its id in `seg`, or an enum mp_stack_lost value: it cannot be read, there is no room, or a library was closed in the
 * parent since it was stored. */
uint32_t mp_takeover(uint32_t id, struct mp_scratch *scratch);

#endif
