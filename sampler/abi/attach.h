/*
 * attach.h - begin and end sampling in a process that already runs.
 *
 * Model: the controller puts this library into the process (dlopen of /proc/PID/fd/N by a new thread) and
 * then calls mem_profiler_attach() on that thread, once per command. Such a library does nothing by
 * itself: its constructor returns at once.
 *
 *   BEGIN   find the real functions, make the segment, lead every slot of the malloc family here. After it
 *           the segment's state is READY and a capture can be started from outside.
 *   RESCAN  the same for modules that were opened since, and for slots that the loader has bound since.
 *   DETACH  the segment lets go, every slot that still leads here gets back what it held, where the same
 *           module still lies there. Code and data stay mapped and cold, and a later BEGIN works again.
 *
 * In a fork child of a process that has the sampler, all calls come here already; BEGIN gives it a segment.
 *
 * Where the allocator is part of a program and no slot points to it, the caller may pass a plan
 * (entry_plan.h): the entry points of that allocator, decoded outside.
 *
 * Threads: all others of the process run meanwhile. A call of this function during another one returns
 * -EBUSY. It allocates nothing from the process's heap, except what the loader's own functions do.
 */
#ifndef MP_ATTACH_H
#define MP_ATTACH_H

#include <stdint.h>

/* cffi: begin */
#define MP_ATTACH_VERSION 1

enum mp_attach_command {
    MP_ATTACH_BEGIN = 1,
    MP_ATTACH_RESCAN = 2,
    MP_ATTACH_DETACH = 3,
};

/* Plain words and bytes, written from outside: no pointer but `plan`, the same on every architecture. */
struct mp_attach_request {
    uint32_t version; /* MP_ATTACH_VERSION */
    uint32_t command; /* enum mp_attach_command */
    uint32_t flags;   /* 0 */
    int32_t result;   /* out: what the function returned */

    /* BEGIN: where the library lives as a file, named in the .heap, or ""; the folder of segments, absolute, or ""
     * for /dev/shm; "NAME=value" lines, names as in the environment without MEM_PROFILER_. */
    char installed_path[512];
    char dir[256];
    char options[1024];

    char text[256]; /* out: one plain line; why it failed, or what stays unseen */
    uint32_t slots_patched; /* out: changed by this call, entry points included */
    uint32_t slots_restored; /* out: DETACH */
    uint32_t slots_failed; /* out: lead to the real function and could not be changed */
    uint32_t modules; /* out: looked at */
    uint64_t plan; /* BEGIN: address of a struct mp_entry_plan in this process; 0: none */
    uint64_t plan_bytes;
    uint64_t slots_held; /* out: slots and entry points that lead here after this call */
    uint64_t slots_kept; /* out, DETACH: left: another tool's hook, a module that is gone */
    uint64_t reserved[4]; /* 0 */
};
/* cffi: end */

/*
 * INIT, on a thread of its own that holds no lock of the process. Returns 0 or -errno; request->text says
 * why in one line:
 *   -EINVAL   unknown version, command or option
 *   -EBUSY    another call is at work
 *   -EPERM    the program was started with MEM_PROFILER_DISABLE=1
 *   -EALREADY BEGIN after BEGIN, DETACH after DETACH, and RESCAN while not attached
 *   -ENOTSUP  allocations cannot be seen here: nothing was changed
 *   others    the segment could not be made, a page not opened: nothing was changed
 * A failed BEGIN leaves the process as it was; a DETACH undoes what it can and reports the rest.
 */
int mem_profiler_attach(struct mp_attach_request *request);

#endif
