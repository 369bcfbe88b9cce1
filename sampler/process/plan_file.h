/*
 * plan_file.h - an allocator inside the program or a library, seen from the start of the program or the library.
 *
 * Model: such an allocator is before every preloaded library, and calls inside the program pass no slot.
 * The controller that starts the program has its file: it makes the plan that redirects the allocator's
 * functions (entry_plan.h) beforehand, for the addresses in the file.
 *
 * A plan becomes code, so only a trusted source is accepted: MEM_PROFILER_PLAN=fd:N names an
 * inherited descriptor of a memfd of this user with all seals set, so that nobody can change it. In
 * a program that inherited the variable alone, the sampler leaves any other file of that number as
 * it is.
 *
 * A plan for another program, which a child inherits with the environment, does not fit its code and is refused. So
 * the file may hold several plans, back to back, for the programs that a wrapper or a start script names:
 * MEM_PROFILER_PLAN=exec:N stays open until a program is there that one of them fits.
 *
 * Plans for libraries (of_library) stay in memory. When the loader's list has changed, the next dlopen or dlsym
 * (redirect_later.h) applies each to the module whose code is all that the plan says: so after the constructors of
 * a library that is being opened, and before its opener can call it by name. What the library took before goes unseen.
 *
 * Threads: INIT.
 */
#ifndef MP_PLAN_FILE_H
#define MP_PLAN_FILE_H

#include <stdbool.h>
#include <stddef.h>

#define MP_PLAN_FILE_PLANS_MAX 32

/* Follow the first plan in the file that fits, and close the file: not `for_children`, and `for_next` only where one
 * fits. 0; -EINVAL, with nothing changed and nothing closed, if it is no sealed file of ours; -errno, with nothing changed,
 * when it cannot be read or none fits. */
int mp_plan_file_install(int fd, bool for_children, bool for_next);

/* Redirect the allocators of the libraries that plans are kept for: now, and of those opened later. */
void mp_plan_file_follow(void);

/*
 * Keep a copy of plans for libraries, which a thread of the process itself hands over, instead of those kept before; 0
 * bytes: keep none. The caller holds mp_redirect_hold(). 0, or -errno with nothing changed.
 */
int mp_plan_file_keep(const void *plans, size_t bytes);

/* Redirect the allocators of those libraries that are there now. One caller at a time (mp_redirect_hold(), or a look of
 * redirect_later.h). */
void mp_plan_file_look(void);

#endif
