/*
 * libraries.c - see libraries.h.
 */
#include "libraries.h"
#include "core/tensors.h"
#include "device/device_inherited.h"
#include "device/device_ranges.h"
#include "device/heaps.h"
#include "pools.h"
#include "redirect/elf_lookup.h"
#include "redirect/redirect_later.h"

#include <string.h>

static const struct mp_device_library *const libraries[] = {
    MP_DEVICE_LIBRARY_LIST(MP_LIBRARY_ADDRESS) NULL};
#define LIBRARIES (sizeof libraries / sizeof libraries[0] - 1)

static struct {
    bool asked; /* by name */
    bool given; /* a dlsym was answered with a wrapper */
    unsigned loaded; /* bits of enum mp_backend */
    struct mp_slot_table table;
    struct mp_slot_counts slots;
} state;

static bool knows(const char *name) {
    return mp_backend_row_named(name) != NULL;
}

static bool is_named(const struct mp_elf *elf, const char *const *sonames) {
    const char *slash = strrchr(elf->path, '/');
    const char *file = slash != NULL ? slash + 1 : elf->path;
    for (; *sonames != NULL; sonames++) {
        size_t n = strlen(*sonames);
        if (strncmp(elf->soname, *sonames, n) == 0 || strncmp(file, *sonames, n) == 0)
            return true;
    }
    return false;
}

/* False: a library of that name, without a known function. */
static bool find_rows(const struct mp_elf *elf, const struct mp_device_library *library,
                      bool *found_new) {
    bool any = false;
    for (struct mp_device_row *const *rows = library->rows; *rows != NULL; rows++) {
        struct mp_device_row *row = *rows;
        any |= row->module == elf->dynamic;
        if (row->module != NULL)
            continue;
        uintptr_t real = mp_elf_lookup(elf, row->symbol);
        if (real == 0)
            continue;
        row->module = elf->dynamic;
        any = *found_new = true;
        mp_store_release(&row->real, real);
    }
    return any;
}

/* A driver: the first library of its backend. Those above it work with no device alone. */
static bool is_driver(unsigned i) {
    return i == 0 || libraries[i - 1]->backend != libraries[i]->backend;
}

static void note_loaded(enum mp_backend backend) {
    if ((state.loaded >> backend & 1) != 0)
        return;
    state.loaded |= 1u << backend;
    mp_device_backend_seen(backend, state.asked, true);
}

/* The function that allocates PyTorch's tensors on the host. */
static void find_tensors(const struct mp_elf *elf) {
    static const char *const sonames[] = {"libc10.so", NULL};
    static const char symbol[] = "_ZN3c109alloc_cpuEm";
    uintptr_t begin = is_named(elf, sonames) ? mp_elf_lookup(elf, symbol) : 0;
    if (begin != 0 && begin != mp_load_relaxed(&mp_tensors.begin))
        mp_tensors_found(begin, mp_elf_lookup_bytes(elf, symbol));
}

static bool find_in(const struct mp_elf *elf, void *arg) {
    find_tensors(elf);
    for (unsigned i = 0; i < LIBRARIES && !mp_elf_is_self(elf); i++)
        if (mp_backend_on(libraries[i]->backend) && is_named(elf, libraries[i]->sonames) &&
            find_rows(elf, libraries[i], arg) && is_driver(i))
            note_loaded(libraries[i]->backend);
    return false;
}

/* Mark the rows whose module is still there, by the lowest bit of its (aligned) address. */
static bool mark_present(const struct mp_elf *elf, void *arg) {
    (void)arg;
    for (unsigned i = 0; i < LIBRARIES; i++)
        for (struct mp_device_row *const *row = libraries[i]->rows; *row != NULL; row++)
            if ((*row)->module == elf->dynamic)
                (*row)->module = (const ElfW(Dyn) *)((uintptr_t)elf->dynamic | 1);
    return false;
}

/* Forget the modules that were unloaded. The real functions stay as they are: a thread may be on its way
 * to one, and a later call of a wrapper calls a function that is gone either way. */
static void forget_unloaded(void) {
    mp_elf_visit(mark_present, NULL);
    for (unsigned i = 0; i < LIBRARIES; i++)
        for (struct mp_device_row *const *row = libraries[i]->rows; *row != NULL; row++) {
            uintptr_t module = (uintptr_t)(*row)->module;
            (*row)->module = (module & 1) != 0 ? (const ElfW(Dyn) *)(module - 1) : NULL;
        }
}

static void fill_table(void) {
    mp_slots_init(&state.table);
    for (unsigned i = 0; i < LIBRARIES; i++)
        for (struct mp_device_row *const *row = libraries[i]->rows; *row != NULL; row++)
            if ((*row)->module != NULL && (*row)->wrapper != 0)
                mp_slots_add(&state.table, (*row)->symbol, mp_row_real(*row), (*row)->wrapper);
}

static const struct mp_slot_table *changed(void) {
    bool found_new = false;
    if (state.table.wants != 0)
        forget_unloaded();
    mp_elf_visit(find_in, &found_new);
    if (found_new) {
        fill_table();
        mp_slots_all(&state.table, MP_SLOTS_WRITE | MP_SLOTS_LOADER_RUNS, &state.slots);
    }
    return state.table.wants != 0 ? &state.table : NULL;
}

/* How many libraries of those backends are described. */
static unsigned choose(unsigned mask, bool by_name) {
    state.asked = by_name;
    return mp_backend_watch(libraries, mask);
}

static void *replace(void *real) {
    void *given = mp_device_replace(real);
    if (given != real)
        mp_store_relaxed(&state.given, true);
    return given;
}

static const struct mp_later_watch watch = {.changed = changed, .knows = knows, .replace = replace};

void mp_device_start(unsigned mask, bool by_name) {
    static struct mp_slot_counts loader;
    if (choose(mask, by_name) != 0)
        mp_redirect_watch(&watch, &loader);
}

void mp_device_announce(void) {
    for (unsigned i = 0; i < MP_BACKENDS; i++)
        if (mp_backend_on((enum mp_backend)i))
            mp_device_backend_seen(i, state.asked, (state.loaded >> i & 1) != 0);
}

void mp_device_attach(unsigned mask, bool by_name) {
    choose(mask, by_name);
    mp_device_announce();
}

void mp_device_redirect(void) {
    if (changed() != NULL)
        mp_slots_all(&state.table, MP_SLOTS_WRITE | MP_SLOTS_LOADER_RUNS, &state.slots);
}

unsigned mp_device_follow(void (*look)(void)) {
    return mp_redirect_follow_late(&watch, look);
}

bool mp_device_redirected(void) {
    return state.slots.patched != 0 || mp_load_relaxed(&state.given);
}

void mp_device_after_fork(bool captures) {
    mp_pool_after_fork();
    mp_heaps_forget();
    mp_mark_after_fork();
    mp_range_after_fork(mp_inherited_begin(captures));
}
