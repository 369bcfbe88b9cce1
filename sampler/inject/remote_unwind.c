/*
 * remote_unwind.c - see remote_unwind.h.
 */
#include "remote_unwind.h"
#include "unwind/cfi.h"
#include "unwind/cfi_expr.h"
#include "unwind/unwind_arch.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER_BYTES 4096
#define IMAGE_MAX_BYTES (1ULL << 32)
#define ROOM_BYTES (512ULL << 20) /* of all tables; LLVM has 12 MiB of them, a browser 30 */
#define ENCODED_SDATA4 0x1b /* DW_EH_PE_pcrel | DW_EH_PE_sdata4 */
#define ENCODED_AT 1 /* in .eh_frame_hdr: how the address of .eh_frame is written, */
#define POINTER_AT 4 /* and that address */

/* The copy of a module's unwind tables. */
struct mp_remote_image {
    bool tried; /* it has no tables, or they are copied */
    unsigned char *copy; /* NULL: no tables */
    uint64_t bytes;
    uint64_t offset; /* address in the target - address in the copy */
    struct mp_cfi_image cfi;
};

struct place {
    uint64_t pc, sp, fp, ra;
    bool exact; /* pc is the next instruction, not a return address */
};

int mp_remote_unwind_open(struct mp_remote_unwind *u, int pid,
                          const struct mp_inject_module *modules, uint64_t count) {
    *u = (struct mp_remote_unwind){
        .pid = pid, .modules = modules, .count = count, .room = ROOM_BYTES, .wanted = count};
    u->images = calloc(count, sizeof *u->images);
    return u->images != NULL || count == 0 ? 0 : -ENOMEM;
}

static void drop_image(struct mp_remote_image *image) {
    if (image->copy != NULL)
        munmap(image->copy, image->bytes);
    *image = (struct mp_remote_image){0};
}

static void drop_images(struct mp_remote_unwind *u) {
    for (uint64_t i = 0; i < u->count; i++)
        drop_image(&u->images[i]);
}

void mp_remote_unwind_close(struct mp_remote_unwind *u) {
    if (u->images == NULL)
        return;
    drop_images(u);
    free(u->images);
    u->images = NULL;
}

static const Elf64_Phdr *program_headers(const unsigned char *page, unsigned *count) {
    const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)page;
    if (memcmp(ehdr->e_ident, ELFMAG, SELFMAG) != 0 || ehdr->e_ident[EI_CLASS] != ELFCLASS64 ||
        ehdr->e_phentsize != sizeof(Elf64_Phdr) || ehdr->e_phoff > HEADER_BYTES ||
        ehdr->e_phnum > (HEADER_BYTES - ehdr->e_phoff) / sizeof(Elf64_Phdr))
        return NULL;
    *count = ehdr->e_phnum;
    return (const Elf64_Phdr *)(page + ehdr->e_phoff);
}

/* The places of the tables and of the ELF header, as ELF addresses. */
static bool find_tables(const Elf64_Phdr *phdr, unsigned count, uint64_t *hdr, uint64_t *header) {
    bool found = false, mapped = false;
    *hdr = *header = 0;
    for (unsigned i = 0; i < count; i++) {
        if (phdr[i].p_type == PT_GNU_EH_FRAME) {
            *hdr = phdr[i].p_vaddr;
            found = true;
        }
        if (phdr[i].p_type == PT_LOAD && phdr[i].p_offset < HEADER_BYTES && !mapped) {
            *header = phdr[i].p_vaddr - phdr[i].p_offset;
            mapped = true;
        }
    }
    return found && mapped;
}

/* Where in their segment the tables begin: usually .eh_frame follows .eh_frame_hdr. */
static uint64_t first_table(struct mp_remote_unwind *u, uint64_t hdr) {
    unsigned char start[POINTER_AT + sizeof(int32_t)];
    int32_t distance;
    if (mp_remote_read(u->pid, hdr, start, sizeof start) != 0 ||
        start[ENCODED_AT] != ENCODED_SDATA4)
        return 0;
    memcpy(&distance, start + POINTER_AT, sizeof distance);
    uint64_t frames = hdr + POINTER_AT + (uint64_t)(int64_t)distance;
    return frames < hdr ? frames : hdr;
}

/* Copy [first, end) of the target; -ENOSPC: there is no room for it. */
static int copy_range(struct mp_remote_unwind *u, struct mp_remote_image *image, uint64_t first,
                      uint64_t end) {
    if (end - first > u->room)
        return -ENOSPC;
    void *copy =
        mmap(NULL, end - first, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -ENOSPC;
    image->copy = copy;
    image->bytes = end - first;
    image->offset = first - (uint64_t)(uintptr_t)image->copy;
    u->room -= image->bytes;
    return mp_remote_read(u->pid, first, image->copy, image->bytes);
}

/* The reader of the copy sees an image with one segment, the tables. `hdr`: in the target. */
static int read_copy(struct mp_remote_image *image, uint64_t hdr) {
    const Elf64_Phdr tables = {.p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = image->bytes};
    const struct mp_cfi_place place = {.start = (uintptr_t)image->copy,
                                       .end = (uintptr_t)image->copy + image->bytes,
                                       .bias = (uintptr_t)image->copy,
                                       .phdr = &tables,
                                       .phdrs = 1};
    return mp_cfi_image(&place, (const void *)(uintptr_t)(hdr - image->offset), &image->cfi);
}

static int copy_tables(struct mp_remote_unwind *u, const struct mp_inject_module *m,
                       struct mp_remote_image *image) {
    _Alignas(Elf64_Ehdr) unsigned char header[HEADER_BYTES];
    const Elf64_Phdr *phdr;
    unsigned count;
    uint64_t hdr, at;
    if (mp_remote_read(u->pid, m->header, header, sizeof header) != 0 ||
        (phdr = program_headers(header, &count)) == NULL || !find_tables(phdr, count, &hdr, &at))
        return -ENOENT;
    uint64_t bias = m->header - at;
    for (unsigned i = 0; i < count; i++) {
        uint64_t first = bias + phdr[i].p_vaddr, end = first + phdr[i].p_filesz;
        if (phdr[i].p_type != PT_LOAD || hdr - phdr[i].p_vaddr >= phdr[i].p_filesz)
            continue;
        if (first < m->start || end > m->end || end < first)
            return -ENOENT;
        uint64_t table = first_table(u, bias + hdr);
        int rc = copy_range(u, image, table > first ? table : first, end);
        return rc != 0 ? rc : read_copy(image, bias + hdr);
    }
    return -ENOENT;
}

static void prepare_image(struct mp_remote_unwind *u, uint64_t i) {
    const struct mp_inject_module *m = &u->modules[i];
    struct mp_remote_image *image = &u->images[i];
    int rc = -ENOENT;
    if (image->tried)
        return;
    if (m->end - m->start >= HEADER_BYTES && m->end - m->start < IMAGE_MAX_BYTES)
        rc = copy_tables(u, m, image);
    if (rc != 0)
        drop_image(image);
    image->tried = rc != -ENOSPC;
}

/* An image in a hole of another one begins after it. NULL: no tables, or none yet (u->wanted). */
static struct mp_remote_image *image_of(struct mp_remote_unwind *u, uint64_t pc) {
    uint64_t found = u->count;
    for (uint64_t i = 0; i < u->count; i++)
        if (pc >= u->modules[i].start && pc < u->modules[i].end &&
            (found == u->count || u->modules[i].start > u->modules[found].start))
            found = i;
    if (found == u->count)
        return NULL;
    if (!u->images[found].tried)
        u->wanted = found;
    return u->images[found].copy != NULL ? &u->images[found] : NULL;
}

/* All copies make way for the wanted one, which alone may be too large: then it has no tables. */
static void prepare_wanted(struct mp_remote_unwind *u) {
    uint64_t wanted = u->wanted;
    prepare_image(u, wanted);
    if (u->images[wanted].tried)
        return;
    drop_images(u);
    u->room = ROOM_BYTES;
    prepare_image(u, wanted);
    u->images[wanted].tried = true;
}

void mp_remote_unwind_prepare(struct mp_remote_unwind *u) {
    if (u->wanted < u->count)
        prepare_wanted(u);
    u->wanted = u->count;
    for (uint64_t i = 0; i < u->count; i++)
        prepare_image(u, i);
}

static bool word_at(struct mp_remote_unwind *u, uint64_t at, uint64_t *out) {
    return mp_remote_read(u->pid, at, out, sizeof *out) == 0;
}

/* The kernel's frame under a signal handler: the interrupted registers are on the stack. */
static bool leave_signal(struct mp_remote_unwind *u, struct place *p) {
    struct place next = {.exact = true};
    if (!word_at(u, p->sp + MP_ARCH_CONTEXT_PC, &next.pc) ||
        !word_at(u, p->sp + MP_ARCH_CONTEXT_SP, &next.sp) ||
        !word_at(u, p->sp + MP_ARCH_CONTEXT_FP, &next.fp) ||
        !word_at(u, p->sp + MP_ARCH_CONTEXT_RA, &next.ra))
        return false;
    *p = next;
    return true;
}

static bool at_signal_return(struct mp_remote_unwind *u, const struct place *p) {
    unsigned char code[sizeof mp_arch_rt_sigreturn];
    return mp_remote_read(u->pid, p->pc, code, sizeof code) == 0 &&
           memcmp(code, mp_arch_rt_sigreturn, sizeof code) == 0;
}

static bool frame_end(struct mp_remote_unwind *u, const struct mp_cfi_row *row,
                      const struct place *p, uint64_t *cfa) {
    int64_t offset;
    if (row->cfa_expr != NULL) {
        if (mp_expr_is_fp(row->cfa_expr, row->cfa_expr_end, true, &offset))
            return word_at(u, p->fp + (uint64_t)offset, cfa);
        struct mp_stack_range none = {0, 0, false, 0}; /* such an expression reads no memory */
        struct mp_expr_input input = {.pc = p->pc, .sp = p->sp, .fp = p->fp, .range = &none};
        uintptr_t value;
        if (!mp_expr_eval(row->cfa_expr, row->cfa_expr_end, &input, &value))
            return false;
        *cfa = value;
        return true;
    }
    if (row->cfa_register != MP_ARCH_DWARF_SP && row->cfa_register != MP_ARCH_DWARF_FP)
        return false;
    *cfa = (row->cfa_register == MP_ARCH_DWARF_SP ? p->sp : p->fp) + (uint64_t)row->cfa_offset;
    return true;
}

static bool saved(struct mp_remote_unwind *u, const struct mp_cfi_rule *rule, uint64_t cfa,
                  const struct place *p, uint64_t same, uint64_t *out) {
    int64_t offset;
    *out = same;
    switch (rule->where) {
    case MP_CFI_SAME:
        return true;
    case MP_CFI_OFFSET:
        return word_at(u, cfa + (uint64_t)rule->offset, out);
    case MP_CFI_VAL_OFFSET:
        *out = cfa + (uint64_t)rule->offset;
        return true;
    case MP_CFI_EXPR:
        return mp_expr_is_fp(rule->expr, rule->expr_end, false, &offset) &&
               word_at(u, p->fp + (uint64_t)offset, out);
    default:
        return false;
    }
}

enum step { STEP_ON, STEP_OUTERMOST, STEP_LOST };

static enum step step_out(struct mp_remote_unwind *u, struct place *p) {
    struct mp_cfi_fde fde;
    struct mp_cfi_row row;
    uintptr_t row_end;
    if (at_signal_return(u, p))
        return leave_signal(u, p) ? STEP_ON : STEP_LOST;
    uint64_t key = p->exact ? p->pc : p->pc - 1;
    struct mp_remote_image *image = image_of(u, key);
    if (image == NULL || mp_cfi_find(&image->cfi, key - image->offset, &fde) != 0 ||
        fde.ra_register != MP_ARCH_DWARF_RA ||
        mp_cfi_row(&fde, key - image->offset, &row, &row_end) != 0)
        return STEP_LOST;
    if (row.ra.where == MP_CFI_UNDEFINED)
        return STEP_OUTERMOST;
    struct place next = {.exact = false};
    if (!frame_end(u, &row, p, &next.sp) || next.sp < p->sp ||
        !saved(u, &row.ra, next.sp, p, p->ra, &next.pc))
        return STEP_LOST;
    if (!saved(u, &row.fp, next.sp, p, p->fp, &next.fp))
        next.fp = 0; /* missed only if a caller needs it */
    next.pc = mp_arch_return_address(next.pc);
    if (next.pc == 0)
        return STEP_OUTERMOST;
    if (next.sp == p->sp && !p->exact)
        return STEP_LOST; /* no frame: it would not end */
    *p = next;
    return STEP_ON;
}

unsigned mp_remote_unwind(struct mp_remote_unwind *u, const struct mp_regs *regs, uint64_t *frames,
                          unsigned max, bool *complete, bool *unprepared) {
    struct place p = {mp_regs_pc(regs), mp_regs_sp(regs), mp_regs_fp(regs), mp_regs_ra(regs), true};
    enum step how = STEP_ON;
    unsigned n = 0;
    u->wanted = u->count;
    while (n < max && how == STEP_ON) {
        frames[n++] = p.exact ? p.pc : p.pc - 1;
        how = step_out(u, &p);
    }
    *complete = how == STEP_OUTERMOST;
    *unprepared = u->wanted < u->count;
    return n;
}
