/*
 * hip_abi.h - the part of HIP's and HSA's interfaces that the wrappers use: types, values and structures.
 *
 * Source: hsa.h, hsa_ext_amd.h and hip_runtime_api.h of ROCm 5.2 and 6; a test compares sizes and signatures
 * with the published headers. Enumerations are passed as int; handles of which only the value matters are
 * pointers.
 */
#ifndef MP_HIP_ABI_H
#define MP_HIP_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int hsa_status_t;

/* Each is a structure of one word, and travels as that word. */
typedef struct {
    uint64_t handle;
} hsa_agent_t;
typedef struct {
    uint64_t handle;
} hsa_region_t;
typedef struct {
    uint64_t handle;
} hsa_amd_memory_pool_t;
typedef struct {
    uint64_t handle;
} hsa_amd_vmem_alloc_handle_t;
typedef int hsa_amd_memory_type_t;

enum hsa_values {
    MP_HSA_SUCCESS = 0,
    MP_HSA_INVALID_ALLOCATION = 0x1003,
    MP_HSA_OUT_OF_RESOURCES = 0x1008,
    MP_HSA_AGENT_INFO_DEVICE = 17, /* attribute: the type of an agent */
    MP_HSA_DEVICE_GPU = 1,
};

typedef int hipError_t;
typedef void *hipDeviceptr_t;
typedef struct ihipStream_t *hipStream_t;
typedef struct ihipMemPoolHandle_t *hipMemPool_t;
typedef struct hipArray hipArray;
typedef struct hipMipmappedArray *hipMipmappedArray_t;
typedef struct hipPitchedPtr hipPitchedPtr;
typedef struct hipChannelFormatDesc hipChannelFormatDesc;
struct hipExtent {
    size_t width, height, depth;
};
typedef struct hipExtent hipExtent;
typedef struct {
    char reserved[64];
} hipIpcMemHandle_t;

enum hip_values { MP_HIP_SUCCESS = 0, MP_HIP_OUT_OF_MEMORY = 2 };

#endif
