/*
 * cfi_file.h - map an ELF file the way the loader does, readable segments only, with everything around
 * them out of bounds: unmapped, and byte-exact under AddressSanitizer.
 */
#ifndef CFI_FILE_H
#define CFI_FILE_H

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unwind/cfi.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

struct cfi_file {
    uintptr_t base; /* address - virtual address */
    char *area;
    size_t area_bytes;
    uintptr_t start;
    const void *hdr; /* NULL: no .eh_frame_hdr */
    bool mine;       /* an ELF file of this machine */
};

static inline uintptr_t page_down(uintptr_t at) {
    return at & ~(uintptr_t)4095;
}

static inline void cfi_file_map_segments(struct cfi_file *file, int fd, const Elf64_Phdr *phdr,
                                         unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (phdr[i].p_type == PT_GNU_EH_FRAME)
            file->hdr = (const void *)(file->base + phdr[i].p_vaddr);
        if (phdr[i].p_type != PT_LOAD || phdr[i].p_filesz == 0)
            continue;
        uintptr_t from = file->base + phdr[i].p_vaddr;
        size_t lead = from - page_down(from);
        mmap((void *)(from - lead), phdr[i].p_filesz + lead, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
             (off_t)(phdr[i].p_offset - lead));
        ASAN_UNPOISON_MEMORY_REGION((void *)from, phdr[i].p_filesz);
    }
}

/* False if the file cannot be mapped; then nothing is. */
static inline bool cfi_file_open(const char *path, struct cfi_file *file) {
    union {
        char bytes[4096];
        Elf64_Ehdr ehdr;
    } head;
    *file = (struct cfi_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, head.bytes, sizeof(head));
    const Elf64_Ehdr *ehdr = &head.ehdr;
    const Elf64_Phdr *phdr = NULL;
    uintptr_t low = UINTPTR_MAX, high = 0;
    bool ok = got > (ssize_t)sizeof(*ehdr) && ehdr->e_ident[0] == 0x7f &&
              ehdr->e_ident[EI_CLASS] == ELFCLASS64 && ehdr->e_machine == MP_TEST_MACHINE &&
              ehdr->e_phoff < sizeof(head) &&
              ehdr->e_phoff + ehdr->e_phnum * sizeof(Elf64_Phdr) <= (size_t)got;
    phdr = ok ? (const Elf64_Phdr *)(head.bytes + ehdr->e_phoff) : NULL;
    for (unsigned i = 0; ok && i < ehdr->e_phnum; i++) {
        if (phdr[i].p_type == PT_LOAD) {
            low = phdr[i].p_vaddr < low ? phdr[i].p_vaddr : low;
            high =
                phdr[i].p_vaddr + phdr[i].p_memsz > high ? phdr[i].p_vaddr + phdr[i].p_memsz : high;
        }
    }
    ok = ok && low < high;
    if (ok) {
        low = page_down(low);
        file->area_bytes = high - low + 8192;
        file->area = mmap(NULL, file->area_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ok = file->area != MAP_FAILED;
    }
    if (ok) {
        ASAN_POISON_MEMORY_REGION(file->area, file->area_bytes);
        file->start = (uintptr_t)file->area + 4096;
        file->base = file->start - low;
        file->mine = true;
        cfi_file_map_segments(file, fd, phdr, ehdr->e_phnum);
    }
    close(fd);
    return ok;
}

static inline int cfi_file_image(const struct cfi_file *file, struct mp_cfi_image *image) {
    struct mp_cfi_place place = {
        .start = file->start, .end = (uintptr_t)file->area + file->area_bytes, .bias = file->base};
    place.phdr = mp_cfi_headers(place.start, place.end, &place.phdrs);
    return place.phdr != NULL ? mp_cfi_image(&place, file->hdr, image) : -EBADMSG;
}

static inline void cfi_file_close(struct cfi_file *file) {
    ASAN_UNPOISON_MEMORY_REGION(file->area, file->area_bytes);
    munmap(file->area, file->area_bytes);
}

#endif
