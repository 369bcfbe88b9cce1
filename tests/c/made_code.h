/*
 * made_code.h - functions made at run time: no unwind tables, a frame pointer, a frame of any size.
 */
#ifndef MADE_CODE_H
#define MADE_CODE_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define MADE_PAGE 4096

/* f(a, callee) calls callee(a). */
typedef void made_function(uintptr_t argument, void (*callee)(uintptr_t));

/* The function, alone on a page of its own; frame_bytes is a multiple of 16 below 128, without the record. */
static inline made_function *make_function(unsigned frame_bytes) {
    uint8_t *page =
        mmap(NULL, MADE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#ifdef __x86_64__
    /* push %rbp; mov %rsp,%rbp; sub $frame,%rsp; call *%rsi; leave; ret */
    uint8_t code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0, 0xff, 0xd6, 0xc9, 0xc3};
    code[7] = (uint8_t)frame_bytes;
#else
    /* stp x29,x30,[sp,#-bytes]!; mov x29,sp; blr x1; ldp x29,x30,[sp],#bytes; ret */
    unsigned words = (frame_bytes + 16) / 8;
    uint32_t code[] = {0xa9807bfd | (-words & 0x7f) << 15, 0x910003fd, 0xd63f0020,
                       0xa8c07bfd | words << 15, 0xd65f03c0};
#endif
    memcpy(page, code, sizeof(code));
    mprotect(page, MADE_PAGE, PROT_READ | PROT_EXEC);
    __builtin___clear_cache((char *)page, (char *)page + sizeof(code));
    return (made_function *)(uintptr_t)page;
}

static inline int is_made_by(uintptr_t pc, made_function *made) {
    return pc - (uintptr_t)made < MADE_PAGE;
}

#endif
