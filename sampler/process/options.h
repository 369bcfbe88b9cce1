/*
 * options.h - options from the environment, or from an attach; read once.
 */
#ifndef MP_OPTIONS_H
#define MP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_options {
    char dir[256];            /* MEM_PROFILER_DIR; default /dev/shm */
    uint64_t start_rate_bytes; /* MEM_PROFILER_START; valid if start */
    uint64_t device_rate_bytes; /* MEM_PROFILER_DEVICE_RATE; default 1: every block */
    uint64_t
        events_bytes; /* MEM_PROFILER_EVENTS; 0: captures without a controller write no events */
    unsigned launches;        /* MEM_PROFILER_LAUNCHES, bits of enum mp_launch_want */
    bool start;               /* false in a child that is not followed */
    bool is_child;            /* MEM_PROFILER_START_PID names another process */
    bool follow_fork;         /* MEM_PROFILER_FOLLOW_FORK=1 */
    bool only_others;         /* MEM_PROFILER_ONLY is set and does not match this executable */
    uint32_t depth_limit;     /* MEM_PROFILER_DEPTH; default MP_DEPTH_DEFAULT */
    bool seeded;
    uint64_t seed;            /* MEM_PROFILER_SEED, for tests */
    uint64_t max_memory_bytes; /* MEM_PROFILER_MAX_MEMORY; default 256 MiB */
    bool max_memory_asked;     /* it is set */
    uint64_t max_total_bytes; /* MEM_PROFILER_MAX_TOTAL; 0: the default (segment_room.h) */
    int plan_fd;              /* MEM_PROFILER_PLAN=fd:N or exec:N (plan_file.h); -1: none */
    bool plan_for_next;       /* exec:N */
    unsigned devices;         /* MEM_PROFILER_DEVICE, bits of enum mp_backend; default all */
    bool devices_by_name;     /* it lists backends */
    bool pymem; /* MEM_PROFILER_PYMEM, default 1: hooks before CPython's allocators */
    bool arenas; /* MEM_PROFILER_ARENAS, default 0: a hook before CPython's arenas instead */
    char unwind[16]; /* MEM_PROFILER_UNWIND=cfi|fp|libgcc; empty: default */
};

/*
 * INIT. Fill *options from the environment; `exe` is the executable's path. 0, or -EINVAL with one
 * line about the first unusable value in error[0..n): the target then runs unprofiled.
 */
int mp_options_read(struct mp_options *options, const char *exe, char *error, size_t n);

/* INIT, while the process has one thread. Does the environment say MEM_PROFILER_DISABLE=1? Then the
 * sampler does nothing at all. Any value but 0 means 1. */
bool mp_options_opted_out(void);

/* INIT. The same for the environment at the program's start, while its other threads may change it. */
bool mp_options_opted_out_at_start(void);

/*
 * INIT. The same from `text`: "NAME=value" lines, names without MEM_PROFILER_. Those about the start of a
 * program (START, ONLY, FOLLOW_FORK) count as absent. The function modifies `text`, which must stay
 * valid.
 */
int mp_options_read_text(struct mp_options *options, char *text, char *error, size_t n);

/* INIT. Seed of this process's random numbers: MEM_PROFILER_SEED, or a different one each time. */
uint64_t mp_options_seed(const struct mp_options *options);

#endif
