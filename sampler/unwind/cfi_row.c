/*
 * cfi_row.c - run the instructions of a CIE and an FDE up to one code address (DWARF 5, 6.4.2).
 */
#include "cfi.h"
#include "cfi_reader.h"
#include "unwind_arch.h"

#include <errno.h>
#include <stddef.h>

/* Depth of remembered rows; compilers use one. */
#define REMEMBER_MAX 3
/* Instructions of one program, against tables that only cost time. */
#define INSTRUCTIONS_MAX (1u << 20)

#define CFA_ADVANCE_LOC 0x40 /* high two bits; operand in the low six */
#define CFA_OFFSET 0x80
#define CFA_RESTORE 0xc0
#define CFA_NOP 0x00
#define CFA_SET_LOC 0x01
#define CFA_ADVANCE_LOC1 0x02
#define CFA_ADVANCE_LOC2 0x03
#define CFA_ADVANCE_LOC4 0x04
#define CFA_OFFSET_EXTENDED 0x05
#define CFA_RESTORE_EXTENDED 0x06
#define CFA_UNDEFINED 0x07
#define CFA_SAME_VALUE 0x08
#define CFA_REGISTER 0x09
#define CFA_REMEMBER_STATE 0x0a
#define CFA_RESTORE_STATE 0x0b
#define CFA_DEF_CFA 0x0c
#define CFA_DEF_CFA_REGISTER 0x0d
#define CFA_DEF_CFA_OFFSET 0x0e
#define CFA_DEF_CFA_EXPRESSION 0x0f
#define CFA_EXPRESSION 0x10
#define CFA_OFFSET_EXTENDED_SF 0x11
#define CFA_DEF_CFA_SF 0x12
#define CFA_DEF_CFA_OFFSET_SF 0x13
#define CFA_VAL_OFFSET 0x14
#define CFA_VAL_OFFSET_SF 0x15
#define CFA_VAL_EXPRESSION 0x16
#define CFA_MIPS_ADVANCE_LOC8 0x1d
#define CFA_AARCH64_NEGATE_RA_STATE_WITH_PC 0x2c
#define CFA_AARCH64_NEGATE_RA_STATE 0x2d /* elsewhere GNU_window_save, which does not occur here */
#define CFA_GNU_ARGS_SIZE 0x2e
#define CFA_GNU_NEGATIVE_OFFSET_EXTENDED 0x2f

/* A row as the machine keeps it: a hook's stack may be small, and a machine has five of them. A program
 * with numbers that do not fit, which no compiler writes, is an error. */
struct packed_rule {
    int32_t value; /* offset, register, or where the expression begins, from the CIE's start */
    uint16_t expr_bytes;
    uint8_t where; /* enum mp_cfi_where */
};

struct packed_row {
    uint32_t cfa_register;
    int32_t cfa_offset;
    struct packed_rule cfa_expr; /* MP_CFI_SAME: none, it is register + offset */
    struct packed_rule fp;
    struct packed_rule ra;
};

struct machine {
    const struct mp_cfi_fde *fde;
    struct mp_cursor c;
    uintptr_t location;
    unsigned remembered;
    struct packed_row row;
    struct packed_row initial; /* after the CIE: what CFA_RESTORE returns to */
    struct packed_row stack[REMEMBER_MAX];
};

/* The rule of a register that is kept, or NULL. */
static struct packed_rule *rule_in(const struct machine *m, struct packed_row *row,
                                   uint64_t number) {
    if (number == MP_ARCH_DWARF_FP)
        return &row->fp;
    return number == m->fde->ra_register ? &row->ra : NULL;
}

static void put(struct machine *m, struct packed_rule *rule, enum mp_cfi_where where,
                int64_t value) {
    m->c.bad = m->c.bad || value != (int32_t)value;
    *rule = (struct packed_rule){.value = (int32_t)value, .where = (uint8_t)where};
}

static void put_expr(struct machine *m, struct packed_rule *rule, enum mp_cfi_where where,
                     const uint8_t *start) {
    put(m, rule, where, start - m->fde->cie_start);
    m->c.bad = m->c.bad || m->c.at - start > UINT16_MAX;
    rule->expr_bytes = (uint16_t)(m->c.at - start);
}

static void set_rule(struct machine *m, uint64_t number, enum mp_cfi_where where, uint64_t offset) {
    struct packed_rule *rule = rule_in(m, &m->row, number);
    if (rule != NULL)
        put(m, rule, where, (int64_t)offset);
}

static void set_expr(struct machine *m, uint64_t number, enum mp_cfi_where where) {
    uint64_t bytes = mp_cursor_uleb(&m->c);
    const uint8_t *start = m->c.at;
    struct packed_rule *rule = rule_in(m, &m->row, number);
    mp_cursor_skip(&m->c, bytes);
    if (rule != NULL)
        put_expr(m, rule, where, start);
}

static void restore(struct machine *m, uint64_t number) {
    struct packed_rule *rule = rule_in(m, &m->row, number);
    if (rule != NULL)
        *rule = *rule_in(m, &m->initial, number);
}

static void def_cfa(struct machine *m, uint64_t number, int64_t offset) {
    m->c.bad = m->c.bad || number != (uint32_t)number || offset != (int32_t)offset;
    m->row.cfa_register = (uint32_t)number;
    m->row.cfa_offset = (int32_t)offset;
    m->row.cfa_expr = (struct packed_rule){.where = MP_CFI_SAME};
}

static void def_cfa_expr(struct machine *m) {
    uint64_t bytes = mp_cursor_uleb(&m->c);
    const uint8_t *start = m->c.at;
    mp_cursor_skip(&m->c, bytes);
    put_expr(m, &m->row.cfa_expr, MP_CFI_VAL_EXPR, start);
}

static void remember(struct machine *m) {
    if (m->remembered == REMEMBER_MAX) {
        m->c.bad = true;
        return;
    }
    m->stack[m->remembered++] = m->row;
}

static void recall(struct machine *m) {
    if (m->remembered == 0) {
        m->c.bad = true;
        return;
    }
    m->row = m->stack[--m->remembered];
}

static void set_location(struct machine *m) {
    uintptr_t base = (m->fde->encoding & 0x70) == 0x10 ? (uintptr_t)m->c.at : 0;
    switch (m->fde->encoding & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
        m->location = base + mp_cursor_u64(&m->c);
        break;
    case 0x0b:
        m->location = base + (uintptr_t)(intptr_t)(int32_t)mp_cursor_u32(&m->c);
        break;
    case 0x03:
        m->location = base + mp_cursor_u32(&m->c);
        break;
    default:
        m->c.bad = true;
    }
}

/* Instructions that advance the location; false if `op` is none of them. */
static bool run_advance(struct machine *m, uint8_t op) {
    uint64_t delta;
    switch (op) {
    case CFA_SET_LOC:
        set_location(m);
        return true;
    case CFA_ADVANCE_LOC1:
        delta = mp_cursor_u8(&m->c);
        break;
    case CFA_ADVANCE_LOC2:
        delta = mp_cursor_u16(&m->c);
        break;
    case CFA_ADVANCE_LOC4:
        delta = mp_cursor_u32(&m->c);
        break;
    case CFA_MIPS_ADVANCE_LOC8:
        delta = mp_cursor_u64(&m->c);
        break;
    default:
        if ((op & 0xc0) != CFA_ADVANCE_LOC)
            return false;
        delta = op & 0x3f;
    }
    m->location += delta * m->fde->code_align;
    return true;
}

/* Instructions that set the rule of the CFA; false if `op` is none of them. */
static bool run_cfa(struct machine *m, uint8_t op) {
    int64_t data_align = m->fde->data_align;
    switch (op) {
    case CFA_DEF_CFA: {
        uint64_t number = mp_cursor_uleb(&m->c);
        def_cfa(m, number, (int64_t)mp_cursor_uleb(&m->c));
        return true;
    }
    case CFA_DEF_CFA_SF: {
        uint64_t number = mp_cursor_uleb(&m->c);
        def_cfa(m, number, (int64_t)((uint64_t)mp_cursor_sleb(&m->c) * (uint64_t)data_align));
        return true;
    }
    case CFA_DEF_CFA_REGISTER:
        def_cfa(m, mp_cursor_uleb(&m->c), m->row.cfa_offset);
        return true;
    case CFA_DEF_CFA_OFFSET:
        def_cfa(m, m->row.cfa_register, (int64_t)mp_cursor_uleb(&m->c));
        return true;
    case CFA_DEF_CFA_OFFSET_SF:
        def_cfa(m, m->row.cfa_register,
                (int64_t)((uint64_t)mp_cursor_sleb(&m->c) * (uint64_t)data_align));
        return true;
    case CFA_DEF_CFA_EXPRESSION:
        def_cfa_expr(m);
        return true;
    default:
        return false;
    }
}

/* Instructions that set the rule of a register; false if `op` is none of them. */
static bool run_register(struct machine *m, uint8_t op) {
    struct mp_cursor *c = &m->c;
    uint64_t align = (uint64_t)m->fde->data_align;
    if ((op & 0xc0) == CFA_OFFSET) {
        set_rule(m, op & 0x3f, MP_CFI_OFFSET, mp_cursor_uleb(c) * align);
        return true;
    }
    if ((op & 0xc0) == CFA_RESTORE) {
        restore(m, op & 0x3f);
        return true;
    }
    if (op < CFA_OFFSET_EXTENDED || op > CFA_GNU_NEGATIVE_OFFSET_EXTENDED)
        return false;
    uint64_t number = mp_cursor_uleb(c);
    switch (op) {
    case CFA_OFFSET_EXTENDED:
        set_rule(m, number, MP_CFI_OFFSET, mp_cursor_uleb(c) * align);
        return true;
    case CFA_OFFSET_EXTENDED_SF:
        set_rule(m, number, MP_CFI_OFFSET, (uint64_t)mp_cursor_sleb(c) * align);
        return true;
    case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
        set_rule(m, number, MP_CFI_OFFSET, -(mp_cursor_uleb(c) * align));
        return true;
    case CFA_VAL_OFFSET:
        set_rule(m, number, MP_CFI_VAL_OFFSET, mp_cursor_uleb(c) * align);
        return true;
    case CFA_VAL_OFFSET_SF:
        set_rule(m, number, MP_CFI_VAL_OFFSET, (uint64_t)mp_cursor_sleb(c) * align);
        return true;
    case CFA_REGISTER:
        set_rule(m, number, MP_CFI_REGISTER, mp_cursor_uleb(c));
        return true;
    case CFA_UNDEFINED:
        set_rule(m, number, MP_CFI_UNDEFINED, 0);
        return true;
    case CFA_SAME_VALUE:
        set_rule(m, number, MP_CFI_SAME, 0);
        return true;
    case CFA_RESTORE_EXTENDED:
        restore(m, number);
        return true;
    case CFA_EXPRESSION:
        set_expr(m, number, MP_CFI_EXPR);
        return true;
    case CFA_VAL_EXPRESSION:
        set_expr(m, number, MP_CFI_VAL_EXPR);
        return true;
    default:
        return false;
    }
}

static void run_other(struct machine *m, uint8_t op) {
    switch (op) {
    case CFA_NOP:
    case CFA_AARCH64_NEGATE_RA_STATE:
    case CFA_AARCH64_NEGATE_RA_STATE_WITH_PC:
        break;
    case CFA_GNU_ARGS_SIZE:
        mp_cursor_uleb(&m->c);
        break;
    case CFA_REMEMBER_STATE:
        remember(m);
        break;
    case CFA_RESTORE_STATE:
        recall(m);
        break;
    default:
        m->c.bad = true;
    }
}

/* Run until the location passes `pc`; true if it did, false at the end of the program. */
static bool run(struct machine *m, const uint8_t *start, const uint8_t *end, uintptr_t pc) {
    m->c = (struct mp_cursor){start, end, false};
    for (unsigned count = 0; m->c.at < m->c.end && !m->c.bad; count++) {
        uint8_t op = mp_cursor_u8(&m->c);
        if (run_advance(m, op)) {
            if (m->location > pc)
                return true;
            continue;
        }
        struct mp_cursor before = m->c;
        if (run_cfa(m, op) || run_register(m, op))
            continue;
        m->c = before;
        run_other(m, op);
        m->c.bad = m->c.bad || count > INSTRUCTIONS_MAX;
    }
    return false;
}

static struct mp_cfi_rule unpack_rule(const struct machine *m, const struct packed_rule *rule) {
    if (rule->where != MP_CFI_EXPR && rule->where != MP_CFI_VAL_EXPR)
        return (struct mp_cfi_rule){(enum mp_cfi_where)rule->where, rule->value, NULL, NULL};
    const uint8_t *expr = m->fde->cie_start + rule->value;
    return (struct mp_cfi_rule){(enum mp_cfi_where)rule->where, 0, expr, expr + rule->expr_bytes};
}

static void unpack(const struct machine *m, struct mp_cfi_row *out) {
    struct mp_cfi_rule cfa = unpack_rule(m, &m->row.cfa_expr);
    out->cfa_register = m->row.cfa_register;
    out->cfa_offset = m->row.cfa_offset;
    out->cfa_expr = cfa.expr;
    out->cfa_expr_end = cfa.expr_end;
    out->fp = unpack_rule(m, &m->row.fp);
    out->ra = unpack_rule(m, &m->row.ra);
}

int mp_cfi_row(const struct mp_cfi_fde *fde, uintptr_t pc, struct mp_cfi_row *out,
               uintptr_t *next) {
    struct machine m;
    m.fde = fde;
    m.remembered = 0;
    m.row = (struct packed_row){.cfa_register = MP_ARCH_DWARF_SP};
    /* One call, so that the loop below needs no extra frame: first the CIE's program, then the
     * FDE's. */
    bool in_fde = false, passed;
    do {
        m.initial = m.row;
        m.location = fde->pc_start;
        passed = run(&m, in_fde ? fde->fde_start : fde->cie_start,
                     in_fde ? fde->fde_end : fde->cie_end, in_fde ? pc : UINTPTR_MAX);
        if (m.c.bad)
            return -EBADMSG;
        in_fde = !in_fde;
    } while (in_fde);
    unpack(&m, out);
    *next = passed && m.location < fde->pc_end ? m.location : fde->pc_end;
    return 0;
}
