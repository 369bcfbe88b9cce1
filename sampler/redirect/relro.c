/*
 * relro.c - see relro.h.
 */
#include "relro.h"
#include "maps_prot.h"

#include <sys/auxv.h>
#include <sys/mman.h>

struct mp_relro mp_relro_of(const struct mp_elf *elf, bool careful) {
    struct mp_relro r = {.careful = careful};
    uintptr_t page = getauxval(AT_PAGESZ);
    for (unsigned i = 0; i < elf->phdrs; i++) {
        const ElfW(Phdr) *p = &elf->phdr[i];
        if (p->p_type != PT_GNU_RELRO || page == 0)
            continue;
        r.start = (elf->base + p->p_vaddr) & -page;
        r.end = (elf->base + p->p_vaddr + p->p_memsz) & -page;
        bool executable = mp_elf_segment_rest(elf, elf->base + p->p_vaddr, PF_X) != 0;
        r.closed = PROT_READ | (executable ? PROT_EXEC : 0);
        r.opened = r.closed | PROT_WRITE;
        if (r.end < r.start)
            r.end = r.start;
    }
    return r;
}

bool mp_relro_is_unsealed(const struct mp_relro *relro) {
    return relro->end > relro->start && mp_maps_writable(relro->start) != 0;
}

bool mp_relro_open(struct mp_relro *r, uintptr_t slot) {
    if (slot < r->start || slot >= r->end || r->is_open)
        return true;
    if (!r->refused) {
        r->was_open = r->careful && mp_maps_writable(slot) == 1;
        r->is_open = r->was_open || mprotect((void *)r->start, r->end - r->start, r->opened) == 0;
    }
    r->refused = !r->is_open;
    return r->is_open;
}

void mp_relro_close(struct mp_relro *r) {
    if (r->is_open && !r->was_open)
        mprotect((void *)r->start, r->end - r->start, r->closed);
    r->is_open = false;
}
