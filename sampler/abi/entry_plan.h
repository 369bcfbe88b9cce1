/*
 * entry_plan.h - the entry points of an allocator inside a program or a library; the controller decodes them outside.
 *
 * Model: calls of such an allocator pass through no slot, so the sampler redirects the first instruction
 * of each of its functions. The caller, which has the symbols and a decoder, decodes the instructions; it
 * offers points, and the sampler takes the first one for which it finds room.
 *
 * A point is one instruction at the beginning of the function, after nothing but pushes of registers, and registers
 * that become 0 and so carry no argument. One
 * store into one aligned word overwrites `write_bytes` of that instruction with the beginning of a jump;
 * the bytes that follow stay and are the rest of the jump's distance. So no thread can be between the
 * bytes that change, and no thread has to stop:
 *
 *     push %rbp                 55            55
 *     push %r15                 41 57         e9 xx      jmp to where ...56415641xx says
 *     push %r14                 41 56         41 56
 *     push %r13                 41 55         41 55
 *
 * So the jump can reach only 256^(write_bytes - 1) addresses. The code there first undoes the pushes.
 *
 * Offsets and sizes are in bytes. There are no pointers, because the controller makes a plan in its own
 * address space.
 */
#ifndef MP_ENTRY_PLAN_H
#define MP_ENTRY_PLAN_H

#include <stdint.h>

/* cffi: begin */
#define MP_PLAN_MAGIC 0x4e4c504dU /* "MPLN" */
#define MP_PLAN_VERSION 2
#define MP_PLAN_ENTRIES_MAX 192
#define MP_PLAN_POINTS 4
#define MP_PLAN_CODE_BYTES 32
#define MP_PLAN_COPY_BYTES 40
#define MP_ARGUMENT_NONE 0xff

enum mp_entry_kind {
    MP_ENTRY_ALLOC = 0,      /* returns the block */
    MP_ENTRY_POSIX = 1,      /* returns 0 and stores the block through `block_argument` */
    MP_ENTRY_REALLOC = 2,    /* moves or frees `block_argument`, returns the new block */
    MP_ENTRY_RESIZE = 3, /* resizes in place or not at all, returns the block's size after it */
    MP_ENTRY_FREE = 4, /* frees `block_argument` */
    MP_ENTRY_REALLOC_AT = 5, /* as REALLOC, but takes a pointer to the block's pointer, returns 0 */
    MP_ENTRY_KINDS,
};

enum mp_entry_flags {
    MP_ENTRY_FREES_ON_FAILURE = 1, /* a REALLOC that keeps no block it cannot enlarge */
};

/* A distance in `copy`: the 4 bytes at `at` become target - (address of the copy + end). */
struct mp_entry_fixup {
    uint32_t at;
    uint32_t end;
    uint64_t target;
};

struct mp_entry_point {
    uint8_t offset; /* of the instruction from the function's first byte */
    uint8_t length; /* of the instruction */
    uint8_t write_bytes; /* 1 to 5, at most `length`, inside one aligned 8-byte word */
    uint8_t pushed_words; /* words that the instructions before it push */
    uint8_t copy_bytes;
    uint8_t fixups;
    uint8_t pad[2];
    uint8_t copy[MP_PLAN_COPY_BYTES]; /* the beginning with the instruction, to run elsewhere */
    struct mp_entry_fixup fixup[2];
};

struct mp_entry {
    uint64_t address;
    uint8_t kind; /* enum mp_entry_kind */
    uint8_t flags; /* enum mp_entry_flags */
    uint8_t size_argument; /* 0 to 4; MP_ARGUMENT_NONE for FREE */
    uint8_t count_argument; /* the size is multiplied by it; or MP_ARGUMENT_NONE */
    uint8_t block_argument; /* or MP_ARGUMENT_NONE for ALLOC */
    uint8_t points;
    uint8_t code_bytes; /* length of `code`: shorter at the end of a segment */
    uint8_t pad;
    /* The bytes at `address`; the sampler refuses the plan if it finds others there. */
    uint8_t code[MP_PLAN_CODE_BYTES];
    char name[40];
    struct mp_entry_point point[MP_PLAN_POINTS];
};

struct mp_entry_plan {
    uint32_t magic;
    uint32_t version;
    uint32_t entries;
    uint32_t entry_bytes; /* sizeof(struct mp_entry) */
    uint32_t
        of_library; /* 1: the allocator is in a library, which may come later; 0: in the program */
    uint32_t pad;
    struct mp_entry entry[];
};
/* cffi: end */

#endif
