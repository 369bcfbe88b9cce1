/*
 * clock.h - read clocks through the vDSO, without the C library; the clocks that hooks read need no
 * system call.
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
