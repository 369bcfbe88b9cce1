/*
 * remote.h - the memory and the registers of another thread.
 *
 * Model: reads use process_vm_readv, which needs no stop. Writes go through /proc/PID/mem or, where the
 * system forbids that, through ptrace word by word: both reach pages that the process itself may not
 * write. Waits have a deadline on CLOCK_MONOTONIC.
 */
#ifndef MP_INJECT_REMOTE_H
#define MP_INJECT_REMOTE_H

#include "arch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t mp_now_ns(void);

/* Sleep for *nap_ns, and make the next nap longer, up to a millisecond. */
#define MP_NAP_FIRST_NS 20000
void mp_nap(long *nap_ns);

/* 0, or -errno if not all bytes are readable. */
int mp_remote_read(int pid, uint64_t from, void *to, size_t bytes);

/* The same for writing; we have stopped `tid`. */
int mp_remote_write(int tid, int mem_fd, uint64_t to, const void *from, size_t bytes);

int mp_regs_get(int tid, struct mp_regs *out);
int mp_regs_set(int tid, const struct mp_regs *regs);

/* Vector registers: *bytes is the room, then what was used. */
int mp_xstate_get(int tid, void *out, size_t *bytes);
int mp_xstate_set(int tid, const void *state, size_t bytes);

int mp_mask_get(int tid, uint64_t *out);
int mp_mask_set(int tid, uint64_t mask);

/* Whether the thread keeps a shadow stack, which would not survive a detour. */
bool mp_has_shadow_stack(int tid);

/* Address of the running restartable sequence; 0: none, or the kernel cannot tell. */
uint64_t mp_rseq_section(int tid, int pid);

/* As mp_wait(), without waiting: -EAGAIN where there is no report. */
int mp_poll(int tid, int *status);

/*
 * Wait for the next report of a traced thread. 0 and the wait status; -ETIMEDOUT; -ESRCH: it ended
 * (then *status is how). *since_ns: when it had nothing to report yet, a moment before.
 */
int mp_wait(int tid, uint64_t deadline_ns, int *status, uint64_t *since_ns);

#endif
