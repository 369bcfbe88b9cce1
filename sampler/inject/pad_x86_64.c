/*
 * pad_x86_64.c - the code that enters and leaves the target, x86_64: see payload.h.
 *
 * The pad uses no stack until its last instructions, and none of its own; the stack pointer is the
 * program's except inside the region, so that a signal has room at any time. Registers: rbx is the region
 * (0: none), r12 the result, 0 or -errno. Its data: 16 registers in the order of mp_pad_data below, then
 * the instruction to go on at, flags, and the signal mask.
 *
 * The payload part saves the vector registers itself, so that it can restore them itself.
 */
#include "payload.h"

#if defined(__x86_64__)

#include "arch.h"

_Static_assert(offsetof(struct mp_payload_frame, created) == 16, "used below");
_Static_assert(offsetof(struct mp_payload_frame, xsave) == 32, "used below");
_Static_assert(offsetof(struct mp_payload_frame, pad_leave) == 40, "used below");
_Static_assert(offsetof(struct mp_payload_frame, pad_unused) == 48, "used below");
_Static_assert(offsetof(struct mp_payload_frame, munmap) == 96, "used below");
_Static_assert(offsetof(struct mp_payload_frame, left) == 0, "used below");
_Static_assert(sizeof(struct mp_pad_data) == 19 * 8, "the data below");
_Static_assert(MP_REGION_BYTES == 0x60000 && MP_REGION_CODE == 0x10000, "used below");

/* clang-format off */
__asm__(
    ".pushsection .rodata\n"
    ".balign 16\n"
    ".global mp_pad_code, mp_pad_mapped, mp_pad_protected, mp_pad_unused, mp_pad_leave\n"
    ".global mp_pad_checkpoint, mp_pad_data, mp_pad_code_end\n"
    ".hidden mp_pad_code, mp_pad_mapped, mp_pad_protected, mp_pad_unused, mp_pad_leave\n"
    ".hidden mp_pad_checkpoint, mp_pad_data, mp_pad_code_end\n"
    "mp_pad_code:\n"
    "    xor %edi, %edi\n"
    "    mov $0x60000, %esi\n"        /* MP_REGION_BYTES */
    "    mov $3, %edx\n"              /* PROT_READ | PROT_WRITE */
    "    mov $0x22, %r10d\n"          /* MAP_PRIVATE | MAP_ANONYMOUS */
    "    mov $-1, %r8\n"
    "    xor %r9d, %r9d\n"
    "    mov $9, %eax\n"              /* mmap */
    "    syscall\n"
    "mp_pad_mapped:\n"
    "    mov %rax, %r12\n"
    "    xor %ebx, %ebx\n"
    "    cmp $-4096, %rax\n"
    "    ja mp_pad_leave\n"
    "    mov %rax, %rbx\n"
    "    lea 0x10000(%rbx), %rdi\n"   /* MP_REGION_CODE */
    "    mov $0x10000, %esi\n"        /* MP_PART_BYTES */
    "    mov $5, %edx\n"              /* PROT_READ | PROT_EXEC */
    "    mov $10, %eax\n"             /* mprotect */
    "    syscall\n"
    "mp_pad_protected:\n"
    "    mov %rax, %r12\n"
    "mp_pad_unused:\n"
    "    mov 56+mp_pad_data(%rip), %rsp\n" /* a signal may come when the region is gone */
    "    mov %rbx, %rdi\n"
    "    mov $0x60000, %esi\n"
    "    mov $11, %eax\n"             /* munmap */
    "    syscall\n"
    "    xor %ebx, %ebx\n"
    "mp_pad_leave:\n"
    "    mov 56+mp_pad_data(%rip), %rsp\n"
    "    xor %edi, %edi\n"            /* SIG_BLOCK of nothing: changes nothing, visible from outside */
    "    xor %esi, %esi\n"
    "    xor %edx, %edx\n"
    "    mov $8, %r10d\n"
    "    mov $14, %eax\n"             /* rt_sigprocmask */
    "    syscall\n"
    "mp_pad_checkpoint:\n"
    "    test %rbx, %rbx\n"
    "    jz 1f\n"
    "    movl $1, (%rbx)\n"           /* left: the region may go from now on */
    "1:  mov $2, %edi\n"              /* SIG_SETMASK */
    "    lea 144+mp_pad_data(%rip), %rsi\n"
    "    xor %edx, %edx\n"
    "    mov $8, %r10d\n"
    "    mov $14, %eax\n"
    "    syscall\n"
    "    mov 0+mp_pad_data(%rip), %rax\n"
    "    mov 8+mp_pad_data(%rip), %rbx\n"
    "    mov 16+mp_pad_data(%rip), %rcx\n"
    "    mov 24+mp_pad_data(%rip), %rdx\n"
    "    mov 32+mp_pad_data(%rip), %rsi\n"
    "    mov 40+mp_pad_data(%rip), %rdi\n"
    "    mov 48+mp_pad_data(%rip), %rbp\n"
    "    mov 64+mp_pad_data(%rip), %r8\n"
    "    mov 72+mp_pad_data(%rip), %r9\n"
    "    mov 80+mp_pad_data(%rip), %r10\n"
    "    mov 88+mp_pad_data(%rip), %r11\n"
    "    mov 96+mp_pad_data(%rip), %r12\n"
    "    mov 104+mp_pad_data(%rip), %r13\n"
    "    mov 112+mp_pad_data(%rip), %r14\n"
    "    mov 120+mp_pad_data(%rip), %r15\n"
    "    lea -136(%rsp), %rsp\n"      /* below the red zone, where a signal frame could be as well */
    "    push 136+mp_pad_data(%rip)\n"
    "    popf\n"
    "    lea 136(%rsp), %rsp\n"
    "    jmp *128+mp_pad_data(%rip)\n"
    ".balign 8\n"
    "mp_pad_data:\n"
    "    .skip 152\n"
    "mp_pad_code_end:\n"
    ".popsection\n");

/* The region's code: entered with rbx = the region, left the same way. */
__asm__(
    ".pushsection mp_payload, \"ax\", @progbits\n"
    ".global mp_payload_start, mp_payload_loader\n"
    ".hidden mp_payload_start, mp_payload_loader\n"
    "mp_payload_start:\n"
    "    lea 0x60000(%rbx), %rsp\n"
    "    cld\n"
    "    lea 0x20000(%rbx), %rcx\n"   /* MP_REGION_XSTATE */
    "    mov $-1, %eax\n"
    "    mov $-1, %edx\n"
    "    testb $1, 32(%rbx)\n"        /* xsave */
    "    jz 1f\n"
    "    xsave64 (%rcx)\n"
    "    jmp 2f\n"
    "1:  fxsave64 (%rcx)\n"
    "2:  mov %rbx, %rdi\n"
    "    call mp_payload_create\n"
    "    lea 0x20000(%rbx), %rcx\n"
    "    mov $-1, %eax\n"
    "    mov $-1, %edx\n"
    "    testb $1, 32(%rbx)\n"
    "    jz 3f\n"
    "    xrstor64 (%rcx)\n"
    "    jmp 4f\n"
    "3:  fxrstor64 (%rcx)\n"
    "4:  movslq 16(%rbx), %r12\n"     /* created */
    "    neg %r12\n"
    "    jnz 5f\n"
    "    jmp *40(%rbx)\n"             /* pad_leave */
    "5:  jmp *48(%rbx)\n"             /* pad_unused */

    "mp_payload_loader:\n"
    "    push %rbx\n"
    "    mov 96(%rdi), %rbx\n"       /* munmap: read before the region may go */
    "    call mp_payload_load\n"
    "    mov %rbx, %rdx\n"
    "    pop %rbx\n"
    "    test %rax, %rax\n"
    "    jz 6f\n"
    "    mov %rax, %rdi\n"
    "    mov $0x60000, %esi\n"
    "    jmp *%rdx\n"                 /* returns 0 to the code that started this thread */
    "6:  xor %eax, %eax\n"
    "    ret\n"
    ".popsection\n");
/* clang-format on */

#endif
