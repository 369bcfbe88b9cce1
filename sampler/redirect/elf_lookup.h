/*
 * elf_lookup.h - find loaded modules and the symbols they define, without dlsym.
 *
 * Model: dlsym lived in another library before glibc 2.34, allocates, and answers for its caller's place
 * in the search order; the allocator hooks need none of that at their first call. So this code reads the
 * modules in memory: program headers, the dynamic section, its hash, symbol and version tables.
 *
 * Search order: the order of the loader's list, which for everything loaded at start-up is the order of
 * the global scope (program, preloaded libraries, then needed ones breadth first). Modules opened later
 * follow at the end. The vdso is in the list but in nobody's scope, and is never visited.
 *
 * Limits: a table outside the loadable segments of its module counts as absent. The look-up finds only
 * default versions.
 *
 * Before the constructors of other libraries, dl_iterate_phdr may be one of theirs that does not work yet
 * (ThreadSanitizer's). Then mp_elf_from_list() makes these functions read the loader's list themselves.
 *
 * Threads: dl_iterate_phdr takes a recursive lock of the loader and allocates nothing. The list of the loader is
 * read without a lock: only while no thread opens or closes libraries. No function here allocates, or calls
 * anything of another module except dl_iterate_phdr and an IFUNC resolver.
 */
#ifndef MP_ELF_LOOKUP_H
#define MP_ELF_LOOKUP_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One loaded module. Pointers belong to the loader: valid until the module is closed. */
struct mp_elf {
    uintptr_t base;            /* address - ELF virtual address */
    const char *path;          /* as the loader has it; "" for the program */
    const ElfW(Phdr) * phdr;
    unsigned phdrs;
    const ElfW(Dyn) * dynamic; /* never NULL; its address identifies the module */
    const ElfW(Sym) * symbols;
    size_t symbols_max;        /* bound of the index, not the exact count */
    const char *strings;       /* NUL-terminated as a whole */
    size_t strings_bytes;
    const uint16_t *versions;  /* NULL: no versions */
    size_t versions_max;
    const uint32_t *gnu_hash;  /* NULL: none */
    size_t gnu_hash_words;     /* up to the end of its segment */
    const uint32_t *sysv_hash;
    size_t sysv_hash_words;
    const ElfW(Rela) * rela;
    size_t relas;
    const ElfW(Rela) * plt_rela;
    size_t plt_relas;
    const char *soname;        /* "" if none */
    bool symbolic;             /* DT_SYMBOLIC or DF_SYMBOLIC */
};

struct mp_elf_symbol {
    uintptr_t address;         /* IFUNC resolved */
    uintptr_t base;
    const ElfW(Dyn) * module;  /* mp_elf.dynamic of the module that defines it */
    const char *path;
};

enum mp_elf_scope {
    MP_ELF_FIRST,      /* the first definition anywhere: RTLD_DEFAULT */
    MP_ELF_AFTER_SELF, /* the first one behind our own module: RTLD_NEXT */
    MP_ELF_NOT_SELF,   /* the first one that is not ours */
};

/* INIT, during the start of the program. Read the loader's own list from now on (true), or ask the loader. */
void mp_elf_from_list(bool from_list);

/* INIT. As dl_iterate_phdr(). */
int mp_elf_iterate(int (*visit)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);

/* INIT. Call `visit` for each module in search order until it returns true; returns that. */
bool mp_elf_visit(bool (*visit)(const struct mp_elf *elf, void *arg), void *arg);

/* INIT. How many modules were ever added to and removed from the loader's list; zeros if unknown. */
void mp_elf_counts(uint64_t *added, uint64_t *removed);

/* INIT. Find `name` in search order. False: no such definition, *out untouched. */
bool mp_elf_find_symbol(enum mp_elf_scope scope, const char *name, struct mp_elf_symbol *out);

/* INIT. Find `name` among the definitions of one module, given by its mp_elf.dynamic. */
bool mp_elf_find_in_module(const ElfW(Dyn) * module, const char *name, struct mp_elf_symbol *out);

/* INIT. First definition of `name` anywhere, or NULL. */
void *mp_elf_find(const char *name);

/* HOOK. Read a module that is loaded at `base` with these program headers. False: it has no dynamic section. */
bool mp_elf_from_headers(struct mp_elf *elf, uintptr_t base, const ElfW(Phdr) * phdr,
                         unsigned phdrs);

/* INIT. Is this our own module? */
bool mp_elf_is_self(const struct mp_elf *elf);

/* INIT. The name under which our own module was opened; NULL: unknown. */
const char *mp_elf_self_path(void);

/* HOOK. Are two names the same? The library imports no strcmp. */
bool mp_elf_same_name(const char *a, const char *b);

/*
 * INIT. Tells a module from any later one at its place: a hash of its build-id, or of its path and
 * program headers where it has none. Never 0.
 */
uint64_t mp_elf_identity(const struct mp_elf *elf);

/* INIT. What the first note of that owner and type says; NULL: the module has none. */
const void *mp_elf_note(const struct mp_elf *elf, const char *owner, uint32_t type, size_t *bytes);

/* HOOK, but for an IFUNC. The default-version definition of `name` in this module; 0: none. */
uintptr_t mp_elf_lookup(const struct mp_elf *elf, const char *name);

/* HOOK. The size of that definition, as its symbol says; 0: none, or unknown. */
size_t mp_elf_lookup_bytes(const struct mp_elf *elf, const char *name);

#define MP_ELF_SET_ROWS 4096u /* power of two; 32 KiB */

/* A hash set of modules, of zeros when empty. One that another takes the row of is forgotten: treating a module twice
 * is right, only slower. */
struct mp_elf_set {
    uintptr_t row[MP_ELF_SET_ROWS]; /* mp_elf.dynamic */
    uint64_t removed; /* of the loader's list, when the set was last in step with it */
};

/* INIT. Forget all if modules were unloaded, as others may be at their places now. In a visit none is. */
void mp_elf_set_begin(struct mp_elf_set *set);

/* INIT. */
bool mp_elf_set_has(const struct mp_elf_set *set, const struct mp_elf *elf);
void mp_elf_set_add(struct mp_elf_set *set, const struct mp_elf *elf);

/* INIT. Bytes from `address` to the end of the loadable segment that holds it and has all `flags` (PF_*);
 * 0: no such segment. */
size_t mp_elf_segment_rest(const struct mp_elf *elf, uintptr_t address, uint32_t flags);

#endif
