/*
 * fuzz_cfi.c - unwind tables that a hostile module brings: the reader of unwind/cfi.c, its row programs and
 * its expressions. Input: where .eh_frame_hdr begins (2 bytes), where the code lies (2 bytes), the tables.
 */
#include <stdlib.h>
#include <string.h>

#include "unwind/cfi.h"
#include "unwind/cfi_expr.h"

#include "forge.h"

#define HEAD_BYTES 4
#define ENTRIES_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void run_entry(const struct mp_cfi_fde *fde, uintptr_t pc) {
    uintptr_t stack[64] = {0}, out, next;
    int64_t offset;
    struct mp_cfi_row row;
    struct mp_stack_range range = {.low = (uintptr_t)stack, .high = (uintptr_t)(stack + 64)};
    struct mp_expr_input input = {
        .pc = pc, .sp = (uintptr_t)stack, .fp = (uintptr_t)stack + 64, .range = &range};
    if (mp_cfi_row(fde, pc, &row, &next) != 0)
        return;
    if (next <= pc)
        abort(); /* a walk through the rows would not end */
    if (row.cfa_expr != NULL) {
        mp_expr_eval(row.cfa_expr, row.cfa_expr_end, &input, &out);
        mp_expr_is_fp(row.cfa_expr, row.cfa_expr_end, true, &offset);
    }
    const struct mp_cfi_rule *rules[] = {&row.fp, &row.ra};
    for (unsigned i = 0; i < 2; i++) {
        if (rules[i]->where != MP_CFI_EXPR && rules[i]->where != MP_CFI_VAL_EXPR)
            continue;
        input.initial = (const uintptr_t *)stack;
        mp_expr_eval(rules[i]->expr, rules[i]->expr_end, &input, &out);
        mp_expr_is_fp(rules[i]->expr, rules[i]->expr_end, false, &offset);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    uint16_t hdr_at, code_at;
    if (bytes <= HEAD_BYTES)
        return 0;
    memcpy(&hdr_at, data, sizeof hdr_at);
    memcpy(&code_at, data + 2, sizeof code_at);
    size_t size = bytes - HEAD_BYTES;
    uint8_t *block = malloc(size); /* AddressSanitizer watches its edges */
    memcpy(block, data + HEAD_BYTES, size);
    struct mp_cfi_image image = {.hdr = (uintptr_t)block + hdr_at % size, .segments = 1};
    image.segment[0] = (struct mp_cfi_segment){(uintptr_t)block, (uintptr_t)block + size};
    struct mp_cfi_fde fde;
    unsigned count = mp_cfi_count(&image);
    for (unsigned i = 0; i < count && i < ENTRIES_MAX; i++) {
        if (mp_cfi_entry(&image, i, &fde) != 0 || fde.pc_start >= fde.pc_end)
            continue;
        run_entry(&fde, fde.pc_start);
        run_entry(&fde, fde.pc_start + (fde.pc_end - fde.pc_start) / 2);
        run_entry(&fde, fde.pc_end - 1);
        if (mp_cfi_find(&image, fde.pc_start, &fde) == 0)
            run_entry(&fde, fde.pc_start);
    }
    if (mp_cfi_find(&image, (uintptr_t)block - code_at, &fde) == 0)
        run_entry(&fde, (uintptr_t)block - code_at);
    free(block);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    return forge(data, bytes, max, seed);
}
