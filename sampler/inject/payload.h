/*
 * payload.h - the code that runs inside the target, and its memory.
 *
 * Model: two pieces of code. The *pad* is a few hundred bytes in the unused tail of an executable page of
 * the target; it maps the *region*, and at the end restores every register of the borrowed thread, from
 * values that the engine wrote beside it. The region holds a frame of data, the code of payload.c, and a
 * stack. The borrowed thread only creates another thread there, the *loader*, which opens the library and
 * calls into it after the borrowed thread has returned to its work.
 *
 * The library comes through memory: the loader maps some, the controller writes the library's bytes
 * there, and the loader makes a sealed memory file of them. So the controller opens nothing that the
 * target names: a hostile target sends only an address in its own memory, and numbers.
 *
 * This code works without the controller: if the controller dies at any instruction, the borrowed thread
 * returns by itself, and the loader gives up after PATIENCE_MS and removes the region.
 *
 * The engine copies the functions into the target as bytes, so they use no data, no call and no address
 * outside of their section (tests/unit/sampler/test_inject_payload.py reads the relocations).
 */
#ifndef MP_PAYLOAD_H
#define MP_PAYLOAD_H

#include "abi/attach.h"

#include <stdint.h>

/* cffi: begin */
/* Parts of the region, of 64 KiB or more: a multiple of every page size. */
#define MP_PART_BYTES 0x10000
#define MP_REGION_FRAME 0x00000
#define MP_REGION_CODE 0x10000
#define MP_REGION_XSTATE 0x20000 /* vector registers of the borrowed thread */
#define MP_REGION_PLAN 0x30000   /* the target of mp_attach_request.plan */
#define MP_PLAN_BYTES 0x20000
#define MP_REGION_STACK 0x50000
#define MP_REGION_BYTES 0x60000

#define MP_NAP_NS 500000 /* between two readings of a word by the loader */
#define MP_PATIENCE_MS 20000 /* how long the loader waits for an answer from outside */

/* How far the loader came: it counts up, or jumps to DONE with an error. */
enum mp_loader_stage {
    MP_LOADER_NONE = 0,
    MP_LOADER_STARTED = 1,
    MP_LOADER_WANTS_LIBRARY = 2, /* fill the memory at `library`, if there is any; set `go` */
    MP_LOADER_LOADING = 3,       /* in dlopen */
    MP_LOADER_CALLING = 4,       /* in mem_profiler_attach */
    MP_LOADER_DONE = 5,          /* `error` and the request say how; waits for `ack` */
};

/* What an `error` of the loader belongs to. */
enum mp_loader_failure {
    MP_FAILED_NOT = 0,
    MP_FAILED_MEMFD = 1,  /* no memory file, or it could not be filled: error is -errno */
    MP_FAILED_WAIT = 2,   /* nobody filled it in time, or the controller said to give up */
    MP_FAILED_DLOPEN = 3, /* text says why */
    MP_FAILED_SYMBOL = 4, /* the library has no such function */
    MP_FAILED_CALL = 5,   /* the function returned an error; the request has its text */
    MP_FAILED_MEMORY = 6, /* no memory to receive the library: error is -errno */
};

/* The start of the region. The controller reads and writes the first words from outside, by system calls,
 * while threads run; code in the region stores each with release after the data that it announces, and
 * loads it with acquire. */
struct mp_payload_frame {
    uint32_t left;   /* 1: the borrowed thread is out of the region for good */
    uint32_t stage;  /* enum mp_loader_stage */
    uint32_t go;     /* from outside: 1 the library is written; 2 before CALLING: give up */
    uint32_t ack;    /* from outside: the result was read */
    int32_t created; /* result of pthread_create: 0 or an errno */
    int32_t fd;
    int32_t error;
    uint32_t failure;         /* enum mp_loader_failure */
    uint64_t xsave;           /* 1: xsave and xrstor exist; 0: fxsave */
    uint64_t pad_leave;       /* in the pad: go back, the region stays */
    uint64_t pad_unused;      /* in the pad: unmap the region, go back */
    uint64_t region;
    uint64_t pthread_attr_init;
    uint64_t pthread_attr_setdetachstate;
    uint64_t pthread_attr_setstacksize;
    uint64_t pthread_create;
    uint64_t munmap;
    uint64_t dlopen; /* 0: the library is there, `entry` is its function */
    uint64_t dlsym;
    uint64_t dlerror;
    uint64_t entry;
    uint64_t library; /* out: place for the library, of library_bytes; 0: none */
    uint64_t library_bytes;
    uint64_t dlopen_flags;
    uint64_t loader; /* mp_payload_loader as copied */
    int64_t nap[2];  /* a struct timespec: MP_NAP_NS */
    uint32_t ready; /* `created` is valid; the borrowed thread waits a moment for its restore */
    uint32_t pad;
    char memfd_name[32];
    char proc_self[16]; /* "/proc/self" */
    char proc[16];      /* "/proc/" */
    char fd_folder[16]; /* "/fd/", or another spelling of it */
    char symbol[32];
    char path[512]; /* in: a path instead of a memory file; out: what was opened */
    char text[512];
    struct mp_attach_request request;
};

/* cffi: end */

_Static_assert(sizeof(struct mp_payload_frame) <= MP_PART_BYTES, "the frame fits its part");

#pragma GCC visibility push(hidden)

/* The section with all code of the region: copied whole. The borrowed thread enters at
 * mp_payload_start, the thread it makes at mp_payload_loader. */
extern const unsigned char __start_mp_payload[], __stop_mp_payload[];
extern const unsigned char mp_payload_start[], mp_payload_loader[];

/* The pad's code and, behind it, its data; copied whole. See pad_x86_64.c, pad_aarch64.c. */
extern const unsigned char mp_pad_code[], mp_pad_code_end[];
extern const unsigned char mp_pad_mapped[];     /* after the system call mmap */
extern const unsigned char mp_pad_protected[];  /* after mprotect */
extern const unsigned char mp_pad_unused[];
extern const unsigned char mp_pad_leave[];
extern const unsigned char
    mp_pad_checkpoint[]; /* after the system call that says "about to leave" */
extern const unsigned char mp_pad_data[];

#pragma GCC visibility pop

#endif
