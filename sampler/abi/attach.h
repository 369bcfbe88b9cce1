/*
 * attach.h - begin and end sampling in a process that already runs.
 *
 * Model: the controller puts this library into the process (dlopen of /proc/PID/fd/N by a new thread) and
 * then calls mem_profiler_attach() on that thread, once per command. Such a library does nothing by
 * itself: its constructor returns at once.
 *
 *   BEGIN   find the real functions, make the segment, redirect every slot of the malloc family to the
 *           hooks. After it the segment's state is READY and a capture can start from outside.
 *   RESCAN  redirect slots of modules that were opened since, and slots that the loader has bound since.
 *   DETACH  remove the segment, and restore every slot that still points to a hook, if the same module is
 *           still at that address. Code and data stay mapped but unused, and a later BEGIN works
 *           again.
 *
 *   PLANS   keep the plans for libraries: lead their allocators here, of those opened later at the next dlopen or
 *           dlsym after it, until a DETACH. Also for a sampler that was there from the start. On a thread of the program
 *           that holds no lock of the loader.
 *
 *   STEP    the program begins a step by a call. -EEXIST: it has begun one by a range of its marks, named
 *           MP_STEP_MESSAGE. Nothing changes.
 *
 * In a fork child of a process that has the sampler, all slots already point to the hooks; BEGIN makes a
 * segment for the child.
 *
 * Where an allocator is part of a program or library and no slot points to it, the caller may pass a plan
 * (entry_plan.h): the entry points of that allocator, decoded outside; the program's first. A preloaded sampler that sees the C
 * library's allocator beside it gets a BEGIN for that alone: its segment stays, and DETACH, which no capture may
 * be running for (-EAGAIN), only takes the plan back.
 *
 * Threads: all other threads of the process run meanwhile. A call of this function during another one
 * returns -EBUSY. It allocates nothing from the process's heap; functions of the loader that it calls may.
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
    MP_ATTACH_STEP = 4,
    MP_ATTACH_PLANS = 5,
};

enum mp_attach_flags {
    /* Redirect modules that are opened later at the next dlopen or dlsym of the program, on the thread that calls it,
     * until the program sets a seccomp filter. The caller holds no lock of the loader, here and in a RESCAN; no
     * thread of the program has a filter. */
    MP_ATTACH_FOLLOW = 1,
};

/* The controller writes it from outside: plain words and bytes, the same on every architecture. Its only
 * pointer is `plan`. */
struct mp_attach_request {
    uint32_t version; /* MP_ATTACH_VERSION */
    uint32_t command; /* enum mp_attach_command */
    uint32_t flags;   /* of BEGIN: enum mp_attach_flags */
    int32_t result;   /* out: return value of the function */

    /* The next three are for BEGIN. */
    char installed_path[512]; /* path of the library's file, for the .heap file; or "" */
    char dir[256]; /* folder of segments, an absolute path; "": /dev/shm */
    char options[1024]; /* lines of "NAME=value"; environment names without MEM_PROFILER_ */

    char text[256]; /* out: one plain line: why it failed, or what the sampler cannot see */
    uint32_t slots_patched; /* out: slots and entry points that this call changed */
    uint32_t slots_restored; /* out: slots and entry points that DETACH restored */
    /* out: slots that point to the real function, and that the sampler could not change */
    uint32_t slots_failed;
    uint32_t modules; /* out: modules that this call searched */
    /* BEGIN, RESCAN: address of plans (struct mp_entry_plan) in this process, back to back; 0: none. PLANS: those for
     * the addresses in the files */
    uint64_t plan;
    uint64_t plan_bytes;
    uint64_t slots_held; /* out: slots and entry points that point to hooks after this call */
    /* out: slots that DETACH left alone: another tool's hook is there */
    uint64_t slots_kept;
    uint64_t reserved[4]; /* 0 */
};
/* cffi: end */

/*
 * INIT, on a dedicated thread that holds no lock of the process. Returns 0 or -errno; request->text
 * says why in one line:
 *   -EINVAL   unknown version, command or option
 *   -EBUSY    another call has not ended
 *   -EPERM    the program was started with MEM_PROFILER_DISABLE=1
 *   -EALREADY BEGIN after BEGIN, DETACH after DETACH, RESCAN and PLANS while there is nothing to follow by
 *   -EEXIST   STEP, see above
 *   -ENOTSUP  the sampler cannot see allocations here; it changed nothing
 *   others    no segment, or a page that it cannot make writable; it changed nothing
 * A failed BEGIN leaves the process as it was; a DETACH undoes what it can and reports the rest.
 */
int mem_profiler_attach(struct mp_attach_request *request);

#endif
