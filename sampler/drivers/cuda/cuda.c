/*
 * cuda.c - wrappers of the CUDA driver, libcuda.so.1, and of a shared runtime, which gives names.
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

#define DEVICES_MAX 64
#define NAME_MAX_BYTES 64

#define MP_ROW_BACKEND MP_BACKEND_CUDA
#define MP_ROW_FAMILY MP_FAMILY_CUDA
#define MP_ROW_TAIL(scope, row) ask_totals(scope, row, ok)

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

/* The answer of the driver's own look-up; 0: nothing. */
static uintptr_t look_up(const char *symbol, int version);

/* The primary context of each device that the program got; NULL: not seen. */
static CUcontext primary[DEVICES_MAX];

static CUcontext current_context(void) {
    mp_fn_cuCtxGetCurrent *ask = MP_REAL(cuCtxGetCurrent);
    CUcontext context = NULL;
    return ask != NULL && ask(&context) == MP_CUDA_SUCCESS ? context : NULL;
}

/* Ordinal of the current context's device; -1: no context. */
static int current_device(void) {
    mp_fn_cuCtxGetDevice *ask = MP_REAL(cuCtxGetDevice);
    CUdevice device = -1;
    return ask != NULL && ask(&device) == MP_CUDA_SUCCESS ? device : -1;
}

/* Only running out of memory is a refusal: a call without a context says nothing about memory. */
static bool is_answer(CUresult rc) {
    return rc == MP_CUDA_SUCCESS || rc == MP_CUDA_OUT_OF_MEMORY;
}

static uint32_t domain_here(CUresult rc, enum mp_memory_kind kind) {
    if (!is_answer(rc))
        return MP_DOMAIN_IGNORED;
    return mp_domain_intern("cuda", kind == MP_MEMORY_PINNED ? -1 : current_device(), kind);
}

#define MP_CUDA_BLOCK(rc, kind)                                                                    \
    .domain = domain_here(rc, kind), .container = (uint64_t)(uintptr_t)current_context()

/* Sparse and deferred arrays get their memory by cuMemMapArrayAsync, from handles. */
#define MP_CUDA_ARRAY_BLOCK(rc, array)                                                             \
    .domain = ((array)->Flags & (MP_CUDA_ARRAY_SPARSE | MP_CUDA_ARRAY_DEFERRED))                   \
                  ? MP_DOMAIN_IGNORED                                                              \
                  : domain_here(rc, MP_MEMORY_DEVICE),                                             \
    .container = (uint64_t)(uintptr_t)current_context()

/* Memory of a stream's pool outlives contexts. */
#define MP_CUDA_STREAM_BLOCK(rc, stream, per_thread)                                               \
    .domain = mp_cuda_records(stream, per_thread) ? MP_DOMAIN_IGNORED                              \
                                                  : domain_here(rc, MP_MEMORY_DEVICE)

/* Is the stream recording into a graph? The legacy stream cannot. */
static bool mp_cuda_records(CUstream stream, bool per_thread) {
    mp_fn_cuStreamIsCapturing *ask = MP_REAL(cuStreamIsCapturing);
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

static bool is_device(CUdevice device) {
    return device >= 0 && device < DEVICES_MAX;
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
    mp_fn_cuDevicePrimaryCtxGetState *ask = MP_REAL(cuDevicePrimaryCtxGetState);
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

/* Functions that the wrappers call and the driver does not export come from its look-up
 * function. */
static void find_helpers(int version) {
    static struct mp_device_row *const helpers[] = {ASKED(MP_ASKED_POINTER)};
    for (unsigned i = 0; i < sizeof helpers / sizeof helpers[0]; i++)
        if (mp_row_real(helpers[i]) == 0)
            mp_store_release(&helpers[i]->real,
                             look_up(helpers[i]->symbol, version)); /* as backend.h */
}

static void mp_cuda_answer(const char *symbol, void **answer, int version, cuuint64_t flags) {
    char name[NAME_MAX_BYTES];
    find_helpers(version);
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
    mp_fn_cuMemGetInfo_v2 *ask = MP_REAL(cuMemGetInfo_v2);
    if (ok && ask != NULL && !mp_device_scope_nested(scope) && strstr(row->symbol, "Async") == NULL)
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

static uint64_t mp_cuda_array_bytes(const CUDA_ARRAY_DESCRIPTOR *array) {
    if (array == NULL)
        return 0;
    return array_bytes(array->Width, array->Height, 1, array->Format, array->NumChannels);
}

/* `levels` of a mipmap, each half as wide, high and deep as the one before; 1: an array. */
static uint64_t mp_cuda_array3d_bytes(const CUDA_ARRAY3D_DESCRIPTOR *array, unsigned levels) {
    uint64_t bytes = 0;
    for (unsigned level = 0; array != NULL && level < levels && level < 32; level++)
        bytes += array_bytes(array->Width >> level, array->Height >> level, array->Depth >> level,
                             array->Format, array->NumChannels);
    return bytes;
}

MP_CUDA_ROWS(MP_ROW_WRAPPER)

static uintptr_t look_up(const char *symbol, int version) {
    __typeof__(&cuGetProcAddress_v2) second =
        (__typeof__(second))mp_row_real(&mp_row_cuGetProcAddress_v2);
    __typeof__(&cuGetProcAddress) first = (__typeof__(first))mp_row_real(&mp_row_cuGetProcAddress);
    CUdriverProcAddressQueryResult status;
    void *found = NULL;
    if (second != NULL)
        second(symbol, &found, version, 0, &status);
    else if (first != NULL)
        first(symbol, &found, version, 0);
    return (uintptr_t)found;
}

MP_LIBRARY(cuda, MP_BACKEND_CUDA, ("libcuda.so"),
           MP_CUDA_ROWS(MP_ROW_POINTER) ASKED(MP_ASKED_POINTER));

#undef MP_ROW_TAIL
#define MP_ROW_TAIL(scope, row) (void)(scope)

MP_CUDART_ROWS(MP_ROW_WRAPPER)
MP_LIBRARY(cudart, MP_BACKEND_CUDA, ("libcudart.so", "libcudart-"), MP_CUDART_ROWS(MP_ROW_POINTER));
