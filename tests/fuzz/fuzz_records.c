/*
 * fuzz_records.c - a stack of forged frame records: unwind/unwind_fp.c and the walk around it. The stack lies
 * between pages that nobody may read.
 *
 * Input: struct head; the words of the stack, in each of which the low three bits say what it becomes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "unwind/unwind.h"

#include "forge.h"

#define PAGE 4096u
#define STACK_BYTES (4 * PAGE)
#define FRAMES 64

struct head {
    uint64_t pc, sp, fp;
    uint64_t flags; /* 1: no system call is allowed; 2: forget all rules first; 4: CFI only */
};

static char *stack, *made;
static bool probing;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static bool may_probe(void) {
    return probing;
}

static void start(enum mp_unwind_mode mode) {
    struct mp_unwind_config config = {.mode = mode, .may_probe = may_probe};
    if (mp_unwind_init(&config) != 0)
        abort();
}

static void set_up(void) {
    char *whole = mmap(NULL, STACK_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    made = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED || made == MAP_FAILED)
        abort();
    stack = whole + PAGE;
    mprotect(stack, STACK_BYTES, PROT_READ | PROT_WRITE);
}

/* A word of the input as an address of this process. */
static uintptr_t address(uint64_t word) {
    uint64_t value = word >> 3;
    switch (word & 7) {
    case 0:
    case 1:
        return (uintptr_t)stack + value % (STACK_BYTES + PAGE) / 8 * 8;
    case 2:
        return (uintptr_t)made + 1 + value % (PAGE - 1);
    case 3: /* behind an instruction of this program, perhaps a call */
        return (uintptr_t)LLVMFuzzerTestOneInput + value % 512;
    case 4:
        return (uintptr_t)stack + value % (2 * PAGE) - PAGE;
    case 5:
        return (uintptr_t)&stack + value % 64;
    case 6:
        return 0;
    default:
        return (uintptr_t)value;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct head head;
    uintptr_t pcs[FRAMES + 1];
    struct mp_unwind_result result;
    struct mp_unwind_trace trace;
    if (bytes < sizeof head)
        return 0;
    if (stack == NULL)
        set_up();
    memcpy(&head, data, sizeof head);
    memset(stack, 0, STACK_BYTES);
    size_t words = (bytes - sizeof head) / 8;
    for (size_t i = 0; i < words && i < STACK_BYTES / 8; i++) {
        uint64_t word;
        memcpy(&word, data + sizeof head + 8 * i, sizeof word);
        ((uintptr_t *)stack)[i] = address(word);
    }
    probing = !(head.flags & 1);
    start(head.flags & 4 ? MP_UNWIND_CFI : MP_UNWIND_FP);
    if (head.flags & 2)
        mp_unwind_flush();
    /* a caller runs on its stack: the word below its stack pointer is there */
    struct mp_frame frame = {.pc = address(head.pc),
                             .sp = (uintptr_t)stack + 8 + head.sp % (STACK_BYTES - 8) / 8 * 8,
                             .fp = address(head.fp)};
    pcs[FRAMES] = 77;
    unsigned depth = mp_unwind_traced(&frame, pcs, FRAMES, &result, &trace);
    if (depth == 0 || depth > FRAMES || depth != result.depth || pcs[0] != frame.pc)
        abort();
    if (pcs[FRAMES] != 77 || (trace.complete && result.end != MP_UNWIND_OUTERMOST))
        abort();
    return 0;
}

/* Half the time: a record whose two words lead on. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    if (bytes < sizeof(struct head) + 64 || seed % 2 == 0)
        return forge(data, bytes, max, seed / 2);
    size_t words = (bytes - sizeof(struct head)) / 8 - 1;
    size_t at = seed / 2 % words;
    uint64_t above = 8 * (at + 2 + seed / 64 % 16) << 3,
             code = (seed / 1024) << 3 | (seed % 4 < 2 ? 2 : 3);
    memcpy(data + sizeof(struct head) + 8 * at, &above, 8);
    memcpy(data + sizeof(struct head) + 8 * at + 8, &code, 8);
    if (seed / 8 % 4 == 0) {
        uint64_t first[3] = {2 | 64, 8 * at, 8 * at << 3};
        memcpy(data, first, sizeof first);
    }
    return bytes;
}
