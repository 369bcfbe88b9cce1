/*
 * checker.h - does the process run under a tool that checks every access to memory, and has an allocator of its own?
 *
 * Model: the runtimes of sanitizers call functions of the C library through wrappers, which fail before the runtime
 * is ready, and keep their own books of the heap. A hook in front of them ends the program. Their libraries
 * define well-known functions; a runtime that is linked into the program and exports nothing is found by the
 * controller, which reads the file (bindings/mem_profiler/process/checkers.py, with the same names).
 */
#ifndef MP_CHECKER_H
#define MP_CHECKER_H

#include <stddef.h>

/* INIT, also inside the first call of a hook. The name of the first one that is found; NULL: none. */
const char *mp_checker_name(void);

/* Why a process with it cannot be captured, as one phrase in text[0..n). */
void mp_checker_refusal(const char *name, char *text, size_t n);

#endif
