/*
 * real.c - see real.h.
 */
#include "real.h"

#include <errno.h>

static const struct {
    const char *name;
    size_t offset;
    bool needed;
} functions[] = {
#define FUNCTION(name, id, needed, result, parameters, arguments)                                  \
    {#name, offsetof(struct mp_real, name), needed},
    MP_MALLOC_FAMILY(FUNCTION)
#undef FUNCTION
};
#define FUNCTIONS (sizeof functions / sizeof functions[0])

static void set(struct mp_real *real, size_t offset, uintptr_t address) {
    *(uintptr_t *)((char *)real + offset) = address;
}

static bool find(const char *name, bool late, struct mp_elf_symbol *symbol) {
    return (!late && mp_elf_find_symbol(MP_ELF_AFTER_SELF, name, symbol)) ||
           mp_elf_find_symbol(MP_ELF_NOT_SELF, name, symbol);
}

static int resolve(struct mp_real *real, bool late) {
    struct mp_real found = {0};
    for (size_t i = 0; i < FUNCTIONS; i++) {
        struct mp_elf_symbol symbol;
        if (find(functions[i].name, late, &symbol)) {
            set(&found, functions[i].offset, symbol.address);
            if (functions[i].offset == offsetof(struct mp_real, malloc)) {
                found.module = symbol.module;
                found.path = symbol.path;
            }
        } else if (functions[i].needed) {
            return -ENOENT;
        }
    }
    *real = found;
    return 0;
}

int mp_real_resolve(struct mp_real *real) {
    return resolve(real, false);
}

int mp_real_resolve_late(struct mp_real *real) {
    return resolve(real, true);
}

int mp_real_take_from(struct mp_real *real, const ElfW(Dyn) * module) {
    struct mp_elf_symbol symbol;
    if (!mp_elf_find_in_module(module, "malloc", &symbol))
        return -ENOENT;
    real->module = symbol.module;
    real->path = symbol.path;
    for (size_t i = 0; i < FUNCTIONS; i++)
        if (mp_elf_find_in_module(module, functions[i].name, &symbol))
            set(real, functions[i].offset, symbol.address);
    return 0;
}

uintptr_t mp_real_of_libc(const char *name) {
    struct mp_elf_symbol libc, found;
    return mp_elf_find_symbol(MP_ELF_FIRST, "gnu_get_libc_version", &libc) &&
                   mp_elf_find_in_module(libc.module, name, &found)
               ? found.address
               : 0;
}
