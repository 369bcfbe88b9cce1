/*
 * opencl_abi.h - the part of OpenCL's binary interface that the layer touches.
 *
 * The layer is built without OpenCL's headers, so that installing the sampler needs none; a test
 * compiles this file against them. Handles (cl_mem, cl_context...) are void *; a dispatch table is
 * an array of function pointers in an order that never changes, newer versions append.
 */
#ifndef MP_OPENCL_ABI_H
#define MP_OPENCL_ABI_H

#include <stddef.h>
#include <stdint.h>

struct mp_cl_image_format {
    uint32_t channel_order;
    uint32_t channel_type;
};

struct mp_cl_image_desc {
    uint32_t type;
    size_t width;
    size_t height;
    size_t depth;
    size_t array_size;
    size_t row_pitch;
    size_t slice_pitch;
    uint32_t mip_levels;
    uint32_t samples;
    void *memory; /* the buffer or image that this image is a view of */
};

typedef void (*mp_cl_object_callback)(void *object, void *user_data);
typedef void (*mp_cl_error_callback)(const char *text, const void *info, size_t n, void *user_data);
typedef void (*mp_cl_free_callback)(void *queue, uint32_t n, void **pointers, void *user_data);

/* X(name, index in the dispatch table, result, parameters) */
#define MP_CL_ENTRIES(X)                                                                           \
    X(clGetPlatformIDs, 0, int32_t, (uint32_t, void **, uint32_t *))                               \
    X(clGetPlatformInfo, 1, int32_t, (void *, uint32_t, size_t, void *, size_t *))                 \
    X(clGetDeviceIDs, 2, int32_t, (void *, uint64_t, uint32_t, void **, uint32_t *))               \
    X(clGetDeviceInfo, 3, int32_t, (void *, uint32_t, size_t, void *, size_t *))                   \
    X(clCreateContext, 4, void *,                                                                  \
      (const intptr_t *, uint32_t, void *const *, mp_cl_error_callback, void *, int32_t *))        \
    X(clCreateContextFromType, 5, void *,                                                          \
      (const intptr_t *, uint64_t, mp_cl_error_callback, void *, int32_t *))                       \
    X(clReleaseContext, 7, int32_t, (void *))                                                      \
    X(clGetContextInfo, 8, int32_t, (void *, uint32_t, size_t, void *, size_t *))                  \
    X(clCreateBuffer, 14, void *, (void *, uint64_t, size_t, void *, int32_t *))                   \
    X(clCreateImage2D, 15, void *,                                                                 \
      (void *, uint64_t, const struct mp_cl_image_format *, size_t, size_t, size_t, void *,        \
       int32_t *))                                                                                 \
    X(clCreateImage3D, 16, void *,                                                                 \
      (void *, uint64_t, const struct mp_cl_image_format *, size_t, size_t, size_t, size_t,        \
       size_t, void *, int32_t *))                                                                 \
    X(clRetainMemObject, 17, int32_t, (void *))                                                    \
    X(clReleaseMemObject, 18, int32_t, (void *))                                                   \
    X(clGetMemObjectInfo, 20, int32_t, (void *, uint32_t, size_t, void *, size_t *))               \
    X(clGetExtensionFunctionAddress, 65, void *, (const char *))                                   \
    X(clSetMemObjectDestructorCallback, 83, int32_t, (void *, mp_cl_object_callback, void *))      \
    X(clCreateImage, 96, void *,                                                                   \
      (void *, uint64_t, const struct mp_cl_image_format *, const struct mp_cl_image_desc *,       \
       void *, int32_t *))                                                                         \
    X(clGetExtensionFunctionAddressForPlatform, 107, void *, (void *, const char *))               \
    X(clCreatePipe, 124, void *,                                                                   \
      (void *, uint64_t, uint32_t, uint32_t, const intptr_t *, int32_t *))                         \
    X(clSVMAlloc, 126, void *, (void *, uint64_t, size_t, uint32_t))                               \
    X(clSVMFree, 127, void, (void *, void *))                                                      \
    X(clEnqueueSVMFree, 128, int32_t,                                                              \
      (void *, uint32_t, void **, mp_cl_free_callback, void *, uint32_t, void *const *, void **))  \
    X(clCreateBufferWithProperties, 146, void *,                                                   \
      (void *, const uint64_t *, uint64_t, size_t, void *, int32_t *))                             \
    X(clCreateImageWithProperties, 147, void *,                                                    \
      (void *, const uint64_t *, uint64_t, const struct mp_cl_image_format *,                      \
       const struct mp_cl_image_desc *, void *, int32_t *))                                        \
    X(clSetContextDestructorCallback, 148, int32_t, (void *, mp_cl_object_callback, void *))

/* X(name, number, result, parameters): found by name through clGetExtensionFunctionAddress*
 * only. */
#define MP_CL_EXTENSIONS(X)                                                                        \
    X(clHostMemAllocINTEL, 0, void *, (void *, const uint64_t *, size_t, uint32_t, int32_t *))     \
    X(clDeviceMemAllocINTEL, 1, void *,                                                            \
      (void *, void *, const uint64_t *, size_t, uint32_t, int32_t *))                             \
    X(clSharedMemAllocINTEL, 2, void *,                                                            \
      (void *, void *, const uint64_t *, size_t, uint32_t, int32_t *))                             \
    X(clMemFreeINTEL, 3, int32_t, (void *, void *))                                                \
    X(clMemBlockingFreeINTEL, 4, int32_t, (void *, void *))

#define MP_CL_DECLARE(name, index, result, parameters) MP_CL_##name = index,
enum mp_cl_entry { MP_CL_ENTRIES(MP_CL_DECLARE) };
enum mp_cl_extension { MP_CL_EXTENSIONS(MP_CL_DECLARE) MP_CL_EXTENSION_COUNT };
#undef MP_CL_DECLARE

#define MP_CL_DECLARE(name, index, result, parameters) typedef result(*mp_##name##_fn) parameters;
MP_CL_ENTRIES(MP_CL_DECLARE)
MP_CL_EXTENSIONS(MP_CL_DECLARE)
#undef MP_CL_DECLARE

enum {
    MP_CL_SUCCESS = 0,
    MP_CL_MEM_OBJECT_ALLOCATION_FAILURE = -4,
    MP_CL_OUT_OF_RESOURCES = -5,
    MP_CL_OUT_OF_HOST_MEMORY = -6,
    MP_CL_INVALID_VALUE = -30,
    MP_CL_INVALID_IMAGE_SIZE = -40,
    MP_CL_INVALID_BUFFER_SIZE = -61,
};

enum {
    MP_CL_PLATFORM_VERSION = 0x0901,
    MP_CL_DEVICE_PLATFORM = 0x1031,
    MP_CL_DEVICE_PARENT_DEVICE = 0x1042,
    MP_CL_CONTEXT_REFERENCE_COUNT = 0x1080,
    MP_CL_CONTEXT_DEVICES = 0x1081,
    MP_CL_MEM_SIZE = 0x1102,
    MP_CL_MEM_REFERENCE_COUNT = 0x1105,
};

#define MP_CL_DEVICE_TYPE_ALL 0xffffffffULL
#define MP_CL_MEM_USE_HOST_PTR (1ULL << 3)
#define MP_CL_MEM_ALLOC_HOST_PTR (1ULL << 4)

/* Properties that make a memory object of existing memory: handles of files and buffers. */
#define MP_CL_EXTERNAL_MEMORY_FIRST 0x2060
#define MP_CL_EXTERNAL_MEMORY_LAST 0x2070

enum {
    MP_CL_IMAGE_2D = 0x10f1,
    MP_CL_IMAGE_3D = 0x10f2,
    MP_CL_IMAGE_2D_ARRAY = 0x10f3,
    MP_CL_IMAGE_1D = 0x10f4,
    MP_CL_IMAGE_1D_ARRAY = 0x10f5,
};

/* Channel orders from 0x10b0 and channel types from 0x10d0, each in a row without gaps. */
#define MP_CL_CHANNEL_ORDER_FIRST 0x10b0
#define MP_CL_CHANNEL_TYPE_FIRST 0x10d0

#endif
