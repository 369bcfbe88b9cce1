/*
 * cuda.c - wrappers of the CUDA driver, libcuda.so.1.
 *
 * Programs hardly ever call the driver through slots: the runtime, static or shared, opens it and asks
 * cuGetProcAddress for every function. It finds that one by dlsym, whose answer we replace, and we
 * replace its own answers in turn.
 *
 * A block belongs to the current context, and ends with it. We record a stream's free at the call, not
 * when the stream reaches it. A call that becomes a node of a graph moves no memory and does not count.
 */
#include "cuda_abi.h"
#include "cuda_array.h"
#include "cuda_rows.h"
#include "drivers/wrap.h"

#include <stdio.h>
#include <string.h>

#define DEVICES_MAX 64
#define NAME_MAX_BYTES 64

#define MP_ROW_BACKEND MP_BACKEND_CUDA
#define MP_ROW_FAMILY MP_FAMILY_CUDA
#define MP_ROW_OK(rc) ((rc) == MP_CUDA_SUCCESS)
#define MP_ROW_TAIL(scope, row) ask_totals(scope, row, ok)

/* Called, not wrapped. */
static struct mp_device_row row_current = {.symbol = "cuCtxGetCurrent"};
static struct mp_device_row row_device = {.symbol = "cuCtxGetDevice"};
static struct mp_device_row row_capturing = {.symbol = "cuStreamIsCapturing"};
static struct mp_device_row row_primary = {.symbol = "cuDevicePrimaryCtxGetState"};
static struct mp_device_row row_info = {.symbol = "cuMemGetInfo_v2"};

extern const struct mp_device_library mp_library_cuda;

/* The answer of the driver's own look-up; 0: nothing. */
static uintptr_t look_up(const char *symbol, int version);

/* The primary context of each device that the program got; NULL: not seen. */
static CUcontext primary[DEVICES_MAX];

static CUcontext current_context(void) {
    CUresult (*ask)(CUcontext *) = (CUresult (*)(CUcontext *))mp_row_real(&row_current);
    CUcontext context = NULL;
    return ask != NULL && ask(&context) == MP_CUDA_SUCCESS ? context : NULL;
}

/* Ordinal of the current context's device; -1: there is none. */
static int current_device(void) {
    CUresult (*ask)(CUdevice *) = (CUresult (*)(CUdevice *))mp_row_real(&row_device);
    CUdevice device = -1;
    return ask != NULL && ask(&device) == MP_CUDA_SUCCESS ? device : -1;
}

/* Only running out of memory is a refusal: a call without a context says nothing about memory. */
static uint32_t domain_here(CUresult rc, enum mp_memory_kind kind) {
    if (rc != MP_CUDA_SUCCESS && rc != MP_CUDA_OUT_OF_MEMORY)
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
    CUresult (*ask)(CUstream, int *) = (CUresult (*)(CUstream, int *))mp_row_real(&row_capturing);
    if (stream == NULL)
        stream = per_thread ? MP_CUDA_STREAM_PER_THREAD : MP_CUDA_STREAM_LEGACY;
    int status = MP_CUDA_CAPTURE_NONE;
    if (ask == NULL || stream == MP_CUDA_STREAM_LEGACY || ask(stream, &status) != MP_CUDA_SUCCESS)
        return false;
    return status != MP_CUDA_CAPTURE_NONE;
}

/* Physical memory says itself where it lies: on a device, or on a NUMA node of the host. */
static uint32_t mp_cuda_domain_of_prop(CUresult rc, const CUmemAllocationProp *prop) {
    if (prop == NULL || (rc != MP_CUDA_SUCCESS && rc != MP_CUDA_OUT_OF_MEMORY))
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
    CUresult (*ask)(CUdevice, unsigned *, int *) =
        (CUresult (*)(CUdevice, unsigned *, int *))mp_row_real(&row_primary);
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

/* A driver that does not export what the wrappers themselves ask gives it by its look-up. */
static void find_helpers(int version) {
    static struct mp_device_row *const helpers[] = {&row_current, &row_device, &row_capturing,
                                                    &row_primary};
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
    CUresult (*ask)(size_t *, size_t *) = (CUresult (*)(size_t *, size_t *))mp_row_real(&row_info);
    if (!ok || ask == NULL || mp_device_scope_nested(scope) || strstr(row->symbol, "Async") != NULL)
        return;
    int device = current_device();
    uint32_t domain =
        device >= 0 ? mp_domain_intern("cuda", device, MP_MEMORY_DEVICE) : MP_DOMAIN_NONE;
    size_t free_bytes = 0, total_bytes = 0;
    if (domain == MP_DOMAIN_NONE || !mp_device_actual_due(domain))
        return;
    if (ask(&free_bytes, &total_bytes) == MP_CUDA_SUCCESS && free_bytes <= total_bytes)
        mp_device_actual(domain, total_bytes - free_bytes, total_bytes);
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

static struct mp_device_row *const rows[] = {MP_CUDA_ROWS(MP_ROW_POINTER) & row_current,
                                             &row_device,
                                             &row_capturing,
                                             &row_primary,
                                             &row_info,
                                             NULL};
static const char *const sonames[] = {"libcuda.so", NULL};
const struct mp_device_library mp_library_cuda = {MP_BACKEND_CUDA, sonames, rows};
