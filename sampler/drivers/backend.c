/*
 * backend.c - see backend.h.
 */
#include "backend.h"

#include "device/device.h"
#include "libraries.h"
#include "pools.h"
#include "redirect/elf_lookup.h"
#include "redirect/redirect_later.h"
#include "unwind/modules.h"

#include <string.h>

#define NAMES_HASH 1024u /* power of two, above twice the number of rows */

const char *const mp_backend_names[MP_BACKENDS] = {
    [MP_BACKEND_HAL] = "hal",       [MP_BACKEND_CUDA] = "cuda",     [MP_BACKEND_HIP] = "hip",
    [MP_BACKEND_OPENCL] = "opencl", [MP_BACKEND_VULKAN] = "vulkan", [MP_BACKEND_ZE] = "ze",
};

static const struct mp_device_library *const libraries[] = {MP_DEVICE_LIBRARIES};
#define LIBRARIES (sizeof libraries / sizeof libraries[0])

static struct {
    unsigned mask;
    bool asked; /* by name */
    unsigned loaded; /* bits of enum mp_backend */
    struct mp_slot_table table;
    struct mp_slot_counts slots;
    struct mp_device_row *by_name[NAMES_HASH]; /* open addressing; constant after the start */
} state;

bool mp_backend_on(enum mp_backend backend) {
    return (mp_load_relaxed(&state.mask) >> backend & 1) != 0;
}

bool mp_device_marks_on(void) {
    return mp_load_relaxed(&state.mask) != 0;
}

static uint32_t hash(const char *name) {
    uint32_t h = 2166136261u;
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h ^ h >> 15;
}

static void remember_name(struct mp_device_row *row) {
    uint32_t i = hash(row->symbol) & (NAMES_HASH - 1);
    while (state.by_name[i] != NULL)
        i = (i + 1) & (NAMES_HASH - 1);
    state.by_name[i] = row;
}

/* HOOK. The row of that name; NULL: none that is watched. */
static struct mp_device_row *row_named(const char *name) {
    uint32_t i = hash(name) & (NAMES_HASH - 1);
    while (state.by_name[i] != NULL && strcmp(state.by_name[i]->symbol, name) != 0)
        i = (i + 1) & (NAMES_HASH - 1);
    return state.by_name[i];
}

static bool knows(const char *name) {
    return row_named(name) != NULL;
}

void *mp_device_replace(void *real) {
    if (real == NULL)
        return NULL;
    for (unsigned i = 0; i < LIBRARIES; i++) {
        if (!mp_backend_on(libraries[i]->backend))
            continue;
        for (struct mp_device_row *const *row = libraries[i]->rows; *row != NULL; row++)
            if ((*row)->wrapper != 0 && mp_row_real(*row) == (uintptr_t)real)
                return (void *)(*row)->wrapper;
    }
    return real;
}

void *mp_device_adopt(const struct mp_device_library *library, const char *symbol, void *real) {
    struct mp_device_row *row = row_named(symbol);
    if (real == NULL || row == NULL || !mp_backend_on(library->backend))
        return real;
    uintptr_t none = 0;
    __atomic_compare_exchange_n(&row->real, &none, (uintptr_t)real, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_ACQUIRE);
    return mp_row_real(row) == (uintptr_t)real ? (void *)row->wrapper : real;
}

bool mp_device_is_driver(const struct mp_device_row *row, uintptr_t pc) {
    struct mp_module caller, driver;
    return mp_module_find(pc, &caller) && mp_module_find(mp_row_real(row), &driver) &&
           caller.start == driver.start;
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

/* Which rows got a real function, lost their module, or keep it. */
struct finding {
    bool changed;
};

/* False: a library of that name, and nothing of it is known. */
static bool find_rows(const struct mp_elf *elf, const struct mp_device_library *library,
                      struct finding *finding) {
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
        any = finding->changed = true;
        mp_store_release(&row->real, real);
    }
    return any;
}

static void note_loaded(enum mp_backend backend) {
    if ((state.loaded >> backend & 1) != 0)
        return;
    state.loaded |= 1u << backend;
    mp_device_backend_seen(backend, state.asked, true);
}

static bool find_in(const struct mp_elf *elf, void *arg) {
    for (unsigned i = 0; i < LIBRARIES && !mp_elf_is_self(elf); i++)
        if (mp_backend_on(libraries[i]->backend) && is_named(elf, libraries[i]->sonames) &&
            find_rows(elf, libraries[i], arg))
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

/* Forget the modules that were unloaded. The real functions stay as they are: a thread may be on
 * its way to one, and whoever calls a wrapper later calls a function that is gone either way. */
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
    struct finding finding = {0};
    if (state.table.wants != 0)
        forget_unloaded();
    mp_elf_visit(find_in, &finding);
    if (finding.changed) {
        fill_table();
        mp_slots_all(&state.table, MP_SLOTS_WRITE | MP_SLOTS_LOADER_RUNS, &state.slots);
    }
    return state.table.wants != 0 ? &state.table : NULL;
}

/* How many libraries of those backends are described. */
static unsigned choose(unsigned mask, bool by_name) {
    unsigned watched = 0;
    mp_store_relaxed(&state.mask, mask);
    state.asked = by_name;
    memset(state.by_name, 0, sizeof state.by_name);
    for (unsigned i = 0; i < LIBRARIES; i++) {
        if (!mp_backend_on(libraries[i]->backend))
            continue;
        watched++;
        for (struct mp_device_row *const *row = libraries[i]->rows; *row != NULL; row++)
            if ((*row)->wrapper != 0)
                remember_name(*row);
    }
    return watched;
}

void mp_device_start(unsigned mask, bool by_name) {
    static const struct mp_later_watch watch = {
        .changed = changed, .knows = knows, .replace = mp_device_replace};
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

void mp_device_look(void) {
    if (changed() != NULL)
        mp_slots_all(&state.table, MP_SLOTS_WRITE | MP_SLOTS_LOADER_RUNS, &state.slots);
}

void mp_device_after_fork(void) {
    mp_pool_after_fork();
}
