/*
 * backend.c - see backend.h.
 */
#include "backend.h"
#include "core/capture.h"
#include "unwind/modules.h"

#include <string.h>
#include <sys/auxv.h>

#define NAMES_HASH 1024u /* power of two, above twice the number of rows */

_Static_assert(MP_BACKENDS <= MP_BACKEND_ROWS, "each has a row");

const char *const mp_backend_names[MP_BACKENDS] = {MP_BACKEND_LIST(MP_BACKEND_NAME)};

static const struct mp_device_library *const no_library[] = {NULL};
static const struct mp_device_library *const *libraries = no_library;
static uintptr_t allocator;                              /* first byte of its module; 0: none */
static unsigned watched;                                 /* bits of enum mp_backend */
static struct mp_device_row *by_name[NAMES_HASH];        /* open addressing */

bool mp_backend_on(enum mp_backend backend) {
    return (mp_load_relaxed(&watched) >> backend & 1) != 0;
}

bool mp_backend_may_ask(void) {
    const struct mp_segment *seg = mp_capture_segment();
    if (seg == NULL)
        return mp_pending_waits();
    return (mp_load_relaxed(&seg->control->controller_flags) & MP_FLAG_SECCOMP) == 0;
}

bool mp_device_marks_on(void) {
    return mp_load_relaxed(&watched) != 0;
}

static uint32_t hash(const char *name) {
    uint32_t h = 2166136261u;
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h ^ h >> 15;
}

static void remember_name(struct mp_device_row *row) {
    uint32_t i = hash(row->symbol) & (NAMES_HASH - 1);
    while (by_name[i] != NULL)
        i = (i + 1) & (NAMES_HASH - 1);
    by_name[i] = row;
}

unsigned mp_backend_watch(const struct mp_device_library *const *all, unsigned mask) {
    unsigned described = 0;
    libraries = all;
    mp_store_relaxed(&watched, mask);
    memset(by_name, 0, sizeof by_name);
    for (; *all != NULL; all++) {
        if (!mp_backend_on((*all)->backend))
            continue;
        described++;
        for (struct mp_device_row *const *row = (*all)->rows; *row != NULL; row++)
            if ((*row)->wrapper != 0)
                remember_name(*row);
    }
    return described;
}

struct mp_device_row *mp_backend_row_named(const char *name) {
    uint32_t i = hash(name) & (NAMES_HASH - 1);
    while (by_name[i] != NULL && strcmp(by_name[i]->symbol, name) != 0)
        i = (i + 1) & (NAMES_HASH - 1);
    return by_name[i];
}

void *mp_device_replace(void *real) {
    if (real == NULL)
        return NULL;
    for (const struct mp_device_library *const *library = libraries; *library != NULL; library++) {
        if (!mp_backend_on((*library)->backend))
            continue;
        for (struct mp_device_row *const *row = (*library)->rows; *row != NULL; row++)
            if ((*row)->wrapper != 0 && mp_row_real(*row) == (uintptr_t)real)
                return (void *)(*row)->wrapper;
    }
    return real;
}

void *mp_device_adopt(const struct mp_device_library *library, const char *symbol, void *real) {
    struct mp_device_row *row = mp_backend_row_named(symbol);
    if (real == NULL || row == NULL || !mp_backend_on(library->backend))
        return real;
    uintptr_t none = 0;
    __atomic_compare_exchange_n(&row->real, &none, (uintptr_t)real, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_ACQUIRE);
    return mp_row_real(row) == (uintptr_t)real ? (void *)row->wrapper : real;
}

void mp_backend_allocator(uintptr_t function) {
    struct mp_module module;
    bool known = mp_module_find(function, &module);
    uintptr_t program = getauxval(AT_PHDR);
    bool is_program = known && module.start <= program && program < module.end;
    mp_store_relaxed(&allocator, known && !is_program ? module.start : 0);
}

bool mp_backend_is_allocator(uintptr_t pc) {
    struct mp_module module;
    uintptr_t start = mp_load_relaxed(&allocator);
    return start != 0 && mp_module_find(pc, &module) && module.start == start;
}

bool mp_device_is_driver(const struct mp_device_row *row, uintptr_t pc) {
    struct mp_module caller, driver;
    return mp_module_find(pc, &caller) && mp_module_find(mp_row_real(row), &driver) &&
           caller.start == driver.start;
}

void mp_device_ask_free(const char *family, int device, int (*ask)(size_t *, size_t *)) {
    size_t free_bytes = 0, total_bytes = 0;
    uint32_t domain =
        device >= 0 ? mp_domain_intern(family, device, MP_MEMORY_DEVICE) : MP_DOMAIN_NONE;
    if (domain != MP_DOMAIN_NONE && mp_device_actual_due(domain) &&
        ask(&free_bytes, &total_bytes) == 0 && free_bytes <= total_bytes)
        mp_device_actual(domain, total_bytes - free_bytes, total_bytes);
}

void mp_number_set(struct mp_numbered *table, unsigned rows, uint64_t handle, int number) {
    for (unsigned i = 0; i < rows && handle != 0; i++)
        if (mp_cas_u64(&table[i].handle, 0, handle) ||
            mp_load_relaxed(&table[i].handle) == handle) {
            mp_store_release(&table[i].number, (uint32_t)(number + 2));
            return;
        }
}

bool mp_number_of(const struct mp_numbered *table, unsigned rows, uint64_t handle, int *number) {
    for (unsigned i = 0; i < rows; i++) {
        uint64_t seen = mp_load_acquire(&table[i].handle);
        uint32_t found = seen == handle ? mp_load_acquire(&table[i].number) : 0;
        if (found != 0)
            *number = (int)found - 2;
        if (seen == handle || seen == 0)
            return found != 0;
    }
    return false;
}
