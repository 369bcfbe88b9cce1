/*
 * backend.h - which drivers are watched, and the rows that describe their functions: what drivers use.
 * libraries.h, above them, finds their libraries.
 *
 * Model: a library of a driver (libascend_hal.so) is described by rows, one a function: its name,
 * our wrapper for it, and, once such a library is loaded, the real function. Nothing is exported
 * under a driver's names: programs test by weak references or dlsym whether a driver has a
 * function, and must not be answered by us. Instead
 *  - slots of all modules that lead to a real function are redirected to its wrapper (slots.h),
 *    in modules present at start and in those opened later, however the driver was loaded;
 *  - dlsym and dlvsym are asked for real, and only an answer that is a real function of a row is
 *    replaced (redirect_later.h); a driver's own look-up function (cuGetProcAddress) is a wrapper
 *    that does the same by mp_device_replace().
 * A function that the driver does not have has no real function, so no slot and no answer leads
 * to us.
 *
 * The rows of a library are written with wrap.h, which makes the wrappers. To add a backend: a
 * table of rows, and its library in the lists of libraries.h.
 *
 * Threads: mp_backend_on(), mp_device_replace() and what wrappers use are HOOK. The rest is INIT,
 * or runs at a dlopen or dlsym of the program, one thread at a time. A row's `real` is stored once, with
 * release, and pairs with the acquire load in mp_row_real(): what the loader wrote of the driver is
 * there before a wrapper calls it.
 */
#ifndef MP_BACKEND_H
#define MP_BACKEND_H

#include "abi/atomics.h"
#include "device/device.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_BACKENDS_AUTO ((1u << MP_BACKENDS) - 1)

/* "hal", "cuda", ...: what users call it and how its domains begin. */
extern const char *const mp_backend_names[MP_BACKENDS];

/* Is it to be watched? False before mp_backend_watch(). */
bool mp_backend_on(enum mp_backend backend);

/* Are marks and pools that the program announces recorded? Wherever device memory may be. */
bool mp_device_marks_on(void);

/* One function of a driver. */
struct mp_device_row {
    const char *symbol;
    uintptr_t wrapper;
    uintptr_t real; /* 0: no library that defines it was seen yet */
    const ElfW(Dyn) * module; /* that defines it (mp_elf.dynamic); NULL: it was unloaded, or none */
};

/* A library of a driver: alternatives of its soname, and the functions it may define. */
struct mp_device_library {
    enum mp_backend backend;
    const char *const *sonames; /* beginnings ("libcuda.so"), ended by NULL */
    struct mp_device_row *const *rows; /* ended by NULL */
};

/* INIT. Watch the backends of `mask` (bits of enum mp_backend), whose libraries are among `all` (ended by
 * NULL, stays). Returns how many of these are watched. */
unsigned mp_backend_watch(const struct mp_device_library *const *all, unsigned mask);

/* HOOK. The row of that name; NULL: none that is watched. */
struct mp_device_row *mp_backend_row_named(const char *name);

/* HOOK. The wrapper, where `real` is a real function that a row knows; else `real` itself. */
void *mp_device_replace(void *real);

/*
 * HOOK. As above, for a driver's own look-up function, whose answers need not be the addresses of
 * its dynamic symbols: a row of `library` named `symbol` that has no real function yet takes
 * `real` for it; one that has another one leaves it alone.
 */
void *mp_device_adopt(const struct mp_device_library *library, const char *symbol, void *real);

/* HOOK. Count a call of a wrapper. */
static inline void mp_device_called(enum mp_backend backend) {
    mp_device_backend_call(backend);
}

/* HOOK. Does `pc` lie in the module that defines the row's real function? A driver that calls
 * itself may hold its locks then. */
bool mp_device_is_driver(const struct mp_device_row *row, uintptr_t pc);

static inline uintptr_t mp_row_real(const struct mp_device_row *row) {
    return mp_load_acquire(&row->real);
}

#endif
