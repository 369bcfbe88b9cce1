/*
 * cfi.c - .eh_frame_hdr and the entries it points to; the row programs are in cfi_row.c.
 */
#include "cfi.h"
#include "cfi_reader.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>

/* Pointer encodings (Linux Standard Base 5, 10.5.1). */
#define PE_FORMAT 0x0f
#define PE_ABSPTR 0x00
#define PE_UDATA2 0x02
#define PE_UDATA4 0x03
#define PE_UDATA8 0x04
#define PE_SDATA2 0x0a
#define PE_SDATA4 0x0b
#define PE_SDATA8 0x0c
#define PE_APPLICATION 0x70
#define PE_PCREL 0x10
#define PE_INDIRECT 0x80
#define PE_OMIT 0xff

#define HDR_BYTES 12
#define HDR_ROW_BYTES 8
#define FIRST_PAGE_BYTES 4096

/* The four encoding bytes every linker in use writes: pointer pcrel sdata4, count udata4, table
 * datarel sdata4. */
static const uint8_t hdr_start[4] = {1, 0x1b, 0x03, 0x3b};

static const struct mp_cfi_segment *segment_of(const struct mp_cfi_image *image, uintptr_t at) {
    for (unsigned i = 0; i < image->segments; i++)
        if (at >= image->segment[i].start && at < image->segment[i].end)
            return &image->segment[i];
    return NULL;
}

static bool cursor_at(const struct mp_cfi_image *image, uintptr_t at, struct mp_cursor *out) {
    const struct mp_cfi_segment *segment = segment_of(image, at);
    if (segment == NULL)
        return false;
    *out = (struct mp_cursor){(const uint8_t *)at, (const uint8_t *)segment->end, false};
    return true;
}

static bool (*is_mapped)(uintptr_t at, size_t bytes);

void mp_cfi_use_probe(bool (*probe)(uintptr_t at, size_t bytes)) {
    is_mapped = probe;
}

/* Moved headers name their own place, and it is where the file has them. */
static bool are_moved_headers(const Elf64_Ehdr *ehdr, uintptr_t start, uintptr_t end) {
    size_t bytes = ehdr->e_phnum * sizeof(Elf64_Phdr);
    if (is_mapped == NULL || bytes == 0 || ehdr->e_phoff % 8 != 0 || ehdr->e_phoff > end - start ||
        bytes > end - start - ehdr->e_phoff || !is_mapped(start + ehdr->e_phoff, bytes)) {
        return false;
    }
    const Elf64_Phdr *first = (const Elf64_Phdr *)(start + ehdr->e_phoff);
    return first->p_type == PT_PHDR && first->p_offset == ehdr->e_phoff &&
           first->p_vaddr == ehdr->e_phoff && first->p_filesz == bytes;
}

const Elf64_Phdr *mp_cfi_headers(uintptr_t start, uintptr_t end, unsigned *count) {
    const Elf64_Ehdr *ehdr = (const Elf64_Ehdr *)start;
    if (end - start < FIRST_PAGE_BYTES || memcmp(ehdr->e_ident, ELFMAG, SELFMAG) != 0 ||
        ehdr->e_phentsize != sizeof(Elf64_Phdr)) {
        return NULL;
    }
    if ((ehdr->e_phoff > FIRST_PAGE_BYTES ||
         ehdr->e_phnum > (FIRST_PAGE_BYTES - ehdr->e_phoff) / sizeof(Elf64_Phdr)) &&
        !are_moved_headers(ehdr, start, end)) {
        return NULL;
    }
    *count = ehdr->e_phnum;
    return (const Elf64_Phdr *)(start + ehdr->e_phoff);
}

int mp_cfi_image(const struct mp_cfi_place *place, const void *hdr, struct mp_cfi_image *out) {
    out->hdr = (uintptr_t)hdr;
    out->segments = 0;
    for (unsigned i = 0; i < place->phdrs && out->segments < MP_CFI_SEGMENTS; i++) {
        const Elf64_Phdr *phdr = &place->phdr[i];
        uintptr_t from = place->bias + phdr->p_vaddr;
        uintptr_t to = from + phdr->p_filesz;
        if (phdr->p_type == PT_LOAD && (phdr->p_flags & PF_R) != 0 && from >= place->start &&
            to <= place->end && from < to) {
            out->segment[out->segments++] = (struct mp_cfi_segment){from, to};
        }
    }
    return segment_of(out, out->hdr) != NULL ? 0 : -EBADMSG;
}

/* Reads an encoded value without adding its base. */
static uint64_t read_format(struct mp_cursor *c, uint8_t encoding) {
    switch (encoding & PE_FORMAT) {
    case PE_ABSPTR:
    case PE_UDATA8:
    case PE_SDATA8:
        return mp_cursor_u64(c);
    case PE_UDATA4:
        return mp_cursor_u32(c);
    case PE_SDATA4:
        return (uint64_t)(int64_t)(int32_t)mp_cursor_u32(c);
    case PE_UDATA2:
        return mp_cursor_u16(c);
    case PE_SDATA2:
        return (uint64_t)(int64_t)(int16_t)mp_cursor_u16(c);
    default:
        c->bad = true;
        return 0;
    }
}

static uintptr_t read_address(struct mp_cursor *c, uint8_t encoding) {
    uintptr_t base = 0;
    if ((encoding & (PE_APPLICATION | PE_INDIRECT)) == PE_PCREL)
        base = (uintptr_t)c->at;
    else if ((encoding & (PE_APPLICATION | PE_INDIRECT)) != 0)
        c->bad = true;
    return base + read_format(c, encoding);
}

/* The augmentation string lists the fields of the augmentation data, in order. */
static void read_augmentation(struct mp_cursor *c, const uint8_t *letters, struct mp_cfi_fde *out) {
    uint64_t bytes = mp_cursor_uleb(c);
    struct mp_cursor data = *c;
    mp_cursor_skip(c, bytes);
    data.end = c->at;
    for (; *letters != 0; letters++) {
        switch (*letters) {
        case 'R':
            out->encoding = mp_cursor_u8(&data);
            break;
        case 'P': {
            uint8_t encoding = mp_cursor_u8(&data);
            read_format(&data, encoding);
            break;
        }
        case 'L':
            mp_cursor_u8(&data);
            break;
        case 'S':
            out->signal_frame = true;
            break;
        case 'B': /* aarch64: return addresses signed with the B key */
        case 'G': /* aarch64: memory-tagged stack */
            break;
        default:
            c->bad = true;
            return;
        }
    }
    c->bad = c->bad || data.bad;
}

/* Read the length of an entry and cut the cursor to it. */
static bool open_entry(struct mp_cursor *c) {
    uint32_t length = mp_cursor_u32(c);
    if (c->bad || length == 0 || length == UINT32_MAX || length > (uint64_t)(c->end - c->at))
        return false;
    c->end = c->at + length;
    return true;
}

static int read_cie(const struct mp_cfi_image *image, uintptr_t at, struct mp_cfi_fde *out,
                    bool *augmented) {
    struct mp_cursor c;
    if (!cursor_at(image, at, &c) || !open_entry(&c) || mp_cursor_u32(&c) != 0)
        return -EBADMSG;
    uint8_t version = mp_cursor_u8(&c);
    const uint8_t *letters = c.at;
    while (mp_cursor_u8(&c) != 0) {
    }
    if (c.bad || (version != 1 && version != 3) || (*letters != 0 && *letters != 'z'))
        return -EBADMSG;
    out->code_align = mp_cursor_uleb(&c);
    out->data_align = mp_cursor_sleb(&c);
    out->ra_register = version == 1 ? mp_cursor_u8(&c) : mp_cursor_uleb(&c);
    out->encoding = PE_ABSPTR;
    out->signal_frame = false;
    *augmented = *letters == 'z';
    if (*augmented)
        read_augmentation(&c, letters + 1, out);
    out->cie_start = c.at;
    out->cie_end = c.end;
    return c.bad ? -EBADMSG : 0;
}

static int read_fde(const struct mp_cfi_image *image, uintptr_t at, struct mp_cfi_fde *out) {
    struct mp_cursor c;
    bool augmented = false;
    if (!cursor_at(image, at, &c) || !open_entry(&c))
        return -EBADMSG;
    uintptr_t cie_from = (uintptr_t)c.at;
    uint32_t cie_back = mp_cursor_u32(&c);
    if (c.bad || cie_back == 0 || read_cie(image, cie_from - cie_back, out, &augmented) != 0)
        return -EBADMSG;
    out->pc_start = read_address(&c, out->encoding);
    out->pc_end = out->pc_start + read_format(&c, out->encoding & PE_FORMAT);
    if (augmented) {
        uint64_t bytes = mp_cursor_uleb(&c);
        mp_cursor_skip(&c, bytes);
    }
    out->fde_start = c.at;
    out->fde_end = c.end;
    return c.bad || out->pc_end < out->pc_start ? -EBADMSG : 0;
}

/* The search table: `count` pairs (code address, FDE address), both relative to the header. */
static const uint8_t *search_table(const struct mp_cfi_image *image, unsigned *count) {
    struct mp_cursor c;
    uint8_t start[4];
    *count = 0;
    if (!cursor_at(image, image->hdr, &c) || !mp_cursor_take(&c, start, sizeof(start)) ||
        memcmp(start, hdr_start, sizeof(start)) != 0) {
        return NULL;
    }
    mp_cursor_u32(&c);
    uint32_t rows = mp_cursor_u32(&c);
    if (c.bad || rows > (uint64_t)(c.end - c.at) / HDR_ROW_BYTES)
        return NULL;
    *count = rows;
    return c.at;
}

static uintptr_t table_field(const struct mp_cfi_image *image, const uint8_t *table, unsigned row,
                             unsigned field) {
    int32_t offset;
    memcpy(&offset, table + (uint64_t)row * HDR_ROW_BYTES + field * sizeof(offset), sizeof(offset));
    return image->hdr + (uintptr_t)(intptr_t)offset;
}

int mp_cfi_find(const struct mp_cfi_image *image, uintptr_t pc, struct mp_cfi_fde *out) {
    unsigned count;
    const uint8_t *table = search_table(image, &count);
    if (table == NULL)
        return -EBADMSG;
    unsigned low = 0, high = count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (table_field(image, table, middle, 0) <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return -ENOENT;
    int rc = read_fde(image, table_field(image, table, low - 1, 1), out);
    if (rc != 0)
        return rc;
    return pc >= out->pc_start && pc < out->pc_end ? 0 : -ENOENT;
}

unsigned mp_cfi_count(const struct mp_cfi_image *image) {
    unsigned count;
    search_table(image, &count);
    return count;
}

int mp_cfi_entry(const struct mp_cfi_image *image, unsigned i, struct mp_cfi_fde *out) {
    unsigned count;
    const uint8_t *table = search_table(image, &count);
    if (table == NULL || i >= count)
        return -EBADMSG;
    return read_fde(image, table_field(image, table, i, 1), out);
}
