/*
 * real.h - the real malloc family: the functions behind our exported ones.
 *
 * Model: the results that dlsym(RTLD_NEXT) would give our library, found by reading the modules in
 * memory. One object provides `malloc`, and with it normally all others; the sampler looks up each
 * name by itself, as the loader would.
 */
#ifndef MP_REAL_H
#define MP_REAL_H

#include "malloc_family.h"
#include "redirect/elf_lookup.h"

struct mp_real {
#define FUNCTION(name, id, needed, result, parameters, arguments) result(*name) parameters;
    MP_MALLOC_FAMILY(FUNCTION)
#undef FUNCTION
    const ElfW(Dyn) * module; /* mp_elf.dynamic of the module whose malloc this is */
    const char *path;         /* its path as the loader has it; "" for the program */
};

/*
 * INIT, also inside the first malloc of the process. Fill *real with the definitions behind our own
 * module, or with the first ones that are not ours if ours is the last module.
 * Returns 0; -ENOENT when one that is needed is missing (*real untouched).
 */
int mp_real_resolve(struct mp_real *real);

/*
 * INIT. The same for a library that was opened in a running process: the first definitions that are not
 * ours. Those behind our own module belong to libraries opened after it.
 */
int mp_real_resolve_late(struct mp_real *real);

/*
 * INIT. Take from `module` (mp_elf.dynamic) every function it defines, keeping the others.
 * Returns 0; -ENOENT when it defines no malloc (*real untouched).
 */
int mp_real_take_from(struct mp_real *real, const ElfW(Dyn) * module);

/* INIT. Address of a function in the C library itself, because an interposed one may not be ready;
 * 0 if it does not exist. */
uintptr_t mp_real_of_libc(const char *name);

#endif
