/*
 * layers.c - all of libmem_sampler_layers.so: the library that OPENCL_LAYERS and the Vulkan
 * manifest name.
 *
 * Loaders look for a layer by names that every layer has. A preloaded library that exported them would
 * come before other layers' own definitions and take their calls to themselves; so this library, which is
 * never preloaded, exports them and calls the sampler in the process, by names of its own. Without a
 * sampler the layer declines, and the loader goes on without it.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define FROM_SAMPLER __attribute__((weak, visibility("default")))

#define CL_SUCCESS 0
#define CL_OUT_OF_RESOURCES (-5)
#define CL_INVALID_VALUE (-30)
#define CL_LAYER_API_VERSION 0x4240u
#define CL_LAYER_NAME 0x4241u
#define CL_LAYER_API_VERSION_100 100u
#define VK_ERROR_INITIALIZATION_FAILED (-3)

typedef const void *const *table;

extern int32_t mem_profiler_opencl_layer(uint32_t entries, table target, uint32_t *entries_ret,
                                         table *layer_ret) FROM_SAMPLER;
extern int32_t mem_profiler_vulkan_layer(void *negotiate) FROM_SAMPLER;

EXPORT int32_t clGetLayerInfo(uint32_t what, size_t size, void *value, size_t *size_ret);
EXPORT int32_t clInitLayer(uint32_t entries, table target, uint32_t *entries_ret, table *layer_ret);
EXPORT int32_t clInitLayerWithProperties(uint32_t entries, table target, uint32_t *entries_ret,
                                         table *layer_ret, const uint64_t *properties);
EXPORT int32_t clDeinitLayer(void);
EXPORT int32_t vkNegotiateLoaderLayerInterfaceVersion(void *negotiate);

int32_t clGetLayerInfo(uint32_t what, size_t size, void *value, size_t *size_ret) {
    static const char name[] = "mem_profiler";
    static const uint32_t version = CL_LAYER_API_VERSION_100;
    const void *answer = what == CL_LAYER_NAME ? (const void *)name : (const void *)&version;
    size_t bytes = what == CL_LAYER_NAME ? sizeof name : sizeof version;
    if ((what != CL_LAYER_NAME && what != CL_LAYER_API_VERSION) || (value != NULL && size < bytes))
        return CL_INVALID_VALUE;
    if (value != NULL)
        memcpy(value, answer, bytes);
    if (size_ret != NULL)
        *size_ret = bytes;
    return CL_SUCCESS;
}

static int32_t init(uint32_t entries, table target, uint32_t *entries_ret, table *layer_ret) {
    if (mem_profiler_opencl_layer == NULL)
        return CL_OUT_OF_RESOURCES;
    return mem_profiler_opencl_layer(entries, target, entries_ret, layer_ret);
}

int32_t clInitLayer(uint32_t entries, table target, uint32_t *entries_ret, table *layer_ret) {
    return init(entries, target, entries_ret, layer_ret);
}

/* What newer loaders ask for. No property changes what we do. */
int32_t clInitLayerWithProperties(uint32_t entries, table target, uint32_t *entries_ret,
                                  table *layer_ret, const uint64_t *properties) {
    (void)properties;
    return init(entries, target, entries_ret, layer_ret);
}

/* The loader is done with us. Threads may be in hooks of the sampler: this removes nothing. */
int32_t clDeinitLayer(void) {
    return CL_SUCCESS;
}

int32_t vkNegotiateLoaderLayerInterfaceVersion(void *negotiate) {
    if (mem_profiler_vulkan_layer == NULL)
        return VK_ERROR_INITIALIZATION_FAILED;
    return mem_profiler_vulkan_layer(negotiate);
}
