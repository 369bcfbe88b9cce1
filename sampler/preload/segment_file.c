/*
 * segment_file.c - the life of the segment file. See segment_file.h.
 */
#include "segment_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SWEEP_FILES 256 /* most files one start-up looks at */

/* Kernel calls by number: the C library's wrappers of these changed version or name over time. */
static int sys_openat(int dir, const char *path, int flags, int mode) {
    return (int)syscall(SYS_openat, dir, path, flags | O_CLOEXEC, mode);
}

static int sys_fstat(int fd, struct stat *st) {
    return (int)syscall(SYS_fstat, fd, st);
}

static long read_file(const char *path, char *buffer, size_t n) {
    int fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0)
        return -1;
    size_t got = 0;
    long r;
    while (got < n - 1 && (r = read(fd, buffer + got, n - 1 - got)) > 0)
        got += (size_t)r;
    close(fd);
    buffer[got] = '\0';
    return (long)got;
}

/* Field 22 of a /proc/PID/stat: start time in ticks since boot; 0 when there is no such process. */
static uint64_t start_ticks(const char *stat_path) {
    char text[1024];
    if (read_file(stat_path, text, sizeof text) <= 0)
        return 0;
    const char *p = strrchr(text, ')'); /* the command name may hold spaces and parentheses */
    for (int field = 2; p != NULL && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

static uint64_t pidns_inode(void) {
    char link[64];
    long n = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/ns/pid", link, sizeof link - 1);
    if (n <= 0)
        return 0;
    link[n] = '\0';
    const char *p = strchr(link, '[');
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

void mp_read_exe(char *exe, size_t n) {
    long got = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", exe, n - 1);
    exe[got > 0 ? got : 0] = '\0';
}

/* Memory limit of our cgroup (v2, else v1), or UINT64_MAX. */
static uint64_t cgroup_limit_bytes(void) {
    char text[1024], path[1200], *line;
    if (read_file("/proc/self/cgroup", text, sizeof text) <= 0)
        return UINT64_MAX;
    const char *root = "/sys/fs/cgroup", *file = "memory.max";
    line = strstr(text, "0::");
    if (line != NULL) {
        line += 3;
    } else if ((line = strstr(text, ":memory:")) != NULL) {
        line += 8;
        root = "/sys/fs/cgroup/memory";
        file = "memory.limit_in_bytes";
    } else {
        return UINT64_MAX;
    }
    line[strcspn(line, "\n")] = '\0';
    snprintf(path, sizeof path, "%s%s/%s", root, strcmp(line, "/") == 0 ? "" : line, file);
    char value[64];
    if (read_file(path, value, sizeof value) <= 0 || value[0] < '0' || value[0] > '9')
        return UINT64_MAX;
    return strtoull(value, NULL, 10);
}

/* The bound: the smallest of the option, 1/4 of the free space and 1/16 of the cgroup's limit. */
static uint64_t limit_bytes(const struct mp_options *options, int fd) {
    uint64_t limit = options->max_memory_bytes;
    struct statfs fs;
    if (syscall(SYS_fstatfs, fd, &fs) == 0) {
        uint64_t quarter = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize / 4;
        limit = quarter < limit ? quarter : limit;
    }
    uint64_t cgroup = cgroup_limit_bytes() / 16;
    limit = cgroup < limit ? cgroup : limit;
    return (limit < MP_LIMIT_MIN_BYTES ? MP_LIMIT_MIN_BYTES : limit) & ~0xffffULL;
}

/* Open (making it) the folder of this user, private and not a link. */
static int open_folder(const struct mp_options *options) {
    char path[MP_SEGMENT_PATH_MAX];
    snprintf(path, sizeof path, "%s/mem_profiler.%u", options->dir, (unsigned)geteuid());
    if (syscall(SYS_mkdirat, AT_FDCWD, path, 0700) != 0 && errno != EEXIST)
        return -errno;
    int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return -errno;
    struct stat st;
    if (sys_fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        close(fd);
        return -EPERM;
    }
    return fd;
}

/* Is the file a segment that nobody captured, or whose capture is in a file, of a process image of our pid namespace that is gone? */
static bool unused_and_dead(int folder, const char *name, uint64_t own_ticks, uint64_t own_pidns) {
    struct mp_control c;
    int fd = sys_openat(folder, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return false;
    long n = read(fd, &c, sizeof c);
    close(fd);
    if (n != sizeof c || c.magic != MP_SEGMENT_MAGIC || c.capture_number != c.written_capture ||
        c.pidns_inode != own_pidns)
        return false;
    if (c.pid == (uint32_t)getpid() && c.start_ticks == own_ticks)
        return true; /* an image that this one replaced by exec */
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/stat", c.pid);
    return start_ticks(path) != c.start_ticks;
}

struct kernel_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

static void sweep(int folder, uint64_t own_ticks, uint64_t own_pidns) {
    _Alignas(8) char buffer[4096];
    long n;
    for (int seen = 0;
         seen < SWEEP_FILES && (n = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0;) {
        for (long at = 0; at < n; seen++) {
            const struct kernel_dirent *d = (const struct kernel_dirent *)(buffer + at);
            if (d->name[0] >= '0' && d->name[0] <= '9' &&
                unused_and_dead(folder, d->name, own_ticks, own_pidns))
                syscall(SYS_unlinkat, folder, d->name, 0);
            at += d->reclen;
        }
    }
}

/* Create the file under the first exec count that is free. */
static int create_file(int folder, struct mp_control *c, char *name, size_t n) {
    for (c->exec_count = 0; c->exec_count < 100000; c->exec_count++) {
        snprintf(name, n, "%u-%llu-%u", c->pid, (unsigned long long)c->start_ticks, c->exec_count);
        int fd = sys_openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

static uint64_t clock_now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void describe(struct mp_control *c, const char *exe) {
    c->magic = MP_SEGMENT_MAGIC;
    c->version = MP_SEGMENT_VERSION;
    c->header_bytes = sizeof *c;
    c->uid = (uint32_t)geteuid();
    c->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    c->depth_limit = MP_DEPTH_DEFAULT;
    c->gate = INT64_MIN;
    c->created_monotonic_ns = clock_now(CLOCK_MONOTONIC);
    c->created_realtime_ns = clock_now(CLOCK_REALTIME);
    read_file("/proc/self/comm", c->comm, sizeof c->comm);
    c->comm[strcspn(c->comm, "\n")] = '\0';
    snprintf(c->exe, sizeof c->exe, "%s", exe);
    long n = read_file("/proc/self/cmdline", c->command, sizeof c->command);
    for (long i = 0; i + 1 < n; i++)
        if (c->command[i] == '\0')
            c->command[i] = ' ';
}

/* A seccomp filter is in force already: hooks must make no call of their own. */
static bool is_filtered(void) {
    char text[4096];
    if (read_file("/proc/self/status", text, sizeof text) <= 0)
        return true;
    const char *line = strstr(text, "\nSeccomp:");
    return line != NULL && line[strcspn(line, "012")] != '0';
}

/* mlockall(MCL_FUTURE) fills a mapping when it is made, unless it may not be accessed yet. It is put in its place
 * when it may: threads that use what lies there never meet a hole. */
void *mp_map_lazily(void *at, uint64_t bytes, int flags, int fd) {
    void *base = mmap(NULL, bytes, PROT_NONE, flags, fd, 0), *placed = MAP_FAILED;
    if (base == MAP_FAILED)
        return base;
    munlock(base, bytes);
    if (mprotect(base, bytes, PROT_READ | PROT_WRITE) == 0)
        placed = at == NULL ? base : mremap(base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at);
    if (placed == MAP_FAILED) {
        int saved_errno = errno;
        munmap(base, bytes);
        errno = saved_errno;
    }
    return placed;
}

static int map_file(int fd, struct mp_control *c, struct mp_segment *seg,
                    const struct mp_segment_place *place) {
    if (place->base != NULL && c->limit_bytes > place->bytes)
        c->limit_bytes = place->bytes;
    c->limit_bytes = c->limit_bytes < MP_LIMIT_MIN_BYTES ? MP_LIMIT_MIN_BYTES : c->limit_bytes;
    if (syscall(SYS_ftruncate, fd, (long)c->limit_bytes) != 0)
        return -errno;
    if (syscall(SYS_fallocate, fd, 0, 0L, (long)MP_CONTROL_BYTES) != 0 && errno != EOPNOTSUPP)
        return -errno; /* page 0 must exist before it is written through the mapping */
    void *base = mp_map_lazily(place->base, c->limit_bytes, MAP_SHARED | MAP_NORESERVE, fd);
    if (base == MAP_FAILED)
        return -errno;
    mp_segment_layout(c);
    memcpy(base, c, sizeof *c);
    mp_segment_attach(seg, base, c);
    return 0;
}

int mp_segment_create(const struct mp_options *options, const char *exe, struct mp_segment *seg,
                      char path[MP_SEGMENT_PATH_MAX], int *fd,
                      const struct mp_segment_place *place) {
    struct mp_control c = {0};
    char name[64];
    int folder = open_folder(options);
    if (folder < 0)
        return folder;
    c.pid = (uint32_t)getpid();
    c.start_ticks = start_ticks("/proc/self/stat");
    c.pidns_inode = pidns_inode();
    sweep(folder, c.start_ticks, c.pidns_inode);
    describe(&c, exe);
    if (is_filtered())
        c.controller_flags = MP_FLAG_SECCOMP;

    int rc = *fd = create_file(folder, &c, name, sizeof name);
    if (rc >= 0) {
        c.limit_bytes = limit_bytes(options, *fd);
        rc = map_file(*fd, &c, seg, place);
        if (rc != 0) {
            close(*fd);
            syscall(SYS_unlinkat, folder, name, 0);
        } else {
            snprintf(path, MP_SEGMENT_PATH_MAX, "%s/mem_profiler.%u/%s", options->dir, c.uid, name);
        }
    }
    close(folder);
    return rc < 0 ? rc : 0;
}

void mp_segment_discard_unused(const struct mp_segment *seg, const char *path) {
    if (mp_load_acquire(&seg->control->capture_number) ==
        mp_load_relaxed(&seg->control->written_capture))
        syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
