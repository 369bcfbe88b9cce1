/*
 * opencl_hooks.h - the hooks of one OpenCL loader. opencl_layer.c includes this file once per
 * loader, with LAYER its number and HOOK(name) the name of the function: the plain one for the
 * first loader, whose functions name the API in every stack.
 *
 * No include guard: it is meant to be read more than once.
 */

/* Who is calling, and whom. First in a hook, which is noinline for MP_CALLER. */
#define BEGIN(name)                                                                                \
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];                                              \
    struct mp_cl_call call = {.layer = layer, .api_pc = (uintptr_t)name};                          \
    MP_CALLER(call.caller)

/* Tell of a new memory object and hand its error on. */
#define MADE(...) mp_cl_memory_made(&call, &(struct mp_cl_made){__VA_ARGS__}, errcode)

HOOK_LINKAGE void *HOOK(clCreateBuffer)(void *context, uint64_t flags, size_t size, void *host,
                                        int32_t *errcode) {
    BEGIN(clCreateBuffer);
    int32_t error = MP_CL_SUCCESS;
    void *memory = MP_CL_REAL(layer, clCreateBuffer)(context, flags, size, host, &error);
    MADE(context, memory, flags, size, error, false);
    return memory;
}

HOOK_LINKAGE void *HOOK(clCreateBufferWithProperties)(void *context, const uint64_t *properties,
                                                      uint64_t flags, size_t size, void *host,
                                                      int32_t *errcode) {
    BEGIN(clCreateBufferWithProperties);
    int32_t error = MP_CL_SUCCESS;
    void *memory = MP_CL_REAL(layer, clCreateBufferWithProperties)(context, properties, flags, size,
                                                                   host, &error);
    MADE(context, memory, flags, size, error, mp_cl_imports(properties));
    return memory;
}

HOOK_LINKAGE void *HOOK(clCreateImage)(void *context, uint64_t flags,
                                       const struct mp_cl_image_format *format,
                                       const struct mp_cl_image_desc *desc, void *host,
                                       int32_t *errcode) {
    BEGIN(clCreateImage);
    int32_t error = MP_CL_SUCCESS;
    void *memory = MP_CL_REAL(layer, clCreateImage)(context, flags, format, desc, host, &error);
    MADE(context, memory, flags, mp_cl_image_bytes(format, desc), error,
         desc != NULL && desc->memory != NULL);
    return memory;
}

HOOK_LINKAGE void *HOOK(clCreateImageWithProperties)(void *context, const uint64_t *properties,
                                                     uint64_t flags,
                                                     const struct mp_cl_image_format *format,
                                                     const struct mp_cl_image_desc *desc,
                                                     void *host, int32_t *errcode) {
    BEGIN(clCreateImageWithProperties);
    int32_t error = MP_CL_SUCCESS;
    void *memory = MP_CL_REAL(layer, clCreateImageWithProperties)(context, properties, flags,
                                                                  format, desc, host, &error);
    MADE(context, memory, flags, mp_cl_image_bytes(format, desc), error,
         (desc != NULL && desc->memory != NULL) || mp_cl_imports(properties));
    return memory;
}

HOOK_LINKAGE void *HOOK(clCreateImage2D)(void *context, uint64_t flags,
                                         const struct mp_cl_image_format *format, size_t width,
                                         size_t height, size_t row_pitch, void *host,
                                         int32_t *errcode) {
    BEGIN(clCreateImage2D);
    int32_t error = MP_CL_SUCCESS;
    struct mp_cl_image_desc desc = {.type = MP_CL_IMAGE_2D, .width = width, .height = height};
    void *memory = MP_CL_REAL(layer, clCreateImage2D)(context, flags, format, width, height,
                                                      row_pitch, host, &error);
    MADE(context, memory, flags, mp_cl_image_bytes(format, &desc), error, false);
    return memory;
}

HOOK_LINKAGE void *HOOK(clCreateImage3D)(void *context, uint64_t flags,
                                         const struct mp_cl_image_format *format, size_t width,
                                         size_t height, size_t depth, size_t row_pitch,
                                         size_t slice_pitch, void *host, int32_t *errcode) {
    BEGIN(clCreateImage3D);
    int32_t error = MP_CL_SUCCESS;
    struct mp_cl_image_desc desc = {
        .type = MP_CL_IMAGE_3D, .width = width, .height = height, .depth = depth};
    void *memory = MP_CL_REAL(layer, clCreateImage3D)(context, flags, format, width, height, depth,
                                                      row_pitch, slice_pitch, host, &error);
    MADE(context, memory, flags, mp_cl_image_bytes(format, &desc), error, false);
    return memory;
}

HOOK_LINKAGE void *HOOK(clCreatePipe)(void *context, uint64_t flags, uint32_t packet_bytes,
                                      uint32_t packets, const intptr_t *properties,
                                      int32_t *errcode) {
    BEGIN(clCreatePipe);
    int32_t error = MP_CL_SUCCESS;
    void *memory =
        MP_CL_REAL(layer, clCreatePipe)(context, flags, packet_bytes, packets, properties, &error);
    MADE(context, memory, flags, (uint64_t)packet_bytes * packets, error, false);
    return memory;
}

HOOK_LINKAGE int32_t HOOK(clRetainMemObject)(void *memory) {
    return mp_cl_memory_retain(&mp_cl_layers[LAYER], memory);
}

HOOK_LINKAGE int32_t HOOK(clReleaseMemObject)(void *memory) {
    return mp_cl_memory_release(&mp_cl_layers[LAYER], memory);
}

HOOK_LINKAGE void *HOOK(clCreateContext)(const intptr_t *properties, uint32_t n,
                                         void *const *devices, mp_cl_error_callback callback,
                                         void *user_data, int32_t *errcode) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
    void *context =
        MP_CL_REAL(layer, clCreateContext)(properties, n, devices, callback, user_data, errcode);
    mp_cl_context_made(layer, context);
    return context;
}

HOOK_LINKAGE void *HOOK(clCreateContextFromType)(const intptr_t *properties, uint64_t type,
                                                 mp_cl_error_callback callback, void *user_data,
                                                 int32_t *errcode) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
    void *context =
        MP_CL_REAL(layer, clCreateContextFromType)(properties, type, callback, user_data, errcode);
    mp_cl_context_made(layer, context);
    return context;
}

HOOK_LINKAGE int32_t HOOK(clReleaseContext)(void *context) {
    return mp_cl_context_release(&mp_cl_layers[LAYER], context);
}

HOOK_LINKAGE void *HOOK(clSVMAlloc)(void *context, uint64_t flags, size_t size,
                                    uint32_t alignment) {
    BEGIN(clSVMAlloc);
    void *p = MP_CL_REAL(layer, clSVMAlloc)(context, flags, size, alignment);
    mp_cl_pointer_made(&call, &(struct mp_cl_pointer){context, NULL, MP_MEMORY_MANAGED, p, size});
    return p;
}

HOOK_LINKAGE void HOOK(clSVMFree)(void *context, void *p) {
    struct mp_device_taken taken;
    mp_device_take(MP_SPACE_OPENCL_POINTER, (uintptr_t)p, &taken);
    MP_CL_REAL(&mp_cl_layers[LAYER], clSVMFree)(context, p);
}

HOOK_LINKAGE int32_t HOOK(clEnqueueSVMFree)(void *queue, uint32_t n, void **pointers,
                                            mp_cl_free_callback callback, void *user_data,
                                            uint32_t events, void *const *wait_for, void **event) {
    return mp_cl_enqueue_svm_free(&mp_cl_layers[LAYER], queue, n, pointers, callback, user_data,
                                  events, wait_for, event);
}

/* --- found by name only --------------------------------------------------------------------- */

#define EXTENSION_REAL(name) ((mp_##name##_fn)mp_cl_extension_real(layer, MP_CL_##name, context))

HOOK_LINKAGE void *HOOK(clHostMemAllocINTEL)(void *context, const uint64_t *properties, size_t size,
                                             uint32_t alignment, int32_t *errcode) {
    BEGIN(clHostMemAllocINTEL);
    void *p = EXTENSION_REAL(clHostMemAllocINTEL)(context, properties, size, alignment, errcode);
    mp_cl_pointer_made(&call, &(struct mp_cl_pointer){context, NULL, MP_MEMORY_PINNED, p, size});
    return p;
}

HOOK_LINKAGE void *HOOK(clDeviceMemAllocINTEL)(void *context, void *device,
                                               const uint64_t *properties, size_t size,
                                               uint32_t alignment, int32_t *errcode) {
    BEGIN(clDeviceMemAllocINTEL);
    void *p = EXTENSION_REAL(clDeviceMemAllocINTEL)(context, device, properties, size, alignment,
                                                    errcode);
    mp_cl_pointer_made(&call, &(struct mp_cl_pointer){context, device, MP_MEMORY_DEVICE, p, size});
    return p;
}

HOOK_LINKAGE void *HOOK(clSharedMemAllocINTEL)(void *context, void *device,
                                               const uint64_t *properties, size_t size,
                                               uint32_t alignment, int32_t *errcode) {
    BEGIN(clSharedMemAllocINTEL);
    void *p = EXTENSION_REAL(clSharedMemAllocINTEL)(context, device, properties, size, alignment,
                                                    errcode);
    mp_cl_pointer_made(&call, &(struct mp_cl_pointer){context, device, MP_MEMORY_MANAGED, p, size});
    return p;
}

HOOK_LINKAGE int32_t HOOK(clMemFreeINTEL)(void *context, void *p) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
    return mp_cl_usm_free(EXTENSION_REAL(clMemFreeINTEL), context, p);
}

HOOK_LINKAGE int32_t HOOK(clMemBlockingFreeINTEL)(void *context, void *p) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
    return mp_cl_usm_free(EXTENSION_REAL(clMemBlockingFreeINTEL), context, p);
}

static void *const HOOK(extension_hooks)[MP_CL_EXTENSION_COUNT] = {
#define ROW(name, number, result, parameters) [number] = (void *)HOOK(name),
    MP_CL_EXTENSIONS(ROW)
#undef ROW
};

HOOK_LINKAGE void *HOOK(clGetExtensionFunctionAddress)(const char *name) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
    void *real = MP_CL_REAL(layer, clGetExtensionFunctionAddress)(name);
    return mp_cl_extension_hook(layer, NULL, name, real, HOOK(extension_hooks));
}

HOOK_LINKAGE void *HOOK(clGetExtensionFunctionAddressForPlatform)(void *platform,
                                                                  const char *name) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
    void *real = MP_CL_REAL(layer, clGetExtensionFunctionAddressForPlatform)(platform, name);
    return mp_cl_extension_hook(layer, platform, name, real, HOOK(extension_hooks));
}

/* Put the hooks into the layer's table where the loader has a function. */
static void HOOK(install)(void) {
    struct mp_cl_layer *layer = &mp_cl_layers[LAYER];
#define SET(name)                                                                                  \
    if (layer->target[MP_CL_##name] != NULL)                                                       \
        layer->table[MP_CL_##name] = (const void *)HOOK(name);
    HOOKED(SET)
#undef SET
}

#undef LAYER
#undef HOOK
#undef BEGIN
#undef MADE
#undef EXTENSION_REAL
