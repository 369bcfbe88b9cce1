/*
 * cgroup.h - the memory limit of the process's control groups.
 *
 * Model: /proc/self/cgroup names a group in each hierarchy: "0::/path" in the unified one, and in an older one
 * a line whose list of controllers holds `memory`. The limits of a group and of all groups above it hold at once, so
 * the smallest counts. Where a container shows only its own part of a hierarchy, the path does not exist below the
 * mount; the way up ends at the mount itself, which is the container's group.
 *
 * Threads: INIT, one caller at a time.
 */
#ifndef MP_CGROUP_H
#define MP_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

struct mp_cgroup_places {
    const char *groups; /* "/proc/self/cgroup" */
    const char *root;   /* "/sys/fs/cgroup" */
    bool fatal;         /* without memory.high, above which a process goes on, slowly */
};

/* The smallest of memory.max, memory.high and memory.limit_in_bytes on the way up, in all hierarchies; UINT64_MAX where
 * there is none. */
uint64_t mp_cgroup_limit_bytes(const struct mp_cgroup_places *places);

#endif
