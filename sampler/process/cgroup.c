/*
 * cgroup.c - see cgroup.h.
 */
#include "cgroup.h"
#include "text.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_BYTES 4608 /* a path of the longest kind, and the controllers before it */

/* Too large for the stack of a small thread that forks. */
static char line[LINE_BYTES];
static char path[LINE_BYTES + 128];
static char chunk[512];

static int open_to_read(const char *name) {
    return (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The number in one file; UINT64_MAX for "max", for text that is not a number, and if there is no
 * such file. */
static uint64_t limit_in(const char *name) {
    char value[32];
    int fd = open_to_read(name);
    if (fd < 0)
        return UINT64_MAX;
    long n = read(fd, value, sizeof value - 1);
    close(fd);
    if (n <= 0 || value[0] < '0' || value[0] > '9')
        return UINT64_MAX;
    value[n] = '\0';
    return strtoull(value, NULL, 10);
}

/* The limit of the group whose folder is path[0..used). */
static uint64_t limit_of(size_t used, const char *const *files) {
    uint64_t limit = UINT64_MAX;
    for (; *files != NULL; files++) {
        struct mp_text t = {.buffer = path, .size = sizeof path, .used = used};
        mp_put(&t, "/");
        mp_put(&t, *files);
        if (!t.full)
            limit = smaller(limit, limit_in(path));
    }
    return limit;
}

/* From `group` up to the mount point, which is root + below[0..below_length). */
static uint64_t smallest_above(const char *root, const char *below, size_t below_length,
                               const char *group, const char *const *files) {
    struct mp_text t = {.buffer = path, .size = sizeof path};
    mp_put(&t, root);
    mp_put(&t, "/");
    if (t.full || below_length > sizeof path - t.used - 1)
        return UINT64_MAX;
    memcpy(path + t.used, below, below_length);
    size_t mount = t.used = t.used + below_length;
    /* A process outside of its cgroup namespace's root sees "/..": nothing below the mount is its own. */
    if (strcmp(group, "/") != 0 && strstr(group, "/..") == NULL)
        mp_put(&t, group);
    if (t.full)
        t.used = mount;
    uint64_t limit = UINT64_MAX;
    for (size_t used = t.used;;) {
        limit = smaller(limit, limit_of(used, files));
        if (used == mount)
            return limit;
        while (used > mount && path[used - 1] != '/')
            used--;
        used = used > mount ? used - 1 : mount;
    }
}

static bool lists_memory(const char *controllers, size_t length) {
    static const char name[] = "memory";
    for (size_t at = 0; at < length;) {
        size_t word = 0;
        while (at + word < length && controllers[at + word] != ',')
            word++;
        if (word == sizeof name - 1 && memcmp(controllers + at, name, word) == 0)
            return true;
        at += word + 1;
    }
    return false;
}

/* `line` is one of /proc/self/cgroup: ID:CONTROLLERS:PATH. */
static uint64_t limit_of_line(const struct mp_cgroup_places *places) {
    static const char *const every[] = {"memory.high", "memory.max", NULL};
    static const char *const older[] = {"memory.limit_in_bytes", NULL};
    const char *const *unified = places->fatal ? every + 1 : every;
    const char *root = places->root;
    const char *controllers = strchr(line, ':');
    const char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL)
        return UINT64_MAX;
    size_t length = (size_t)(group - ++controllers);
    group++;
    if (length == 0)
        return smaller(smallest_above(root, "", 0, group, unified),
                       smallest_above(root, "unified", 7, group, unified));
    if (!lists_memory(controllers, length))
        return UINT64_MAX;
    uint64_t limit = smallest_above(root, "memory", 6, group, older);
    if (length >
        6) /* several controllers together: no systemd has to have made the link "memory" */
        limit = smaller(limit, smallest_above(root, controllers, length, group, older));
    return limit;
}

uint64_t mp_cgroup_limit_bytes(const struct mp_cgroup_places *places) {
    uint64_t limit = UINT64_MAX;
    size_t used = 0;
    long n;
    int fd = open_to_read(places->groups);
    if (fd < 0)
        return limit;
    while ((n = read(fd, chunk, sizeof chunk)) > 0) {
        for (long i = 0; i < n; i++) {
            if (chunk[i] != '\n') {
                if (used < sizeof line - 1)
                    line[used++] = chunk[i];
                continue;
            }
            line[used] = '\0';
            limit = smaller(limit, limit_of_line(places));
            used = 0;
        }
    }
    close(fd);
    return limit;
}
