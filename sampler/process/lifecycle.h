/*
 * lifecycle.h - state and functions shared by segment_open.c (makes the segment), startup.c (starts
 * with the program), fork.c (continues in children) and late.c (starts and ends by an attach).
 * startup.h is the interface for other modules.
 *
 * Threads: INIT, one caller at a time, unless a function says HOOK.
 */
#ifndef MP_LIFECYCLE_H
#define MP_LIFECYCLE_H

#include "abi/segment.h"
#include "options.h"
#include "segment_file.h"
#include "segment_place.h"

/* Survives fork, unlike mp_local. */
extern struct mp_process {
    struct mp_options options;
    char exe[512];
    struct mp_segment_file file;
    enum mp_state state;
    char state_text[256];
    int64_t gate_at_fork;
    uint64_t rate_at_fork, forked_ns;
    uint32_t pid_at_fork;
    uint32_t parent_pid, own_pid;  /* of a segment that is made later; 0: none */
    struct mp_resident at_start;   /* of that process */
    bool filtered_at_fork;
    bool started;                  /* by the program's start, not by an attach */
    bool wanted;                   /* the options ask for a segment */
    bool open;                     /* the segment was made before the constructor */
    bool late;                     /* allocations before the constructor are not in its capture */
    bool refused;                  /* because of a checker */
    int start_rc;                  /* of making it */
    char wrong[384];               /* about an option that cannot be used */
    bool withdrawn;                /* the program made itself undumpable */
    struct mp_segment_place place; /* of the segments of an attached process */
    uint32_t captures;             /* number of the latest one in the segments before */
    uint32_t epoch;
} mp_process;

/* Make the segment and open the hot path. `rate_bytes` 0: no capture yet. */
int mp_process_open(uint32_t parent_pid, bool capture, uint64_t rate_bytes);

/* Let hooks see the gate (local.h). */
void mp_process_open_way(const struct mp_control *c);

/* INIT. Say in the segment, if there is one, whose allocators jump to the hooks (inline_patch.h). */
void mp_process_tell_entries(struct mp_control *c);

/* HOOK. Shut the gate, and hide it from hooks. */
void mp_process_shut(struct mp_control *c);

/* Into a field of n bytes, as far as there is room. */
void mp_process_put(char *to, size_t n, const char *text);

int mp_process_start_unwinder(bool attached, bool early);
extern const char mp_process_no_libgcc[]; /* why it refused */

void mp_process_wipe_on_fork(void);

/* Make the segment with the first sample (pending.h). */
void mp_process_begin_pending(void);

/* Continue in children of fork(), also in this process if it was forked since
 * mp_process.pid_at_fork. */
void mp_process_watch_forks(void);

#endif
