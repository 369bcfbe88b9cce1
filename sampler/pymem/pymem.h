/*
 * pymem.h - put hooks before CPython's allocators, and take them away.
 *
 * Model: an interpreter of a module that is loaded (program or libpython, CPython 3.7 and later) is found by its
 * dynamic symbols, in memory. Its tables of allocators are initialised data, so they can be changed before main.
 *
 *   At the start of a program the hooks are put into all three tables at once. An interpreter that is told which
 *   allocators to use (PYTHONMALLOC, -X dev, a PyPreConfig) replaces them when it begins, and one that begins a second
 *   time may have fresh tables. So the sampler also redirects the calls of pthread_cond_init of the interpreter's module:
 *   each CPython makes the lock of its threads after it has chosen its allocators, and before it makes objects. There
 *   the hooks are put in where they are missing; into an interpreter that was opened by dlopen, for the first time.
 *
 *   In a running program the tables of the domains "mem" and "object" may change only on a thread that holds the GIL. The
 *   interpreter's main thread does it, by a pending call, when it next runs Python code. The table of the raw
 *   domain is used without the GIL and never changes there; its blocks come from malloc, which has hooks. Where
 *   threads run Python code without a common lock (free-threaded builds, interpreters with locks of their own), no table
 *   changes in a running program: hooks are not put in, and those that are there stay and only forward.
 *
 * Blocks that were there before are none that the sampler knows; their free is forwarded like any other. Rows (pymem_hooks.h)
 * stay for ever, for tools that keep a copy of a table (tracemalloc, debug hooks).
 *
 * Threads: all functions are INIT. Those of a running program: one caller at a time.
 */
#ifndef MP_PYMEM_H
#define MP_PYMEM_H

#include <stdbool.h>
#include <stdint.h>

/* Puts the hooks before the allocators of an interpreter that has not begun, if one is loaded, or as soon as one is. */
void mp_pymem_start(void);

/* When the hooks came there, CLOCK_MONOTONIC; 0: they are not. For the control page of a new segment. */
uint64_t mp_pymem_since_ns(void);

/* What a capture of a running program shall see. */
enum mp_pymem_wanted { MP_PYMEM_NOTHING, MP_PYMEM_OBJECTS, MP_PYMEM_ARENAS };

/* In a running program: ask the interpreter for the hooks, unless they are there. Once more where an earlier
 * question found no room. */
void mp_pymem_ask(enum mp_pymem_wanted wanted);

/*
 * Ask for the old tables, and wait a moment for those of objects. False: the main thread has not run Python code
 * meanwhile, or threads run it without a common lock, so that the hooks stay for now, and only forward.
 */
bool mp_pymem_withdraw(void);

#endif
