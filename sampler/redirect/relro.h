/*
 * relro.h - write into the part of a module that the loader made read-only.
 *
 * Model: the pages of PT_GNU_RELRO, whole ones only, are opened at the first slot that lies in them and closed
 * when the module is done. Asked to be careful, it leaves pages open that it found open: another tool may
 * count on that.
 *
 * Threads: INIT; one at a time for a module.
 */
#ifndef MP_RELRO_H
#define MP_RELRO_H

#include "elf_lookup.h"

struct mp_relro {
    uintptr_t start, end; /* whole pages; equal: none */
    int closed, opened;   /* protections */
    bool careful;                 /* look whether somebody left it open, before opening it */
    bool is_open, refused, was_open;
};

/* Where the part lies: both ends rounded down, as ld.so does. */
struct mp_relro mp_relro_of(const struct mp_elf *elf, bool careful);

/* Is there such a part, and has the loader not closed it (yet)? Reads /proc/self/maps. */
bool mp_relro_is_unsealed(const struct mp_relro *relro);

/* May the word at `slot` be written now? Opens the part if it lies there. */
bool mp_relro_open(struct mp_relro *relro, uintptr_t slot);

/* Put the protection back. */
void mp_relro_close(struct mp_relro *relro);

#endif
