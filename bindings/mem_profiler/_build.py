"""Build the cffi extension `mem_profiler._core` from the headers that C and Python share.

Model: cffi gets the structures, constants and enums between the cffi marks of the headers in
sampler/abi unchanged, so C and Python have one definition of each. The few functions added here do
what Python cannot do itself: atomic loads, stores and compare-and-swaps on the control page,
fallocate without glibc's emulation, which would write into a live segment, and system calls that
Python has no function for.

The control page belongs to the target, which may cut the file at any time. Every access therefore
runs under a SIGBUS guard and reports -EFAULT instead of ending the controller.

Run as a program it builds the extension beside this file; setup.py names `ffibuilder`.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SAMPLER = HERE.parent.parent / "sampler"

DECLARATIONS = """
unsigned char *mp_control_map(int fd);
void mp_control_unmap(unsigned char *base);
int mp_load64(const unsigned char *base, unsigned offset, uint64_t *out);
int mp_load32(const unsigned char *base, unsigned offset, uint32_t *out);
int mp_store64(unsigned char *base, unsigned offset, uint64_t value);
int mp_store32(unsigned char *base, unsigned offset, uint32_t value);
int mp_cas64(unsigned char *base, unsigned offset, uint64_t from, uint64_t to);
int mp_cas32(unsigned char *base, unsigned offset, uint32_t from, uint32_t to);
int mp_fallocate(int fd, uint64_t offset, uint64_t bytes);
const char *mp_backend_words(void);
uint64_t mp_heap_walk(const struct mp_heap_copy *copy, uint64_t at, uint64_t to, int exact);
const char *mp_mimalloc_words(void);
"""

SOURCE = r"""
#include "abi/backends.h"
#include "abi/entry_plan.h"
#include "abi/glibc_heap.h"
#include "abi/mimalloc_list.h"
#include "abi/room.h"
#include "abi/segment.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the guarded access of this thread goes on when its page is gone. */
static __thread sigjmp_buf *mp_guard;
static int mp_guarding;

static void mp_on_sigbus(int signal_number) {
    if (mp_guard != NULL)
        siglongjmp(*mp_guard, 1);
    signal(signal_number, SIG_DFL); /* not ours: the access repeats and ends the process */
}

/* Two threads may both install it: the second call changes nothing. No pthread_once, which a
 * linker takes from glibc 2.34; the wheels are for 2.28 and later. */
static void mp_guard_install(void) {
    struct sigaction action = {.sa_handler = mp_on_sigbus, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
    __atomic_store_n(&mp_guarding, 1, __ATOMIC_RELEASE);
}

#define MP_GUARDED(access)                             \
    do {                                               \
        sigjmp_buf here;                               \
        if (!__atomic_load_n(&mp_guarding, __ATOMIC_ACQUIRE)) \
            mp_guard_install();                        \
        if (sigsetjmp(here, 1) != 0) {                 \
            mp_guard = NULL;                           \
            return -EFAULT;                            \
        }                                              \
        mp_guard = &here;                              \
        access;                                        \
        mp_guard = NULL;                               \
    } while (0)

static unsigned char *mp_control_map(int fd) {
    void *base = mmap(NULL, MP_CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

static void mp_control_unmap(unsigned char *base) {
    munmap(base, MP_CONTROL_BYTES);
}

#define MP_ACCESSORS(bits)                                                                       \
    static int mp_load##bits(const unsigned char *base, unsigned offset, uint##bits##_t *out) {  \
        MP_GUARDED(*out = __atomic_load_n((const uint##bits##_t *)(base + offset),               \
                                          __ATOMIC_ACQUIRE));                                    \
        return 0;                                                                                \
    }                                                                                            \
    static int mp_store##bits(unsigned char *base, unsigned offset, uint##bits##_t value) {      \
        MP_GUARDED(__atomic_store_n((uint##bits##_t *)(base + offset), value, __ATOMIC_RELEASE)); \
        return 0;                                                                                \
    }                                                                                            \
    static int mp_cas##bits(unsigned char *base, unsigned offset, uint##bits##_t from,           \
                            uint##bits##_t to) {                                                 \
        volatile int done = 0;                                                                   \
        MP_GUARDED(done = __atomic_compare_exchange_n((uint##bits##_t *)(base + offset), &from,  \
                                                      to, 0, __ATOMIC_ACQ_REL,                   \
                                                      __ATOMIC_ACQUIRE));                        \
        return done;                                                                             \
    }

MP_ACCESSORS(64)
MP_ACCESSORS(32)

/* The names of all drivers, in the order of their rows. */
static const char *mp_backend_words(void) {
#define MP_WORD(id, name) name " "
    return MP_BACKEND_LIST(MP_WORD);
}

/* Names and signatures of mimalloc's functions. */
static const char *mp_mimalloc_words(void) {
#define MP_TWO_WORDS(name, signature) #name " " signature " "
    return MP_MIMALLOC_LIST(MP_TWO_WORDS);
}

static int mp_fallocate(int fd, uint64_t offset, uint64_t bytes) {
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)bytes);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}
"""


def header_declarations(header: Path) -> str:
    """The text between the cffi marks of `header`; ValueError when the marks are missing."""
    found = re.search(
        r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", header.read_text(encoding="utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"{header} has no cffi marks")
    return found.group(1)


ffibuilder = FFI()
HEADERS = ("event_ring.h", "segment.h", "room.h", "entry_plan.h", "glibc_heap.h")
ffibuilder.cdef(
    "".join(header_declarations(SAMPLER / "abi" / name) for name in HEADERS) + DECLARATIONS
)
ffibuilder.set_source(
    "mem_profiler._core",
    SOURCE,
    include_dirs=[str(SAMPLER)],
    depends=[str(SAMPLER / "abi" / name) for name in HEADERS],
    extra_compile_args=["-O2"],
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent), verbose=False)
