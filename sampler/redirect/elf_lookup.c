/*
 * elf_lookup.c - see elf_lookup.h. Sources: the System V ABI (dynamic linking, DT_HASH), the GNU hash
 * section as ld.so reads it, and the LSB chapter on symbol versions.
 */
#include "elf_lookup.h"

#include <sys/auxv.h>

#define VERSION_HIDDEN 0x8000u
#define WORD_BITS (8 * sizeof(ElfW(Addr)))
#ifndef STT_GNU_IFUNC
#define STT_GNU_IFUNC 10
#endif

bool mp_elf_same_name(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

size_t mp_elf_segment_rest(const struct mp_elf *elf, uintptr_t address, uint32_t flags) {
    for (unsigned i = 0; i < elf->phdrs; i++) {
        const ElfW(Phdr) *p = &elf->phdr[i];
        uintptr_t start = elf->base + p->p_vaddr;
        if (p->p_type == PT_LOAD && (p->p_flags & flags) == flags && address >= start &&
            address - start < p->p_memsz)
            return p->p_memsz - (address - start);
    }
    return 0;
}

/* A table of the dynamic section: glibc relocates these pointers in place, musl and others do not. */
static const void *table(const struct mp_elf *elf, ElfW(Addr) value, size_t *rest) {
    uintptr_t address = value < elf->base ? elf->base + value : value;
    *rest = mp_elf_segment_rest(elf, address, PF_R);
    return *rest != 0 ? (const void *)address : NULL;
}

struct raw_dynamic {
    ElfW(Addr) symbols, strings, versions, gnu_hash, sysv_hash, rela, plt_rela;
    size_t strings_bytes, rela_bytes, plt_rela_bytes, soname;
    bool plt_is_rela, symbolic;
};

static void read_dynamic(const struct mp_elf *elf, size_t entries, struct raw_dynamic *raw) {
    for (const ElfW(Dyn) *d = elf->dynamic; entries > 0 && d->d_tag != DT_NULL; d++, entries--) {
        switch (d->d_tag) {
        case DT_SYMTAB:
            raw->symbols = d->d_un.d_ptr;
            break;
        case DT_STRTAB:
            raw->strings = d->d_un.d_ptr;
            break;
        case DT_STRSZ:
            raw->strings_bytes = d->d_un.d_val;
            break;
        case DT_VERSYM:
            raw->versions = d->d_un.d_ptr;
            break;
        case DT_GNU_HASH:
            raw->gnu_hash = d->d_un.d_ptr;
            break;
        case DT_HASH:
            raw->sysv_hash = d->d_un.d_ptr;
            break;
        case DT_RELA:
            raw->rela = d->d_un.d_ptr;
            break;
        case DT_RELASZ:
            raw->rela_bytes = d->d_un.d_val;
            break;
        case DT_JMPREL:
            raw->plt_rela = d->d_un.d_ptr;
            break;
        case DT_PLTRELSZ:
            raw->plt_rela_bytes = d->d_un.d_val;
            break;
        case DT_PLTREL:
            raw->plt_is_rela = d->d_un.d_val == DT_RELA;
            break;
        case DT_SONAME:
            raw->soname = d->d_un.d_val;
            break;
        case DT_SYMBOLIC:
            raw->symbolic = true;
            break;
        case DT_FLAGS:
            raw->symbolic |= (d->d_un.d_val & DF_SYMBOLIC) != 0;
            break;
        default:
            break;
        }
    }
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static void set_tables(struct mp_elf *elf, const struct raw_dynamic *raw) {
    size_t rest;
    elf->strings = table(elf, raw->strings, &rest);
    elf->strings_bytes = smaller(raw->strings_bytes, rest);
    if (elf->strings == NULL || elf->strings_bytes == 0 ||
        elf->strings[elf->strings_bytes - 1] != '\0')
        return; /* no names: nothing can be found or matched in this module */
    elf->symbols = table(elf, raw->symbols, &rest);
    elf->symbols_max = elf->symbols != NULL ? rest / sizeof *elf->symbols : 0;
    if (raw->versions != 0) {
        elf->versions = table(elf, raw->versions, &rest);
        elf->versions_max = elf->versions != NULL ? rest / sizeof *elf->versions : 0;
    }
    if (raw->gnu_hash != 0) {
        elf->gnu_hash = table(elf, raw->gnu_hash, &rest);
        elf->gnu_hash_words = rest / sizeof *elf->gnu_hash;
    }
    if (raw->sysv_hash != 0) {
        elf->sysv_hash = table(elf, raw->sysv_hash, &rest);
        elf->sysv_hash_words = rest / sizeof *elf->sysv_hash;
    }
    if (raw->rela_bytes != 0 && (elf->rela = table(elf, raw->rela, &rest)) != NULL)
        elf->relas = smaller(raw->rela_bytes, rest) / sizeof *elf->rela;
    if (raw->plt_rela_bytes != 0 && raw->plt_is_rela &&
        (elf->plt_rela = table(elf, raw->plt_rela, &rest)) != NULL)
        elf->plt_relas = smaller(raw->plt_rela_bytes, rest) / sizeof *elf->plt_rela;
    elf->soname = raw->soname < elf->strings_bytes ? elf->strings + raw->soname : "";
    elf->symbolic = raw->symbolic;
}

static bool read_module(const struct dl_phdr_info *info, struct mp_elf *elf) {
    *elf = (struct mp_elf){.base = info->dlpi_addr,
                           .path = info->dlpi_name != NULL ? info->dlpi_name : "",
                           .phdr = info->dlpi_phdr,
                           .phdrs = info->dlpi_phnum,
                           .soname = ""};
    for (unsigned i = 0; i < elf->phdrs; i++) {
        const ElfW(Phdr) *p = &elf->phdr[i];
        if (p->p_type != PT_DYNAMIC)
            continue;
        uintptr_t address = elf->base + p->p_vaddr;
        size_t rest = mp_elf_segment_rest(elf, address, PF_R);
        if (rest == 0)
            return false;
        elf->dynamic = (const ElfW(Dyn) *)address;
        struct raw_dynamic raw = {0};
        read_dynamic(elf, smaller(p->p_memsz, rest) / sizeof *elf->dynamic, &raw);
        set_tables(elf, &raw);
        return true;
    }
    return false;
}

bool mp_elf_from_headers(struct mp_elf *elf, uintptr_t base, const ElfW(Phdr) * phdr,
                         unsigned phdrs) {
    struct dl_phdr_info info = {
        .dlpi_addr = base, .dlpi_phdr = phdr, .dlpi_phnum = (ElfW(Half))phdrs};
    return read_module(&info, elf);
}

/* FNV-1a. */
static uint64_t mix(uint64_t hash, const void *data, size_t n) {
    const unsigned char *byte = data;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ byte[i]) * 0x100000001b3ULL;
    return hash;
}

/* Owner and type of a note that is looked for. */
struct wanted_note {
    const char *owner;
    size_t owner_bytes; /* with its NUL */
    uint32_t type;
};

/* That note in a note segment of `rest` bytes, or NULL. */
static const unsigned char *find_note(const unsigned char *note, size_t rest,
                                      const struct wanted_note *wanted, size_t *bytes) {
    while (rest >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *h = (const ElfW(Nhdr) *)note;
        size_t name = (h->n_namesz + (size_t)3) & ~(size_t)3;
        size_t desc = (h->n_descsz + (size_t)3) & ~(size_t)3;
        if (name > rest || desc > rest || sizeof *h + name + desc > rest)
            break;
        if (h->n_type == wanted->type && h->n_namesz == wanted->owner_bytes &&
            mp_elf_same_name((const char *)(h + 1), wanted->owner)) {
            *bytes = h->n_descsz;
            return note + sizeof *h + name;
        }
        note += sizeof *h + name + desc;
        rest -= sizeof *h + name + desc;
    }
    return NULL;
}

const void *mp_elf_note(const struct mp_elf *elf, const char *owner, uint32_t type, size_t *bytes) {
    struct wanted_note wanted = {.owner = owner, .owner_bytes = 1, .type = type};
    while (owner[wanted.owner_bytes - 1] != '\0')
        wanted.owner_bytes++;
    const void *found = NULL;
    for (unsigned i = 0; i < elf->phdrs && found == NULL; i++) {
        const ElfW(Phdr) *p = &elf->phdr[i];
        uintptr_t address = elf->base + p->p_vaddr;
        size_t rest = p->p_type == PT_NOTE ? mp_elf_segment_rest(elf, address, PF_R) : 0;
        found =
            find_note((const unsigned char *)address, smaller(rest, p->p_memsz), &wanted, bytes);
    }
    return found;
}

uint64_t mp_elf_identity(const struct mp_elf *elf) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    size_t bytes = 0;
    const void *id = mp_elf_note(elf, "GNU", NT_GNU_BUILD_ID, &bytes);
    if (id != NULL)
        return mix(hash, id, bytes) | 1;
    hash = mix(hash, elf->phdr, elf->phdrs * sizeof *elf->phdr);
    for (const char *c = elf->path; *c != '\0'; c++)
        hash = mix(hash, c, 1);
    return hash | 1;
}

#define MAP_WORDS_MAX 200 /* of the loader's record of a module: 145 in glibc 2.36 */

extern struct r_debug _r_debug __attribute__((weak));

static bool from_list;
static size_t
    headers_at; /* of the address of the program headers in the loader's record; 0: not found */

/* The loader's record of the program holds three facts that the kernel gave, in this order (all glibc from 2.17 on). */
static size_t find_headers_at(const struct link_map *program) {
    const uintptr_t *word = (const uintptr_t *)program;
    uintptr_t phdr = getauxval(AT_PHDR), entry = getauxval(AT_ENTRY);
    uint16_t phdrs = (uint16_t)getauxval(AT_PHNUM);
    for (size_t i = sizeof *program / sizeof *word; i + 2 < MAP_WORDS_MAX && phdr != 0; i++)
        if (word[i] == phdr && word[i + 1] == entry && (uint16_t)word[i + 2] == phdrs)
            return i;
    return 0;
}

void mp_elf_from_list(bool on) {
    from_list = on && &_r_debug != NULL && _r_debug.r_map != NULL;
    if (from_list && headers_at == 0)
        headers_at = find_headers_at(_r_debug.r_map);
    from_list = from_list && headers_at != 0;
}

int mp_elf_iterate(int (*visit)(struct dl_phdr_info *info, size_t size, void *arg), void *arg) {
    if (!from_list)
        return dl_iterate_phdr(visit, arg);
    int result = 0;
    for (const struct link_map *m = _r_debug.r_map; m != NULL && result == 0; m = m->l_next) {
        const uintptr_t *word = (const uintptr_t *)m + headers_at;
        struct dl_phdr_info info = {.dlpi_addr = m->l_addr,
                                    .dlpi_name = m->l_name,
                                    .dlpi_phdr = (const ElfW(Phdr) *)word[0],
                                    .dlpi_phnum = (uint16_t)word[2]};
        result = visit(&info, offsetof(struct dl_phdr_info, dlpi_adds), arg);
    }
    return result;
}

struct visit {
    bool (*visit)(const struct mp_elf *elf, void *arg);
    void *arg;
    uintptr_t vdso; /* address of its ELF header; 0: none */
};

static int visit_one(struct dl_phdr_info *info, size_t size, void *arg) {
    const struct visit *v = arg;
    struct mp_elf elf;
    (void)size;
    if (!read_module(info, &elf))
        return 0;
    if (v->vdso != 0 && mp_elf_segment_rest(&elf, v->vdso, 0) != 0)
        return 0;
    return v->visit(&elf, v->arg);
}

bool mp_elf_visit(bool (*visit)(const struct mp_elf *elf, void *arg), void *arg) {
    struct visit v = {.visit = visit, .arg = arg, .vdso = getauxval(AT_SYSINFO_EHDR)};
    return mp_elf_iterate(visit_one, &v) != 0;
}

static bool note_path(const struct mp_elf *elf, void *arg) {
    const char **path = arg;
    if (mp_elf_is_self(elf))
        *path = elf->path;
    return *path != NULL;
}

const char *mp_elf_self_path(void) {
    const char *path = NULL;
    mp_elf_visit(note_path, &path);
    return path;
}

struct counts {
    uint64_t added, removed;
};

static int read_counts(struct dl_phdr_info *info, size_t size, void *arg) {
    struct counts *c = arg;
    if (size >= offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs) {
        c->added = info->dlpi_adds;
        c->removed = info->dlpi_subs;
    }
    return 1;
}

void mp_elf_counts(uint64_t *added, uint64_t *removed) {
    struct counts c = {0};
    mp_elf_iterate(read_counts, &c);
    *added = c.added;
    *removed = c.removed;
}

void mp_elf_set_begin(struct mp_elf_set *set) {
    uint64_t added, removed;
    mp_elf_counts(&added, &removed);
    for (unsigned i = 0; i < MP_ELF_SET_ROWS && removed != set->removed; i++)
        set->row[i] = 0;
    set->removed = removed;
}

static unsigned row_of(const struct mp_elf *elf) {
    uint64_t hash = (uint64_t)(uintptr_t)elf->dynamic * 0x9e3779b97f4a7c15ULL;
    return (hash >> 40) & (MP_ELF_SET_ROWS - 1);
}

bool mp_elf_set_has(const struct mp_elf_set *set, const struct mp_elf *elf) {
    return set->row[row_of(elf)] == (uintptr_t)elf->dynamic;
}

void mp_elf_set_add(struct mp_elf_set *set, const struct mp_elf *elf) {
    set->row[row_of(elf)] = (uintptr_t)elf->dynamic;
}

bool mp_elf_is_self(const struct mp_elf *elf) {
    return elf->dynamic == _DYNAMIC;
}

/* Symbol `index` if it defines `name`; NULL if it does not, or not as the default version. */
static const ElfW(Sym) * definition(const struct mp_elf *elf, size_t index, const char *name) {
    if (index >= elf->symbols_max)
        return NULL;
    const ElfW(Sym) *s = &elf->symbols[index];
    unsigned type = ELF64_ST_TYPE(s->st_info), binding = ELF64_ST_BIND(s->st_info);
    if (s->st_shndx == SHN_UNDEF || s->st_value == 0 || s->st_name >= elf->strings_bytes ||
        binding == STB_LOCAL || type == STT_TLS || type == STT_SECTION || type == STT_FILE)
        return NULL;
    if (!mp_elf_same_name(elf->strings + s->st_name, name))
        return NULL;
    if (index < elf->versions_max &&
        ((elf->versions[index] & VERSION_HIDDEN) != 0 || elf->versions[index] == VER_NDX_LOCAL))
        return NULL;
    return s;
}

static uintptr_t address_of(const struct mp_elf *elf, const ElfW(Sym) * s) {
    uintptr_t address = s->st_shndx == SHN_ABS ? s->st_value : elf->base + s->st_value;
    if (ELF64_ST_TYPE(s->st_info) != STT_GNU_IFUNC)
        return address;
#if defined(__aarch64__)
    return ((uintptr_t (*)(uint64_t))address)(
        getauxval(AT_HWCAP)); /* the resolver's argument there */
#else
    return ((uintptr_t (*)(void))address)();
#endif
}

/* Header: buckets, index of the first hashed symbol, Bloom words, Bloom shift; then Bloom filter, buckets,
 * one chain word per hashed symbol whose lowest bit ends its chain. */
static const ElfW(Sym) * lookup_gnu(const struct mp_elf *elf, const char *name) {
    if (elf->gnu_hash_words < 4)
        return NULL;
    uint64_t buckets = elf->gnu_hash[0], first = elf->gnu_hash[1], bloom_words = elf->gnu_hash[2];
    uint64_t buckets_at = 4 + bloom_words * (WORD_BITS / 32), chains_at = buckets_at + buckets;
    if (buckets == 0 || bloom_words == 0 || chains_at > elf->gnu_hash_words)
        return NULL;
    uint32_t hash = 5381;
    for (const char *c = name; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    const ElfW(Addr) *bloom = (const ElfW(Addr) *)(elf->gnu_hash + 4);
    ElfW(Addr) word = bloom[(hash / WORD_BITS) % bloom_words];
    unsigned shift = elf->gnu_hash[3] & 31;
    if (((word >> (hash % WORD_BITS)) & (word >> ((hash >> shift) % WORD_BITS)) & 1) == 0)
        return NULL;
    uint64_t index = elf->gnu_hash[buckets_at + hash % buckets];
    if (index < first)
        return NULL;
    for (; chains_at + (index - first) < elf->gnu_hash_words; index++) {
        uint32_t chain = elf->gnu_hash[chains_at + (index - first)];
        const ElfW(Sym) *s = ((chain ^ hash) >> 1) == 0 ? definition(elf, index, name) : NULL;
        if (s != NULL || (chain & 1) != 0)
            return s;
    }
    return NULL;
}

/* Header: buckets, chains; then the buckets, one chain word per symbol. Index 0 ends a chain. */
static const ElfW(Sym) * lookup_sysv(const struct mp_elf *elf, const char *name) {
    if (elf->sysv_hash_words < 2)
        return NULL;
    uint64_t buckets = elf->sysv_hash[0], chains = elf->sysv_hash[1];
    if (buckets == 0 || 2 + buckets + chains > elf->sysv_hash_words)
        return NULL;
    uint32_t hash = 0;
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash << 4) + (unsigned char)*c;
        hash = (hash ^ ((hash & 0xf0000000u) >> 24)) & 0x0fffffffu;
    }
    uint64_t index = elf->sysv_hash[2 + hash % buckets];
    for (uint64_t steps = 0; index != 0 && index < chains && steps < chains; steps++) {
        const ElfW(Sym) *s = definition(elf, index, name);
        if (s != NULL)
            return s;
        index = elf->sysv_hash[2 + buckets + index];
    }
    return NULL;
}

static const ElfW(Sym) * lookup(const struct mp_elf *elf, const char *name) {
    return elf->gnu_hash != NULL ? lookup_gnu(elf, name) : lookup_sysv(elf, name);
}

uintptr_t mp_elf_lookup(const struct mp_elf *elf, const char *name) {
    const ElfW(Sym) *s = lookup(elf, name);
    return s != NULL ? address_of(elf, s) : 0;
}

size_t mp_elf_lookup_bytes(const struct mp_elf *elf, const char *name) {
    const ElfW(Sym) *s = lookup(elf, name);
    return s != NULL ? s->st_size : 0;
}

struct search {
    const char *name;
    enum mp_elf_scope scope;
    const ElfW(Dyn) * only; /* NULL: every module of the scope */
    bool self_seen;
    struct mp_elf_symbol *out;
};

static bool search_module(const struct mp_elf *elf, void *arg) {
    struct search *s = arg;
    if (mp_elf_is_self(elf)) {
        s->self_seen = true;
        if (s->scope != MP_ELF_FIRST)
            return false;
    }
    if ((s->scope == MP_ELF_AFTER_SELF && !s->self_seen) ||
        (s->only != NULL && elf->dynamic != s->only))
        return false;
    uintptr_t address = mp_elf_lookup(elf, s->name);
    if (address == 0)
        return false;
    *s->out = (struct mp_elf_symbol){
        .address = address, .base = elf->base, .module = elf->dynamic, .path = elf->path};
    return true;
}

bool mp_elf_find_symbol(enum mp_elf_scope scope, const char *name, struct mp_elf_symbol *out) {
    struct search s = {.name = name, .scope = scope, .out = out};
    return mp_elf_visit(search_module, &s);
}

bool mp_elf_find_in_module(const ElfW(Dyn) * module, const char *name, struct mp_elf_symbol *out) {
    struct search s = {.name = name, .scope = MP_ELF_FIRST, .only = module, .out = out};
    return mp_elf_visit(search_module, &s);
}

void *mp_elf_find(const char *name) {
    struct mp_elf_symbol symbol;
    return mp_elf_find_symbol(MP_ELF_FIRST, name, &symbol) ? (void *)symbol.address : NULL;
}
