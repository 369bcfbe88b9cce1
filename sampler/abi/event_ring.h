/*
 * event_ring.h - the part of the segment that holds events: rings, events of blocks, and launches:
 * kernels and operators that a program runs on a device, and the tensors that these read and write.
 *
 * Included by segment.h, which has the rules. bindings/mem_profiler/_build.py reads the part between the cffi marks.
 */
#ifndef MP_EVENT_RING_H
#define MP_EVENT_RING_H

#include <stdint.h>

/* cffi: begin */
/* An event's time and kind share a word. */
#define MP_EVENT_KIND_BITS 4
#define MP_LAUNCH_TEXT_BYTES                                                                       \
    1024 /* of the name of a kernel or operator, and of its path; the rest is cut */
#define MP_LAUNCH_DIMENSIONS 8    /* of a tensor */
#define MP_LAUNCH_KIND_SHIFT 26   /* in mp_event.birth of a launch */

/* Kinds of events. An address in its domain is one block from a BIRTH or BACK to a DEATH or
 * MOVED. */
enum mp_event_kind {
    MP_EVENT_NONE = 0,
    MP_EVENT_BIRTH = 1,
    MP_EVENT_DEATH = 2,
    MP_EVENT_MOVED = 3, /* realloc takes the block away; the BIRTH of the returned block may
                         * follow */
    MP_EVENT_BACK = 4, /* realloc failed: the block of the thread's last MOVED is unchanged */
    MP_EVENT_REFUSED = 5, /* the allocator had no block of this size */
    MP_EVENT_MARK = 6, /* `address` is the number of the mark */
    MP_EVENT_LAUNCH = 7, /* no block: see enum mp_launch_kind */
};

/*
 * Kinds of MP_EVENT_LAUNCH. Its stack is the id of a name (MP_STACK_TEXT; 0: unknown), its domain
 * the number of the device (MP_LAUNCH_NO_DEVICE: unknown), its birth the id of a detail, with the
 * kind above it from bit MP_LAUNCH_KIND_SHIFT on.
 */
enum mp_launch_kind {
    /* address: stream << 32 | task; size: which of them are known (enum mp_launch_known) */
    MP_LAUNCH_KERNEL = 1,
    MP_LAUNCH_KERNEL_BEGIN = 2, /* in a library of operators; detail: its path in that library */
    MP_LAUNCH_KERNEL_END = 3,
    MP_LAUNCH_OPERATOR_BEGIN = 4, /* address and size: its workspace; detail: its path */
    MP_LAUNCH_OPERATOR_END = 5,
    MP_LAUNCH_READ = 6, /* address and size: of a tensor; detail: MP_STACK_TENSOR */
    MP_LAUNCH_WRITE = 7,
    MP_LAUNCH_ACCESS = 8, /* reads it, and may write it */
    /* No launches, but facts that rows of blocks have: */
    MP_LAUNCH_BLOCK = 9, /* address: that of the thread's next BIRTH; size: enum mp_block_trait */
    MP_LAUNCH_RESERVED = 10, /* address: bytes that a pool holds on the device; size: its domain */
    MP_LAUNCH_USED = 11, /* address: bytes of the device that all use; size: bytes that it has */
    MP_LAUNCH_KINDS = 11,
};

/* Properties of a driver's block: bits of the size of an MP_LAUNCH_BLOCK. */
enum mp_block_trait {
    MP_TRAIT_PAGE = 3, /* 0: normal, 1: huge, 2: giant pages */
    MP_TRAIT_CREATED = 4, /* physical memory that is mapped separately */
    MP_TRAIT_KNOWN = 8, /* set where a driver reported any of these */
    MP_TRAIT_MODULE_SHIFT = 8, /* requesting module: 8 bits, the driver's own numbering */
};

#define MP_LAUNCH_NO_DEVICE 63

enum mp_launch_known { MP_LAUNCH_STREAM = 1, MP_LAUNCH_TASK = 2 };

/* Launches that a capture records: bits of mp_events.launches. */
enum mp_launch_want {
    MP_LAUNCH_OPERATORS = 1,
    MP_LAUNCH_KERNELS = 2,
    MP_LAUNCH_ACCESSES = 4, /* of operators */
    MP_LAUNCH_FACTS = 8, /* of blocks, pools and devices */
    /* No launch: of the blocks of the host, those of tensors alone (core/tensors.h). */
    MP_LAUNCH_TENSORS = 16,
};

/* The rings of the capture that writes events. The starter fills it before the gate opens. */
struct mp_events {
    uint32_t capture; /* number of that capture; 0: no capture writes events */
    uint32_t rings; /* a power of two */
    uint32_t ring_events; /* in each; a power of two */
    uint32_t launches; /* bits of enum mp_launch_want */
};

/* One sampled event. */
struct mp_event {
    uint64_t time_kind; /* CLOCK_MONOTONIC in ns << MP_EVENT_KIND_BITS | enum mp_event_kind */
    uint64_t address;
    uint64_t size_thread; /* size in bytes | row in threads << MP_LIVE_SIZE_BITS */
    uint32_t stack_domain; /* the low bits of the site's stack id | domain << MP_KEY_STACK_BITS */
    uint32_t birth; /* when the block was born, as in struct mp_live_row */
};

/* A ring that keeps the latest events: event n is at n % ring_events. Numbers go on from capture to capture. */
struct mp_ring {
    /* cache line 0: writer: target */
    uint64_t owner; /* try-lock: the thread that is writing; 0: none */
    uint64_t head; /* number of the next event: those before it are there, or were */
    uint64_t lost; /* events for which this ring and its neighbours were taken */
    uint64_t first_lost_ns; /* of the first of them since the segment was made, */
    uint64_t last_lost_ns; /* and the last; CLOCK_MONOTONIC_COARSE */
    uint64_t pad[3];
    /* cache line 1: writer: controller */
    uint64_t begun; /* head when the capture began */
    uint64_t lost_begun; /* lost when the capture began */
    uint64_t drained; /* events before this one are in a file */
    uint64_t drained_pad[5];
};
/* cffi: end */

#endif
