/*
 * segment_folder.c - see segment_folder.h.
 */
#include "segment_folder.h"
#include "abi/clock.h"
#include "directory.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES_MAX 4096 /* most entries of DIR that are looked at */
#define HEX_DIGITS 16

static int open_directory(int dir, const char *name, int flags) {
    int fd = (int)syscall(SYS_openat, dir, name, O_DIRECTORY | O_CLOEXEC | flags, 0);
    return fd < 0 ? -errno : fd;
}

/* A descriptor of the folder `name` in `dir`; -EPERM if it is not private to this user. */
static int open_private(int dir, const char *name) {
    struct stat st;
    int fd = open_directory(dir, name, O_RDONLY | O_NOFOLLOW);
    if (fd < 0)
        return fd;
    if (syscall(SYS_fstat, fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
        return fd;
    close(fd);
    return -EPERM;
}

static int make_private(int dir, const char *name) {
    if (syscall(SYS_mkdirat, dir, name, 0700) != 0)
        return -errno;
    int fd = open_private(dir, name);
    if (fd < 0)
        syscall(SYS_unlinkat, dir, name, AT_REMOVEDIR); /* an odd umask: the folder is useless */
    return fd;
}

/* Not guessable, so that nobody takes the name first. */
static uint64_t random_number(void) {
    uint64_t number = 0;
    if (syscall(SYS_getrandom, &number, sizeof number, 1 /* GRND_NONBLOCK */) == sizeof number)
        return number;
    const void *random = (const void *)getauxval(AT_RANDOM);
    if (random != NULL)
        memcpy(&number, random, sizeof number);
    return (number ^ mp_clock_ns(CLOCK_MONOTONIC)) * 0x9e3779b97f4a7c15ULL + (uint64_t)getpid();
}

static bool is_hex(const char *text) {
    unsigned n = 0;
    while ((text[n] >= '0' && text[n] <= '9') || (text[n] >= 'a' && text[n] <= 'f'))
        n++;
    return n == HEX_DIGITS && text[n] == '\0';
}

struct search {
    int dir;
    const char *prefix; /* "mem_profiler.UID." */
    struct mp_text *name;
    int fd;
};

static bool try_entry(const char *entry, void *arg) {
    struct search *search = arg;
    size_t n = strlen(search->prefix);
    if (strncmp(entry, search->prefix, n) != 0 || !is_hex(entry + n))
        return false;
    search->fd = open_private(search->dir, entry);
    if (search->fd < 0)
        return false;
    mp_put(search->name, entry + n);
    return true;
}

/* `name` holds "mem_profiler.UID", and gets the rest of the final name. */
static int open_other(int dir, struct mp_text *name) {
    mp_put(name, ".");
    struct search search = {.dir = dir, .prefix = name->buffer, .name = name, .fd = -EPERM};
    int readable = open_directory(dir, ".", O_RDONLY);
    if (readable >= 0) {
        mp_directory_each(readable, ENTRIES_MAX, try_entry, &search);
        close(readable);
    }
    if (search.fd >= 0)
        return search.fd;
    mp_put_hex(name, random_number());
    return make_private(dir, name->buffer);
}

/* The name is there, and is no folder that this user may trust. */
static bool is_taken(int error) {
    return error == -EPERM || error == -EACCES || error == -ENOTDIR || error == -ELOOP;
}

static int open_in(struct mp_segment_folder *folder, const char *path) {
    char name_buffer[sizeof "mem_profiler." + 10 + 1 + HEX_DIGITS];
    struct mp_text name = {.buffer = name_buffer, .size = sizeof name_buffer};
    struct mp_text whole = {.buffer = folder->path, .size = sizeof folder->path};
    int dir = open_directory(AT_FDCWD, path, O_PATH);
    if (dir < 0)
        return dir;
    mp_put(&name, "mem_profiler.");
    mp_put_number(&name, geteuid());
    int fd = open_private(dir, name_buffer);
    if (fd == -ENOENT)
        fd = make_private(dir, name_buffer);
    if (fd == -EEXIST) /* another process of this user was faster */
        fd = open_private(dir, name_buffer);
    folder->other = is_taken(fd);
    if (folder->other)
        fd = open_other(dir, &name);
    close(dir);
    mp_put(&whole, path);
    mp_put(&whole, "/");
    mp_put(&whole, name_buffer);
    return fd;
}

/* The reason is not room or descriptors: the folder is the wrong one. */
static bool is_unusable(int error) {
    return is_taken(error) || error == -ENOENT || error == -EROFS;
}

int mp_segment_folder_open(struct mp_segment_folder *folder, const char *dir) {
    int fd = open_in(folder, dir);
    if (is_unusable(fd) && strcmp(dir, MP_FOLDER_DEFAULT) != 0) {
        int elsewhere = open_in(folder, MP_FOLDER_DEFAULT);
        fd = elsewhere >= 0 ? elsewhere : fd;
        folder->other = true;
    }
    folder->fd = fd;
    return fd < 0 ? fd : 0;
}

int mp_segment_folder_again(const char *path) {
    return open_private(AT_FDCWD, path);
}
