/*
 * unwind_oracle.h - compare the unwinder with libgcc's _Unwind_Backtrace at one point of a program.
 *
 * Built into a library of its own with fixed flags, so that the programs around it can be compiled with
 * any flags.
 */
#ifndef UNWIND_ORACLE_H
#define UNWIND_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
#define _Static_assert static_assert
#endif
#include "unwind/unwind.h"

#define ORACLE_FRAMES 20000

#ifdef __cplusplus
extern "C" {
#endif

/* Start the unwinder in `mode`, on stacks of its own with or without probing. */
void oracle_init(enum mp_unwind_mode mode, bool probe);

/* Allow or forbid system calls from now on. */
void oracle_allow_probe(bool allow);

/* Compare frame by frame, twice: with whatever the cache holds, and again. Returns the end cause. */
uint8_t oracle_check(const char *where);

/* The unwinder's frames must be the first of libgcc's. Returns the end cause. */
uint8_t oracle_check_prefix(const char *where);

/* Frames of the last check. */
unsigned oracle_depth(void);
uintptr_t oracle_frame(unsigned i);

/* Times the unwinder asked to make a system call. */
unsigned oracle_probes(void);

/* Calls of oracle_check* so far, and how many of them failed. */
unsigned oracle_checks(void);
unsigned oracle_failures(void);

#ifdef __cplusplus
}
#endif

#endif
