/*
 * relro.h - write into the part of a module that the loader made read-only.
 *
 * Model: this code opens the pages of PT_GNU_RELRO, whole ones only, at the first slot in them and closes
 * them at the end of the module. With `careful` it leaves pages open that it found open: another tool may
 * need that.
 *
 * Threads: INIT; one at a time for a module.
 */
#ifndef MP_RELRO_H
#define MP_RELRO_H

#include "elf_lookup.h"

struct mp_relro {
    uintptr_t start, end; /* whole pages; equal: none */
    int closed, opened;   /* protections */
    bool careful;                 /* check whether somebody left it open, before opening it */
    bool is_open, refused, was_open;
};

/* The range of the part: both ends rounded down, as ld.so does. */
struct mp_relro mp_relro_of(const struct mp_elf *elf, bool careful);

/* Is there such a part, and has the loader not closed it (yet)? Reads /proc/self/maps. */
bool mp_relro_is_unsealed(const struct mp_relro *relro);

/* Is the word at `slot` writable now? Opens the part if the word is there. */
bool mp_relro_open(struct mp_relro *relro, uintptr_t slot);

/* Put the protection back. */
void mp_relro_close(struct mp_relro *relro);

#endif
