/*
 * unwind_aarch64.h - see unwind_arch.h. The return address is where the function saved x30; a frame
 * record saves x29 in the word below it (AAPCS64, 6.2.3).
 */
#ifndef MP_UNWIND_AARCH64_H
#define MP_UNWIND_AARCH64_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#define MP_ARCH_DWARF_FP 29
#define MP_ARCH_DWARF_SP 31
#define MP_ARCH_DWARF_RA 30
#define MP_ARCH_RECORD_ENDS_FRAME 0
#define MP_ARCH_RED_ZONE 0

#define MP_ARCH_PC_LIMIT ((uintptr_t)1 << 48)

/* glibc's descriptor ends a little below the thread pointer. */
#define MP_ARCH_DESCRIPTOR_FROM (-0x600)
#define MP_ARCH_DESCRIPTOR_TO 0

/* siginfo (128 bytes), then ucontext: 176 bytes, fault address, x0..x30, sp, pc. */
#define MP_ARCH_CONTEXT_X(n) (128 + 176 + 8 + 8 * (n))
#define MP_ARCH_CONTEXT_FP MP_ARCH_CONTEXT_X(29)
#define MP_ARCH_CONTEXT_RA MP_ARCH_CONTEXT_X(30)
#define MP_ARCH_CONTEXT_SP MP_ARCH_CONTEXT_X(31)
#define MP_ARCH_CONTEXT_PC MP_ARCH_CONTEXT_X(32)

/* mov x8, #139; svc #0 */
static const uint8_t mp_arch_rt_sigreturn[] = {0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4};

static inline uintptr_t mp_arch_thread_pointer(void) {
    return (uintptr_t)__builtin_thread_pointer();
}

/* Pointer authentication and tags use only bits above the 48 of a user address. */
static inline uintptr_t mp_arch_return_address(uintptr_t word) {
    return word & (MP_ARCH_PC_LIMIT - 1);
}

/* Is the instruction before `pc` a call: BL, BLR, BLRAA and their like? */
#define MP_ARCH_CALL_BYTES 4
static inline bool mp_arch_is_after_call(uintptr_t pc) {
    if (pc % 4 != 0)
        return false;
    uint32_t word = *(const uint32_t *)(pc - 4);
    return (word & 0xfc000000u) == 0x94000000u || (word & 0xfefff000u) == 0xd63f0000u;
}

/* Where the function of a context from makecontext() returns to. */
static inline uintptr_t mp_arch_made_context_return(const ucontext_t *context) {
    return context->uc_mcontext.regs[30];
}

/* rt_sigprocmask(-1, address, NULL, 8): the kernel reads the set before it rejects the first one. */
static inline long mp_arch_probe(uintptr_t address) {
    register long x0 __asm__("x0") = -1;
    register uintptr_t x1 __asm__("x1") = address;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 8;
    register long x8 __asm__("x8") = 135;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x8) : "memory");
    return x0;
}

/* Rule words: bits 4..15 offset of the CFA in bytes, bit 3 "FP lies in the word below RA",
 * bits 16..23 words from RA's slot to the CFA. */
#define MP_RULE_OFFSET_MASK 0xfff0u
#define MP_RULE_RECORD 8u

static inline uintptr_t mp_rule_ra_slot(uint32_t word, uintptr_t cfa) {
    return cfa - 8 * (uintptr_t)(word >> 16);
}

static inline bool mp_rule_saves_fp(uint32_t word) {
    return (word & MP_RULE_RECORD) != 0;
}

static inline uintptr_t mp_rule_fp_slot(uint32_t word, uintptr_t cfa) {
    return mp_rule_ra_slot(word, cfa) - 8;
}

/* Pack the two places, relative to the CFA; false if they do not fit. */
static inline bool mp_rule_pack(uint32_t *word, int64_t ra_offset, bool saves_fp,
                                int64_t fp_offset) {
    if (ra_offset >= 0 || ra_offset < -255 * 8 || ra_offset % 8 != 0 ||
        (saves_fp && fp_offset != ra_offset - 8)) {
        return false;
    }
    *word |= (uint32_t)(-ra_offset / 8) << 16 | (saves_fp ? MP_RULE_RECORD : 0);
    return true;
}

#endif
