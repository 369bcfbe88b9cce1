/*
 * fork.c - children of fork(). See lifecycle.h.
 *
 * A fork child wakes up with `mp_local` wiped. If the sampler follows children, it continues at the
 * parent's rate, in a segment created at the first sample (pending.h), or by the atfork handler if
 * nothing is captured. Otherwise the child gets no segment. A program that a child executes also
 * creates its segment at its first sample.
 */
#include "abi/clock.h"
#include "core/capture.h"
#include "core/events.h"
#include "core/modtab.h"
#include "device/device_inherited.h"
#include "drivers/libraries.h"
#include "hooks/hooks.h"
#include "lifecycle.h"
#include "redirect/redirect_later.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void before_fork(void) {
    struct mp_control *c = mp_local.segment.control;
    mp_process.gate_at_fork = mp_gate();
    mp_process.pid_at_fork =
        c != NULL ? c->pid : mp_process.own_pid; /* no system call: there may be a filter */
    mp_process.filtered_at_fork =
        c != NULL && (mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP) != 0;
    if (c == NULL) /* of a pending child: its own children inherit the same */
        return;
    mp_inherited_take();
    if (mp_process.gate_at_fork == MP_GATE_OFF)
        return;
    unsigned slot = (mp_process.gate_at_fork >> MP_GATE_SHIFT) & 1;
    mp_process.rate_at_fork = mp_load_relaxed(&c->capture[slot].rate_bytes);
    mp_process.options.device_rate_bytes = mp_load_relaxed(&c->device_rate_bytes[slot]);
    mp_process.options.depth_limit = mp_capture_depth_limit(c);
    mp_process.options.events_bytes =
        mp_events_bytes(c, (uint32_t)(mp_process.gate_at_fork >> MP_GATE_SHIFT));
    mp_process.options.launches =
        mp_events_launches(c, (uint32_t)(mp_process.gate_at_fork >> MP_GATE_SHIFT));
}

/* HOOK. */
static void open_pending(void) {
    if (mp_process_open(mp_process.parent_pid, true, mp_process.rate_at_fork) != 0)
        mp_store_release(&mp_local.gate_offset, (intptr_t)0);
    mp_store_release(&mp_local.pending.state, (uint32_t)MP_PENDING_NONE);
    mp_inherited_store();
}

void mp_process_begin_pending(void) {
    mp_process.own_pid = (uint32_t)getpid();
    mp_process.at_start = mp_resident_now();
    mp_process.forked_ns = mp_clock_ns(CLOCK_MONOTONIC);
    mp_local.seed = mp_options_seed(&mp_process.options);
    mp_pending_begin(mp_process.rate_at_fork, open_pending);
}

/* A filter in force may later kill for a call that it allows now. */
static bool may_wait(void) {
    return mp_process.gate_at_fork != MP_GATE_OFF && mp_process.state == MP_STATE_READY &&
           mp_process.place.base == NULL && !mp_process.filtered_at_fork;
}

static void in_fork_child(void) {
    mp_redirect_after_fork();
    if (mp_local.segment.base != NULL) /* the kernel does not know MADV_WIPEONFORK */
        memset(&mp_local, 0, sizeof mp_local);
    if (!mp_process.options.follow_fork || mp_process.withdrawn)
        return;
    int saved_errno = errno;
    memset(&mp_self, 0, sizeof mp_self);
    mp_modtab_after_fork();
    mp_device_after_fork(mp_process.gate_at_fork != MP_GATE_OFF);
    mp_process.own_pid = 0;
    if (may_wait()) {
        mp_process.parent_pid = mp_process.pid_at_fork;
        mp_process_begin_pending();
    } else {
        mp_process_open(mp_process.pid_at_fork, mp_process.gate_at_fork != MP_GATE_OFF,
                        mp_process.rate_at_fork);
        mp_inherited_store();
    }
    errno = saved_errno;
}

/* A library's constructor forked between our first call and our constructor: no handler was there yet. */
static void catch_up_with_fork(void) {
    if (mp_process.pid_at_fork == (uint32_t)getpid())
        return;
    bool captures = mp_process.options.start && mp_process.state == MP_STATE_READY;
    mp_process.gate_at_fork = captures ? (int64_t)1 << MP_GATE_SHIFT : MP_GATE_OFF;
    mp_process.rate_at_fork = mp_process.options.start_rate_bytes;
    in_fork_child();
}

extern void *__dso_handle __attribute__((visibility("hidden")));

/* As pthread_atfork(). */
void mp_process_watch_forks(void) {
    typedef int register_function(void (*)(void), void (*)(void), void (*)(void), void *);
    catch_up_with_fork();
    register_function *registers = (register_function *)mp_real_of_libc("__register_atfork");
    if (registers != NULL)
        registers(before_fork, mp_inherited_taken, in_fork_child, __dso_handle);
}
