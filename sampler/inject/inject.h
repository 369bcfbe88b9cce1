/*
 * inject.h - make a running process create one thread that opens a library: the engine behind
 * `mem_profiler attach`.
 *
 * Model: the engine borrows one thread of the target for a fraction of a millisecond at a point where the
 * thread holds no lock that the creation of a thread needs; all others run on. payload.h describes its
 * work then, docs/attach.md the whole. The caller finds modules, symbols and candidates among the threads
 * (from /proc), and communicates with the loader afterwards through its frame.
 *
 * Threads: all calls for one target come from one thread of the caller (ptrace knows its tracer by
 * thread). No function touches other threads of the target, and none waits without a bound.
 *
 * This header is read by the C compiler and, between the cffi marks, by
 * bindings/mem_profiler/_build_inject.py.
 */
#ifndef MP_INJECT_H
#define MP_INJECT_H

#include "payload.h"

#include <stdint.h>

/* cffi: begin */
#define MP_INJECT_FRAMES 128 /* frames looked at from outside */
#define MP_INJECT_TEXT_BYTES 256

/* The kind of a range of code addresses. */
enum mp_inject_range_kind {
    MP_RANGE_FORBIDDEN = 1, /* no frame of a borrowed thread may lie here: allocators, the loader */
    MP_RANGE_WAITING = 2, /* functions of the C library that wait on a futex, but for no lock */
    MP_RANGE_CORE = 4, /* the innermost frame of a running thread may not lie here */
    MP_RANGE_LIBRARY = 8, /* the C library */
    MP_RANGE_START = 16, /* clone(): threads of old glibcs begin there, and those of nobody */
};

struct mp_inject_range {
    uint64_t start;
    uint64_t end;
    uint32_t kind;
    uint32_t pad;
};

/* The whole mapped range of an ELF image; another one may lie in a hole of it. */
struct mp_inject_module {
    uint64_t start;
    uint64_t end;
    uint64_t header; /* where its ELF header is */
};

/* Why a thread was not borrowed. */
enum mp_inject_unsafe {
    MP_UNSAFE_NOT = 0,
    MP_UNSAFE_RUNNING = 1, /* not in a system call */
    MP_UNSAFE_SYSCALL = 2, /* in a system call that may be more than a wait */
    MP_UNSAFE_FORBIDDEN = 3, /* inside the allocator, the loader or the sampler */
    MP_UNSAFE_FUTEX = 4, /* waits for a lock */
    MP_UNSAFE_UNKNOWN = 5, /* its callers cannot be known */
    MP_UNSAFE_SEQUENCE = 6, /* in a restartable sequence (rseq) */
    MP_UNSAFE_STOPPED = 7, /* the process was stopped by a signal */
};

/* The steps of one borrowing, in order. Tests end the controller after each of them. */
enum mp_inject_step {
    MP_STEP_NONE = 0,
    MP_STEP_SEIZED = 1,
    MP_STEP_STOPPED = 2,
    MP_STEP_PAD_WRITTEN = 3,
    MP_STEP_PAD_ENTERED = 4, /* its registers lead to the pad */
    MP_STEP_MAPPED = 5,
    MP_STEP_PROTECTED = 6,
    MP_STEP_REGION_WRITTEN = 7,
    MP_STEP_DIVERTED = 8, /* its registers lead to the region */
    MP_STEP_CREATING = 9, /* at the first system call in there */
    MP_STEP_CREATED = 10, /* at the checkpoint */
    MP_STEP_MASK_RESTORED = 11,
    MP_STEP_RESTORED = 12,
    MP_STEP_PAD_RESTORED = 13,
    MP_STEP_DETACHED = 14,
};

struct mp_inject_job {
    int32_t pid;
    int32_t tid;
    uint64_t pad; /* unused bytes in an executable page of the target */
    uint64_t pad_bytes; /* how many */
    const struct mp_inject_module *modules;
    uint64_t module_count;
    const struct mp_inject_range *ranges;
    uint64_t range_count;
    const int64_t *waits; /* system calls in which a thread only waits */
    uint64_t wait_count;
    const int64_t *rests; /* those of them that count only if our stop interrupted them */
    uint64_t rest_count;
    int64_t futex; /* number of the system call futex */
    int64_t restart; /* of restart_syscall: the kernel goes on with a wait of an unknown kind */
    uint32_t may_run; /* 1: the engine may also borrow a thread that runs its own code */
    uint32_t timeout_ms; /* for the whole */
    const void *plan; /* copied to the region; NULL: none */
    uint64_t plan_bytes;
    uint32_t kill_at; /* TEST: enum mp_inject_step after which a process is killed, */
    int32_t kill_pid; /* TEST: and which: the controller, or the target */
    uint32_t filtered; /* 1: it has seccomp filters, which the engine must read; 2: need not */
    void *unwinder; /* the engine's own, kept from one try to the next; NULL at first */
    /* results */
    uint32_t step; /* how far it came; MAPPED, PROTECTED: where the target may not have memory */
    uint32_t unsafe; /* enum mp_inject_unsafe, with -EAGAIN */
    uint32_t frame_count;
    uint64_t region; /* where the frame lies; 0: there is none */
    /* Of all tries with this job, those at other threads and in vain included: the caller zeroes them.
     * A hold is from the stop of a thread to the moment at which it can go on. */
    uint64_t held_ns; /* all holds together */
    uint64_t longest_ns; /* the longest hold */
    uint64_t holds;
    uint64_t frames[MP_INJECT_FRAMES]; /* code addresses of the thread, innermost first */
    char text[MP_INJECT_TEXT_BYTES];
};
/* cffi: end */

/* The pad's code, to recognize an old one, and its length. */
const void *mp_inject_pad_code(void);
uint64_t mp_inject_pad_bytes(void);

/*
 * Borrow thread `job->tid`, have it create the loader with a copy of `frame`, and let go of it. The
 * caller fills the addresses of functions in `frame`, this function those of region and pad.
 *
 * 0: the loader runs, and the thread is where it was. -EAGAIN: the thread is not at a safe point
 * (job->unsafe), and nothing changed. Other errors are -errno with job->text in one line; the target is
 * as it was. -ESRCH: the thread or its process ended.
 */
int mp_inject_borrow(struct mp_inject_job *job, const struct mp_payload_frame *frame);

/* Free what the engine keeps in a job. */
void mp_inject_close(struct mp_inject_job *job);

#endif
