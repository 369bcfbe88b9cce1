/*
 * libraries.h - every library with rows, and the search for those that the program loads.
 *
 * Model: above all drivers, so that none of them uses another. A new library gets its line in the list, where a driver
 * stands before the libraries above it, and those of a backend are together.
 *
 * Threads: INIT, or at a dlopen or dlsym of the program, one thread at a time.
 */
#ifndef MP_LIBRARIES_H
#define MP_LIBRARIES_H

#include "backend.h"

/* clang-format off */
#define MP_DEVICE_LIBRARY_LIST(X)                                                                  \
    X(hal)              /* hal.c: libascend_hal.so, counts bytes */                                \
    X(runtime)          /* hal.c: libruntime.so, names only */                                     \
    X(acl)              /* hal.c: libascendcl.so, names only */                                    \
    X(runtime_launches) /* launch.c: libruntime.so */                                              \
    X(acl_launches)     /* launch.c: libascendcl.so */                                             \
    X(atb)              /* atb.c: libatb.so, operators */                                          \
    X(cuda)             /* cuda.c: libcuda.so.1, counts bytes */                                   \
    X(cudart)           /* cuda.c: libcudart.so, names; counts what its driver's wrappers miss */  \
    X(hsa)              /* hsa.c: libhsa-runtime64.so, counts bytes */                             \
    X(hip)              /* hip.c: libamdhip64.so, names only */                                    \
    X(ze)               /* ze.c: libze_loader.so.1, counts bytes */                                \
    X(mapped)           /* mapped.c: libc.so.6, counts mappings */                                 \
    X(stacks)           /* stacks.c: libc.so.6 or libpthread.so.0, stacks of threads */
/* clang-format on */

#define MP_DECLARE_LIBRARY(name) extern const struct mp_device_library mp_library_##name;
#define MP_LIBRARY_ADDRESS(name) &mp_library_##name,
MP_DEVICE_LIBRARY_LIST(MP_DECLARE_LIBRARY)

/*
 * INIT. Watch the backends of `mask` (bits of enum mp_backend): finds drivers that are loaded already and
 * redirects to the wrappers. `by_name`: the user gave names, so that a backend without any call is worth
 * a warning.
 */
void mp_device_start(unsigned mask, bool by_name);

/*
 * INIT. The same for an attached process: chooses only. Then, and again after the program opened
 * libraries, mp_device_redirect() redirects calls through slots; it leaves dlsym and its earlier answers
 * alone.
 */
void mp_device_attach(unsigned mask, bool by_name);
void mp_device_redirect(void);

/*
 * INIT. In an attached process: from now on a dlsym of the program for a driver's function is answered, and before
 * a dlopen or dlsym that finds new modules look() runs. mp_redirect_unfollow() ends it. Returns how many slots it
 * changed.
 */
unsigned mp_device_follow(void (*look)(void));

/* INIT. Does anything lead to a wrapper, or did it ever? Then threads may be in wrappers at any time. */
bool mp_device_redirected(void);

/* INIT. After each new segment: store the chosen backends in it, and the loaded ones. */
void mp_device_announce(void);

/* In a forked child with its own segment: device memory of the parent is not the child's, its mappings are
 * (device_inherited.h), where anything is captured. */
void mp_device_after_fork(bool captures);

#endif
