/*
 * plan_file.h - an allocator inside the program, seen from the program's start.
 *
 * Model: such an allocator stands before every preloaded library, and calls inside the program pass no slot.
 * Whoever starts the program knows its file: the plan that leads the allocator's functions here
 * (entry_plan.h) is made beforehand, for addresses as they stand in the file, and named by MEM_PROFILER_PLAN.
 *
 * A plan for another program, which a child inherits with the environment, does not fit its code and is refused.
 *
 * Threads: INIT.
 */
#ifndef MP_PLAN_FILE_H
#define MP_PLAN_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Follow the plan in the file. 0; -errno, with nothing changed, when it cannot be read or does not fit. */
int mp_plan_file_install(const char *path);

#endif
