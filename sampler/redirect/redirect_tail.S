/*
 * redirect_tail.S - stand-ins for dlopen, dlmopen, dlsym, dlvsym that end in a jump to them.
 *
 * Model: these functions ask who called them (their return address) to know the caller's
 * namespace, search path and place in the search order. A stand-in therefore must leave no frame
 * behind: it saves the argument registers, calls mp_redirect_before(is_open, flags), restores them,
 * and jumps. Those of dlsym and dlvsym call mp_redirect_symbol(handle, name, version, caller) and
 * return what it gives, if it does.
 */
#if defined(__x86_64__)

    .text
    .macro TAIL name, index, is_open
    .globl \name
    .hidden \name
    .type \name, @function
    .p2align 4
\name:
    .cfi_startproc
    endbr64
    push %rdi
    .cfi_adjust_cfa_offset 8
    push %rsi
    .cfi_adjust_cfa_offset 8
    push %rdx
    .cfi_adjust_cfa_offset 8
    mov $\is_open, %edi
    call mp_redirect_before
    pop %rdx
    .cfi_adjust_cfa_offset -8
    pop %rsi
    .cfi_adjust_cfa_offset -8
    pop %rdi
    .cfi_adjust_cfa_offset -8
    jmp *mp_redirect_loader+8*\index(%rip)
    .cfi_endproc
    .size \name, . - \name
    .endm

    .macro SYMBOL name, index, has_version
    .globl \name
    .hidden \name
    .type \name, @function
    .p2align 4
\name:
    .cfi_startproc
    endbr64
    push %rdi
    .cfi_adjust_cfa_offset 8
    push %rsi
    .cfi_adjust_cfa_offset 8
    push %rdx
    .cfi_adjust_cfa_offset 8
    .if \has_version == 0
    xor %edx, %edx
    .endif
    mov 24(%rsp), %rcx
    call mp_redirect_symbol
    test %rdx, %rdx
    pop %rdx
    .cfi_adjust_cfa_offset -8
    pop %rsi
    .cfi_adjust_cfa_offset -8
    pop %rdi
    .cfi_adjust_cfa_offset -8
    jne 1f
    jmp *mp_redirect_loader+8*\index(%rip)
1:  ret
    .cfi_endproc
    .size \name, . - \name
    .endm

#elif defined(__aarch64__)

    .text
    .macro TAIL name, index, is_open
    .globl \name
    .hidden \name
    .type \name, %function
    .p2align 4
\name:
    .cfi_startproc
    hint #34 /* bti c */
    stp x29, x30, [sp, #-48]!
    .cfi_adjust_cfa_offset 48
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    mov x29, sp
    stp x0, x1, [sp, #16]
    str x2, [sp, #32]
    mov w0, #\is_open
    bl mp_redirect_before
    ldr x2, [sp, #32]
    ldp x0, x1, [sp, #16]
    ldp x29, x30, [sp], #48
    .cfi_adjust_cfa_offset -48
    .cfi_restore x29
    .cfi_restore x30
    adrp x16, mp_redirect_loader+8*\index
    ldr x16, [x16, #:lo12:mp_redirect_loader+8*\index]
    br x16
    .cfi_endproc
    .size \name, . - \name
    .endm

    .macro SYMBOL name, index, has_version
    .globl \name
    .hidden \name
    .type \name, %function
    .p2align 4
\name:
    .cfi_startproc
    hint #34 /* bti c */
    stp x29, x30, [sp, #-48]!
    .cfi_adjust_cfa_offset 48
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    mov x29, sp
    stp x0, x1, [sp, #16]
    str x2, [sp, #32]
    .if \has_version == 0
    mov x2, #0
    .endif
    mov x3, x30
    bl mp_redirect_symbol
    cbnz x1, 1f
    ldr x2, [sp, #32]
    ldp x0, x1, [sp, #16]
    .cfi_remember_state
    ldp x29, x30, [sp], #48
    .cfi_adjust_cfa_offset -48
    .cfi_restore x29
    .cfi_restore x30
    adrp x16, mp_redirect_loader+8*\index
    ldr x16, [x16, #:lo12:mp_redirect_loader+8*\index]
    br x16
    .cfi_restore_state
1:  ldp x29, x30, [sp], #48
    .cfi_adjust_cfa_offset -48
    .cfi_restore x29
    .cfi_restore x30
    ret
    .cfi_endproc
    .size \name, . - \name
    .endm

#else
#error "only x86_64 and aarch64 are supported"
#endif

    .hidden mp_redirect_before
    .hidden mp_redirect_symbol
    .hidden mp_redirect_loader

    TAIL mp_tail_dlopen, 0, 1
    TAIL mp_tail_dlmopen, 1, 0
    SYMBOL mp_tail_dlsym, 2, 0
    SYMBOL mp_tail_dlvsym, 3, 1

    .section .note.GNU-stack, "", %progbits
