/*
 * opencl_layer.c - how an OpenCL loader adds our layer (companion/layers.c calls this), and the hooks of
 * each loader.
 */
#include "drivers/backend.h"
#include "opencl.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define HOOK_LINKAGE static __attribute__((noinline))

/* Hooks that replace an entry of the table. */
#define HOOKED(X)                                                                                  \
    X(clCreateBuffer)                                                                              \
    X(clCreateBufferWithProperties)                                                                \
    X(clCreateImage)                                                                               \
    X(clCreateImageWithProperties)                                                                 \
    X(clCreateImage2D)                                                                             \
    X(clCreateImage3D)                                                                             \
    X(clCreatePipe)                                                                                \
    X(clRetainMemObject)                                                                           \
    X(clReleaseMemObject)                                                                          \
    X(clCreateContext)                                                                             \
    X(clCreateContextFromType)                                                                     \
    X(clReleaseContext)                                                                            \
    X(clSVMAlloc)                                                                                  \
    X(clSVMFree)                                                                                   \
    X(clEnqueueSVMFree)                                                                            \
    X(clGetExtensionFunctionAddress)                                                               \
    X(clGetExtensionFunctionAddressForPlatform)

static struct mp_cl_layer mp_cl_layers[MP_CL_LAYERS];
static uint32_t layers_used;

/* Free a USM pointer; `real` is one of two functions. */
static int32_t mp_cl_usm_free(mp_clMemFreeINTEL_fn real, void *context, void *p) {
    struct mp_device_taken taken;
    mp_device_take(MP_SPACE_OPENCL_POINTER, (uintptr_t)p, &taken);
    int32_t rc = real(context, p);
    if (rc != MP_CL_SUCCESS)
        mp_device_put_back(&taken);
    return rc;
}

#define LAYER 0
#define HOOK(name) name
#include "opencl_hooks.h"
#define LAYER 1
#define HOOK(name) name##_of_loader_1
#include "opencl_hooks.h"
#define LAYER 2
#define HOOK(name) name##_of_loader_2
#include "opencl_hooks.h"
#define LAYER 3
#define HOOK(name) name##_of_loader_3
#include "opencl_hooks.h"
static void (*const installers[MP_CL_LAYERS])(void) = {install, install_of_loader_1,
                                                       install_of_loader_2, install_of_loader_3};

/* Does every function exist that the record of a block needs? */
static bool can_record(const struct mp_cl_layer *layer) {
    static const enum mp_cl_entry needed[] = {MP_CL_clGetPlatformIDs, MP_CL_clGetPlatformInfo,
                                              MP_CL_clGetDeviceIDs,   MP_CL_clGetDeviceInfo,
                                              MP_CL_clGetContextInfo, MP_CL_clGetMemObjectInfo};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (layer->target[needed[i]] == NULL)
            return false;
    return true;
}

/* Are we named twice, and the functions underneath our own? */
static bool is_above_itself(const struct mp_cl_layer *layer) {
    for (unsigned i = 0; i < MP_CL_LAYERS; i++)
        if (&mp_cl_layers[i] != layer && mp_cl_layers[i].table[MP_CL_clCreateBuffer] != NULL &&
            layer->target[MP_CL_clCreateBuffer] == mp_cl_layers[i].table[MP_CL_clCreateBuffer] &&
            layer->target[MP_CL_clCreateBuffer] != mp_cl_layers[i].target[MP_CL_clCreateBuffer])
            return true;
    return false;
}

EXPORT int32_t mem_profiler_opencl_layer(uint32_t entries, const void *const *target,
                                         uint32_t *entries_ret, const void *const **table_ret);

/* After a refusal the loader works without us; functions without a hook pass through. */
EXPORT int32_t mem_profiler_opencl_layer(uint32_t entries, const void *const *target,
                                         uint32_t *entries_ret, const void *const **table_ret) {
    if (target == NULL || entries_ret == NULL || table_ret == NULL || entries > MP_CL_TABLE_MAX)
        return MP_CL_INVALID_VALUE;
    uint32_t number = mp_add_relaxed(&layers_used, 1);
    if (number >= MP_CL_LAYERS)
        return MP_CL_OUT_OF_RESOURCES;
    struct mp_cl_layer *layer = &mp_cl_layers[number];
    memcpy(layer->target, target, entries * sizeof *target);
    memcpy(layer->table, target, entries * sizeof *target);
    layer->by_reference = layer->target[MP_CL_clSetMemObjectDestructorCallback] == NULL;
    if (mp_backend_on(MP_BACKEND_OPENCL) && can_record(layer) && !is_above_itself(layer)) {
        installers[number]();
        mp_device_backend_seen(MP_BACKEND_OPENCL, false, true);
        /* Behind the drivers, which the loader has opened by now: so it runs before their ends. */
        if (number == 0)
            atexit(mp_cl_exit);
    }
    *entries_ret = entries;
    *table_ret = layer->table;
    return MP_CL_SUCCESS;
}
