/*
 * ze_abi.h - the part of Level Zero's binary interface that the wrappers touch. Handles are void *;
 * a test compiles this file against the published header.
 */
#ifndef MP_ZE_ABI_H
#define MP_ZE_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int32_t mp_ze_result; /* ze_result_t, an enumeration */

enum {
    MP_ZE_SUCCESS = 0,
    MP_ZE_OUT_OF_HOST_MEMORY = 0x70000002,
    MP_ZE_OUT_OF_DEVICE_MEMORY = 0x70000003,
    MP_ZE_UNSUPPORTED_SIZE = 0x78000009,
};

/* The beginning of every descriptor. */
struct mp_ze_desc {
    uint32_t type;
    const void *next;
};

/* In the chain of a descriptor: imports memory by its file or its Windows handle. */
#define MP_ZE_IMPORT_FD 0x19
#define MP_ZE_IMPORT_WIN32 0x22

struct mp_ze_physical_desc {
    uint32_t type;
    const void *next;
    uint32_t flags;
    size_t bytes;
};

enum {
    MP_ZE_IMAGE_1D = 0,
    MP_ZE_IMAGE_1D_ARRAY = 1,
    MP_ZE_IMAGE_2D = 2,
    MP_ZE_IMAGE_2D_ARRAY = 3,
    MP_ZE_IMAGE_3D = 4,
    MP_ZE_IMAGE_BUFFER = 5,
};

struct mp_ze_image_desc {
    uint32_t type;
    const void *next;
    uint32_t flags;
    uint32_t shape;
    uint32_t layout;
    uint32_t rest_of_format[5];
    uint64_t width;
    uint32_t height;
    uint32_t depth;
    uint32_t layers;
    uint32_t mip_levels;
};

#endif
