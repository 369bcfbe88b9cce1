/*
 * cfi_expr.h - evaluate the location expressions of call frame information.
 *
 * Limits: registers SP, FP and the code address only; loads only from the stack range; no branches.
 * Every other operation makes the expression fail. HOOK.
 */
#ifndef MP_CFI_EXPR_H
#define MP_CFI_EXPR_H

#include "stack_range.h"

#include <stdbool.h>
#include <stdint.h>

struct mp_expr_input {
    uintptr_t pc, sp, fp;
    struct mp_stack_range *range;
    const uintptr_t *initial; /* pushed first (the CFA, for register rules); NULL: nothing */
};

/* False if the expression is malformed, not understood, or loads from outside the range. */
bool mp_expr_eval(const uint8_t *expr, const uint8_t *end, const struct mp_expr_input *input,
                  uintptr_t *out);

/* Is it exactly `*(FP + offset)` (deref) or `FP + offset` (!deref)? */
bool mp_expr_is_fp(const uint8_t *expr, const uint8_t *end, bool deref, int64_t *offset);

#endif
