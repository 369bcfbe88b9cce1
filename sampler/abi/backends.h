/*
 * backends.h - the drivers of device memory, and the kernel's mmap: the one list, for C and for Python (_core of the
 * controller).
 *
 * X(ID, name): MP_BACKEND_ID is the number of its row in mp_control.backend, so a new one goes to the end; `name` is what
 * users call it (--device, MEM_PROFILER_DEVICE) and how its domains begin. Its libraries are in drivers/libraries.h.
 */
#ifndef MP_BACKENDS_H
#define MP_BACKENDS_H

/* clang-format off */
#define MP_BACKEND_LIST(X)                                                                         \
    X(HAL, "hal")                                                                                  \
    X(CUDA, "cuda")                                                                                \
    X(HIP, "hip")                                                                                  \
    X(OPENCL, "opencl")                                                                            \
    X(VULKAN, "vulkan")                                                                            \
    X(ZE, "ze")                                                                                    \
    X(MMAP, "mmap")
/* clang-format on */

#define MP_BACKEND_ID(id, name) MP_BACKEND_##id,
#define MP_BACKEND_NAME(id, name) name,

enum mp_backend { MP_BACKEND_LIST(MP_BACKEND_ID) MP_BACKENDS };

#endif
