/*
 * cfi_expr.c - see cfi_expr.h; operations by DWARF 5, 2.5.1.
 */
#include "cfi_expr.h"
#include "cfi_reader.h"
#include "unwind_arch.h"

#include <stddef.h>

#define STACK_MAX 8 /* compilers use four */
#define OPERATIONS_MAX 256 /* against expressions that only cost time */

#define OP_DEREF 0x06
#define OP_CONST1U 0x08
#define OP_CONST1S 0x09
#define OP_CONST2U 0x0a
#define OP_CONST2S 0x0b
#define OP_CONST4U 0x0c
#define OP_CONST4S 0x0d
#define OP_CONST8U 0x0e
#define OP_CONST8S 0x0f
#define OP_CONSTU 0x10
#define OP_CONSTS 0x11
#define OP_DUP 0x12
#define OP_DROP 0x13
#define OP_OVER 0x14
#define OP_SWAP 0x16
#define OP_AND 0x1a
#define OP_MINUS 0x1c
#define OP_MUL 0x1e
#define OP_NEG 0x1f
#define OP_NOT 0x20
#define OP_OR 0x21
#define OP_PLUS 0x22
#define OP_PLUS_UCONST 0x23
#define OP_SHL 0x24
#define OP_SHR 0x25
#define OP_SHRA 0x26
#define OP_XOR 0x27
#define OP_EQ 0x29
#define OP_GE 0x2a
#define OP_GT 0x2b
#define OP_LE 0x2c
#define OP_LT 0x2d
#define OP_NE 0x2e
#define OP_LIT0 0x30
#define OP_BREG0 0x70
#define OP_NOP 0x96

struct evaluation {
    struct mp_cursor c;
    const struct mp_expr_input *input;
    uintptr_t stack[STACK_MAX];
    unsigned depth;
};

static void push(struct evaluation *e, uintptr_t value) {
    if (e->depth == STACK_MAX) {
        e->c.bad = true;
        return;
    }
    e->stack[e->depth++] = value;
}

static uintptr_t pop(struct evaluation *e) {
    if (e->depth == 0) {
        e->c.bad = true;
        return 0;
    }
    return e->stack[--e->depth];
}

static void push_register(struct evaluation *e, unsigned number) {
    int64_t offset = mp_cursor_sleb(&e->c);
    if (number == MP_ARCH_DWARF_SP)
        push(e, e->input->sp + (uintptr_t)offset);
    else if (number == MP_ARCH_DWARF_FP)
        push(e, e->input->fp + (uintptr_t)offset);
    else if (number == MP_ARCH_DWARF_RA)
        push(e, e->input->pc + (uintptr_t)offset);
    else
        e->c.bad = true;
}

static void load(struct evaluation *e) {
    uintptr_t value = 0;
    if (!mp_stack_read(e->input->range, pop(e), &value))
        e->c.bad = true;
    push(e, value);
}

/* Operations that push a constant; false if `op` is none of them. */
static bool run_constant(struct evaluation *e, uint8_t op) {
    struct mp_cursor *c = &e->c;
    switch (op) {
    case OP_CONST1U:
        push(e, mp_cursor_u8(c));
        return true;
    case OP_CONST1S:
        push(e, (uintptr_t)(intptr_t)(int8_t)mp_cursor_u8(c));
        return true;
    case OP_CONST2U:
        push(e, mp_cursor_u16(c));
        return true;
    case OP_CONST2S:
        push(e, (uintptr_t)(intptr_t)(int16_t)mp_cursor_u16(c));
        return true;
    case OP_CONST4U:
        push(e, mp_cursor_u32(c));
        return true;
    case OP_CONST4S:
        push(e, (uintptr_t)(intptr_t)(int32_t)mp_cursor_u32(c));
        return true;
    case OP_CONST8U:
    case OP_CONST8S:
        push(e, mp_cursor_u64(c));
        return true;
    case OP_CONSTU:
        push(e, mp_cursor_uleb(c));
        return true;
    case OP_CONSTS:
        push(e, (uintptr_t)mp_cursor_sleb(c));
        return true;
    default:
        if (op < OP_LIT0 || op >= OP_LIT0 + 32)
            return false;
        push(e, (uintptr_t)(op - OP_LIT0));
        return true;
    }
}

static bool run_binary(struct evaluation *e, uint8_t op) {
    if (op < OP_AND || op > OP_NE || op == OP_PLUS_UCONST || op == OP_NEG || op == OP_NOT)
        return false;
    uintptr_t b = pop(e), a = pop(e);
    intptr_t sa = (intptr_t)a, sb = (intptr_t)b;
    switch (op) {
    case OP_AND:
        push(e, a & b);
        return true;
    case OP_MINUS:
        push(e, a - b);
        return true;
    case OP_MUL:
        push(e, a * b);
        return true;
    case OP_OR:
        push(e, a | b);
        return true;
    case OP_PLUS:
        push(e, a + b);
        return true;
    case OP_SHL:
        push(e, b < 64 ? a << b : 0);
        return true;
    case OP_SHR:
        push(e, b < 64 ? a >> b : 0);
        return true;
    case OP_SHRA:
        push(e, (uintptr_t)(sa >> (b < 64 ? b : 63)));
        return true;
    case OP_XOR:
        push(e, a ^ b);
        return true;
    case OP_EQ:
        push(e, a == b);
        return true;
    case OP_GE:
        push(e, sa >= sb);
        return true;
    case OP_GT:
        push(e, sa > sb);
        return true;
    case OP_LE:
        push(e, sa <= sb);
        return true;
    case OP_LT:
        push(e, sa < sb);
        return true;
    case OP_NE:
        push(e, a != b);
        return true;
    default:
        return false;
    }
}

static void run_other(struct evaluation *e, uint8_t op) {
    uintptr_t a, b;
    switch (op) {
    case OP_NOP:
        break;
    case OP_DEREF:
        load(e);
        break;
    case OP_DUP:
        a = pop(e);
        push(e, a);
        push(e, a);
        break;
    case OP_DROP:
        pop(e);
        break;
    case OP_OVER:
    case OP_SWAP:
        b = pop(e);
        a = pop(e);
        push(e, op == OP_OVER ? a : b);
        push(e, op == OP_OVER ? b : a);
        if (op == OP_OVER)
            push(e, a);
        break;
    case OP_NEG:
        push(e, -pop(e));
        break;
    case OP_NOT:
        push(e, ~pop(e));
        break;
    case OP_PLUS_UCONST:
        a = pop(e);
        push(e, a + mp_cursor_uleb(&e->c));
        break;
    default:
        e->c.bad = true;
    }
}

bool mp_expr_eval(const uint8_t *expr, const uint8_t *end, const struct mp_expr_input *input,
                  uintptr_t *out) {
    struct evaluation e = {.c = {expr, end, false}, .input = input, .depth = 0};
    if (input->initial != NULL)
        push(&e, *input->initial);
    for (unsigned count = 0; e.c.at < e.c.end && !e.c.bad; count++) {
        uint8_t op = mp_cursor_u8(&e.c);
        if (op >= OP_BREG0 && op < OP_BREG0 + 32)
            push_register(&e, op - OP_BREG0);
        else if (!run_constant(&e, op) && !run_binary(&e, op))
            run_other(&e, op);
        e.c.bad = e.c.bad || count > OPERATIONS_MAX;
    }
    uintptr_t value = pop(&e);
    if (e.c.bad)
        return false;
    *out = value;
    return true;
}

bool mp_expr_is_fp(const uint8_t *expr, const uint8_t *end, bool deref, int64_t *offset) {
    struct mp_cursor c = {expr, end, false};
    if (mp_cursor_u8(&c) != OP_BREG0 + MP_ARCH_DWARF_FP)
        return false;
    int64_t value = mp_cursor_sleb(&c);
    if (deref && mp_cursor_u8(&c) != OP_DEREF)
        return false;
    if (c.bad || c.at != c.end)
        return false;
    *offset = value;
    return true;
}
