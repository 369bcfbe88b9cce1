/*
 * held.h - a borrowed thread: its state, and functions that stop and move it.
 *
 * Functions return 0 or -errno; after a failure the job has a line of text. Private to the engine.
 */
#ifndef MP_INJECT_HELD_H
#define MP_INJECT_HELD_H

#include "inject.h"
#include "remote.h"

struct borrow {
    struct mp_inject_job *job;
    const struct mp_payload_frame *frame;
    int tid;
    int mem_fd;
    uint64_t since_ns; /* when it last had no stop to report */
    uint64_t began_ns; /* the hold, or a moment earlier; 0: it is not held */
    uint64_t deadline_ns;
    struct mp_regs regs; /* as the thread was found */
    uint64_t mask;
    unsigned char xstate[MP_XSTATE_BYTES];
    size_t xstate_bytes;
    unsigned char *pad; /* what will lie at job->pad */
    unsigned char *pad_before;
    uint64_t pad_bytes;
    bool pad_written;
    bool traced;
    bool diverted;
    bool made;      /* the loader */
    bool gone_back; /* the thread, by itself */
    uint64_t region; /* 0: unmapped again */
    uint32_t refused; /* enum mp_inject_step of the refused call for memory; 0: none */
    long code;        /* 0: the loader was made; -errno */
};

/* The address in the target of a label of the pad. */
uint64_t mp_held_pad(const struct borrow *b, const unsigned char *label);

/* Remember the step; in a test, end here. */
void mp_held_reached(struct borrow *b, uint32_t step);

/* Put the line into the job and return `error`. */
__attribute__((format(printf, 3, 4))) int mp_held_fail(struct borrow *b, int error,
                                                       const char *format, ...);

/* The thread is gone: -ESRCH. */
int mp_held_ended(struct borrow *b);

/* Let it go on by a ptrace request, with a signal or 0. */
int mp_held_resume(struct borrow *b, int request, int signal_number);

/* The next stop that is not the delivery of a signal: passes signals on. `how` resumes after one.
 * -ETIMEDOUT has no text. */
int mp_held_next_stop(struct borrow *b, uint64_t deadline_ns, int how, int *status);

/* Stop it on its way out of the kernel. A group stop counts: it is such a place too. `held`: it is at
 * another stop now. */
int mp_held_stop(struct borrow *b, uint64_t limit_ns, bool held, int *status);

/* Make it go on at `pc`, as the pad and the payload expect it. It is at a stop. */
int mp_held_enter(struct borrow *b, uint64_t pc, uint64_t region, long code);

#endif
