/*
 * libraries.h - every library that is described by rows, and finding those that the program loads.
 *
 * Model: on top of all drivers, so that none of them knows another. A new library gets its line in both
 * lists.
 *
 * Threads: INIT, or at a dlopen or dlsym of the program, one thread at a time.
 */
#ifndef MP_LIBRARIES_H
#define MP_LIBRARIES_H

#include "backend.h"

extern const struct mp_device_library mp_library_hal; /* hal.c: libascend_hal.so, counts bytes */
extern const struct mp_device_library mp_library_runtime; /* acl.c: libruntime.so, names only */
extern const struct mp_device_library mp_library_acl; /* acl.c: libascendcl.so, names only */
extern const struct mp_device_library mp_library_cuda; /* cuda.c: libcuda.so.1, counts bytes */
extern const struct mp_device_library mp_library_cudart; /* cudart.c: libcudart.so, names only */
extern const struct mp_device_library mp_library_hsa; /* hsa.c: libhsa-runtime64.so, counts bytes */
extern const struct mp_device_library mp_library_hip; /* hip.c: libamdhip64.so, names only */
extern const struct mp_device_library mp_library_ze; /* ze.c: libze_loader.so.1, counts bytes */

#define MP_DEVICE_LIBRARIES                                                                        \
    &mp_library_hal, &mp_library_runtime, &mp_library_acl, &mp_library_cuda, &mp_library_cudart,   \
        &mp_library_hsa, &mp_library_hip, &mp_library_ze

/*
 * INIT. Watch the backends of `mask` (bits of enum mp_backend): finds drivers that are loaded
 * already and redirects to the wrappers. `by_name`: the mask was asked for by names, so that a
 * backend of which nothing is ever seen is worth a warning.
 */
void mp_device_start(unsigned mask, bool by_name);

/*
 * INIT. The same for a process that is attached to: chooses only. Then, and again after libraries
 * were opened, mp_device_look() redirects what passes through slots; dlsym is left alone, and so
 * is what it has answered.
 */
void mp_device_attach(unsigned mask, bool by_name);
void mp_device_look(void);

/* INIT. After each new segment: tell it which backends were asked for, and which are loaded. */
void mp_device_announce(void);

/* In a forked child that gets a segment of its own: device memory of the parent is not the
 * child's. */
void mp_device_after_fork(void);

#endif
