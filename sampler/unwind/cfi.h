/*
 * cfi.h - read the call frame information (.eh_frame) of one ELF image.
 *
 * Model: .eh_frame_hdr is a sorted table from code address to frame description entry (FDE); an FDE and
 * its common entry (CIE) are two small programs which, run up to a code address, yield one row: how to
 * compute the frame's end (CFA) and the places of the caller's registers. The reader keeps only three
 * registers: frame pointer, return address and, through the CFA, the stack pointer. Format: Linux
 * Standard Base 5, "Exception Frames", and DWARF 5, section 6.4.
 *
 * The reader reads only readable segments of the image, for any content of the tables. All functions are
 * HOOK: no state, no allocation, no lock.
 */
#ifndef MP_CFI_H
#define MP_CFI_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_CFI_SEGMENTS 6

struct mp_cfi_segment {
    uintptr_t start;
    uintptr_t end;
};

/* The readable bytes of one loaded image. */
struct mp_cfi_image {
    uintptr_t hdr; /* .eh_frame_hdr */
    unsigned segments;
    struct mp_cfi_segment segment[MP_CFI_SEGMENTS];
};

/* A frame description entry with what its CIE says. */
struct mp_cfi_fde {
    uintptr_t pc_start;
    uintptr_t pc_end;
    uint64_t code_align;
    int64_t data_align;
    uint64_t ra_register;
    bool signal_frame;
    uint8_t encoding; /* of code addresses: DW_EH_PE_* */
    const uint8_t *cie_start, *cie_end; /* instructions */
    const uint8_t *fde_start, *fde_end;
};

enum mp_cfi_where {
    MP_CFI_SAME = 0,   /* still in its register */
    MP_CFI_UNDEFINED,  /* lost; for the return address: this is the outermost frame */
    MP_CFI_OFFSET,     /* saved at CFA + offset */
    MP_CFI_VAL_OFFSET, /* is CFA + offset */
    MP_CFI_REGISTER,   /* in another register */
    MP_CFI_EXPR,       /* saved at the address an expression yields */
    MP_CFI_VAL_EXPR,   /* is what an expression yields */
};

struct mp_cfi_rule {
    enum mp_cfi_where where;
    int64_t offset; /* or register number */
    const uint8_t *expr, *expr_end;
};

struct mp_cfi_row {
    uint64_t cfa_register; /* when cfa_expr is NULL: CFA = register + offset */
    int64_t cfa_offset;
    const uint8_t *cfa_expr, *cfa_expr_end;
    struct mp_cfi_rule fp;
    struct mp_cfi_rule ra;
};

/*
 * HOOK. The program headers of a module mapped at [start, end), or NULL. They are in its first page,
 * unless a tool that rewrites files (BOLT) moved them: then this reads them only where `is_mapped` says
 * they are.
 */
const Elf64_Phdr *mp_cfi_headers(uintptr_t start, uintptr_t end, unsigned *count);

/* INIT. How to ask whether memory is mapped; without, only the first page is read. */
void mp_cfi_use_probe(bool (*is_mapped)(uintptr_t at, size_t bytes));

/* Where an image is mapped, [start, end), and its program headers; they may be hostile. */
struct mp_cfi_place {
    uintptr_t start;
    uintptr_t end;
    uintptr_t bias;
    const Elf64_Phdr *phdr;
    unsigned phdrs;
};

/* Take the readable segments of an image. Returns 0, or -EBADMSG when none of them holds `hdr`. */
int mp_cfi_image(const struct mp_cfi_place *place, const void *hdr, struct mp_cfi_image *out);

/*
 * Find the FDE that covers `pc`. Returns 0; -ENOENT: none does; -EBADMSG: the tables are malformed or
 * use an encoding that is not understood.
 */
int mp_cfi_find(const struct mp_cfi_image *image, uintptr_t pc, struct mp_cfi_fde *out);

/*
 * Run the FDE up to `pc`, which it must cover. *next is where the row after this one begins (pc_end:
 * none does). Returns 0, or -EBADMSG for an instruction that is not understood.
 */
int mp_cfi_row(const struct mp_cfi_fde *fde, uintptr_t pc, struct mp_cfi_row *out, uintptr_t *next);

/* Entries of the search table, for walking through all of them; 0 when malformed. */
unsigned mp_cfi_count(const struct mp_cfi_image *image);
/* Entry `i` < mp_cfi_count(): returns like mp_cfi_find(). */
int mp_cfi_entry(const struct mp_cfi_image *image, unsigned i, struct mp_cfi_fde *out);

#endif
