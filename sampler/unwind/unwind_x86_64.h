/*
 * unwind_x86_64.h - see unwind_arch.h. The return address is always at CFA - 8 (System V ABI).
 */
#ifndef MP_UNWIND_X86_64_H
#define MP_UNWIND_X86_64_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#define MP_ARCH_DWARF_FP 6
#define MP_ARCH_DWARF_SP 7
#define MP_ARCH_DWARF_RA 16
#define MP_ARCH_RECORD_ENDS_FRAME 1
#define MP_ARCH_RED_ZONE 128 /* bytes below the stack pointer that a signal leaves alone */

/* User addresses end at 2^47 unless a program asks for more by hints to mmap. */
#define MP_ARCH_PC_LIMIT ((uintptr_t)1 << 47)

/* Bytes of the thread descriptor that may be searched, from the thread pointer. */
#define MP_ARCH_DESCRIPTOR_FROM 0
#define MP_ARCH_DESCRIPTOR_TO 0x900

/* ucontext_t at the stack pointer: 40 bytes, then gregs[] (REG_RBP 10, REG_RSP 15, REG_RIP 16). */
#define MP_ARCH_CONTEXT_FP (40 + 8 * 10)
#define MP_ARCH_CONTEXT_SP (40 + 8 * 15)
#define MP_ARCH_CONTEXT_PC (40 + 8 * 16)
#define MP_ARCH_CONTEXT_RA MP_ARCH_CONTEXT_PC /* no link register */

/* mov $15, %rax; syscall */
static const uint8_t mp_arch_rt_sigreturn[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};

static inline uintptr_t mp_arch_thread_pointer(void) {
    uintptr_t value;
    __asm__("mov %%fs:0x10, %0" : "=r"(value));
    return value;
}

static inline uintptr_t mp_arch_return_address(uintptr_t word) {
    return word;
}

/* Do the bytes before `pc` end in a call? At least MP_ARCH_CALL_BYTES are readable. */
#define MP_ARCH_CALL_BYTES 7
static inline bool mp_arch_is_after_call(uintptr_t pc) {
    const uint8_t *at = (const uint8_t *)pc;
    if (at[-5] == 0xe8)
        return true;
    /* ff /2: the length follows from the addressing mode, a displacement of 0, 1 or 4 bytes, a SIB byte. */
    static const struct {
        uint8_t bytes, mask, modrm;
    } forms[] = {{2, 0xf8, 0xd0}, {2, 0xf8, 0x10}, {3, 0xff, 0x14}, {3, 0xf8, 0x50},
                 {4, 0xff, 0x54}, {6, 0xff, 0x15}, {6, 0xf8, 0x90}, {7, 0xff, 0x94}};
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (at[-forms[i].bytes] == 0xff &&
            (at[1 - forms[i].bytes] & forms[i].mask) == forms[i].modrm)
            return true;
    return false;
}

/* Where the function of a context from makecontext() returns to. */
static inline uintptr_t mp_arch_made_context_return(const ucontext_t *context) {
    return *(const uintptr_t *)context->uc_mcontext.gregs[REG_RSP];
}

/* rt_sigprocmask(-1, address, NULL, 8): the kernel reads the set before it rejects the first one. */
static inline long mp_arch_probe(uintptr_t address) {
    long result;
    register long size __asm__("r10") = 8;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(14L), "D"(-1L), "S"(address), "d"(0L), "r"(size)
                     : "rcx", "r11", "memory");
    return result;
}

/* Rule words: bits 3..15 offset of the CFA in bytes, bits 16..23 words from FP's slot to the CFA. */
#define MP_RULE_OFFSET_MASK 0xfff8u

static inline uintptr_t mp_rule_ra_slot(uint32_t word, uintptr_t cfa) {
    (void)word;
    return cfa - 8;
}

static inline bool mp_rule_saves_fp(uint32_t word) {
    return (word >> 16) != 0;
}

static inline uintptr_t mp_rule_fp_slot(uint32_t word, uintptr_t cfa) {
    return cfa - 8 * (uintptr_t)(word >> 16);
}

/* Pack the two places, relative to the CFA; false if they do not fit. */
static inline bool mp_rule_pack(uint32_t *word, int64_t ra_offset, bool saves_fp,
                                int64_t fp_offset) {
    if (ra_offset != -8 ||
        (saves_fp && (fp_offset >= 0 || fp_offset < -255 * 8 || fp_offset % 8 != 0))) {
        return false;
    }
    *word |= saves_fp ? (uint32_t)(-fp_offset / 8) << 16 : 0;
    return true;
}

#endif
