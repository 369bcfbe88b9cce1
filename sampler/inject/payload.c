/*
 * payload.c - the code that runs in the region: see payload.h. No string, no table, no call out of this
 * section but through addresses in the frame.
 */
/* The compiler would load a constant in a vector register from outside the section. */
#pragma GCC target("general-regs-only")

#include "payload.h"
#include "abi/raw_syscall.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define IN_PAYLOAD __attribute__((section("mp_payload"), used, noinline))
#define DETACHED 1 /* PTHREAD_CREATE_DETACHED, the same in every glibc */
#define LOADER_STACK_BYTES (1u << 20)
#define ATTRIBUTE_BYTES 64 /* sizeof(pthread_attr_t): 56 on x86_64, 64 on aarch64 */
#define MEMFD_FLAGS 3u /* MFD_CLOEXEC, MFD_ALLOW_SEALING */
#define ADD_SEALS 1033 /* F_ADD_SEALS */
#define ALL_SEALS 15   /* F_SEAL_SEAL, _SHRINK, _GROW, _WRITE */
#define YIELDS 20000 /* some 10 ms */

typedef int (*attr_init_fn)(void *);
typedef int (*attr_set_fn)(void *, long);
typedef int (*create_fn)(void *, const void *, void *, void *);
typedef void *(*dlopen_fn)(const char *, int);
typedef void *(*dlsym_fn)(void *, const char *);
typedef const char *(*dlerror_fn)(void);
typedef int (*munmap_fn)(void *, size_t);
typedef int (*attach_fn)(struct mp_attach_request *);

__attribute__((visibility("hidden"))) void mp_payload_create(struct mp_payload_frame *frame);
__attribute__((visibility("hidden"))) void *mp_payload_load(struct mp_payload_frame *frame);

/* On the borrowed thread: make the loader. Its signals stay blocked, so no handler of the program ever
 * runs on it. */
IN_PAYLOAD void mp_payload_create(struct mp_payload_frame *frame) {
    uint64_t attributes[ATTRIBUTE_BYTES / 8 + 2];
    uint64_t thread;
    uint64_t all = ~0ULL;
    mp_syscall4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, 0, sizeof all);
    int rc = ((attr_init_fn)frame->pthread_attr_init)(attributes);
    if (rc == 0)
        rc = ((attr_set_fn)frame->pthread_attr_setdetachstate)(attributes, DETACHED);
    if (rc == 0)
        rc = ((attr_set_fn)frame->pthread_attr_setstacksize)(attributes, LOADER_STACK_BYTES);
    if (rc == 0)
        rc = ((create_fn)frame->pthread_create)(&thread, attributes, (void *)frame->loader, frame);
    frame->created = rc;
    __atomic_store_n(&frame->ready, 1, __ATOMIC_RELEASE);
    /* The controller moves the thread away from here now; if not, it leaves by itself. No call that
     * waits: the kernel keeps one place for a call that it must restart, and that is the program's. */
    for (unsigned i = 0; i < YIELDS; i++)
        mp_syscall4(SYS_sched_yield, 0, 0, 0, 0);
}

static inline __attribute__((always_inline)) bool wait_for(const struct mp_payload_frame *frame,
                                                           const uint32_t *word) {
    for (unsigned i = 0; i < MP_PATIENCE_MS * (1000000 / MP_NAP_NS); i++) {
        if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 0)
            return true;
        mp_syscall4(SYS_nanosleep, (long)frame->nap, 0, 0, 0);
    }
    return false;
}

static inline __attribute__((always_inline)) void reach(struct mp_payload_frame *frame,
                                                        uint32_t stage) {
    __atomic_store_n(&frame->stage, stage, __ATOMIC_RELEASE);
}

static inline __attribute__((always_inline)) char *append(char *to, const char *end,
                                                          const char *text) {
    while (to < end && *text != 0)
        *to++ = *text++;
    *to = 0;
    return to;
}

static inline __attribute__((always_inline)) char *append_number(char *to, const char *end,
                                                                 unsigned number) {
    unsigned divisor = 1;
    while (number / divisor >= 10)
        divisor *= 10;
    for (; divisor != 0 && to < end; divisor /= 10)
        *to++ = (char)('0' + number / divisor % 10);
    *to = 0;
    return to;
}

/* /proc/N/fd/FD, where N is this process's number in the /proc of this mount namespace. Not /proc/self: a
 * debugger that opens the path later would find its own descriptor there. */
static inline __attribute__((always_inline)) void name_of_fd(struct mp_payload_frame *frame) {
    char pid[16];
    char *end = frame->path + sizeof frame->path - 1;
    long n =
        mp_syscall4(SYS_readlinkat, AT_FDCWD, (long)frame->proc_self, (long)pid, sizeof pid - 1);
    char *to;
    if (n > 0) {
        pid[n] = 0;
        to = append(frame->path, end, frame->proc);
        to = append(to, end, pid);
    } else {
        to = append(frame->path, end, frame->proc_self);
    }
    to = append(to, end, frame->fd_folder);
    append_number(to, end, (unsigned)frame->fd);
}

static inline __attribute__((always_inline)) uint32_t fail(struct mp_payload_frame *frame,
                                                           enum mp_loader_failure what,
                                                           long error) {
    frame->error = (int32_t)error;
    return what;
}

/* Room for the bytes of a library that it opens from memory. */
static inline __attribute__((always_inline)) uint32_t make_room(struct mp_payload_frame *frame) {
    if (frame->dlopen == 0 || frame->path[0] != 0)
        return MP_FAILED_NOT;
    long at = mp_syscall6(SYS_mmap, 0, (long)frame->library_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
        return fail(frame, MP_FAILED_MEMORY, at);
    frame->library = (uint64_t)at;
    return MP_FAILED_NOT;
}

/* It opens or calls nothing before the controller's answer: the controller may have died meanwhile. */
static inline __attribute__((always_inline)) uint32_t
await_library(struct mp_payload_frame *frame) {
    uint32_t failure = make_room(frame);
    if (failure != MP_FAILED_NOT)
        return failure;
    reach(frame, MP_LOADER_WANTS_LIBRARY);
    if (!wait_for(frame, &frame->go) || __atomic_load_n(&frame->go, __ATOMIC_ACQUIRE) != 1)
        return fail(frame, MP_FAILED_WAIT, -ETIMEDOUT);
    return MP_FAILED_NOT;
}

/* This thread blocks signals: a limit on file sizes gives an error, not its signal. */
static inline __attribute__((always_inline)) long write_whole(int fd, uint64_t from,
                                                              uint64_t bytes) {
    while (bytes > 0) {
        long n = mp_syscall4(SYS_write, fd, (long)from, (long)bytes, 0);
        if (n <= 0)
            return n == 0 ? -EIO : n;
        from += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* A memory file that nobody can change any more, with the received bytes. */
static inline __attribute__((always_inline)) uint32_t make_file(struct mp_payload_frame *frame) {
    long fd = mp_syscall4(SYS_memfd_create, (long)frame->memfd_name, MEMFD_FLAGS, 0, 0);
    if (fd < 0)
        return fail(frame, MP_FAILED_MEMFD, fd);
    frame->fd = (int32_t)fd;
    long rc = write_whole(frame->fd, frame->library, frame->library_bytes);
    if (rc != 0)
        return fail(frame, MP_FAILED_MEMFD, rc);
    mp_syscall4(SYS_fcntl, fd, ADD_SEALS, ALL_SEALS, 0);
    name_of_fd(frame);
    return MP_FAILED_NOT;
}

static inline __attribute__((always_inline)) uint32_t get_library(struct mp_payload_frame *frame) {
    uint32_t failure = await_library(frame);
    if (frame->library == 0)
        return failure;
    if (failure == MP_FAILED_NOT)
        failure = make_file(frame);
    ((munmap_fn)frame->munmap)((void *)frame->library, frame->library_bytes);
    return failure;
}

static inline __attribute__((always_inline)) uint32_t open_library(struct mp_payload_frame *frame) {
    reach(frame, MP_LOADER_LOADING);
    void *handle = ((dlopen_fn)frame->dlopen)(frame->path, (int)frame->dlopen_flags);
    if (handle == 0) {
        const char *why = frame->dlerror != 0 ? ((dlerror_fn)frame->dlerror)() : 0;
        if (why != 0)
            append(frame->text, frame->text + sizeof frame->text - 1, why);
        return fail(frame, MP_FAILED_DLOPEN, -ELIBACC);
    }
    frame->entry = (uint64_t)((dlsym_fn)frame->dlsym)(handle, frame->symbol);
    return frame->entry != 0 ? MP_FAILED_NOT : fail(frame, MP_FAILED_SYMBOL, -ENOSYS);
}

/* On the loader. Returns the region if its unmapping is safe, or NULL if a thread may still be in it. */
IN_PAYLOAD void *mp_payload_load(struct mp_payload_frame *frame) {
    frame->fd = -1;
    frame->library = 0;
    reach(frame, MP_LOADER_STARTED);
    uint32_t failure = get_library(frame);
    if (failure == MP_FAILED_NOT && frame->dlopen != 0)
        failure = open_library(frame);
    if (frame->fd >= 0)
        mp_syscall4(SYS_close, frame->fd, 0, 0, 0);
    if (failure == MP_FAILED_NOT) {
        reach(frame, MP_LOADER_CALLING);
        /* The controller writes `go` and then reads `stage`: one of both sees the other's word. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(&frame->go, __ATOMIC_ACQUIRE) != 1)
            failure = fail(frame, MP_FAILED_WAIT, -ECANCELED);
    }
    if (failure == MP_FAILED_NOT) {
        int rc = ((attach_fn)frame->entry)(&frame->request);
        if (rc != 0)
            failure = fail(frame, MP_FAILED_CALL, rc);
    }
    frame->failure = failure;
    reach(frame, MP_LOADER_DONE);
    wait_for(frame, &frame->ack);
    return wait_for(frame, &frame->left) ? (void *)frame->region : 0;
}
