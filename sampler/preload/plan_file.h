/*
 * plan_file.h - an allocator inside the program, seen from the program's start.
 *
 * Model: such an allocator stands before every preloaded library, and calls inside the program pass no slot.
 * Whoever starts the program knows its file: the plan that leads the allocator's functions here
 * (entry_plan.h) is made beforehand, for addresses as they stand in the file.
 *
 * A plan becomes code, so it comes from nobody else: MEM_PROFILER_PLAN=fd:N names a descriptor that was
 * inherited, of a memory file of this user that nobody can change any more (all seals set).
 * What else lies at that number, in a program that inherited the variable alone, is left as it is.
 *
 * A plan for another program, which a child inherits with the environment, does not fit its code and is refused.
 *
 * Threads: INIT.
 */
#ifndef MP_PLAN_FILE_H
#define MP_PLAN_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Follow the plan in the file, and close it unless `keep`. 0; -EINVAL, with nothing changed and nothing closed, if it is no
 * sealed file of ours; -errno, with nothing changed, when it cannot be read or does not fit. */
int mp_plan_file_install(int fd, bool keep);

#endif
