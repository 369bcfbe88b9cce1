/*
 * opencl.h - the OpenCL layer: what its files share.
 *
 * Model: an OpenCL loader that finds libmem_sampler_layers.so in OPENCL_LAYERS hands us its table of
 * functions, and sends the program's calls through the one we return (opencl_layer.c). A process may hold
 * several loaders, a Python wheel brings its own; each gets a table and a copy of the hooks
 * (opencl_hooks.h). A hook calls the function underneath and reports the result here.
 *
 * A memory object ends when the driver says so (destructor callback), not at its release: kernels and
 * queues hold references of their own. The call frees SVM and USM pointers.
 *
 * Threads: everything but the entry points of the layer runs in the program's calls and in callbacks on
 * the driver's threads: no lock, no allocation of ours. The record of a block makes driver queries. A
 * compare-and-swap claims a context's row and a platform's, and a release store of their first word
 * publishes them; it pairs with the acquire load of the look-up.
 */
#ifndef MP_OPENCL_H
#define MP_OPENCL_H

#include "device/device.h"
#include "opencl_abi.h"

#define MP_CL_LAYERS 4 /* loaders in one process */
#define MP_CL_TABLE_MAX 512 /* entries of a dispatch table; 149 in OpenCL 3.0 */
#define MP_CL_PLATFORMS 8 /* platforms whose extension functions are hooked */

struct mp_cl_platform_extensions {
    void *platform; /* NULL: asked for without naming one */
    uint32_t claimed;
    void *real[MP_CL_EXTENSION_COUNT];
};

/* One loader. Constant once its table is handed out, except for the last two. */
struct mp_cl_layer {
    const void *target[MP_CL_TABLE_MAX];
    const void *table[MP_CL_TABLE_MAX];
    bool by_reference; /* a driver takes no destructor callback: count retains and releases */
    struct mp_cl_platform_extensions extensions[MP_CL_PLATFORMS];
};

#define MP_CL_REAL(layer, name) ((mp_##name##_fn)(layer)->target[MP_CL_##name])

/* A hook's call: its layer, the first byte of the function that names it, and its caller. */
struct mp_cl_call {
    struct mp_cl_layer *layer;
    uintptr_t api_pc;
    struct mp_frame caller;
};

/* The result of the creation of a memory object. */
struct mp_cl_made {
    void *context;
    void *memory; /* NULL: refused, with `error` */
    uint64_t flags;
    uint64_t asked_bytes;
    int32_t error;
    bool alias; /* shows memory that something else allocated */
};

/* Record it, and store the error where the program wants it (NULL: nowhere). */
void mp_cl_memory_made(const struct mp_cl_call *call, const struct mp_cl_made *made,
                       int32_t *errcode);

/* Around clRetainMemObject and clReleaseMemObject. */
int32_t mp_cl_memory_retain(struct mp_cl_layer *layer, void *memory);
int32_t mp_cl_memory_release(struct mp_cl_layer *layer, void *memory);

/* A new pointer of a context, or a refusal when it is NULL. `device` NULL: the context's. */
struct mp_cl_pointer {
    void *context;
    void *device;
    enum mp_memory_kind kind;
    void *address;
    uint64_t asked_bytes;
};

void mp_cl_pointer_made(const struct mp_cl_call *call, const struct mp_cl_pointer *pointer);

int32_t mp_cl_enqueue_svm_free(struct mp_cl_layer *layer, void *queue, uint32_t n, void **pointers,
                               mp_cl_free_callback callback, void *user_data, uint32_t events,
                               void *const *wait_for, void **event);

/* Bytes of an image without padding; UINT64_MAX when they pass 64 bits. */
uint64_t mp_cl_image_bytes(const struct mp_cl_image_format *format,
                           const struct mp_cl_image_desc *desc);

/* Do these properties (pairs, ended by 0; or NULL) import memory? */
bool mp_cl_imports(const uint64_t *properties);

/* The process ends: from now on only the program's own calls free anything. */
void mp_cl_exit(void);
bool mp_cl_exiting(void);

/* Where a context's memory lies. */
struct mp_cl_place {
    void *platform; /* NULL: unknown */
    int device; /* number of its only device, as `clinfo -l` counts them; -1: several */
};

/* Find out; keeps the answers of contexts made through us until their end. */
struct mp_cl_place mp_cl_place_of(const struct mp_cl_layer *layer, void *context);

/* The number of a device, or of the device it is a part of; -1: not found. */
int mp_cl_device_number(const struct mp_cl_layer *layer, void *device);

/* A context was made. */
void mp_cl_context_made(struct mp_cl_layer *layer, void *context);

/* Around clReleaseContext: the context's end drops its blocks. */
int32_t mp_cl_context_release(struct mp_cl_layer *layer, void *context);

/* `real` was looked up by `name`: our hook for it, or `real` when we have none. */
void *mp_cl_extension_hook(struct mp_cl_layer *layer, void *platform, const char *name, void *real,
                           void *const hooks[MP_CL_EXTENSION_COUNT]);

/* The function behind our hook for a context's platform. */
void *mp_cl_extension_real(const struct mp_cl_layer *layer, enum mp_cl_extension extension,
                           void *context);

#endif
