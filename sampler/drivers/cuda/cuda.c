/*
 * cuda.c - wrappers of the CUDA driver, libcuda.so.1, and of a shared runtime, which gives names, and counts
 * where the driver's wrappers see nothing.
 *
 * Programs hardly ever call the driver through slots: the runtime, static or shared, opens it and asks
 * cuGetProcAddress for every function. It finds that one by dlsym, whose answer we replace, and we
 * replace its own answers in turn.
 *
 * A block belongs to the current context, and ends with it. We record a stream's free at the call, not
 * when the stream reaches it. A call that becomes a node of a graph moves no memory and does not count.
 */
#include "cuda_abi.h"
#include "cuda_rows.h"
#include "drivers/wrap.h"

#include <stdio.h>
#include <string.h>

#define DEVICES_MAX 32
#define NAME_MAX_BYTES 64
#define ASKED_VERSION 10000 /* of CUDA, in which the functions of ASKED have these signatures */

#define MP_ROW_BACKEND MP_BACKEND_CUDA
#define MP_ROW_FAMILY MP_FAMILY_CUDA
#define MP_ROW_TAIL(scope, row) ask_totals(scope, row, ok)
#define MP_ROW_DEVICE current_device

/* clang-format off */
#define ASKED(ROW) \
    ROW(CUresult, cuCtxGetCurrent, (CUcontext *)) \
    ROW(CUresult, cuCtxGetDevice, (CUdevice *)) \
    ROW(CUresult, cuStreamIsCapturing, (CUstream, int *)) \
    ROW(CUresult, cuDevicePrimaryCtxGetState, (CUdevice, unsigned *, int *)) \
    ROW(CUresult, cuMemGetInfo_v2, (size_t *, size_t *))
/* clang-format on */
ASKED(MP_ASKED_ROW)

extern const struct mp_device_library mp_library_cuda;

/* The real function of a row above; the driver's own look-up finds what is not exported. 0: nothing. */
static uintptr_t asked(struct mp_device_row *row);
#define MP_ASKED(name) ((mp_fn_##name *)asked(&mp_row_##name))

/* Of each device the primary context that the program got, and that of the latest block; NULL: not seen. */
static CUcontext primary[DEVICES_MAX], latest[DEVICES_MAX];

static bool is_device(CUdevice device) {
    return device >= 0 && device < DEVICES_MAX;
}

static CUcontext current_context(void) {
    mp_fn_cuCtxGetCurrent *ask = MP_ASKED(cuCtxGetCurrent);
    CUcontext context = NULL;
    return ask != NULL && ask(&context) == MP_CUDA_SUCCESS ? context : NULL;
}

/* Ordinal of the current context's device; -1: no context. */
static int current_device(void) {
    mp_fn_cuCtxGetDevice *ask = MP_ASKED(cuCtxGetDevice);
    CUdevice device = -1;
    return ask != NULL && ask(&device) == MP_CUDA_SUCCESS ? device : -1;
}

/* Only running out of memory is a refusal: a call without a context says nothing about memory. */
static bool is_answer(CUresult rc) {
    return rc == MP_CUDA_SUCCESS || rc == MP_CUDA_OUT_OF_MEMORY;
}

static uint32_t domain_here(CUresult rc, enum mp_memory_kind kind, int (*device)(void)) {
    if (!is_answer(rc))
        return MP_DOMAIN_IGNORED;
    return mp_domain_intern("cuda", kind == MP_MEMORY_PINNED ? -1 : device(), kind);
}

/* Only after success: a runtime that found no fit driver has unloaded it. */
static uint64_t container_here(CUresult rc, int (*device)(void)) {
    CUcontext context = rc == MP_CUDA_SUCCESS ? current_context() : NULL;
    int number = context != NULL ? device() : -1;
    if (is_device(number))
        mp_store_relaxed(&latest[number], context);
    return MP_ADDRESS(context);
}

#define MP_CUDA_BLOCK(rc, kind)                                                                    \
    .domain = domain_here(rc, kind, MP_ROW_DEVICE), .container = container_here(rc, MP_ROW_DEVICE)

/* Sparse and deferred arrays get their memory by cuMemMapArrayAsync, from handles. */
#define MP_CUDA_ARRAY_BLOCK(rc, flags)                                                             \
    .domain = ((flags) & (MP_CUDA_ARRAY_SPARSE | MP_CUDA_ARRAY_DEFERRED))                          \
                  ? MP_DOMAIN_IGNORED                                                              \
                  : domain_here(rc, MP_MEMORY_DEVICE, MP_ROW_DEVICE),                              \
    .container = container_here(rc, MP_ROW_DEVICE)

/* Memory of a stream's pool outlives contexts. */
#define MP_CUDA_STREAM_BLOCK(rc, stream, per_thread)                                               \
    .domain = (rc) == MP_CUDA_SUCCESS && mp_cuda_records(stream, per_thread)                       \
                  ? MP_DOMAIN_IGNORED                                                              \
                  : domain_here(rc, MP_MEMORY_DEVICE, MP_ROW_DEVICE)

/* Is the stream recording into a graph? The legacy stream cannot. */
static bool mp_cuda_records(CUstream stream, bool per_thread) {
    mp_fn_cuStreamIsCapturing *ask = MP_ASKED(cuStreamIsCapturing);
    if (stream == NULL)
        stream = per_thread ? MP_CUDA_STREAM_PER_THREAD : MP_CUDA_STREAM_LEGACY;
    int status = MP_CUDA_CAPTURE_NONE;
    if (ask == NULL || stream == MP_CUDA_STREAM_LEGACY || ask(stream, &status) != MP_CUDA_SUCCESS)
        return false;
    return status != MP_CUDA_CAPTURE_NONE;
}

/* The properties of physical memory give its location: a device, or a NUMA node of the host. */
static uint32_t mp_cuda_domain_of_prop(CUresult rc, const CUmemAllocationProp *prop) {
    if (prop == NULL || !is_answer(rc))
        return MP_DOMAIN_IGNORED;
    if (prop->location.type == MP_CUDA_LOCATION_DEVICE)
        return mp_domain_intern("cuda", prop->location.id, MP_MEMORY_DEVICE);
    return mp_domain_intern("cuda", -1, MP_MEMORY_PINNED);
}

static void mp_cuda_context_ended(CUcontext context) {
    if (context == NULL)
        return;
    mp_device_drop_container(MP_SPACE_CUDA_POINTER, MP_ADDRESS(context));
    mp_device_drop_container(MP_SPACE_CUDA_ARRAY, MP_ADDRESS(context));
    mp_device_drop_container(MP_SPACE_CUDA_REGISTERED, MP_ADDRESS(context));
}

static void mp_cuda_primary_is(CUdevice device, CUcontext context) {
    if (is_device(device))
        mp_store_relaxed(&primary[device], context);
}

static void mp_cuda_primary_ended(CUdevice device) {
    if (is_device(device))
        mp_cuda_context_ended(mp_load_relaxed(&primary[device]));
}

/* The last release ends it; the driver knows which one that was. */
static void mp_cuda_primary_released(CUdevice device) {
    mp_fn_cuDevicePrimaryCtxGetState *ask = MP_ASKED(cuDevicePrimaryCtxGetState);
    unsigned flags;
    int active = 1;
    if (ask != NULL && ask(device, &flags, &active) == MP_CUDA_SUCCESS && !active)
        mp_cuda_primary_ended(device);
}

/*
 * The exported symbol that cuGetProcAddress means by a name: the newest variant that the version allows, and
 * that of the thread's own stream where it was asked for.
 */
static const char *exported_name(const char *symbol, int version, cuuint64_t flags, char *name) {
    static const struct {
        const char *symbol;
        int since; /* version of CUDA from which the name means its _v2 */
    } second[] = {
        {"cuMemAlloc", 3020},
        {"cuMemAllocPitch", 3020},
        {"cuMemFree", 3020},
        {"cuMemAllocHost", 3020},
        {"cuMemHostRegister", 6050},
        {"cuMemGetInfo", 3020},
        {"cuArrayCreate", 3020},
        {"cuArray3DCreate", 3020},
        {"cuCtxDestroy", 4000},
        {"cuIpcOpenMemHandle", 11000},
        {"cuDevicePrimaryCtxRelease", 11000},
        {"cuDevicePrimaryCtxReset", 11000},
        {"cuGetProcAddress", 12000},
    };
    static const char *const of_stream[] = {"cuMemAllocAsync", "cuMemAllocFromPoolAsync",
                                            "cuMemFreeAsync"};
    const char *suffix = "";
    for (unsigned i = 0; i < sizeof second / sizeof second[0]; i++)
        if (strcmp(symbol, second[i].symbol) == 0)
            suffix = version >= second[i].since ? "_v2" : "";
    for (unsigned i = 0; i < sizeof of_stream / sizeof of_stream[0]; i++)
        if (strcmp(symbol, of_stream[i]) == 0 && (flags & MP_CUDA_LOOKUP_PER_THREAD))
            suffix = "_ptsz";
    size_t n = strlen(symbol);
    if (n + strlen(suffix) >= NAME_MAX_BYTES)
        return symbol;
    memcpy(name, symbol, n);
    memcpy(name + n, suffix, strlen(suffix) + 1);
    return name;
}

static void mp_cuda_answer(const char *symbol, void **answer, int version, cuuint64_t flags) {
    char name[NAME_MAX_BYTES];
    if (symbol == NULL || answer == NULL || *answer == NULL)
        return;
    void *replaced = mp_device_replace(*answer);
    if (replaced == *answer)
        replaced = mp_device_adopt(&mp_library_cuda, exported_name(symbol, version, flags, name),
                                   replaced);
    *answer = replaced;
}

/*
 * At the tail of an outermost call that was no work of a stream: those may stand inside a capture, in which the driver
 * forbids other calls.
 */
static void ask_totals(const struct mp_device_scope *scope, const struct mp_device_row *row,
                       bool ok) {
    if (!ok || mp_device_scope_nested(scope) || strstr(row->symbol, "Async") != NULL)
        return;
    mp_fn_cuMemGetInfo_v2 *ask = MP_ASKED(cuMemGetInfo_v2);
    if (ask != NULL)
        mp_device_ask_free("cuda", current_device(), ask);
}

/* --- arrays: CUarray_format of cuda.h -------------------------------------------------------- */

struct format {
    uint8_t first, last;
    uint8_t bits; /* of an element; of a channel where per_channel; of a 4 x 4 block where block */
    uint8_t per_channel;
    uint8_t block;
};

static const struct format formats[] = {
    {0x01, 0x01, 8, 1, 0},   {0x02, 0x02, 16, 1, 0},
    {0x03, 0x03, 32, 1, 0}, /* unsigned */
    {0x08, 0x08, 8, 1, 0},   {0x09, 0x09, 16, 1, 0},
    {0x0a, 0x0a, 32, 1, 0}, /* signed */
    {0x10, 0x10, 16, 1, 0},  {0x20, 0x20, 32, 1, 0}, /* half, float */
    {0x50, 0x50, 32, 0, 0}, /* 10, 10, 10, 2 */
    {0x91, 0x92, 64, 0, 1},  {0x93, 0x96, 128, 0, 1},
    {0x97, 0x98, 64, 0, 1}, /* BC1, 2-3, 4 */
    {0x99, 0x9e, 128, 0, 1}, /* BC5 to 7 */
    {0x9f, 0x9f, 24, 0, 0},  {0xa1, 0xa1, 24, 0, 0}, /* P010, P016 */
    {0xa2, 0xa2, 16, 0, 0},  {0xa3, 0xa4, 32, 0, 0}, /* NV16, P210 and P216 */
    {0xa5, 0xa5, 16, 0, 0},  {0xa6, 0xa7, 32, 0, 0}, /* YUY2, Y210 and Y216 */
    {0xa8, 0xa9, 32, 0, 0},  {0xb1, 0xb1, 64, 0, 0}, /* AYUV and Y410, Y416 */
    {0xb0, 0xb0, 12, 0, 0}, /* NV12 */
    {0xb2, 0xb2, 24, 0, 0},  {0xb3, 0xb3, 48, 0, 0},
    {0xb4, 0xb4, 24, 0, 0}, /* YUV 4:4:4 */
    {0xb5, 0xb5, 48, 0, 0},  {0xc0, 0xc2, 8, 1, 0},
    {0xc3, 0xc5, 16, 1, 0}, /* unsigned normalized */
    {0xc6, 0xc8, 8, 1, 0},   {0xc9, 0xcb, 16, 1, 0}, /* signed normalized */
};

static size_t at_least_1(size_t n) {
    return n != 0 ? n : 1;
}

/* Bytes of `width` x `height` x `depth` elements (0 counts as 1) without the driver's padding; 1 byte an element and
 * channel for a format that is not known. */
static uint64_t array_bytes(size_t width, size_t height, size_t depth, unsigned format,
                            unsigned channels) {
    struct format found = {.bits = 8, .per_channel = 1};
    for (unsigned i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (format >= formats[i].first && format <= formats[i].last)
            found = formats[i];
    uint64_t w = at_least_1(width), h = at_least_1(height), d = at_least_1(depth);
    if (found.block)
        return (w + 3) / 4 * ((h + 3) / 4) * d * found.bits / 8;
    return w * h * d * found.bits * (found.per_channel ? at_least_1(channels) : 1) / 8;
}

static uint64_t mp_cuda_array_bytes(CUresult rc, const CUDA_ARRAY_DESCRIPTOR *array) {
    if (!is_answer(rc) || array == NULL)
        return 0;
    return array_bytes(array->Width, array->Height, 1, array->Format, array->NumChannels);
}

static unsigned mp_cuda_array_flags(CUresult rc, const CUDA_ARRAY3D_DESCRIPTOR *array) {
    return is_answer(rc) && array != NULL ? array->Flags : 0;
}

/* `levels` of a mipmap, each half as wide, high and deep as the one before; 1: an array. */
static uint64_t mp_cuda_array3d_bytes(CUresult rc, const CUDA_ARRAY3D_DESCRIPTOR *array,
                                      unsigned levels) {
    uint64_t bytes = 0;
    if (!is_answer(rc) || array == NULL)
        return 0;
    for (unsigned level = 0; level < levels && level < 32; level++)
        bytes += array_bytes(array->Width >> level, array->Height >> level, array->Depth >> level,
                             array->Format, array->NumChannels);
    return bytes;
}

/* The runtime's description, which gives bits where the driver's names a format. */
static uint64_t mp_cudart_array_bytes(cudaError_t rc, const struct cudaChannelFormatDesc *channels,
                                      struct cudaExtent extent, unsigned levels) {
    CUDA_ARRAY3D_DESCRIPTOR array = {.Width = extent.width,
                                     .Height = extent.height,
                                     .Depth = extent.depth,
                                     .Format = MP_CUDA_FORMAT_BYTE};
    if (!is_answer(rc) || channels == NULL)
        return 0;
    int kind = channels->f;
    if (kind >= MP_CUDA_KIND_BC1 && kind <= MP_CUDA_KIND_BC7_SRGB)
        array.Format = MP_CUDA_FORMAT_BC1 + (unsigned)(kind - MP_CUDA_KIND_BC1);
    else if (kind == MP_CUDA_KIND_NV12)
        array.Format = MP_CUDA_FORMAT_NV12;
    else
        array.NumChannels = (unsigned)(channels->x + channels->y + channels->z + channels->w) / 8;
    return mp_cuda_array3d_bytes(rc, &array, levels);
}

MP_CUDA_ROWS(MP_ROW_WRAPPER)

static uintptr_t asked(struct mp_device_row *row) {
    __typeof__(&cuGetProcAddress_v2) second =
        (__typeof__(second))mp_row_real(&mp_row_cuGetProcAddress_v2);
    __typeof__(&cuGetProcAddress) first = (__typeof__(first))mp_row_real(&mp_row_cuGetProcAddress);
    CUdriverProcAddressQueryResult status;
    uintptr_t real = mp_row_real(row);
    void *found = NULL;
    if (real != 0 || (first == NULL && second == NULL))
        return real;
    const char *suffix = strstr(row->symbol, "_v2");
    size_t n = suffix != NULL ? (size_t)(suffix - row->symbol) : strlen(row->symbol);
    char name[NAME_MAX_BYTES] = "";
    memcpy(name, row->symbol, n < sizeof name ? n : sizeof name - 1);
    if (second != NULL)
        second(name, &found, ASKED_VERSION, 0, &status);
    else
        first(name, &found, ASKED_VERSION, 0);
    mp_store_release(&row->real, (uintptr_t)found); /* as backend.h */
    return (uintptr_t)found;
}

MP_LIBRARY(cuda, MP_BACKEND_CUDA, ("libcuda.so"),
           MP_CUDA_ROWS(MP_ROW_POINTER) ASKED(MP_ASKED_POINTER));

/* --- the runtime ------------------------------------------------------------------------------ */

#define ASKED_CUDART(ROW) ROW(cudaError_t, cudaGetDevice, (int *))
ASKED_CUDART(MP_ASKED_ROW)

/* As the runtime says it, which works also without a driver. */
static int runtime_device(void) {
    mp_fn_cudaGetDevice *ask = MP_REAL(cudaGetDevice);
    int device = -1;
    return ask != NULL && ask(&device) == MP_CUDA_SUCCESS ? device : -1;
}

/* The runtime's context is the primary one; after an attach nobody saw it begin. */
static void mp_cudart_reset(void) {
    CUdevice device = runtime_device();
    if (is_device(device) && mp_load_relaxed(&primary[device]) == NULL)
        mp_cuda_context_ended(mp_load_relaxed(&latest[device]));
}

#undef MP_ROW_DEVICE
#define MP_ROW_DEVICE runtime_device

MP_CUDART_ROWS(MP_ROW_WRAPPER)
MP_LIBRARY(cudart, MP_BACKEND_CUDA, ("libcudart.so", "libcudart-"),
           MP_CUDART_ROWS(MP_ROW_POINTER) ASKED_CUDART(MP_ASKED_POINTER));
