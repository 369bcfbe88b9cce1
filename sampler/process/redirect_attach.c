/*
 * redirect_attach.c - see redirect_attach.h.
 */
#include "redirect_attach.h"
#include "checker.h"
#include "filter_watch.h"
#include "hooks/hooks.h"
#include "hooks/hooks_cxx.h"
#include "hooks/hooks_mimalloc.h"
#include "hooks/inline_patch.h"
#include "startup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#define TABLES 3
#define WATCH_TABLE 2 /* the one that is not about the real allocator */

static struct mp_slot_table family, second;
static const struct mp_slot_table *tables[TABLES];
static bool prepared;
static struct mp_elf_set done; /* ready, and without slots that only a later pass may change */

static bool is_program_or_libc(const struct mp_real *real) {
    struct mp_elf_symbol symbol;
    return real->path[0] == '\0' ||
           mp_elf_find_in_module(real->module, "gnu_get_libc_version", &symbol) ||
           mp_elf_find_in_module(real->module, "__libc_start_main", &symbol);
}

static void make_family(const struct mp_real *real, const ElfW(Dyn) * skip) {
    const struct {
        const char *name;
        uintptr_t address;
#define FUNCTION(name, id, needed, result, parameters, arguments) {#name, (uintptr_t)real->name},
    } functions[] = {MP_MALLOC_FAMILY(FUNCTION)};
    mp_slots_init(&family);
    family.skip = skip;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        struct mp_elf_symbol ours;
        if (functions[i].address != 0 && mp_elf_find_in_module(_DYNAMIC, functions[i].name, &ours))
            mp_slots_add(&family, functions[i].name, functions[i].address, ours.address);
    }
}

static void make_second(const struct mp_real *real, const ElfW(Dyn) * skip) {
    mp_slots_init(&second);
    second.skip = skip;
    for (int i = 0; i < MP_CXX_COUNT; i++) {
        struct mp_elf_symbol symbol;
        if (!mp_elf_find_in_module(real->module, mp_cxx_entries[i].symbol, &symbol))
            continue;
        mp_cxx_real[i] = symbol.address;
        mp_slots_add(&second, mp_cxx_entries[i].symbol, symbol.address, mp_cxx_entries[i].hook);
    }
    mp_mimalloc_add(&second);
}

int mp_redirect_attach_prepare(char *text, size_t n) {
    if (prepared)
        return 0;
    const char *checker = mp_checker_name();
    if (checker != NULL) {
        mp_checker_refusal(checker, text, n);
        return -ENOTSUP;
    }
    if (mp_hooks_resolve_late() != 0) {
        snprintf(text, n, "no malloc was found in the process");
        return -ENOTSUP;
    }
    struct mp_elf_symbol symbol;
    if (mp_elf_find_in_module(mp_real.module, "mem_profiler_attach", &symbol)) {
        snprintf(text, n, "the sampler has been in the process since its start");
        return -EALREADY;
    }
    const ElfW(Dyn) *skip = is_program_or_libc(&mp_real) ? NULL : mp_real.module;
    make_family(&mp_real, skip);
    make_second(&mp_real, skip);
    tables[0] = &family;
    tables[1] = second.wants != 0 ? &second : NULL;
    tables[WATCH_TABLE] = mp_filter_watch_table(mp_startup_withdraw);
    prepared = true;
    return 0;
}

/* One pass over all modules, in the order of the loader's list. */
struct pass {
    struct mp_slot_counts *counts;
    bool several;      /* more than one module defines malloc */
    bool after_loader; /* what comes before ld.so was there when the program started */
    bool after_self;   /* and what comes before us is complete */
    bool only_new, begun;
    unsigned first_table;
};

static bool is_loader(const struct mp_elf *elf) {
    uintptr_t loader = getauxval(AT_BASE);
    return loader != 0 && elf->base == loader;
}

struct definers {
    unsigned count;
};

static bool count_definer(const struct mp_elf *elf, void *arg) {
    struct definers *d = arg;
    d->count += !mp_elf_is_self(elf) && !is_loader(elf) && mp_elf_lookup(elf, "malloc") != 0;
    return false;
}

static bool treat(const struct mp_elf *elf, void *arg) {
    struct pass *p = arg;
    unsigned mode = MP_SLOTS_WRITE;
    if (!p->begun)
        mp_elf_set_begin(&done);
    p->begun = true;
    p->after_loader |= is_loader(elf);
    p->after_self |= mp_elf_is_self(elf);
    bool known = mp_elf_set_has(&done, elf);
    if (p->only_new && known)
        return false;
    if (p->several && p->after_loader)
        mode |= MP_SLOTS_NO_UNBOUND;
    if (p->after_self && !known)
        mode |= MP_SLOTS_LOADER_RUNS;
    struct mp_slot_counts counts = {0};
    for (unsigned i = p->first_table; i < TABLES && counts.unready == 0; i++)
        if (tables[i] != NULL && mp_slots_module(tables[i], elf, mode, &counts))
            mode &= ~MP_SLOTS_LOADER_RUNS;
    if (counts.unready == 0 && counts.unbound == 0)
        mp_elf_set_add(&done, elf);
    p->counts->modules += counts.modules != 0;
    p->counts->patched += counts.patched;
    p->counts->already += counts.already;
    p->counts->foreign += counts.foreign;
    p->counts->failed += counts.failed;
    p->counts->unready += counts.unready;
    return false;
}

void mp_redirect_attached(bool only_new, struct mp_slot_counts *counts) {
    struct definers definers = {0};
    mp_elf_visit(count_definer, &definers);
    struct pass pass = {.counts = counts,
                        .several = definers.count > 1,
                        .only_new = only_new,
                        .first_table = mp_entry_covers(mp_real.module) ? WATCH_TABLE : 0};
    mp_elf_visit(treat, &pass);
}

/* The first module that defines malloc and is neither the real one nor the C library. */
static bool other_definer(const struct mp_elf *elf, void *arg) {
    const char **path = arg;
    if (mp_elf_is_self(elf) || is_loader(elf) || elf->dynamic == mp_real.module ||
        mp_elf_lookup(elf, "malloc") == 0 || mp_elf_lookup(elf, "gnu_get_libc_version") != 0)
        return false;
    *path = elf->path;
    return true;
}

/* Beside an allocator that is a library, do modules call the C library's malloc (RTLD_DEEPBIND)? */
static bool calls_libc_too(void) {
    static struct mp_slot_table probe;
    struct mp_slot_counts counts = {0};
    struct mp_elf_symbol libc, theirs;
    if (!mp_elf_find_symbol(MP_ELF_FIRST, "gnu_get_libc_version", &libc) ||
        libc.module == mp_real.module || !mp_elf_find_in_module(libc.module, "malloc", &theirs))
        return false;
    mp_slots_init(&probe);
    mp_slots_add(&probe, "malloc", theirs.address, (uintptr_t)calls_libc_too);
    mp_slots_all(&probe, MP_SLOTS_VERIFY, &counts);
    return counts.failed != 0;
}

int mp_redirect_attach_unseen(const struct mp_slot_counts *counts, char *text, size_t n) {
    const char *other = NULL;
    bool in_program = mp_real.path[0] == '\0';
    text[0] = '\0';
    if (mp_entry_covers(mp_real.module))
        return 0;
    if (counts->patched + counts->already == 0) {
        snprintf(text, n, "no module calls the malloc of %s through a slot",
                 in_program ? "the program" : mp_real.path);
        return -ENOTSUP;
    }
    if (in_program)
        snprintf(text, n,
                 "malloc is part of the program: the sampler sees the calls of libraries, not "
                 "those of the program");
    else if (mp_elf_visit(other_definer, &other))
        snprintf(text, n, "%s has a malloc of its own, whose calls the sampler does not see",
                 other);
    else if (calls_libc_too())
        snprintf(text, n,
                 "some libraries call the C library's malloc, not that of %s: the sampler does not "
                 "see these calls",
                 mp_real.path);
    return 0;
}
