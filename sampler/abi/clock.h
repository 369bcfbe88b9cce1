/*
 * clock.h - the time, without the C library: the kernel's code in the process (vdso) answers, which makes no system
 * call for the clocks that hooks read.
 *
 * Threads: any; HOOK. The first call, in INIT, finds the kernel's function.
 */
#ifndef MP_CLOCK_H
#define MP_CLOCK_H

#include <stdint.h>
#include <time.h>

/* The clock in nanoseconds. CLOCK_MONOTONIC_COARSE is the cheapest, and never takes a system call. */
uint64_t mp_clock_ns(clockid_t clock);

#endif
