/*
 * stack_range.h - the readable part of the stack around an address.
 *
 * Model: a stack pointer is in the block of the calling thread (glibc keeps its bounds in the thread
 * descriptor), in the main thread's stack (known since start-up), or it is foreign: a coroutine, a signal
 * stack, memory of unknown extent. The first two are mapped up to their top as long as the thread lives.
 * A foreign stack is readable up to the end of the page in use; a system call that cannot succeed probes
 * each further page, if the configuration allows system calls.
 */
#ifndef MP_STACK_RANGE_H
#define MP_STACK_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_stack_range {
    uintptr_t low;  /* no read below: stack pointer when the range was made */
    uintptr_t high; /* no read at or above */
    bool foreign;   /* `high` may grow by mp_stack_extend() */
    uint8_t probes; /* left */
};

/* INIT. `may_probe` as in struct mp_unwind_config. */
void mp_stack_init(bool (*may_probe)(void));

/* INIT. Part of mp_stack_init(): find the bounds in the thread descriptor. */
void mp_stack_find_threads(void);

/*
 * HOOK. The range that holds `sp`. `in_use`: the word below sp is surely mapped, as on the caller's own stack.
 */
void mp_stack_find(uintptr_t sp, bool in_use, struct mp_stack_range *out);

/* HOOK. Make everything below `end` readable; false if that is not certain. */
bool mp_stack_extend(struct mp_stack_range *range, uintptr_t end);

/* A thread's cached stack bounds, to save queries. Zeros at first. */
struct mp_stack_room {
    uintptr_t low, high;   /* its own stack; where that grows to is known */
    uintptr_t mapped_page; /* of a foreign stack, by the latest probe; 0: none */
};

/* HOOK. mp_stack_is_short() where the thread does not know. */
bool mp_stack_ask_room(uintptr_t sp, size_t bytes, struct mp_stack_room *room);

/*
 * HOOK. Is it certain that less than `bytes` are left below `sp`, on the caller's own stack? For a
 * foreign stack that is certain when that page is not mapped.
 */
static inline bool mp_stack_is_short(uintptr_t sp, size_t bytes, struct mp_stack_room *room) {
    if (sp < room->high && sp >= room->low + bytes)
        return false;
    return mp_stack_ask_room(sp, bytes, room);
}

/* HOOK. Is [at, at + bytes) mapped, as the kernel says? False where a system call is not allowed. A few
 * pages at most. */
bool mp_stack_is_mapped(uintptr_t at, size_t bytes);

/* HOOK. Copy from any address without faulting. False if it is not mapped, or if no system call is
 * allowed. */
bool mp_stack_copy(uintptr_t at, void *to, size_t bytes);

/* HOOK. Read an aligned word inside the range. */
static inline __attribute__((no_sanitize("address", "thread"))) bool
mp_stack_read(struct mp_stack_range *range, uintptr_t at, uintptr_t *out) {
    if (at < range->low || at % sizeof(uintptr_t) != 0 || at > UINTPTR_MAX - sizeof(uintptr_t))
        return false;
    if (at + sizeof(uintptr_t) > range->high && !mp_stack_extend(range, at + sizeof(uintptr_t)))
        return false;
    *out = *(const uintptr_t *)at;
    return true;
}

/* Whether the bounds of thread stacks were found in the thread descriptor. */
bool mp_stack_knows_threads(void);

#endif
