/*
 * modules.c - see modules.h.
 *
 * The table of our own has two copies and a version. Readers use copy[version & 1] and read the version
 * again afterwards: only the refresh after the next one writes their copy again, and it changes the
 * version first. Fields are atomics, so a reader may read a torn row but never uses it. The writer stores
 * the version after the copy (pairs with the acquire load before the search); get() loads with acquire so
 * that the second load of the version comes after the fields. Readers load `closing` and `distrusted`
 * after the search: they do not return a module that is being unloaded by then.
 *
 * Limits: MODULES_MAX modules, 120 KiB in three copies; more are unknown where _dl_find_object does not exist.
 */
#include "modules.h"
#include "cfi.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <sys/auxv.h>

#define MODULES_MAX 1024
#define PAGE_BYTES 4096
#define READ_TRIES 4

/* The ABI of _dl_find_object, spelled out so that headers older than glibc 2.35 will do. */
struct found_object {
    unsigned long long flags;
    void *map_start;
    void *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};
typedef int find_object_function(void *pc, struct found_object *out);

struct row {
    uintptr_t start;
    uintptr_t end;
    uintptr_t bias;
    uintptr_t eh_frame_hdr;
    uintptr_t name; /* the loader's text */
};

struct copy {
    unsigned count;
    struct row row[MODULES_MAX]; /* sorted by start */
};

static struct copy startup; /* constant after mp_modules_init */
static struct copy copies[2];
static unsigned version; /* writer: who holds the loader's lock */
static unsigned closing; /* calls that may unload modules, now running */
static unsigned distrusted; /* a module has been unloaded since the last refresh */
static find_object_function *find_object; /* constant after mp_modules_use_loader; NULL: none */
static mp_modules_iterate *iterate = dl_iterate_phdr; /* constant after mp_modules_init */
static bool initialised;
static bool table_forced;
static struct row vdso;  /* constant after mp_modules_init */

/* What the kernel mapped, so that there may be holes. Constant after mp_modules_init. */
enum { PROGRAM, LOADER, FIXED };
static struct fixed {
    struct row row;
    const ElfW(Phdr) * phdr; /* NULL: it has none */
    unsigned phdrs;
    const struct link_map *link_map;
} fixed[FIXED];

/* Acquire, so that the version asked for afterwards is not an older one. */
static inline uintptr_t get(const uintptr_t *field) {
    return __atomic_load_n(field, __ATOMIC_ACQUIRE);
}

static inline void put(uintptr_t *field, uintptr_t value) {
    __atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static uintptr_t first_page(uintptr_t bias, const ElfW(Phdr) * load) {
    return (bias + load->p_vaddr) & -(uintptr_t)PAGE_BYTES;
}

static uintptr_t pages_end(uintptr_t bias, const ElfW(Phdr) * load) {
    return (bias + load->p_vaddr + load->p_memsz + PAGE_BYTES - 1) & -(uintptr_t)PAGE_BYTES;
}

static void describe(struct row *row, uintptr_t bias, const ElfW(Phdr) * phdr, unsigned count) {
    uintptr_t start = UINTPTR_MAX, end = 0, hdr = 0;
    for (unsigned i = 0; i < count; i++) {
        if (phdr[i].p_type == PT_LOAD) {
            uintptr_t from = first_page(bias, &phdr[i]), to = pages_end(bias, &phdr[i]);
            start = from < start ? from : start;
            end = to > end ? to : end;
        } else if (phdr[i].p_type == PT_GNU_EH_FRAME) {
            hdr = bias + phdr[i].p_vaddr;
        }
    }
    put(&row->start, start);
    put(&row->end, end);
    put(&row->bias, bias);
    put(&row->eh_frame_hdr, hdr);
}

static void copy_row(struct row *to, const struct row *from) {
    put(&to->start, get(&from->start));
    put(&to->end, get(&from->end));
    put(&to->bias, get(&from->bias));
    put(&to->eh_frame_hdr, get(&from->eh_frame_hdr));
    put(&to->name, get(&from->name));
}

static bool is_fixed(const ElfW(Phdr) * phdr) {
    for (unsigned i = 0; i < FIXED; i++)
        if (fixed[i].phdr == phdr)
            return true;
    return false;
}

/* Insertion into a sorted array: a program has a few hundred modules at most. */
static int add_module(struct dl_phdr_info *info, size_t size, void *data) {
    struct copy *copy = data;
    struct row added;
    (void)size;
    describe(&added, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    added.name = (uintptr_t)info->dlpi_name;
    unsigned count = __atomic_load_n(&copy->count, __ATOMIC_RELAXED);
    if (added.start >= added.end || count == MODULES_MAX || is_fixed(info->dlpi_phdr))
        return 0;
    unsigned at = count;
    for (; at > 0 && get(&copy->row[at - 1].start) > added.start; at--)
        copy_row(&copy->row[at], &copy->row[at - 1]);
    copy_row(&copy->row[at], &added);
    __atomic_store_n(&copy->count, count + 1, __ATOMIC_RELAXED);
    return 0;
}

static bool search(const struct copy *copy, uintptr_t pc, struct row *out) {
    unsigned low = 0, high = __atomic_load_n(&copy->count, __ATOMIC_RELAXED);
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (get(&copy->row[middle].start) <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    copy_row(out, &copy->row[low - 1]);
    return pc >= out->start && pc < out->end;
}

static void find_vdso(void) {
    const ElfW(Ehdr) *ehdr = (const ElfW(Ehdr) *)getauxval(AT_SYSINFO_EHDR);
    if (ehdr == NULL)
        return;
    const ElfW(Phdr) *phdr = (const ElfW(Phdr) *)((uintptr_t)ehdr + ehdr->e_phoff);
    for (unsigned i = 0; i < ehdr->e_phnum; i++) {
        if (phdr[i].p_type == PT_LOAD) {
            uintptr_t bias = (uintptr_t)ehdr + phdr[i].p_offset - phdr[i].p_vaddr;
            describe(&vdso, bias, phdr, ehdr->e_phnum);
            return;
        }
    }
}

static int find_fixed(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    (void)data;
    uintptr_t program = getauxval(AT_PHDR), loader = getauxval(AT_BASE);
    struct fixed *found;
    if (program != 0 && (uintptr_t)info->dlpi_phdr == program)
        found = &fixed[PROGRAM];
    else if (loader != 0 && info->dlpi_addr == loader)
        found = &fixed[LOADER];
    else
        return 0;
    found->phdr = info->dlpi_phdr;
    found->phdrs = info->dlpi_phnum;
    describe(&found->row, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    found->row.name = (uintptr_t)info->dlpi_name;
    struct found_object object;
    if (find_object != NULL && find_object((void *)found->row.start, &object) == 0 &&
        object.link_map->l_addr == info->dlpi_addr) {
        found->link_map = object.link_map;
    }
    return 0;
}

/* The pages around `pc` without a hole; false where the segments have none there. */
static bool find_run(const struct fixed *f, uintptr_t pc, uintptr_t *start, uintptr_t *end) {
    uintptr_t bias = f->row.bias;
    *start = *end = 0;
    for (unsigned i = 0; i < f->phdrs; i++) { /* in the order of addresses, says the ABI */
        if (f->phdr[i].p_type != PT_LOAD)
            continue;
        uintptr_t from = first_page(bias, &f->phdr[i]), to = pages_end(bias, &f->phdr[i]);
        if (from > *end || *end == 0) {
            if (pc >= *start && pc < *end)
                return true;
            *start = from;
        }
        *end = to > *end ? to : *end;
    }
    return pc >= *start && pc < *end;
}

static bool use_table(void) {
    return find_object == NULL || __atomic_load_n(&table_forced, __ATOMIC_RELAXED);
}

void mp_modules_init(mp_modules_iterate *through) {
    if (initialised)
        return;
    initialised = true;
    iterate = through != NULL ? through : dl_iterate_phdr;
    find_vdso();
    iterate(find_fixed, NULL);
    iterate(add_module, &startup);
    mp_modules_refresh();
}

void mp_modules_use_loader(void *dl_find_object) {
    find_object = (find_object_function *)(uintptr_t)dl_find_object;
}

void mp_modules_none_permanent(void) {
    __atomic_store_n(&startup.count, 0, __ATOMIC_RELAXED);
    mp_modules_refresh();
}

static int refresh_locked(struct dl_phdr_info *info, size_t size, void *data) {
    (void)info;
    (void)size;
    (void)data;
    unsigned next = __atomic_load_n(&version, __ATOMIC_RELAXED) + 1;
    struct copy *copy = &copies[next & 1];
    __atomic_store_n(&copy->count, 0, __ATOMIC_RELAXED);
    iterate(add_module, copy);
    __atomic_store_n(&version, next, __ATOMIC_SEQ_CST);
    __atomic_store_n(&distrusted, 0, __ATOMIC_SEQ_CST);
    return 1;
}

/* The loader's lock is recursive and held during callbacks: taking it outside serialises writers. */
void mp_modules_refresh(void) {
    if (use_table())
        iterate(refresh_locked, NULL);
}

void mp_modules_distrust(void) {
    __atomic_store_n(&distrusted, 1, __ATOMIC_SEQ_CST);
}

void mp_modules_close_begin(void) {
    __atomic_fetch_add(&closing, 1, __ATOMIC_SEQ_CST);
}

void mp_modules_close_end(void) {
    __atomic_fetch_sub(&closing, 1, __ATOMIC_SEQ_CST);
}

static void fill(struct mp_module *out, const struct row *row, bool permanent) {
    *out = (struct mp_module){.start = row->start,
                              .end = row->end,
                              .run_start = row->start,
                              .run_end = row->end,
                              .bias = row->bias,
                              .eh_frame_hdr = (const void *)row->eh_frame_hdr,
                              .name = (const char *)row->name,
                              .permanent = permanent};
}

/* Apart from one another, so that the stack has what one of them needs. */
static __attribute__((noinline)) bool find_in_fixed(uintptr_t pc, struct mp_module *out) {
    for (unsigned i = 0; i < FIXED; i++) {
        const struct fixed *f = &fixed[i];
        uintptr_t start, end;
        if (pc < f->row.start || pc >= f->row.end || !find_run(f, pc, &start, &end))
            continue;
        fill(out, &f->row, true);
        out->run_start = start;
        out->run_end = end;
        out->phdr = f->phdr;
        out->phdrs = f->phdrs;
        out->link_map = f->link_map;
        return true;
    }
    return false;
}

static bool is_permanent(uintptr_t pc) {
    struct row row;
    return search(&startup, pc, &row);
}

/* The loader takes a hole of its own, or of the program, for a part of it. */
static bool is_in_hole(const struct found_object *found) {
    for (unsigned i = 0; i < FIXED; i++)
        if (fixed[i].link_map != NULL && fixed[i].link_map == found->link_map)
            return true;
    return false;
}

static __attribute__((noinline)) bool find_in_loader(uintptr_t pc, struct mp_module *out) {
    struct found_object found;
    if (find_object((void *)pc, &found) != 0 || is_in_hole(&found))
        return false;
    const struct row row = {.start = (uintptr_t)found.map_start,
                            .end = (uintptr_t)found.map_end,
                            .bias = found.link_map->l_addr,
                            .eh_frame_hdr = (uintptr_t)found.eh_frame,
                            .name = (uintptr_t)found.link_map->l_name};
    fill(out, &row, is_permanent(pc));
    out->link_map = found.link_map;
    return true;
}

static __attribute__((noinline)) bool find_in_table(uintptr_t pc, struct mp_module *out) {
    struct row row;
    if (search(&startup, pc, &row)) {
        fill(out, &row, true);
        return true;
    }
    for (unsigned i = 0; i < READ_TRIES; i++) {
        unsigned before = __atomic_load_n(&version, __ATOMIC_ACQUIRE);
        bool found = search(&copies[before & 1], pc, &row);
        if (__atomic_load_n(&closing, __ATOMIC_ACQUIRE) != 0 ||
            __atomic_load_n(&distrusted, __ATOMIC_ACQUIRE) != 0) {
            return false;
        }
        if (__atomic_load_n(&version, __ATOMIC_RELAXED) == before) {
            if (found)
                fill(out, &row, false);
            return found;
        }
    }
    return false;
}

bool mp_module_find(uintptr_t pc, struct mp_module *out) {
    if (pc >= vdso.start && pc < vdso.end) {
        fill(out, &vdso, true);
        return true;
    }
    if (find_in_fixed(pc, out))
        return true;
    return use_table() ? find_in_table(pc, out) : find_in_loader(pc, out);
}

const Elf64_Phdr *mp_module_headers(const struct mp_module *module, unsigned *count) {
    if (module->phdr == NULL)
        return mp_cfi_headers(module->start, module->end, count);
    *count = module->phdrs;
    return module->phdr;
}

void mp_modules_force_table(bool force) {
    __atomic_store_n(&table_forced, force, __ATOMIC_RELAXED);
    if (force)
        mp_modules_refresh();
}
