/*
 * unwind_cfi.c - from a code address to its rule, by the module's call frame information.
 *
 * Runs when the cache does not know an address: find the module, its FDE, the row; pack the row into a
 * rule word if it fits and remember it. mp_cfi_step() evaluates rows that do not fit (0.1 % of all,
 * mostly assembly code and huge frames) in full each time.
 */
#include "unwind_cfi.h"
#include "cfi_expr.h"
#include "unwind_cache.h"
#include "unwind_code.h"
#include "unwind_rule.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>

/* The start code of a program or of the loader: a missing table entry means "outermost" there. */
#define ENTRY_CODE_BYTES 128
#define NOTED_ENTRIES                                                                              \
    64 /* programs have fewer modules in stacks; others are only noted more often */

static void (*note_module)(const struct mp_module *module);
static uintptr_t entry_code[2];
static uintptr_t coroutine_return;

/* Modules noted since the cache was last flushed, by start address; a collision notes one again. */
static struct {
    uintptr_t start;
    uint32_t sequence;
} noted[NOTED_ENTRIES];

static void coroutine(void) {
}

static void note(const struct mp_module *module, uint32_t sequence) {
    unsigned i = (unsigned)(module->start >> 12) % NOTED_ENTRIES;
    if (note_module == NULL ||
        (__atomic_load_n(&noted[i].start, __ATOMIC_RELAXED) == module->start &&
         __atomic_load_n(&noted[i].sequence, __ATOMIC_RELAXED) == sequence + 1)) {
        return;
    }
    note_module(module);
    __atomic_store_n(&noted[i].start, module->start, __ATOMIC_RELAXED);
    __atomic_store_n(&noted[i].sequence, sequence + 1, __ATOMIC_RELAXED);
}

/* A coroutine of makecontext() returns to code of libc without a table entry: ask for its address. */
void mp_cfi_find_coroutines(mp_make_context *make_context) {
    static uintptr_t stack[64];
    static ucontext_t context;
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = sizeof(stack);
    if (make_context == NULL)
        return;
    make_context(&context, coroutine, 0);
    coroutine_return = mp_arch_made_context_return(&context);
}

static bool is_start_code(uintptr_t pc) {
    if (pc + 1 == coroutine_return)
        return true;
    for (unsigned i = 0; i < 2; i++)
        if (entry_code[i] != 0 && pc - entry_code[i] < ENTRY_CODE_BYTES)
            return true;
    return false;
}

void mp_cfi_init(void (*on_module)(const struct mp_module *module)) {
    const Elf64_Ehdr *loader = (const Elf64_Ehdr *)getauxval(AT_BASE);
    note_module = on_module;
    mp_cfi_use_probe(mp_stack_is_mapped);
    entry_code[0] = getauxval(AT_ENTRY);
    entry_code[1] = loader != NULL ? (uintptr_t)loader + loader->e_entry : 0;
}

/* Is the code at `pc` the trampoline that returns from a signal handler? Some have no table entry. */
static bool is_signal_return(const struct mp_cfi_image *image, uintptr_t pc) {
    for (unsigned i = 0; i < image->segments; i++) {
        const struct mp_cfi_segment *segment = &image->segment[i];
        if (pc >= segment->start && pc < segment->end &&
            segment->end - pc >= sizeof(mp_arch_rt_sigreturn)) {
            return memcmp((const void *)pc, mp_arch_rt_sigreturn, sizeof(mp_arch_rt_sigreturn)) ==
                   0;
        }
    }
    return false;
}

static uint32_t pack_deref(const struct mp_cfi_row *row) {
    int64_t at, fp_at;
    if (!mp_expr_is_fp(row->cfa_expr, row->cfa_expr_end, true, &at) ||
        row->fp.where != MP_CFI_EXPR ||
        !mp_expr_is_fp(row->fp.expr, row->fp.expr_end, false, &fp_at) || fp_at != 0 ||
        row->ra.where != MP_CFI_OFFSET || row->ra.offset != -8 || MP_ARCH_DWARF_FP != 6 ||
        at % 8 != 0 || at < INT16_MIN || at > INT16_MAX) {
        return MP_RULE_WIDE;
    }
    return MP_RULE_DEREF | ((uint32_t)at & 0xfff8u);
}

static uint32_t pack(const struct mp_cfi_row *row) {
    if (row->ra.where == MP_CFI_UNDEFINED)
        return MP_RULE_END;
    if (row->cfa_expr != NULL)
        return pack_deref(row);
    bool by_fp = row->cfa_register == MP_ARCH_DWARF_FP;
    bool saves_fp = row->fp.where == MP_CFI_OFFSET;
    int64_t offset = row->cfa_offset;
    if ((!by_fp && row->cfa_register != MP_ARCH_DWARF_SP) || row->ra.where != MP_CFI_OFFSET ||
        (!saves_fp && row->fp.where != MP_CFI_SAME) || offset <= 0 ||
        (offset & ~(int64_t)MP_RULE_OFFSET_MASK) != 0) {
        return MP_RULE_WIDE;
    }
    uint32_t word = (uint32_t)offset;
    if (!mp_rule_pack(&word, row->ra.offset, saves_fp, row->fp.offset))
        return MP_RULE_WIDE;
    if (by_fp) {
        bool record = saves_fp && row->fp.offset == -offset && row->ra.offset == row->fp.offset + 8;
        return word | (record ? MP_RULE_CHAIN : MP_RULE_FP);
    }
    /* The loop reads both places unchecked: they must be inside the frame. */
    bool inside = row->ra.offset >= -offset && (!saves_fp || row->fp.offset >= -offset);
    return inside ? word | MP_RULE_SP : MP_RULE_WIDE;
}

/* Where to read the tables of a module. */
struct tables {
    struct mp_cfi_place place;
    const void *eh_frame_hdr;
    bool permanent;
};

/* Finds and notes the module that holds the code before `key`. Apart, so that the module is off the stack when
 * its tables are read. */
static __attribute__((noinline)) bool find_tables(uintptr_t key, uint32_t sequence,
                                                  struct tables *out) {
    struct mp_module module;
    if (!mp_module_find(key - 1, &module))
        return false;
    if (mp_code_is_overlaid(&module))
        mp_cache_flush();
    note(&module, sequence);
    out->place =
        (struct mp_cfi_place){.start = module.start, .end = module.end, .bias = module.bias};
    out->place.phdr = mp_module_headers(&module, &out->place.phdrs);
    out->eh_frame_hdr = module.eh_frame_hdr;
    out->permanent = module.permanent;
    return true;
}

/* 0 with *fde filled; MP_RULE_SIGNAL; or a cause. Apart, so that the image is off the stack when the row is run. */
static __attribute__((noinline)) uint32_t find_entry(const struct tables *tables, uintptr_t key,
                                                     struct mp_cfi_fde *fde) {
    struct mp_cfi_image image;
    if (tables->eh_frame_hdr == NULL || tables->place.phdr == NULL ||
        mp_cfi_image(&tables->place, tables->eh_frame_hdr, &image) != 0) {
        return mp_rule_lost(MP_LOST_UNWIND_NO_RULE);
    }
    int rc = mp_cfi_find(&image, key - 1, fde);
    if ((rc != 0 || fde->signal_frame) && is_signal_return(&image, key))
        return MP_RULE_SIGNAL;
    if (rc == 0)
        return 0;
    return mp_rule_lost(rc == -ENOENT ? MP_LOST_UNWIND_NO_RULE : MP_LOST_UNWIND_BAD_RULE);
}

static uint32_t rule_in_tables(const struct tables *tables, uintptr_t key,
                               struct mp_wide_rule *wide) {
    struct mp_cfi_fde fde;
    uintptr_t next;
    uint32_t word = find_entry(tables, key, &fde);
    if (word != 0)
        return word;
    if (mp_cfi_row(&fde, key - 1, &wide->row, &next) != 0 || fde.ra_register != MP_ARCH_DWARF_RA)
        return mp_rule_lost(MP_LOST_UNWIND_BAD_RULE);
    wide->signal_frame = fde.signal_frame;
    return fde.signal_frame ? MP_RULE_WIDE : pack(&wide->row);
}

static __attribute__((noinline)) bool is_code(const struct tables *tables, uintptr_t at) {
    const struct mp_cfi_place *place = &tables->place;
    struct mp_module module = {.start = place->start,
                               .end = place->end,
                               .bias = place->bias,
                               .phdr = place->phdr,
                               .phdrs = place->phdrs};
    return mp_code_in_module(&module, at);
}

static uint32_t rule_outside(const struct mp_walk *w) {
    uintptr_t key = mp_walk_key(w);
    uint32_t word = mp_rule_lost(MP_LOST_UNWIND_NO_MODULE);
    if (!mp_code_outside(key - 1, &w->range))
        return word | MP_RULE_NOT_CODE;
    mp_code_keep_outside(key - 1);
    mp_cache_store(key, word, w->sequence, false);
    return word;
}

uint32_t mp_cfi_rule(const struct mp_walk *w, struct mp_wide_rule *wide) {
    uintptr_t key = mp_walk_key(w);
    struct tables tables;
    if (!find_tables(key, w->sequence, &tables))
        return rule_outside(w);
    uint32_t word = rule_in_tables(&tables, key, wide);
    if (mp_rule_kind(word) == MP_RULE_LOST && is_start_code(key - 1))
        word = MP_RULE_END;
    if (mp_rule_kind(word) == MP_RULE_LOST && !is_code(&tables, key - 1))
        return word | MP_RULE_NOT_CODE;
    if (word != MP_RULE_WIDE)
        mp_cache_store(key, word, w->sequence, tables.permanent);
    return word;
}

static bool eval(struct mp_walk *w, const uint8_t *expr, const uint8_t *end,
                 const uintptr_t *initial, uintptr_t *out) {
    struct mp_expr_input input = {
        .pc = mp_walk_key(w) - 1,
        .sp = w->sp,
        .fp = w->fp,
        .range = &w->range,
        .initial = initial,
    };
    return mp_expr_eval(expr, end, &input, out) || mp_walk_fail(w, MP_LOST_UNWIND_BAD_RULE);
}

static bool find_cfa(struct mp_walk *w, const struct mp_cfi_row *row, uintptr_t *cfa) {
    if (row->cfa_expr != NULL)
        return eval(w, row->cfa_expr, row->cfa_expr_end, NULL, cfa);
    if (row->cfa_register == MP_ARCH_DWARF_SP)
        *cfa = w->sp + (uintptr_t)row->cfa_offset;
    else if (row->cfa_register == MP_ARCH_DWARF_FP)
        *cfa = w->fp + (uintptr_t)row->cfa_offset;
    else
        return mp_walk_fail(w, MP_LOST_UNWIND_BAD_RULE);
    if (row->cfa_register == MP_ARCH_DWARF_SP && !mp_walk_knows_sp(w))
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    return true;
}

/* The caller's value of one register; `same` is its value if the function left it alone. */
static bool find_register(struct mp_walk *w, const struct mp_cfi_rule *rule, uintptr_t cfa,
                          uintptr_t same, uintptr_t *out) {
    uintptr_t at = cfa + (uintptr_t)rule->offset;
    switch (rule->where) {
    case MP_CFI_SAME:
        *out = same;
        return true;
    case MP_CFI_VAL_OFFSET:
        *out = at;
        return true;
    case MP_CFI_VAL_EXPR:
        return eval(w, rule->expr, rule->expr_end, &cfa, out);
    case MP_CFI_EXPR:
        if (!eval(w, rule->expr, rule->expr_end, &cfa, &at))
            return false;
        break;
    case MP_CFI_OFFSET:
        break;
    default:
        return mp_walk_fail(w, MP_LOST_UNWIND_BAD_RULE);
    }
    return mp_stack_read(&w->range, at, out) || mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
}

/* A missing frame pointer matters only if the caller needs it. */
static bool find_fp(struct mp_walk *w, const struct mp_cfi_rule *rule, uintptr_t cfa,
                    uintptr_t *fp) {
    if (rule->where == MP_CFI_UNDEFINED || rule->where == MP_CFI_REGISTER) {
        *fp = 0;
        return true;
    }
    uintptr_t at = cfa + (uintptr_t)rule->offset;
    if (rule->where == MP_CFI_OFFSET && at < w->sp) {
        /* Popped already: tables of gcc leave the rule in force until the end of the function. */
        if (!mp_stack_read(&w->range, at, fp))
            *fp = w->fp;
        return true;
    }
    return find_register(w, rule, cfa, w->fp, fp);
}

bool mp_cfi_step(struct mp_walk *w, const struct mp_wide_rule *wide) {
    const struct mp_cfi_row *row = &wide->row;
    uintptr_t cfa, pc, fp;
    if (row->ra.where == MP_CFI_UNDEFINED)
        return mp_walk_fail(w, MP_UNWIND_OUTERMOST);
    /* A return address still in the link register is known only where a signal interrupted. */
    if (row->ra.where == MP_CFI_SAME && !w->exact)
        return mp_walk_fail(w, MP_LOST_UNWIND_BAD_RULE);
    if (!find_cfa(w, row, &cfa) || !find_register(w, &row->ra, cfa, w->ra, &pc))
        return false;
    if (!find_fp(w, &row->fp, cfa, &fp))
        return false;
    pc = mp_arch_return_address(pc);
    if (wide->signal_frame)
        return mp_walk_enter_interrupted(w, pc, cfa, fp, 0);
    return mp_walk_enter(w, pc, cfa, fp);
}
