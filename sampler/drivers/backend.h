/*
 * backend.h - the list of watched drivers, and the rows that describe their functions; the drivers' code
 * uses this. libraries.h, above them, finds their libraries.
 *
 * Model: rows describe a library of a driver (libascend_hal.so), one per function: its name, our wrapper
 * for it, and, once such a library is loaded, the real function. We export nothing under a driver's
 * names: programs test by weak references or dlsym whether a driver has a function, and we must not
 * answer them. Instead
 *  - slots of all modules that lead to a real function are redirected to its wrapper (got_slots.h),
 *    in modules present at start and in those opened later, however the driver was loaded;
 *  - dlsym and dlvsym are asked for real, and only an answer that is a real function of a row is
 *    replaced (redirect_later.h); a driver's own look-up function (cuGetProcAddress) is a wrapper
 *    that does the same by mp_device_replace().
 * A function that the driver does not have has no real function, so no slot and no answer points to us.
 *
 * wrap.h makes the wrappers from the rows of a library. To add a backend: a line in abi/backends.h, a folder with a
 * table of rows, and a line for its library in libraries.h.
 *
 * Threads: mp_backend_on(), mp_device_replace() and what wrappers use are HOOK. The rest is INIT, or runs
 * at a dlopen or dlsym of the program, one thread at a time. The release store of a row's `real` happens
 * once, and pairs with the acquire load in mp_row_real(): the loader's writes of the driver are visible
 * before a wrapper calls it.
 */
#ifndef MP_BACKEND_H
#define MP_BACKEND_H

#include "abi/atomics.h"
#include "abi/backends.h"
#include "device/device.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All but mappings, which are asked for by name. */
#define MP_BACKENDS_AUTO (((1u << MP_BACKENDS) - 1) & ~(1u << MP_BACKEND_MMAP))

/* By enum mp_backend. */
extern const char *const mp_backend_names[MP_BACKENDS];

/* Do we watch it? False before mp_backend_watch(). */
bool mp_backend_on(enum mp_backend backend);

/* May a wrapper make a system call of its own? The process has a segment, or gets one, and no filter. */
bool mp_backend_may_ask(void);

/* Do we record marks and pools of the program? True where device memory may be. */
bool mp_device_marks_on(void);

/* One function of a driver. */
struct mp_device_row {
    const char *symbol;
    uintptr_t wrapper;
    uintptr_t real; /* 0: no library that defines it so far */
    const ElfW(Dyn) * module; /* that defines it (mp_elf.dynamic); NULL: it was unloaded, or none */
};

/* A library of a driver: alternatives of its soname, and the functions it may define. */
struct mp_device_library {
    enum mp_backend backend;
    const char *const *sonames; /* beginnings ("libcuda.so"), ended by NULL */
    struct mp_device_row *const *rows; /* ended by NULL */
};

/* The library of a file: beginnings of its soname in parentheses, then the pointers of its rows, each with a comma. */
#define MP_LIBRARY(library, backend, names, ...)                                                   \
    static struct mp_device_row *const library##_rows[] = {__VA_ARGS__ NULL};                      \
    static const char *const library##_sonames[] = {MP_NAMES names, NULL};                         \
    const struct mp_device_library mp_library_##library = {backend, library##_sonames,             \
                                                           library##_rows}
#define MP_NAMES(...) __VA_ARGS__

/* Functions that wrappers call and nobody wraps: ROW(result, name, parameters); MP_REAL(name) is NULL until there is
 * one. */
#define MP_ASKED_ROW(result, name, parameters)                                                     \
    typedef result mp_fn_##name parameters;                                                        \
    static struct mp_device_row mp_row_##name = {.symbol = #name};
#define MP_ASKED_POINTER(result, name, parameters) &mp_row_##name,
#define MP_REAL(name) ((mp_fn_##name *)mp_row_real(&mp_row_##name))

/* INIT. Watch the backends of `mask` (bits of enum mp_backend), whose libraries are among `all` (ended by
 * NULL, stays). Returns how many of these are watched. */
unsigned mp_backend_watch(const struct mp_device_library *const *all, unsigned mask);

/* HOOK. The watched row of that name; NULL: none. */
struct mp_device_row *mp_backend_row_named(const char *name);

/* HOOK. The wrapper, where `real` is a real function that a row knows; else `real` itself. */
void *mp_device_replace(void *real);

/*
 * HOOK. As above, for a driver's own look-up function, whose answers need not be the addresses of
 * its dynamic symbols: a row of `library` named `symbol` that has no real function yet takes
 * `real` for it; one that has another one leaves it alone.
 */
void *mp_device_adopt(const struct mp_device_library *library, const char *symbol, void *real);

/* INIT. The malloc of the process: calls of its module are an allocator's own, unless that is the program. */
void mp_backend_allocator(uintptr_t function);

/* HOOK. Is `pc` in that module? */
bool mp_backend_is_allocator(uintptr_t pc);

/* HOOK. Is `pc` in the module that defines the row's real function? A driver that calls itself may hold
 * its locks then. */
bool mp_device_is_driver(const struct mp_device_row *row, uintptr_t pc);

/* HOOK. If the last answer is old enough and `device` is valid, store the driver's number of bytes
 * in use. */
void mp_device_ask_free(const char *family, int device, int (*ask)(size_t *free, size_t *total));

/*
 * HOOK. Handles of devices or pools and the numbers that they stand for, in a table of the caller; a full table forgets.
 * A compare-and-swap of its handle claims a row, the release store of its number publishes it.
 */
struct mp_numbered {
    uint64_t handle;
    uint32_t number; /* + 2; 0: not yet */
};
void mp_number_set(struct mp_numbered *table, unsigned rows, uint64_t handle, int number);

/* False: not known. */
bool mp_number_of(const struct mp_numbered *table, unsigned rows, uint64_t handle, int *number);

/* HOOK. UINT64_MAX when the product passes 64 bits. */
static inline uint64_t mp_product(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    uint64_t product;
    bool is_over = __builtin_mul_overflow(a, b, &product) ||
                   __builtin_mul_overflow(product, c, &product) ||
                   __builtin_mul_overflow(product, d, &product);
    return is_over ? UINT64_MAX : product;
}

static inline uintptr_t mp_row_real(const struct mp_device_row *row) {
    return mp_load_acquire(&row->real);
}

#endif
