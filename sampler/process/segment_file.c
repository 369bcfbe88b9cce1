/*
 * segment_file.c - the life of the segment file. See segment_file.h.
 */
#include "segment_file.h"
#include "abi/clock.h"
#include "cgroup.h"
#include "proc_stat.h"
#include "quiet.h"
#include "segment_dead.h"
#include "segment_room.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FREE_SHARE 4    /* of the file system's free space, which others need too */
#define NO_LIMIT_BYTES (1ULL << 60) /* older kernels say 2^63, less a page, where there is none */
#define SIZE_STEP 0xffffULL /* the largest page size, less 1 */

/* Too large for the stack of a small thread that forks. */
static struct {
    struct mp_control made; /* becomes page 0 */
    char text[4096];
    char name[64];
} scratch;

static const char *why; /* the latest failure, where -errno does not identify it */

/* Kernel calls by number: the C library's wrappers of these changed version or name between releases. */
static int sys_openat(int dir, const char *path, int flags, int mode) {
    return (int)syscall(SYS_openat, dir, path, flags | O_CLOEXEC, mode);
}

static int sys_fstat(int fd, struct stat *st) {
    return (int)syscall(SYS_fstat, fd, st);
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

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Little room does not prevent a segment: the file system refuses pages without room one by one. A file
 * system that counts no blocks has no bound. */
static uint64_t room_bytes(int fd) {
    struct statfs fs;
    if (syscall(SYS_fstatfs, fd, &fs) != 0 || fs.f_blocks == 0)
        return UINT64_MAX;
    uint64_t share = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize / FREE_SHARE;
    return share < MP_LIMIT_WHOLE_BYTES ? MP_LIMIT_WHOLE_BYTES : share;
}

static uint64_t limit_of(int what) {
    struct {
        uint64_t now, most;
    } limit;
    if (syscall(SYS_prlimit64, 0, what, NULL, &limit) != 0)
        return UINT64_MAX;
    return limit.now;
}

static uint64_t share_of(const struct mp_options *options) {
    return options->max_memory_asked ? MP_LIMIT_GROUP_ASKED_SHARE : MP_LIMIT_GROUP_SHARE;
}

uint64_t mp_space_share_bytes(const struct mp_options *options) {
    char text[64];
    uint64_t most = limit_of(RLIMIT_AS), used = 0;
    if (most == UINT64_MAX)
        return UINT64_MAX;
    if (mp_proc_read("/proc/self/statm", text, sizeof text) > 0)
        used = strtoull(text, NULL, 10) * getauxval(AT_PAGESZ);
    return used < most ? (most - used) / share_of(options) : 0;
}

/* What the process's control groups let it have, for the reader of the segment; 0: no limit is known. */
static uint64_t memory_limit_bytes(void) {
    static const struct mp_cgroup_places places = {
        .groups = "/proc/self/cgroup", .root = "/sys/fs/cgroup", .fatal = true};
    uint64_t limit = mp_cgroup_limit_bytes(&places);
    return limit < NO_LIMIT_BYTES ? limit : 0;
}

/* The size of the file; 0, and `why` is set, where it would be too small. */
static uint64_t limit_bytes(const struct mp_options *options, int fd,
                            const struct mp_segment_place *place) {
    static const struct mp_cgroup_places places = {.groups = "/proc/self/cgroup",
                                                   .root = "/sys/fs/cgroup"};
    uint64_t least = mp_limit_min_bytes(getauxval(AT_PAGESZ));
    uint64_t limit = smaller(options->max_memory_bytes, room_bytes(fd));
    uint64_t group = mp_cgroup_limit_bytes(&places) / share_of(options);
    uint64_t size = limit_of(RLIMIT_FSIZE), space = mp_space_share_bytes(options);
    if (place->base != NULL)
        limit = smaller(limit, place->bytes);
    limit = smaller(smaller(limit, space), smaller(group, size)) & ~SIZE_STEP;
    if (limit >= least)
        return limit;
    why = size < least    ? "the limit of file sizes (ulimit -f) leaves no room for a segment"
          : space < least ? "the limit of address space (ulimit -v) leaves no room for a segment"
          : group < least ? "the memory limit of the control group leaves no room for a segment"
                          : "MEM_PROFILER_MAX_MEMORY leaves no room for a segment";
    return 0;
}

/* Create the file under the first exec count that is free. */
static int create_file(int folder) {
    struct mp_control *c = &scratch.made;
    for (c->exec_count = 0; c->exec_count < 100000; c->exec_count++) {
        struct mp_text name = {.buffer = scratch.name, .size = sizeof scratch.name};
        mp_put_number(&name, c->pid);
        mp_put(&name, "-");
        mp_put_number(&name, c->start_ticks);
        mp_put(&name, "-");
        mp_put_number(&name, c->exec_count);
        int fd = sys_openat(folder, scratch.name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

static void describe(struct mp_control *c, const char *exe) {
    struct mp_text text = {.buffer = c->exe, .size = sizeof c->exe};
    c->magic = MP_SEGMENT_MAGIC;
    c->version = MP_SEGMENT_VERSION;
    c->header_bytes = sizeof *c;
    c->uid = (uint32_t)geteuid();
    c->page_bytes = (uint32_t)getauxval(AT_PAGESZ);
    c->gate = INT64_MIN;
    c->created_monotonic_ns = mp_clock_ns(CLOCK_MONOTONIC);
    mp_proc_read("/proc/self/comm", c->comm, sizeof c->comm);
    c->comm[strcspn(c->comm, "\n")] = '\0';
    mp_put(&text, exe);
    long n = mp_proc_read("/proc/self/cmdline", c->command, sizeof c->command);
    for (long i = 0; i + 1 < n; i++)
        if (c->command[i] == '\0')
            c->command[i] = ' ';
}

/* A long list of groups can leave no room for the line about filters; a kernel without filters has a short file without
 * that line. */
bool mp_is_filtered(void) {
    long n = mp_proc_read("/proc/self/status", scratch.text, sizeof scratch.text);
    const char *line = n > 0 ? strstr(scratch.text, "\nSeccomp:") : NULL;
    if (line == NULL)
        return n <= 0 || n == (long)sizeof scratch.text - 1;
    return line[strcspn(line, "012")] != '0';
}

static uint64_t kib_after(const char *text, const char *name) {
    const char *p = strstr(text, name);
    return p != NULL ? strtoull(p + strlen(name), NULL, 10) << 10 : 0;
}

struct mp_resident mp_resident_now(void) {
    const char *text = scratch.text;
    struct mp_resident now = {0};
    if (mp_proc_read("/proc/self/status", scratch.text, sizeof scratch.text) <= 0)
        return now;
    now.anon_bytes = kib_after(text, "\nRssAnon:");
    now.file_bytes = kib_after(text, "\nRssFile:");
    now.shmem_bytes = kib_after(text, "\nRssShmem:");
    now.high_bytes = kib_after(text, "\nVmHWM:");
    return now;
}

/* mlockall(MCL_FUTURE) fills a mapping when it is made, unless it may not be accessed yet. The mapping
 * gets its place when access is allowed: threads that use this place never meet a hole. */
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

/* Give the file its size and page 0: that must exist before a write through the mapping, and a process
 * that finds the mapping finds a segment. The limit of file sizes may have become smaller since it was
 * read, and another process may cut the file. */
static int fill_file(int fd, const struct mp_control *c) {
    struct mp_quiet quiet;
    mp_quiet_begin(&quiet);
    long rc = syscall(SYS_ftruncate, fd, (long)c->limit_bytes);
    if (rc == 0 && syscall(SYS_fallocate, fd, 0, 0L, (long)MP_CONTROL_BYTES) != 0)
        rc = errno == EOPNOTSUPP ? 0 : -1; /* then a write to it is the only way */
    long written = rc == 0 ? syscall(SYS_pwrite64, fd, c, sizeof *c, 0L) : -1;
    mp_quiet_end(&quiet);
    if (written < 0)
        return -errno;
    return written == (long)sizeof *c ? 0 : -EFBIG;
}

static int map_file(struct mp_segment_file *file, struct mp_segment *seg,
                    const struct mp_segment_place *place) {
    struct mp_control *c = &scratch.made;
    mp_segment_layout(c);
    if (mp_dead_hold(file->fd))
        c->startup_flags |= MP_STARTUP_LOCKED;
    int rc = fill_file(file->fd, c);
    if (rc != 0)
        return rc;
    void *base = mp_map_lazily(place->base, c->limit_bytes, MAP_SHARED | MAP_NORESERVE, file->fd);
    if (base == MAP_FAILED)
        return -errno;
    mp_segment_attach(seg, base, c);
    file->mapped_bytes = c->limit_bytes;
    return 0;
}

static void note_file(struct mp_segment_file *file, const struct mp_segment_folder *folder) {
    struct mp_text path = {.buffer = file->path, .size = sizeof file->path};
    struct stat st;
    mp_put(&path, folder->path);
    file->folder_length = (uint32_t)path.used;
    mp_put(&path, "/");
    mp_put(&path, scratch.name);
    file->other_folder = folder->other;
    if (sys_fstat(file->fd, &st) == 0) {
        file->device = st.st_dev;
        file->inode = st.st_ino;
    }
}

/* The same within the bound of all segments together. */
static uint64_t limit_within_bound(const struct mp_options *options, int folder,
                                   const struct mp_segment_place *place, bool captures) {
    const struct mp_control *own = &scratch.made;
    uint64_t limit = limit_bytes(options, folder, place);
    if (limit == 0 || !captures) {
        mp_room_tidy(folder, own);
        return limit;
    }
    uint64_t asked = options->max_memory_asked ? options->max_memory_bytes : 0;
    uint64_t bound = mp_room_bound_bytes(folder, options->max_total_bytes, asked);
    limit = mp_room_take(folder, bound, limit, own) & ~SIZE_STEP;
    if (limit == 0)
        why = "the segments of this user take all of MEM_PROFILER_MAX_TOTAL (mem_profiler ps, "
              "mem_profiler clean)";
    return limit;
}

int mp_segment_create(const struct mp_options *options, const char *exe, struct mp_segment *seg,
                      struct mp_segment_file *file, const struct mp_segment_place *place,
                      bool captures) {
    struct mp_control *c = &scratch.made;
    static struct mp_segment_folder folder;
    why = NULL;
    int rc = mp_segment_folder_open(&folder, options->dir);
    if (rc != 0)
        return rc;
    memset(c, 0, sizeof *c);
    c->pid = (uint32_t)getpid();
    c->start_ticks = mp_start_ticks_of(0);
    c->pidns_inode = pidns_inode();
    describe(c, exe);
    c->depth_limit = options->depth_limit;
    c->memory_limit_bytes = memory_limit_bytes();
    c->at_start = mp_resident_now();
    if (mp_is_filtered())
        c->controller_flags = MP_FLAG_SECCOMP;

    c->limit_bytes = limit_within_bound(options, folder.fd, place, captures);
    rc = file->fd = c->limit_bytes != 0 ? create_file(folder.fd) : -EFBIG;
    if (rc >= 0) {
        note_file(file, &folder);
        rc = map_file(file, seg, place);
        if (rc != 0) {
            close(file->fd);
            syscall(SYS_unlinkat, folder.fd, scratch.name, 0);
        }
    }
    close(folder.fd);
    return rc;
}

const char *mp_segment_why(int rc) {
    return why != NULL ? why : strerror(-rc);
}

void mp_segment_discard_unused(const struct mp_segment *seg, const struct mp_segment_file *file) {
    struct stat st;
    /* Pairs with the controller's store when it starts a capture: none began unseen. */
    if (mp_load_acquire(&seg->control->capture_number) !=
        mp_load_relaxed(&seg->control->written_capture))
        return;
    memcpy(scratch.text, file->path, file->folder_length);
    scratch.text[file->folder_length] = '\0';
    const char *name = file->path + file->folder_length + 1;
    int folder = mp_segment_folder_again(scratch.text);
    if (folder < 0)
        return;
    if (syscall(SYS_newfstatat, folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == file->device && st.st_ino == file->inode)
        syscall(SYS_unlinkat, folder, name, 0);
    close(folder);
}
