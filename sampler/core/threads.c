/*
 * threads.c - rows of the thread table. See threads.h.
 */
#include "threads.h"
#include "abi/clock.h"
#include "local.h"
#include "unwind/unwind_arch.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define TCB_FROM 256 /* the id is behind the architecture's own header of the thread block */
#define TCB_TO 1280  /* glibc has it at 720 */
#else
#define TCB_FROM MP_ARCH_DESCRIPTOR_FROM
#define TCB_TO MP_ARCH_DESCRIPTOR_TO
#endif

static ptrdiff_t tid_offset; /* of the thread id from the thread pointer; 0: unknown */

void mp_threads_init(void) {
    const unsigned char *tcb = (const unsigned char *)mp_arch_thread_pointer();
    int tid = (int)syscall(SYS_gettid);
    for (ptrdiff_t at = TCB_FROM; at < TCB_TO; at += (ptrdiff_t)sizeof tid) {
        int value;
        memcpy(&value, tcb + at, sizeof value);
        if (value == tid) {
            tid_offset = at;
            return;
        }
    }
}

static uint32_t own_tid(void) {
    uint32_t tid = 0;
    if (tid_offset != 0)
        memcpy(&tid, (const unsigned char *)mp_arch_thread_pointer() + tid_offset, sizeof tid);
    return tid;
}

/* True once the row is in reserved pages. */
static bool row_reserved(struct mp_segment *seg, uint32_t row) {
    uint64_t end = ((uint64_t)row + 1) * sizeof(struct mp_thread);
    if (end > mp_array_reserved(seg, MP_ARRAY_THREADS))
        mp_array_extend(seg, MP_ARRAY_THREADS);
    return end <= mp_array_reserved(seg, MP_ARRAY_THREADS);
}

uint32_t mp_thread_row(struct mp_segment *seg) {
    if (mp_likely(mp_self.thread_row != 0 && mp_self.thread_epoch == mp_local.epoch))
        return mp_self.thread_row - 1;
    struct mp_control *c = seg->control;
    uint32_t row = mp_add_relaxed(&c->thread_count, 1) + 1;
    if (row >= mp_array_rows(seg, MP_ARRAY_THREADS) || !row_reserved(seg, row)) {
        mp_add_relaxed(&c->lost[MP_LOST_THREAD_FULL], 1);
        row = 0;
    } else {
        struct mp_thread *t = (struct mp_thread *)mp_array_at(seg, MP_ARRAY_THREADS) + row;
        t->first_ns = mp_clock_ns(CLOCK_MONOTONIC_COARSE);
        if (!(mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP))
            prctl(PR_GET_NAME, t->name, 0, 0, 0);
        mp_store_release(&t->tid, own_tid());
    }
    mp_self.thread_row = row + 1;
    mp_self.thread_epoch = mp_local.epoch;
    return row;
}
