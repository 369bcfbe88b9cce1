/*
 * proc_stat.h - facts about processes from /proc, by system calls alone.
 *
 * Threads: INIT, one caller at a time.
 */
#ifndef MP_PROC_STAT_H
#define MP_PROC_STAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first n - 1 bytes of a file into buffer[0..n), NUL-terminated. Returns how many, or -1. */
long mp_proc_read(const char *path, char *buffer, size_t n);

/* Start time of a process in ticks since boot; `pid` 0: of this one. 0: there is none, or /proc does not tell. */
uint64_t mp_start_ticks_of(uint32_t pid);

/* Has the process no thread but this one? False where /proc does not tell. */
bool mp_only_thread(void);

#endif
