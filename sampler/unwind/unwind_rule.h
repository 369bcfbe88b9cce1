/*
 * unwind_rule.h - how to leave one frame, in 24 bits.
 *
 * Model: bits 0..2 are the kind; the rest depends on it. SP, FP and CHAIN pack an offset in bits 3..15 (a
 * multiple of 8 that needs no shift) and the places of return address and frame pointer above
 * (unwind_x86_64.h, unwind_aarch64.h). A rule that does not fit is not a word: the walk interprets it
 * each time (MP_RULE_WIDE).
 */
#ifndef MP_UNWIND_RULE_H
#define MP_UNWIND_RULE_H

#include "unwind_arch.h"

#include <stdint.h>

enum mp_rule_kind {
    MP_RULE_NONE = 0,  /* not a rule */
    MP_RULE_SP = 1,    /* CFA = SP + offset */
    MP_RULE_FP = 2,    /* CFA = FP + offset */
    MP_RULE_CHAIN = 3, /* the same, and FP points to a frame record: saved FP, return address */
    /* CFA = *(FP + offset), FP = *FP: a realigned frame (x86_64); offset signed */
    MP_RULE_DEREF = 4,
    MP_RULE_SIGNAL = 5, /* signal trampoline: the registers are at SP */
    MP_RULE_END = 6,    /* outermost frame */
    MP_RULE_LOST = 7,   /* no way on; the cause, an enum mp_lost, in bits 3..15 */
};

#define MP_RULE_BITS 24
#define MP_RULE_KIND_MASK 7u
#define MP_RULE_WIDE (1u << MP_RULE_BITS) /* not a word: use the row */
/* Not a word, with a LOST below it: the address is not one of code. */
#define MP_RULE_NOT_CODE (1u << (MP_RULE_BITS + 1))

static inline uint32_t mp_rule_kind(uint32_t word) {
    return word & MP_RULE_KIND_MASK;
}

static inline uintptr_t mp_rule_offset(uint32_t word) {
    return word & MP_RULE_OFFSET_MASK;
}

static inline uint32_t mp_rule_lost(unsigned cause) {
    return MP_RULE_LOST | cause << 3;
}

static inline uint8_t mp_rule_cause(uint32_t word) {
    return (uint8_t)((word >> 3) & 0x1f);
}

#endif
