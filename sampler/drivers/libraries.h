/*
 * libraries.h - every library that is described by rows. A new one gets its line in both lists.
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

#endif
