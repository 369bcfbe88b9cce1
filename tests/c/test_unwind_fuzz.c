/*
 * Tables made of noise: random bytes, and the tables of this program with a few bytes changed. Nothing
 * may be read outside of the image. Arguments: seed, rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#if defined(__x86_64__)
#define MP_TEST_MACHINE EM_X86_64
#else
#define MP_TEST_MACHINE EM_AARCH64
#endif

#include "cfi_file.h"
#include "check.h"
#include "unwind/cfi_expr.h"
#include "unwind/unwind_arch.h"

#define NOISE_BYTES 4096

static uint64_t state;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static unsigned long understood;

static void run_entry(const struct mp_cfi_fde *fde, uintptr_t pc) {
    uintptr_t stack[64], out, next;
    struct mp_cfi_row row;
    struct mp_stack_range range = {.low = (uintptr_t)stack, .high = (uintptr_t)(stack + 64)};
    struct mp_expr_input input = {
        .pc = pc, .sp = (uintptr_t)stack, .fp = (uintptr_t)stack + 64, .range = &range};
    memset(stack, 0, sizeof(stack));
    if (mp_cfi_row(fde, pc, &row, &next) != 0)
        return;
    understood++;
    if (row.cfa_expr != NULL)
        mp_expr_eval(row.cfa_expr, row.cfa_expr_end, &input, &out);
    if (row.fp.expr != NULL)
        mp_expr_eval(row.fp.expr, row.fp.expr_end, &input, &out);
}

static void run_image(const struct mp_cfi_image *image, uintptr_t code) {
    struct mp_cfi_fde fde;
    unsigned count = mp_cfi_count(image);
    for (unsigned i = 0; i < 8; i++) {
        uintptr_t pc = code + draw() % 65536;
        if (mp_cfi_find(image, pc, &fde) == 0)
            run_entry(&fde, pc);
        if (count > 0 && mp_cfi_entry(image, (unsigned)(draw() % count), &fde) == 0 &&
            fde.pc_start < fde.pc_end) {
            run_entry(&fde, fde.pc_start + draw() % (fde.pc_end - fde.pc_start));
        }
    }
}

/* A heap block, so that AddressSanitizer watches its edges. */
static void run_noise(void) {
    size_t bytes = 16 + draw() % NOISE_BYTES;
    uint8_t *block = malloc(bytes);
    static const uint8_t head[] = {1, 0x1b, 3, 0x3b};
    for (size_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)draw();
    if (draw() % 4 != 0) { /* a header that passes, a table that points into the block */
        uint32_t count = (uint32_t)(draw() % 16);
        memcpy(block, head, sizeof(head));
        memcpy(block + 8, &count, 4);
        for (size_t at = 12; at + 8 <= bytes && at < 12 + 8 * count; at += 8) {
            int32_t pair[2] = {(int32_t)(at * 100), (int32_t)(draw() % bytes)};
            memcpy(block + at, pair, sizeof(pair));
        }
    }
    struct mp_cfi_image image = {.hdr = (uintptr_t)block, .segments = 1};
    image.segment[0] = (struct mp_cfi_segment){(uintptr_t)block, (uintptr_t)block + bytes};
    run_image(&image, (uintptr_t)block);
    free(block);
}

static void run_changed(const struct mp_cfi_image *original) {
    const struct mp_cfi_segment *from = NULL;
    for (unsigned i = 0; i < original->segments; i++)
        if (original->hdr >= original->segment[i].start && original->hdr < original->segment[i].end)
            from = &original->segment[i];
    size_t bytes = from->end - from->start, hdr_at = original->hdr - from->start;
    uint8_t *block = malloc(bytes);
    memcpy(block, (const void *)from->start, bytes);
    for (uint64_t left = 1 + draw() % 64; left > 0; left--)
        block[hdr_at + draw() % (bytes - hdr_at)] = (uint8_t)draw();
    struct mp_cfi_image image = {.hdr = (uintptr_t)block + hdr_at, .segments = 1};
    image.segment[0] = (struct mp_cfi_segment){(uintptr_t)block, (uintptr_t)block + bytes};
    run_image(&image, (uintptr_t)block - 32768);
    free(block);
}

int main(int argc, char **argv) {
    state = argc > 1 ? strtoull(argv[1], NULL, 0) * 2 + 1 : 1;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
    struct cfi_file file;
    struct mp_cfi_image image;
    CASE("noise");
    CHECK(cfi_file_open("/proc/self/exe", &file) && cfi_file_image(&file, &image) == 0);
    for (unsigned long i = 0; i < rounds; i++) {
        run_noise();
        run_changed(&image);
    }
    CHECK(understood > 100);
    printf("%lu rounds, %lu rows understood\n", rounds, understood);
    return check_end();
}
