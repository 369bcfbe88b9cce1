/*
 * opencl_memory.c - memory objects and pointers of OpenCL, from a hook into the segment.
 */
#include "core/local.h"
#include "drivers/backend.h"
#include "opencl.h"

#include <errno.h>

#define TAKEN_AT_ONCE 32 /* pointers of one clEnqueueSVMFree that we can restore */

/* HOOK, on a thread of the driver: the last reference is gone, the driver is about to free the memory. */
static void destroyed(void *memory, void *user_data) {
    (void)user_data;
    struct mp_device_taken taken;
    if (mp_cl_exiting())
        return;
    mp_device_take(MP_SPACE_OPENCL_OBJECT, (uintptr_t)memory, &taken);
}

/* Refusals that mean that memory is short; the others are mistakes of the caller. */
static bool is_shortage(int32_t error) {
    return error == MP_CL_MEM_OBJECT_ALLOCATION_FAILURE || error == MP_CL_OUT_OF_RESOURCES ||
           error == MP_CL_OUT_OF_HOST_MEMORY || error == MP_CL_INVALID_BUFFER_SIZE ||
           error == MP_CL_INVALID_IMAGE_SIZE;
}

static struct mp_device_block describe(const struct mp_cl_call *call, void *context,
                                       uint32_t space) {
    return (struct mp_device_block){.space = space,
                                    .container = (uintptr_t)context,
                                    .api_pc = call->api_pc,
                                    .caller = call->caller};
}

/* The place of memory with these flags: page-locked host memory belongs to no device. */
static uint32_t domain_of(const struct mp_cl_layer *layer, void *context, uint64_t flags) {
    if (flags & MP_CL_MEM_ALLOC_HOST_PTR)
        return mp_domain_intern("opencl", -1, MP_MEMORY_PINNED);
    return mp_domain_intern("opencl", mp_cl_place_of(layer, context).device, MP_MEMORY_DEVICE);
}

static uint64_t taken_bytes(const struct mp_cl_layer *layer, void *memory) {
    size_t bytes = 0;
    if (MP_CL_REAL(layer, clGetMemObjectInfo)(memory, MP_CL_MEM_SIZE, sizeof bytes, &bytes, NULL) !=
        MP_CL_SUCCESS)
        return 0;
    return bytes;
}

static void watch_end(struct mp_cl_layer *layer, void *memory) {
    if (mp_load_relaxed(&layer->by_reference))
        return;
    if (MP_CL_REAL(layer, clSetMemObjectDestructorCallback)(memory, destroyed, NULL) !=
        MP_CL_SUCCESS)
        mp_store_relaxed(&layer->by_reference, true);
}

void mp_cl_memory_made(const struct mp_cl_call *call, const struct mp_cl_made *made,
                       int32_t *errcode) {
    if (errcode != NULL)
        *errcode = made->error;
    mp_device_backend_call(MP_BACKEND_OPENCL);
    bool shortage = made->memory == NULL && made->asked_bytes != 0 && is_shortage(made->error);
    bool ours = made->memory != NULL && !made->alias && !(made->flags & MP_CL_MEM_USE_HOST_PTR);
    if ((!shortage && !ours) || mp_gate() == MP_GATE_OFF)
        return;
    int saved_errno = errno;
    struct mp_device_block block = describe(call, made->context, MP_SPACE_OPENCL_OBJECT);
    block.domain = domain_of(call->layer, made->context, made->flags);
    block.address = (uintptr_t)made->memory;
    block.asked_bytes = made->asked_bytes;
    if (shortage) {
        mp_device_fail(&block);
    } else {
        block.taken_bytes = taken_bytes(call->layer, made->memory);
        watch_end(call->layer, made->memory);
        mp_device_alloc(&block);
    }
    errno = saved_errno;
}

int32_t mp_cl_memory_retain(struct mp_cl_layer *layer, void *memory) {
    int32_t rc = MP_CL_REAL(layer, clRetainMemObject)(memory);
    if (rc == MP_CL_SUCCESS && mp_load_relaxed(&layer->by_reference))
        mp_device_retain(MP_SPACE_OPENCL_OBJECT, (uintptr_t)memory);
    return rc;
}

/* While the process ends: does this release, the program's own, give up the last reference? */
static bool is_last(const struct mp_cl_layer *layer, void *memory) {
    uint32_t references = 0;
    return mp_cl_exiting() &&
           MP_CL_REAL(layer, clGetMemObjectInfo)(memory, MP_CL_MEM_REFERENCE_COUNT,
                                                 sizeof references, &references,
                                                 NULL) == MP_CL_SUCCESS &&
           references == 1;
}

int32_t mp_cl_memory_release(struct mp_cl_layer *layer, void *memory) {
    if (!mp_load_relaxed(&layer->by_reference) && !is_last(layer, memory))
        return MP_CL_REAL(layer, clReleaseMemObject)(memory);
    struct mp_device_taken taken;
    mp_device_take(MP_SPACE_OPENCL_OBJECT, (uintptr_t)memory, &taken);
    int32_t rc = MP_CL_REAL(layer, clReleaseMemObject)(memory);
    if (rc != MP_CL_SUCCESS)
        mp_device_put_back(&taken);
    return rc;
}

void mp_cl_pointer_made(const struct mp_cl_call *call, const struct mp_cl_pointer *pointer) {
    mp_device_backend_call(MP_BACKEND_OPENCL);
    if (mp_gate() == MP_GATE_OFF)
        return;
    int saved_errno = errno;
    struct mp_device_block block = describe(call, pointer->context, MP_SPACE_OPENCL_POINTER);
    int device = -1;
    if (pointer->device != NULL)
        device = mp_cl_device_number(call->layer, pointer->device);
    else if (pointer->kind != MP_MEMORY_PINNED)
        device = mp_cl_place_of(call->layer, pointer->context).device;
    block.domain = mp_domain_intern("opencl", device, pointer->kind);
    block.address = (uintptr_t)pointer->address;
    block.asked_bytes = pointer->asked_bytes;
    if (pointer->address != NULL)
        mp_device_alloc(&block);
    else if (pointer->asked_bytes != 0)
        mp_device_fail(&block);
    errno = saved_errno;
}

int32_t mp_cl_enqueue_svm_free(struct mp_cl_layer *layer, void *queue, uint32_t n, void **pointers,
                               mp_cl_free_callback callback, void *user_data, uint32_t events,
                               void *const *wait_for, void **event) {
    mp_clEnqueueSVMFree_fn real = MP_CL_REAL(layer, clEnqueueSVMFree);
    /* With a callback it is the callback that frees, by clSVMFree or in a way of its own. */
    if (callback != NULL || pointers == NULL)
        return real(queue, n, pointers, callback, user_data, events, wait_for, event);
    struct mp_device_taken taken[TAKEN_AT_ONCE], more;
    for (uint32_t i = 0; i < n; i++)
        mp_device_take(MP_SPACE_OPENCL_POINTER, (uintptr_t)pointers[i],
                       i < TAKEN_AT_ONCE ? &taken[i] : &more);
    int32_t rc = real(queue, n, pointers, callback, user_data, events, wait_for, event);
    for (uint32_t i = 0; rc != MP_CL_SUCCESS && i < n && i < TAKEN_AT_ONCE; i++)
        mp_device_put_back(&taken[i]);
    return rc;
}

bool mp_cl_imports(const uint64_t *properties) {
    for (; properties != NULL && properties[0] != 0; properties += 2)
        if (properties[0] >= MP_CL_EXTERNAL_MEMORY_FIRST &&
            properties[0] <= MP_CL_EXTERNAL_MEMORY_LAST)
            return true;
    return false;
}

/* Bytes of one element. Unknown formats count as one byte: the driver gives the true size anyway. */
static uint64_t element_bytes(const struct mp_cl_image_format *format) {
    static const uint8_t channels[] = {1, 1, 2, 2, 3, 4, 4, 4, 1, 1, 1, 2, 3, 1, 1, 3, 4, 4, 4, 4};
    static const uint8_t bytes[] = {1, 2, 1, 2, 0, 0, 0, 1, 2, 4, 1, 2, 4, 2, 4, 0, 0};
    static const uint8_t packed[] = {0, 0, 0, 0, 2, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4};
    uint32_t order = format->channel_order - MP_CL_CHANNEL_ORDER_FIRST;
    uint32_t type = format->channel_type - MP_CL_CHANNEL_TYPE_FIRST;
    if (order >= sizeof channels || type >= sizeof bytes)
        return 1;
    return packed[type] != 0 ? packed[type] : (uint64_t)channels[order] * bytes[type];
}

uint64_t mp_cl_image_bytes(const struct mp_cl_image_format *format,
                           const struct mp_cl_image_desc *desc) {
    if (format == NULL || desc == NULL)
        return 0;
    bool is_flat = desc->type == MP_CL_IMAGE_2D || desc->type == MP_CL_IMAGE_2D_ARRAY;
    bool is_array = desc->type == MP_CL_IMAGE_2D_ARRAY || desc->type == MP_CL_IMAGE_1D_ARRAY;
    bool is_solid = desc->type == MP_CL_IMAGE_3D;
    return mp_product(element_bytes(format), desc->width, is_flat || is_solid ? desc->height : 1,
                      is_solid   ? desc->depth
                      : is_array ? desc->array_size
                                 : 1);
}
