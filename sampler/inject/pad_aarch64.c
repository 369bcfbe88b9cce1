/*
 * pad_aarch64.c - the code that enters and leaves the target, aarch64: see payload.h and pad_x86_64.c.
 *
 * x19 is the region (0: none), x20 the result. The last instruction is a branch to the thread's old
 * place; mp_pad_link() makes it. "hint #38" is a landing pad for branches where the C library's pages ask
 * for one (BTI), and does nothing elsewhere.
 */
#include "payload.h"

#if defined(__aarch64__)

#include "arch.h"

_Static_assert(offsetof(struct mp_payload_frame, created) == 16, "used below");
_Static_assert(offsetof(struct mp_payload_frame, pad_leave) == 40, "used below");
_Static_assert(offsetof(struct mp_payload_frame, pad_unused) == 48, "used below");
_Static_assert(offsetof(struct mp_payload_frame, munmap) == 96, "used below");
_Static_assert(offsetof(struct mp_payload_frame, left) == 0, "used below");
_Static_assert(sizeof(struct mp_pad_data) == 34 * 8, "the data below");
_Static_assert(MP_REGION_BYTES == 0x60000 && MP_REGION_CODE == 0x10000, "used below");

/* clang-format off */
#define LOAD(n) "    ldr x" #n ", mp_pad_data + 8 * " #n "\n"

__asm__(
    ".pushsection .rodata\n"
    ".balign 16\n"
    ".global mp_pad_code, mp_pad_mapped, mp_pad_protected, mp_pad_unused, mp_pad_leave\n"
    ".global mp_pad_checkpoint, mp_pad_branch, mp_pad_data, mp_pad_code_end\n"
    ".hidden mp_pad_code, mp_pad_mapped, mp_pad_protected, mp_pad_unused, mp_pad_leave\n"
    ".hidden mp_pad_checkpoint, mp_pad_branch, mp_pad_data, mp_pad_code_end\n"
    "mp_pad_code:\n"
    "    mov x0, #0\n"
    "    mov x1, #0x60000\n"          /* MP_REGION_BYTES */
    "    mov x2, #3\n"                /* PROT_READ | PROT_WRITE */
    "    mov x3, #0x22\n"             /* MAP_PRIVATE | MAP_ANONYMOUS */
    "    mov x4, #-1\n"
    "    mov x5, #0\n"
    "    mov x8, #222\n"              /* mmap */
    "    svc #0\n"
    "mp_pad_mapped:\n"
    "    mov x20, x0\n"
    "    mov x19, #0\n"
    "    cmn x0, #4095\n"
    "    b.hs mp_pad_leave\n"
    "    mov x19, x0\n"
    "    add x0, x19, #0x10, lsl #12\n" /* MP_REGION_CODE */
    "    mov x1, #0x10000\n"          /* MP_PART_BYTES */
    "    mov x2, #5\n"                /* PROT_READ | PROT_EXEC */
    "    mov x8, #226\n"              /* mprotect */
    "    svc #0\n"
    "mp_pad_protected:\n"
    "    mov x20, x0\n"
    "mp_pad_unused:\n"
    "    hint #38\n"
    "    ldr x9, mp_pad_data + 248\n"
    "    mov sp, x9\n"                /* a signal may come when the region is gone */
    "    mov x0, x19\n"
    "    mov x1, #0x60000\n"
    "    mov x8, #215\n"              /* munmap */
    "    svc #0\n"
    "    mov x19, #0\n"
    "mp_pad_leave:\n"
    "    hint #38\n"
    "    ldr x9, mp_pad_data + 248\n"
    "    mov sp, x9\n"
    "    mov x0, #0\n"                /* SIG_BLOCK of nothing: changes nothing, visible from outside */
    "    mov x1, #0\n"
    "    mov x2, #0\n"
    "    mov x3, #8\n"
    "    mov x8, #135\n"              /* rt_sigprocmask */
    "    svc #0\n"
    "mp_pad_checkpoint:\n"
    "    cbz x19, 1f\n"
    "    mov w0, #1\n"
    "    str w0, [x19]\n"             /* left: the region may go from now on */
    "1:  mov x0, #2\n"                /* SIG_SETMASK */
    "    adr x1, mp_pad_data + 264\n"
    "    mov x2, #0\n"
    "    mov x3, #8\n"
    "    mov x8, #135\n"
    "    svc #0\n"
    "    ldr x0, mp_pad_data + 256\n"
    "    msr nzcv, x0\n"
    LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6) LOAD(7) LOAD(8) LOAD(9) LOAD(10)
    LOAD(11) LOAD(12) LOAD(13) LOAD(14) LOAD(15) LOAD(16) LOAD(17) LOAD(18) LOAD(19) LOAD(20)
    LOAD(21) LOAD(22) LOAD(23) LOAD(24) LOAD(25) LOAD(26) LOAD(27) LOAD(28) LOAD(29) LOAD(30)
    "mp_pad_branch:\n"
    "    b mp_pad_branch\n"
    ".balign 8\n"
    "mp_pad_data:\n"
    "    .skip 272\n"
    "mp_pad_code_end:\n"
    ".popsection\n");

#define STORE2(a, b, at) "    stp q" #a ", q" #b ", [x0, #" #at "]\n"
#define LOAD2(a, b, at) "    ldp q" #a ", q" #b ", [x0, #" #at "]\n"
#define ALL_VECTORS(each) \
    each(0, 1, 0) each(2, 3, 32) each(4, 5, 64) each(6, 7, 96) each(8, 9, 128) each(10, 11, 160) \
    each(12, 13, 192) each(14, 15, 224) each(16, 17, 256) each(18, 19, 288) each(20, 21, 320) \
    each(22, 23, 352) each(24, 25, 384) each(26, 27, 416) each(28, 29, 448) each(30, 31, 480)

/* The region's code: entered with x19 = the region, left the same way. */
__asm__(
    ".pushsection mp_payload, \"ax\", @progbits\n"
    ".balign 4\n"
    ".global mp_payload_start, mp_payload_loader\n"
    ".hidden mp_payload_start, mp_payload_loader\n"
    "mp_payload_start:\n"
    "    add x0, x19, #0x60, lsl #12\n" /* the end of the region */
    "    mov sp, x0\n"
    "    add x0, x19, #0x20, lsl #12\n" /* MP_REGION_XSTATE */
    ALL_VECTORS(STORE2)
    "    mrs x1, fpcr\n"
    "    mrs x2, fpsr\n"
    "    add x0, x0, #512\n"
    "    stp x1, x2, [x0]\n"
    "    mov x0, x19\n"
    "    bl mp_payload_create\n"
    "    add x0, x19, #0x20, lsl #12\n"
    ALL_VECTORS(LOAD2)
    "    add x0, x0, #512\n"
    "    ldp x1, x2, [x0]\n"
    "    msr fpcr, x1\n"
    "    msr fpsr, x2\n"
    "    ldrsw x20, [x19, #16]\n"     /* created */
    "    neg x20, x20\n"
    "    cbnz x20, 5f\n"
    "    ldr x16, [x19, #40]\n"       /* pad_leave */
    "    br x16\n"
    "5:  ldr x16, [x19, #48]\n"       /* pad_unused */
    "    br x16\n"

    "mp_payload_loader:\n"
    "    stp x29, x30, [sp, #-32]!\n"
    "    mov x29, sp\n"
    "    str x21, [sp, #16]\n"
    "    ldr x21, [x0, #96]\n"        /* munmap: read before the region may go */
    "    bl mp_payload_load\n"
    "    mov x2, x21\n"
    "    ldr x21, [sp, #16]\n"
    "    ldp x29, x30, [sp], #32\n"
    "    cbz x0, 6f\n"
    "    mov x1, #0x60000\n"
    "    br x2\n"                     /* returns 0 to the code that started this thread */
    "6:  mov x0, #0\n"
    "    ret\n"
    ".popsection\n");
/* clang-format on */

#endif
