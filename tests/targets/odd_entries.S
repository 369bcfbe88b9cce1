/*
 * odd_entries.S - functions named like mimalloc's that begin in as many ways as compilers let them, at as many
 * places in a word as there are. Each ends in the same function of odd_entries.c.
 */
    .text

    /* Code that nobody runs, so that the next function begins `shift` bytes into a word. */
    .macro AT shift
    .p2align 4
    .if \shift
    .skip \shift, 0xcc
    .endif
    .endm

    .macro BEGIN name
    .globl \name
    .type \name, @function
\name:
    .cfi_startproc
    .endm

    .macro END name
    .cfi_endproc
    .size \name, . - \name
    .endm

    AT 0
    BEGIN mi_malloc /* a compare with data, and a short jump */
    cmpb $0, odd_flag(%rip)
    jne 1f
    jmp odd_malloc
1:  ud2
    END mi_malloc

    AT 3
    BEGIN mi_free /* a jump at once */
    jmp odd_free
    END mi_free

    AT 5
    BEGIN mi_zalloc /* pushes of one and two bytes, which straddle words */
    push %rbp
    .cfi_adjust_cfa_offset 8
    push %r15
    .cfi_adjust_cfa_offset 8
    push %rbx
    .cfi_adjust_cfa_offset 8
    call odd_malloc
    pop %rbx
    .cfi_adjust_cfa_offset -8
    pop %r15
    .cfi_adjust_cfa_offset -8
    pop %rbp
    .cfi_adjust_cfa_offset -8
    ret
    END mi_zalloc

    AT 6
    BEGIN mi_calloc /* a marker first; two bytes are left of the word */
    endbr64
    imul %rsi, %rdi
    xor %esi, %esi
    jmp odd_malloc
    END mi_calloc

#ifdef REFUSED
    AT 1
    BEGIN mi_realloc /* a jump that has no long form */
    jrcxz 1f
1:  jmp odd_malloc
    END mi_realloc
#endif

    AT 7
    BEGIN mi_malloc_small /* one byte of the word is left */
    xor %eax, %eax
    jz 1f
    ud2
1:  jmp odd_malloc
    END mi_malloc_small

    AT 2
    BEGIN mi_heap_malloc /* a three-byte move; the heap is the first argument */
    mov %rsi, %rdi
    nopl 8(%rax)
    jmp odd_malloc
    END mi_heap_malloc

    AT 4
    BEGIN mi_new /* a frame */
    push %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    call mi_malloc /* counted once, as mi_new's */
    pop %rbp
    .cfi_def_cfa %rsp, 8
    ret
    END mi_new

#ifdef CLONED
    BEGIN mi_free.constprop.0
    jmp odd_free
    END mi_free.constprop.0
#endif

    .section .note.GNU-stack, "", %progbits
