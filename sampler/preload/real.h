/*
 * real.h - the malloc family underneath: the functions our exported ones stand in front of.
 *
 * Model: what dlsym(RTLD_NEXT) would answer to our library, found by reading the modules in memory. One
 * object provides `malloc`, and with it normally all others; each name is looked up by itself, as the
 * loader would.
 */
#ifndef MP_REAL_H
#define MP_REAL_H

#include "redirect/elf_lookup.h"

/*
 * malloc, calloc, realloc, free and posix_memalign exist in every C library since glibc 2.17. The others
 * are NULL where neither C library nor allocator has them:
 *   reallocarray        glibc 2.26; jemalloc and tcmalloc have none: the C library's calls realloc
 *   aligned_alloc       glibc 2.16
 *   memalign valloc pvalloc malloc_usable_size   glibc has all, musl lacks valloc and pvalloc
 */
struct mp_real {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t n, size_t size);
    void *(*realloc)(void *p, size_t size);
    void *(*reallocarray)(void *p, size_t n, size_t size);
    void (*free)(void *p);
    int (*posix_memalign)(void **out, size_t alignment, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    size_t (*malloc_usable_size)(void *p);
    const ElfW(Dyn) * module; /* mp_elf.dynamic of the module whose malloc this is */
    const char *path;         /* its path as the loader has it; "" for the program */
};

/*
 * INIT, also inside the first malloc of the process. Fill *real with the definitions behind our own
 * module, or with the first ones that are not ours where it is the last module.
 * Returns 0; -ENOENT when malloc, calloc, realloc, free or posix_memalign is missing (*real untouched).
 */
int mp_real_resolve(struct mp_real *real);

/*
 * INIT. The same for a library that was opened in a running process: the first definitions that are not
 * ours. Those behind our own module belong to whatever was opened after it.
 */
int mp_real_resolve_late(struct mp_real *real);

/*
 * INIT. Take from `module` (mp_elf.dynamic) every function it defines, keeping the others.
 * Returns 0; -ENOENT when it defines no malloc (*real untouched).
 */
int mp_real_take_from(struct mp_real *real, const ElfW(Dyn) * module);

#endif
