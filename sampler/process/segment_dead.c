/*
 * segment_dead.c - see segment_dead.h.
 */
#include "segment_dead.h"
#include "proc_stat.h"
#include "segment_pack.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OFD_GETLK 36 /* newer than the oldest headers */
#define OFD_SETLK 37
#define PACK_MAX_BYTES (1u << 20) /* of data: with more, what hashing wastes does not count */
#define EXTENTS_MAX 65536 /* of one file: a forged one may have any number */
#define PAGE MP_CONTROL_BYTES

/* Too large for the stack of a small thread that forks. */
static struct {
    struct stat now;
    struct flock lock;
    struct mp_control control;
    uint64_t data[4 * PAGE / sizeof(uint64_t)];
} seen;

/* An open file that may be a segment. */
struct file {
    int fd;
    struct stat st;
};

static long lock_first_byte(int fd, int command, short type) {
    seen.lock = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    return syscall(SYS_fcntl, fd, command, &seen.lock);
}

bool mp_dead_hold(int fd) {
    return lock_first_byte(fd, OFD_SETLK, F_RDLCK) == 0;
}

static bool is_held(int fd) {
    return lock_first_byte(fd, OFD_GETLK, F_WRLCK) != 0 || seen.lock.l_type != F_UNLCK;
}

/* Open it, and copy its control page to seen.control. */
static bool open_segment(struct file *file, int folder, const char *name) {
    const struct mp_control *c = &seen.control;
    struct stat *st = &file->st;
    file->fd = (int)syscall(SYS_openat, folder, name,
                            O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (file->fd < 0)
        return false;
    if (syscall(SYS_fstat, file->fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
        st->st_nlink == 1 &&
        syscall(SYS_pread64, file->fd, &seen.control, sizeof *c, 0L) == (long)sizeof *c &&
        c->magic == MP_SEGMENT_MAGIC && c->version == MP_SEGMENT_VERSION)
        return true;
    close(file->fd);
    return false;
}

/* Is the process that the control page names gone, as far as its pid tells? */
static bool is_gone(const struct mp_control *own) {
    const struct mp_control *c = &seen.control;
    if (c->pidns_inode != own->pidns_inode)
        return false;
    if (c->pid == own->pid && c->start_ticks == own->start_ticks)
        return true; /* an image that this one replaced by exec */
    return mp_start_ticks_of(c->pid) != c->start_ticks;
}

static bool is_dead(const struct file *file, const struct mp_control *own) {
    return (seen.control.startup_flags & MP_STARTUP_LOCKED) ? !is_held(file->fd) : is_gone(own);
}

static bool is_unsaved(void) {
    return seen.control.capture_number != seen.control.written_capture;
}

static bool is_named(const struct file *file, int folder, const char *name) {
    return syscall(SYS_newfstatat, folder, name, &seen.now, AT_SYMLINK_NOFOLLOW) == 0 &&
           seen.now.st_dev == file->st.st_dev && seen.now.st_ino == file->st.st_ino;
}

/* Remove the name if it is still this file's. */
static bool remove_name(const struct file *file, int folder, const char *name) {
    return is_named(file, folder, name) && syscall(SYS_unlinkat, folder, name, 0) == 0;
}

static void punch(int fd, uint64_t from, uint64_t to) {
    if (to > from)
        syscall(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (long)from,
                (long)(to - from));
}

/* No reader of a dead segment looks up a stack by its hash. */
static void trim_index(const struct file *file) {
    const struct mp_table *index = &seen.control.stack_index;
    uint64_t size = (uint64_t)file->st.st_size;
    for (unsigned i = 0; i < MP_LEVELS && i < index->levels_ready; i++) {
        uint64_t from = index->level[i].offset, bytes = (uint64_t)index->level[i].rows * 8;
        if (from >= PAGE && from % PAGE == 0 && from <= size && bytes <= size - from)
            punch(file->fd, from, from + bytes / PAGE * PAGE);
    }
}

static bool is_zero(const uint64_t *words, uint64_t bytes) {
    uint64_t any = 0;
    for (uint64_t i = 0; i < bytes / sizeof *words; i++)
        any |= words[i];
    return any == 0;
}

/* Give back the pages in [*zeros, to) but for those in [from, to) that hold data; *zeros becomes the end of the last
 * of these. False: the file cannot be read. */
static bool trim_range(int fd, uint64_t *zeros, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to;) {
        long n = syscall(SYS_pread64, fd, seen.data, sizeof seen.data, (long)at);
        if (n < (long)PAGE)
            return false;
        for (long i = 0; i + (long)PAGE <= n && at < to; i += PAGE, at += PAGE) {
            if (is_zero(seen.data + i / (long)sizeof seen.data[0], PAGE))
                continue;
            punch(fd, *zeros, at);
            *zeros = at + PAGE;
        }
    }
    return true;
}

/* Pages that were reserved and not written are holes to lseek(), and give back memory like those of zeros. */
static void trim_pages(const struct file *file) {
    uint64_t at = PAGE, zeros = PAGE, end = (uint64_t)file->st.st_size / PAGE * PAGE;
    for (unsigned extents = 0; at < end; extents++) {
        long data = lseek(file->fd, (long)at, SEEK_DATA);
        long hole = data < 0 ? -1 : lseek(file->fd, data, SEEK_HOLE);
        if (data < 0)
            break; /* no more data */
        if (hole <= data || extents == EXTENTS_MAX)
            return;
        at = (uint64_t)hole;
        if (!trim_range(file->fd, &zeros, (uint64_t)data / PAGE * PAGE, at / PAGE * PAGE))
            return;
    }
    punch(file->fd, zeros, end);
}

/* Keep the times: they order segments by age. */
static void trim(const struct file *file) {
    trim_index(file);
    trim_pages(file);
    uint32_t flags = seen.control.startup_flags | MP_STARTUP_TRIMMED;
    syscall(SYS_pwrite64, file->fd, &flags, sizeof flags,
            (long)offsetof(struct mp_control, startup_flags));
    const struct timespec times[2] = {file->st.st_atim, file->st.st_mtim};
    syscall(SYS_utimensat, file->fd, NULL, times, 0);
}

static uint64_t held_bytes(const struct stat *st) {
    return (uint64_t)st->st_blocks * 512;
}

/* Pack a trimmed segment, unless a controller has it. Returns the bytes that it holds then. */
static uint64_t make_smallest(const struct file *file, int folder, const char *name) {
    if (syscall(SYS_fstat, file->fd, &seen.now) != 0)
        return held_bytes(&file->st);
    uint64_t trimmed = held_bytes(&seen.now);
    if (trimmed <= PAGE || trimmed > PACK_MAX_BYTES ||
        syscall(SYS_flock, file->fd, LOCK_EX | LOCK_NB) != 0 || !is_named(file, folder, name) ||
        !mp_pack(folder, name, file->fd, &seen.control, &file->st))
        return trimmed;
    return syscall(SYS_newfstatat, folder, name, &seen.now, AT_SYMLINK_NOFOLLOW) == 0
               ? held_bytes(&seen.now)
               : 0;
}

uint64_t mp_dead_tidy(int folder, const char *name, const struct mp_control *own,
                      uint64_t most_bytes) {
    static struct file file; /* too large for the stack of a small thread that forks */
    uint64_t before, given_back = 0;
    if (!open_segment(&file, folder, name))
        return 0;
    before = held_bytes(&file.st);
    if (!is_unsaved()) {
        if ((is_gone(own) || is_dead(&file, own)) && remove_name(&file, folder, name))
            given_back = before;
    } else if (!(seen.control.startup_flags & MP_STARTUP_TRIMMED) && before <= most_bytes &&
               is_dead(&file, own)) {
        trim(&file);
        uint64_t after = make_smallest(&file, folder, name);
        given_back = after < before ? before - after : 0;
    }
    close(file.fd);
    return given_back;
}

/* A process of another pid namespace may still write it: then its rename fails, and it leaves the segment as it is. */
void mp_dead_tidy_packing(int folder, const char *name) {
    size_t n = sizeof MP_PACK_PREFIX - 1;
    if (strncmp(name, MP_PACK_PREFIX, n) == 0 &&
        mp_start_ticks_of((uint32_t)strtoull(name + n, NULL, 10)) == 0)
        syscall(SYS_unlinkat, folder, name, 0);
}

bool mp_dead_drop(int folder, const char *name, const struct mp_control *own) {
    static struct file file;
    if (!open_segment(&file, folder, name))
        return false;
    bool dropped = is_dead(&file, own) && syscall(SYS_flock, file.fd, LOCK_EX | LOCK_NB) == 0 &&
                   remove_name(&file, folder, name);
    close(file.fd);
    return dropped;
}
