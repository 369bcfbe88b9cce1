/*
 * mini_libc.c - the functions of the C library that the sampler needs before the program's main.
 *
 * Model: the first hooked call may come before any library's constructor. A function that another library
 * interposes (ThreadSanitizer has its own open, mmap and memcpy) does not work before that library is
 * ready. So calls of these names inside the sampler end here: the linker binds them to these hidden
 * definitions, and no import is left. They behave as the C library's do for the arguments that the
 * sampler has.
 *
 * Threads: any; HOOK.
 */
#include "abi/raw_syscall.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* -- memory and text: the compiler may not turn the body of one of these into a call of itself (Makefile) -- */

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
#if defined(__x86_64__)
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return start;
#else
    unsigned char *t = to;
    const unsigned char *f = from;
    for (; n >= 8; n -= 8, t += 8, f += 8) {
        uint64_t word;
        __builtin_memcpy(&word, f, sizeof word);
        __builtin_memcpy(t, &word, sizeof word);
    }
    while (n-- > 0)
        *t++ = *f++;
    return to;
#endif
}

void *memmove(void *to, const void *from, size_t n) {
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= n)
        return memcpy(to, from, n);
    while (n-- > 0)
        t[n] = f[n];
    return to;
}

void *memset(void *to, int value, size_t n) {
#if defined(__x86_64__)
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
    return start;
#else
    unsigned char *t = to;
    uint64_t word = (unsigned char)value * 0x0101010101010101ULL;
    for (; n >= 8; n -= 8, t += 8)
        __builtin_memcpy(t, &word, sizeof word);
    while (n-- > 0)
        *t++ = (unsigned char)value;
    return to;
#endif
}

int memcmp(const void *a, const void *b, size_t n) {
    const unsigned char *x = a, *y = b;
    for (; n > 0; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

void *memchr(const void *text, int wanted, size_t n) {
    const unsigned char *c = text;
    for (; n > 0; n--, c++)
        if (*c == (unsigned char)wanted)
            return (void *)(uintptr_t)c;
    return NULL;
}

size_t strnlen(const char *text, size_t most) {
    size_t n = 0;
    while (n < most && text[n] != '\0')
        n++;
    return n;
}

size_t strlen(const char *text) {
    size_t n = 0;
    while (text[n] != '\0')
        n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n) {
    for (; n > 0; n--, a++, b++)
        if (*a != *b || *a == '\0')
            return (unsigned char)*a - (unsigned char)*b;
    return 0;
}

int strcmp(const char *a, const char *b) {
    return strncmp(a, b, SIZE_MAX);
}

char *strcpy(char *restrict to, const char *restrict from) {
    memcpy(to, from, strlen(from) + 1);
    return to;
}

char *strchr(const char *text, int wanted) {
    for (;; text++) {
        if (*text == (char)wanted)
            return (char *)(uintptr_t)text;
        if (*text == '\0')
            return NULL;
    }
}

char *strrchr(const char *text, int wanted) {
    const char *found = NULL;
    for (;; text++) {
        if (*text == (char)wanted)
            found = text;
        if (*text == '\0')
            return (char *)(uintptr_t)found;
    }
}

size_t strcspn(const char *text, const char *ends) {
    size_t n = 0;
    while (text[n] != '\0' && strchr(ends, text[n]) == NULL)
        n++;
    return n;
}

char *strstr(const char *text, const char *wanted) {
    size_t n = strlen(wanted);
    for (; strncmp(text, wanted, n) != 0; text++)
        if (*text == '\0')
            return NULL;
    return (char *)(uintptr_t)text;
}

/* Decimal digits only, behind blanks; ULLONG_MAX and ERANGE where they do not fit. */
unsigned long long strtoull(const char *restrict text, char **restrict end, int base) {
    unsigned long long value = 0;
    const char *c = text;
    while (*c == ' ' || *c == '\t')
        c++;
    const char *first = c;
    for (; *c >= '0' && *c <= '9' && base == 10; c++) {
        unsigned long long next;
        if (__builtin_mul_overflow(value, 10ULL, &next) ||
            __builtin_add_overflow(next, (unsigned long long)(*c - '0'), &next)) {
            errno = ERANGE;
            next = ~0ULL;
        }
        value = value == ~0ULL ? value : next;
    }
    if (end != NULL)
        *end = (char *)(uintptr_t)(c == first ? text : c);
    return value;
}

/* The words of the C library in English: its own may translate, which takes locks and allocates. */
char *strerror(int error) {
    static const struct {
        int error;
        const char *text;
    } known[] = {{EPERM, "Operation not permitted"},
                 {ENOENT, "No such file or directory"},
                 {EINTR, "Interrupted system call"},
                 {EIO, "Input/output error"},
                 {ENOMEM, "Cannot allocate memory"},
                 {EACCES, "Permission denied"},
                 {EEXIST, "File exists"},
                 {ENOTDIR, "Not a directory"},
                 {EINVAL, "Invalid argument"},
                 {ENFILE, "Too many open files in system"},
                 {EMFILE, "Too many open files"},
                 {EFBIG, "File too large"},
                 {ENOSPC, "No space left on device"},
                 {EROFS, "Read-only file system"},
                 {ENAMETOOLONG, "File name too long"},
                 {ELOOP, "Too many levels of symbolic links"},
                 {EDQUOT, "Disk quota exceeded"}};
    static char other[16];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].error == error)
            return (char *)(uintptr_t)known[i].text;
    snprintf(other, sizeof other, "error %u", (unsigned)error);
    return other;
}

struct out {
    char *to;
    size_t size, length; /* the length that the whole text has, as the standard wants */
};

static void put(struct out *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++, out->length++)
        if (out->length + 1 < out->size)
            out->to[out->length] = text[i];
}

static void put_number(struct out *out, unsigned value) {
    char digits[10];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    put(out, digits + at, sizeof digits - at);
}

/* Knows %s and %u. */
int snprintf(char *restrict to, size_t size, const char *restrict format, ...) {
    struct out out = {.to = to, .size = size};
    va_list arguments;
    va_start(arguments, format);
    for (const char *c = format; *c != '\0'; c++) {
        if (c[0] == '%' && c[1] == 's') {
            const char *text = va_arg(arguments, const char *);
            put(&out, text, strlen(text));
            c++;
        } else if (c[0] == '%' && c[1] == 'u') {
            put_number(&out, va_arg(arguments, unsigned));
            c++;
        } else {
            put(&out, c, 1);
        }
    }
    va_end(arguments);
    if (size != 0)
        to[out.length < size ? out.length : size - 1] = '\0';
    return (int)out.length;
}

/* -- calls of the kernel -- */

static long checked(long result) {
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

long syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments,
             number); /* of registers that the caller did not set too: nobody reads them */
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    return checked(mp_syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static long call(long number, long a, long b, long c, long d) {
    return checked(mp_syscall4(number, a, b, c, d));
}

int open(const char *path, int flags, ...) {
    return (int)call(SYS_openat, AT_FDCWD, (long)path, flags, 0);
}

int close(int fd) {
    return (int)call(SYS_close, fd, 0, 0, 0);
}

ssize_t read(int fd, void *to, size_t n) {
    return call(SYS_read, fd, (long)to, (long)n, 0);
}

ssize_t write(int fd, const void *from, size_t n) {
    return call(SYS_write, fd, (long)from, (long)n, 0);
}

off_t lseek(int fd, off_t offset, int whence) {
    return call(SYS_lseek, fd, offset, whence, 0);
}

ssize_t readlink(const char *restrict path, char *restrict to, size_t n) {
    return call(SYS_readlinkat, AT_FDCWD, (long)path, (long)to, (long)n);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    return (void *)checked(mp_syscall6(SYS_mmap, (long)at, (long)n, protection, flags, fd, offset));
}

int munmap(void *at, size_t n) {
    return (int)call(SYS_munmap, (long)at, (long)n, 0, 0);
}

int mprotect(void *at, size_t n, int protection) {
    return (int)call(SYS_mprotect, (long)at, (long)n, protection, 0);
}

int madvise(void *at, size_t n, int advice) {
    return (int)call(SYS_madvise, (long)at, (long)n, advice, 0);
}

int munlock(const void *at, size_t n) {
    return (int)call(SYS_munlock, (long)at, (long)n, 0, 0);
}

void *mremap(void *at, size_t old_bytes, size_t new_bytes, int flags, ...) {
    void *to = NULL;
    if ((flags & MREMAP_FIXED) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        to = va_arg(arguments, void *);
        va_end(arguments);
    }
    return (void *)checked(
        mp_syscall6(SYS_mremap, (long)at, (long)old_bytes, (long)new_bytes, flags, (long)to, 0));
}

pid_t getpid(void) {
    return (pid_t)call(SYS_getpid, 0, 0, 0, 0);
}

pid_t getppid(void) {
    return (pid_t)call(SYS_getppid, 0, 0, 0, 0);
}

uid_t geteuid(void) {
    return (uid_t)call(SYS_geteuid, 0, 0, 0, 0);
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit) {
    return (int)call(SYS_prlimit64, 0, (long)resource, 0, (long)limit);
}

int prctl(int option, ...) {
    unsigned long a[4];
    va_list arguments;
    va_start(arguments, option);
    for (unsigned i = 0; i < 4; i++)
        a[i] = va_arg(arguments, unsigned long);
    va_end(arguments);
    return (int)checked(
        mp_syscall6(SYS_prctl, option, (long)a[0], (long)a[1], (long)a[2], (long)a[3], 0));
}
