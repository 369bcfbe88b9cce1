/*
 * checker.h - does the process run under a memory checker (sanitizer) with its own allocator?
 *
 * Model: the runtimes of sanitizers call functions of the C library through wrappers, which fail before the runtime
 * is ready, and track the heap themselves. A hook in front of them crashes the program. Their
 * libraries define well-known functions; a runtime that is linked into the program and exports
 * nothing is found by the controller, which reads the file
 * (bindings/mem_profiler/process/checkers.py, with the same names).
 */
#ifndef MP_CHECKER_H
#define MP_CHECKER_H

#include <stddef.h>

/* INIT, also inside the first call of a hook. Name of the first checker found, or NULL. */
const char *mp_checker_name(void);

/* Write the reason why such a process cannot be captured to text[0..n), as one phrase. */
void mp_checker_refusal(const char *name, char *text, size_t n);

#endif
