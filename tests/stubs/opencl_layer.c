/*
 * opencl_layer.c - an OpenCL layer for tests, to stand between the sampler's layer and a real
 * driver. It gives the driver what it lacks, and lets it fail on demand:
 *
 *   pointers of cl_intel_unified_shared_memory, made of malloc
 *   STUB_FAIL                    calls that fail never reach the driver (ledger.h)
 *   STUB_RELEASE_AT_EXIT=1       frees what is left when the process ends, as some drivers do
 *   STUB_NO_CALLBACKS=1          takes no destructor callbacks, as a driver that is out of memory
 */
#include "ledger.h"

#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
#include <CL/cl_ext.h>
#include <CL/cl_layer.h>

#include <malloc.h>

#define POINTERS 64
#define LARGEST ((size_t)1 << 30)

static struct _cl_icd_dispatch table;
static const struct _cl_icd_dispatch *below;
static void *pointers[POINTERS];
static cl_mem left[POINTERS];

static void release_left(void) {
    for (unsigned i = 0; i < POINTERS; i++)
        if (left[i] != NULL)
            below->clReleaseMemObject(left[i]);
}

static cl_mem remember(cl_mem memory) {
    for (unsigned i = 0; i < POINTERS && getenv("STUB_RELEASE_AT_EXIT") != NULL; i++)
        if (left[i] == NULL) {
            left[i] = memory;
            break;
        }
    return memory;
}

static cl_mem CL_API_CALL create_buffer(cl_context context, cl_mem_flags flags, size_t size,
                                        void *host, cl_int *error) {
    if (!STUB_FAILS("clCreateBuffer"))
        return remember(below->clCreateBuffer(context, flags, size, host, error));
    if (error != NULL)
        *error = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return NULL;
}

static cl_int CL_API_CALL release_memory(cl_mem memory) {
    if (STUB_FAILS("clReleaseMemObject"))
        return CL_OUT_OF_RESOURCES;
    for (unsigned i = 0; i < POINTERS; i++)
        if (left[i] == memory)
            left[i] = NULL;
    return below->clReleaseMemObject(memory);
}

static cl_int CL_API_CALL watch_memory(cl_mem memory, void(CL_CALLBACK *notify)(cl_mem, void *),
                                       void *user_data) {
    return getenv("STUB_NO_CALLBACKS") != NULL
               ? CL_OUT_OF_HOST_MEMORY
               : below->clSetMemObjectDestructorCallback(memory, notify, user_data);
}

static cl_int CL_API_CALL watch_context(cl_context context,
                                        void(CL_CALLBACK *notify)(cl_context, void *),
                                        void *user_data) {
    return getenv("STUB_NO_CALLBACKS") != NULL
               ? CL_OUT_OF_HOST_MEMORY
               : below->clSetContextDestructorCallback(context, notify, user_data);
}

/* --- cl_intel_unified_shared_memory --------------------------------------------------------- */

static void *usm_alloc(size_t size, cl_int *error) {
    for (unsigned i = 0; i < POINTERS && size <= LARGEST; i++)
        if (pointers[i] == NULL) {
            if (error != NULL)
                *error = CL_SUCCESS;
            return pointers[i] = malloc(size);
        }
    if (error != NULL)
        *error = CL_OUT_OF_RESOURCES;
    return NULL;
}

static void *CL_API_CALL host_alloc(cl_context context, const cl_mem_properties_intel *properties,
                                    size_t size, cl_uint alignment, cl_int *error) {
    return usm_alloc(size, error);
}

static void *CL_API_CALL device_alloc(cl_context context, cl_device_id device,
                                      const cl_mem_properties_intel *properties, size_t size,
                                      cl_uint alignment, cl_int *error) {
    return usm_alloc(size, error);
}

static cl_int CL_API_CALL usm_free(cl_context context, void *p) {
    for (unsigned i = 0; p != NULL && i < POINTERS; i++)
        if (pointers[i] == p) {
            pointers[i] = NULL;
            free(p);
            return CL_SUCCESS;
        }
    return p == NULL ? CL_SUCCESS : CL_INVALID_VALUE;
}

static void *CL_API_CALL extension(cl_platform_id platform, const char *name) {
    static const struct {
        const char *name;
        void *function;
    } own[] = {{"clHostMemAllocINTEL", (void *)host_alloc},
               {"clDeviceMemAllocINTEL", (void *)device_alloc},
               {"clSharedMemAllocINTEL", (void *)device_alloc},
               {"clMemFreeINTEL", (void *)usm_free},
               {"clMemBlockingFreeINTEL", (void *)usm_free}};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcmp(own[i].name, name) == 0)
            return own[i].function;
    return below->clGetExtensionFunctionAddressForPlatform(platform, name);
}

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info what, size_t size, void *value,
                                               size_t *size_ret) {
    if (what != CL_LAYER_API_VERSION || size < sizeof(cl_layer_api_version))
        return CL_INVALID_VALUE;
    *(cl_layer_api_version *)value = CL_LAYER_API_VERSION_100;
    if (size_ret != NULL)
        *size_ret = sizeof(cl_layer_api_version);
    return CL_SUCCESS;
}

CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *target,
                                            cl_uint *entries_ret, const cl_icd_dispatch **ret) {
    if (entries < sizeof table / sizeof(void *))
        return CL_INVALID_VALUE;
    below = target;
    table = *target;
    table.clCreateBuffer = create_buffer;
    table.clReleaseMemObject = release_memory;
    table.clSetMemObjectDestructorCallback = watch_memory;
    table.clSetContextDestructorCallback = watch_context;
    table.clGetExtensionFunctionAddressForPlatform = extension;
    if (getenv("STUB_RELEASE_AT_EXIT") != NULL)
        atexit(release_left);
    *entries_ret = sizeof table / sizeof(void *);
    *ret = &table;
    return CL_SUCCESS;
}

/* Loaders of later days ask for these two. */
cl_int CL_API_CALL clInitLayerWithProperties(cl_uint entries, const cl_icd_dispatch *target,
                                             cl_uint *entries_ret, const cl_icd_dispatch **ret,
                                             const cl_ulong *properties) {
    return clInitLayer(entries, target, entries_ret, ret);
}

cl_int CL_API_CALL clDeinitLayer(void) {
    return CL_SUCCESS;
}
