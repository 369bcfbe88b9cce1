/*
 * Every entry of .eh_frame of the files named on standard input, one path a line: read without leaving
 * the mapping, rows understood but for a few. `--rows FILE` prints the rows of one file instead, for
 * comparison with readelf: "<pc> <cfa> <fp> <ra>".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#define MP_TEST_MACHINE EM_X86_64
#else
#define MP_TEST_MACHINE EM_AARCH64
#endif

#include "cfi_file.h"
#include "check.h"
#include "unwind/cfi_expr.h"
#include "unwind/unwind_arch.h"

static unsigned long files, entries, rows, strange, broken;

static bool expression_is_known(const uint8_t *expr, const uint8_t *end) {
    uintptr_t stack[1024], out, initial = (uintptr_t)&stack[512];
    for (unsigned i = 0; i < 1024; i++)
        stack[i] = (uintptr_t)&stack[512];
    struct mp_stack_range range = {
        .low = (uintptr_t)stack, .high = (uintptr_t)(stack + 1024), .foreign = false};
    struct mp_expr_input input = {
        .pc = 0x1000, .sp = initial, .fp = initial, .range = &range, .initial = &initial};
    return mp_expr_eval(expr, end, &input, &out);
}

static bool rule_is_known(const struct mp_cfi_rule *rule) {
    if (rule->where == MP_CFI_EXPR || rule->where == MP_CFI_VAL_EXPR)
        return expression_is_known(rule->expr, rule->expr_end);
    return rule->where != MP_CFI_REGISTER;
}

static bool row_is_known(const struct mp_cfi_row *row) {
    if (row->ra.where == MP_CFI_UNDEFINED)
        return true;
    bool cfa = row->cfa_expr != NULL
                   ? expression_is_known(row->cfa_expr, row->cfa_expr_end)
                   : row->cfa_register == MP_ARCH_DWARF_SP || row->cfa_register == MP_ARCH_DWARF_FP;
    return cfa && rule_is_known(&row->ra) && rule_is_known(&row->fp);
}

static void print_rule(const struct mp_cfi_rule *rule) {
    switch (rule->where) {
    case MP_CFI_SAME:
    case MP_CFI_UNDEFINED:
        printf(" u");
        break;
    case MP_CFI_OFFSET:
        printf(" c%+ld", (long)rule->offset);
        break;
    case MP_CFI_VAL_OFFSET:
        printf(" v%+ld", (long)rule->offset);
        break;
    case MP_CFI_REGISTER:
        printf(" r%lu", (unsigned long)rule->offset);
        break;
    case MP_CFI_EXPR:
        printf(" exp");
        break;
    default:
        printf(" vexp");
    }
}

static void print_row(uintptr_t pc, const struct mp_cfi_row *row) {
    printf("%lx ", (unsigned long)pc);
    if (row->cfa_expr != NULL)
        printf("exp");
    else
        printf("r%lu%+ld", (unsigned long)row->cfa_register, (long)row->cfa_offset);
    print_rule(&row->fp);
    print_rule(&row->ra);
    printf("\n");
}

static void read_entry(const struct mp_cfi_image *image, unsigned i, uintptr_t base, bool print) {
    struct mp_cfi_fde fde, found;
    struct mp_cfi_row row;
    uintptr_t next;
    entries++;
    if (mp_cfi_entry(image, i, &fde) != 0) {
        broken++;
        return;
    }
    if (fde.pc_start == fde.pc_end)
        return;
    CHECK(mp_cfi_find(image, fde.pc_end - 1, &found) == 0 && found.pc_start == fde.pc_start);
    for (uintptr_t pc = fde.pc_start; pc < fde.pc_end; pc = next) {
        rows++;
        if (mp_cfi_row(&fde, pc, &row, &next) != 0) {
            broken++;
            return;
        }
        strange += !row_is_known(&row);
        if (print)
            print_row(pc - base, &row);
        if (next <= pc) {
            broken++;
            return;
        }
    }
}

static void read_file(const char *path, bool print) {
    struct cfi_file file;
    struct mp_cfi_image image;
    if (!cfi_file_open(path, &file))
        return;
    if (file.hdr != NULL) {
        files++;
        if (cfi_file_image(&file, &image) != 0) {
            broken++;
        } else {
            unsigned count = mp_cfi_count(&image);
            for (unsigned i = 0; i < count; i++)
                read_entry(&image, i, file.base, print);
        }
    }
    cfi_file_close(&file);
}

int main(int argc, char **argv) {
    char path[4096];
    CASE("corpus");
    if (argc == 3 && strcmp(argv[1], "--rows") == 0) {
        read_file(argv[2], true);
        return broken != 0;
    }
    while (fgets(path, sizeof(path), stdin) != NULL) {
        path[strcspn(path, "\n")] = 0;
        read_file(path, false);
    }
    CHECK(files > 0 && rows > 0);
    /* Of all libraries of a machine, fewer than 0.2 %; a sample may hold much assembler code. */
    unsigned long per_mille = argc == 2 && strcmp(argv[1], "--sample") == 0 ? 20 : 2;
    CHECK((strange + broken) * 1000 < rows * per_mille);
    printf("%lu files, %lu entries, %lu rows, %lu not understood, %lu malformed\n", files, entries,
           rows, strange, broken);
    return check_end();
}
