/*
 * remote.c - see remote.h.
 */
#include "remote.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MAX_NS 1000000
#define GET_RSEQ_CONFIGURATION 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION, since Linux 5.13 */
#define RSEQ_CS_OFFSET 8 /* of rseq_cs in struct rseq */

uint64_t mp_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int mp_remote_read(int pid, uint64_t from, void *to, size_t bytes) {
    struct iovec here = {to, bytes};
    struct iovec there = {(void *)(uintptr_t)from, bytes};
    ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (n < 0)
        return -errno;
    return (size_t)n == bytes ? 0 : -EFAULT;
}

/* Whole words: first reads the bytes around the written ones. */
static int poke(int tid, uint64_t to, const unsigned char *from, size_t bytes) {
    while (bytes > 0) {
        uint64_t at = to & ~(uint64_t)7;
        size_t offset = to - at;
        size_t part = sizeof(long) - offset < bytes ? sizeof(long) - offset : bytes;
        errno = 0;
        long word = ptrace(PTRACE_PEEKDATA, tid, (void *)(uintptr_t)at, NULL);
        if (errno != 0)
            return -errno;
        memcpy((unsigned char *)&word + offset, from, part);
        if (ptrace(PTRACE_POKEDATA, tid, (void *)(uintptr_t)at, (void *)word) != 0)
            return -errno;
        to += part;
        from += part;
        bytes -= part;
    }
    return 0;
}

int mp_remote_write(int tid, int mem_fd, uint64_t to, const void *from, size_t bytes) {
    ssize_t n = pwrite(mem_fd, from, bytes, (off_t)to);
    return n >= 0 && (size_t)n == bytes ? 0 : poke(tid, to, from, bytes);
}

int mp_regs_get(int tid, struct mp_regs *out) {
    struct iovec io = {&out->user, sizeof out->user};
    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &io) != 0)
        return -errno;
    if (io.iov_len != sizeof out->user)
        return -ENOEXEC; /* a 32-bit thread */
    return mp_regs_get_rest(tid, out);
}

int mp_regs_set(int tid, const struct mp_regs *regs) {
    struct iovec io = {(void *)(uintptr_t)&regs->user, sizeof regs->user};
    if (ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &io) != 0)
        return -errno;
    return mp_regs_set_rest(tid, regs);
}

int mp_xstate_get(int tid, void *out, size_t *bytes) {
    struct iovec io = {out, *bytes};
    if (ptrace(PTRACE_GETREGSET, tid, (void *)MP_XSTATE_NOTE, &io) != 0) {
        io = (struct iovec){out, *bytes};
        if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRFPREG, &io) != 0)
            return -errno;
    }
    *bytes = io.iov_len;
    return 0;
}

int mp_xstate_set(int tid, const void *state, size_t bytes) {
    struct iovec io = {(void *)(uintptr_t)state, bytes};
    if (ptrace(PTRACE_SETREGSET, tid, (void *)MP_XSTATE_NOTE, &io) == 0)
        return 0;
    io = (struct iovec){(void *)(uintptr_t)state, bytes};
    return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRFPREG, &io) == 0 ? 0 : -errno;
}

int mp_mask_get(int tid, uint64_t *out) {
    return ptrace(PTRACE_GETSIGMASK, tid, (void *)sizeof *out, out) == 0 ? 0 : -errno;
}

int mp_mask_set(int tid, uint64_t mask) {
    return ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof mask, &mask) == 0 ? 0 : -errno;
}

bool mp_has_shadow_stack(int tid) {
    uint64_t pointer = 0;
    struct iovec io = {&pointer, sizeof pointer};
    return ptrace(PTRACE_GETREGSET, tid, (void *)MP_SHADOW_STACK_NOTE, &io) == 0 && pointer != 0;
}

uint64_t mp_rseq_section(int tid, int pid) {
    struct {
        uint64_t address;
        uint32_t size, signature, flags, pad;
    } configuration;
    uint64_t section = 0;
    if (ptrace((enum __ptrace_request)GET_RSEQ_CONFIGURATION, tid, (void *)sizeof configuration,
               &configuration) <= 0 ||
        configuration.address == 0 ||
        mp_remote_read(pid, configuration.address + RSEQ_CS_OFFSET, &section, sizeof section) != 0)
        return 0;
    return section;
}

int mp_poll(int tid, int *status) {
    int rc = waitpid(tid, status, __WALL | WNOHANG);
    if (rc < 0)
        return errno == EINTR ? -EAGAIN : -ESRCH;
    if (rc == 0)
        return -EAGAIN;
    return WIFSTOPPED(*status) ? 0 : -ESRCH;
}

void mp_nap(long *nap_ns) {
    nanosleep(&(struct timespec){.tv_nsec = *nap_ns}, NULL);
    *nap_ns = *nap_ns * 3 / 2 < POLL_MAX_NS ? *nap_ns * 3 / 2 : POLL_MAX_NS;
}

int mp_wait(int tid, uint64_t deadline_ns, int *status, uint64_t *since_ns) {
    long nap_ns = MP_NAP_FIRST_NS;
    for (;;) {
        uint64_t now_ns = mp_now_ns();
        int rc = mp_poll(tid, status);
        if (rc != -EAGAIN)
            return rc;
        *since_ns = now_ns;
        if (now_ns >= deadline_ns)
            return -ETIMEDOUT;
        mp_nap(&nap_ns);
    }
}
