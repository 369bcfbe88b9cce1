/*
 * driver.c - a stub of a Level Zero driver (../memory.h) of two devices, one of them in two parts, for
 * ZE_ENABLE_ALT_DRIVERS.
 */
#include "../memory.h"

#include <level_zero/ze_api.h>
#include <level_zero/ze_ddi.h>
#include <level_zero/zes_ddi.h>
#include <level_zero/zet_ddi.h>

#define EXPORT __attribute__((visibility("default")))
#define DONE(call) ((call) ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_INVALID_ARGUMENT)

enum kind { POINTER = 1, IMAGE };

static char the_driver, devices[STUB_DEVICES], parts[2], contexts[16];
static unsigned contexts_made;

/* --- memory --------------------------------------------------------------------------------- */

static struct stub_block block_of(int kind, void *context, const void *device, const char *suffix,
                                  size_t bytes) {
    struct stub_block block = {.kind = kind, .container = (uintptr_t)context, .bytes = bytes};
    stub_place(&block, "ze", device == &devices[1], suffix);
    return block;
}

static ze_result_t give(struct stub_block block, const char *function, bool fails, void *out) {
    bool done = block.kind == STUB_PHYSICAL ? stub_create(&block, function, fails, out)
                                            : stub_give(&block, function, fails, block.bytes, out);
    return done ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY;
}

#define GIVE(function, block, out) give(block, #function, STUB_FAILS(#function), out)

static ze_result_t ZE_APICALL alloc_device(ze_context_handle_t context,
                                           const ze_device_mem_alloc_desc_t *desc, size_t size,
                                           size_t alignment, ze_device_handle_t device, void **p) {
    if (desc->pNext == NULL)
        return GIVE(zeMemAllocDevice, block_of(POINTER, context, device, "", size), p);
    *p = &devices[0]; /* an import: memory that is there already */
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL alloc_shared(ze_context_handle_t context,
                                           const ze_device_mem_alloc_desc_t *desc,
                                           const ze_host_mem_alloc_desc_t *host, size_t size,
                                           size_t alignment, ze_device_handle_t device, void **p) {
    struct stub_block block = block_of(POINTER, context, device, "-managed", size);
    if (device == NULL)
        strcpy(block.domain, "ze-managed");
    return GIVE(zeMemAllocShared, block, p);
}

static ze_result_t ZE_APICALL alloc_host(ze_context_handle_t context,
                                         const ze_host_mem_alloc_desc_t *host, size_t size,
                                         size_t alignment, void **p) {
    struct stub_block block = block_of(POINTER, context, NULL, "", size);
    stub_place(&block, "ze", -1, "");
    return GIVE(zeMemAllocHost, block, p);
}

static ze_result_t ZE_APICALL mem_free(ze_context_handle_t context, void *p) {
    return DONE(stub_take(POINTER, (uintptr_t)p, STUB_FAILS("zeMemFree")));
}

static ze_result_t ZE_APICALL mem_free_ext(ze_context_handle_t context,
                                           const ze_memory_free_ext_desc_t *desc, void *p) {
    return DONE(stub_take(POINTER, (uintptr_t)p, STUB_FAILS("zeMemFreeExt")));
}

static ze_result_t ZE_APICALL physical_create(ze_context_handle_t context,
                                              ze_device_handle_t device,
                                              ze_physical_mem_desc_t *desc,
                                              ze_physical_mem_handle_t *out) {
    return GIVE(zePhysicalMemCreate, block_of(STUB_PHYSICAL, context, device, "", desc->size), out);
}

static ze_result_t ZE_APICALL physical_destroy(ze_context_handle_t context,
                                               ze_physical_mem_handle_t handle) {
    return DONE(stub_release((uintptr_t)handle, STUB_FAILS("zePhysicalMemDestroy")));
}

static ze_result_t ZE_APICALL reserve(ze_context_handle_t context, const void *start, size_t size,
                                      void **out) {
    *out = (void *)stub_reserve();
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL reserve_free(ze_context_handle_t context, const void *start,
                                           size_t size) {
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL map(ze_context_handle_t context, const void *at, size_t size,
                                  ze_physical_mem_handle_t handle, size_t offset,
                                  ze_memory_access_attribute_t access) {
    return DONE(stub_map((uintptr_t)at, size, (uintptr_t)handle));
}

static ze_result_t ZE_APICALL unmap(ze_context_handle_t context, const void *at, size_t size) {
    return DONE(stub_unmap((uintptr_t)at, size, STUB_FAILS("zeVirtualMemUnmap")));
}

/* The true bytes of the shapes and layouts that the program asks for. */
static ze_result_t ZE_APICALL image_create(ze_context_handle_t context, ze_device_handle_t device,
                                           const ze_image_desc_t *desc, ze_image_handle_t *out) {
    size_t bytes = desc->width;
    if (desc->type == ZE_IMAGE_TYPE_2D && desc->format.layout == ZE_IMAGE_FORMAT_LAYOUT_8_8_8_8)
        bytes = desc->width * desc->height * 4;
    else if (desc->type == ZE_IMAGE_TYPE_3D && desc->format.layout == ZE_IMAGE_FORMAT_LAYOUT_16)
        bytes = desc->width * desc->height * desc->depth * 2;
    else if (desc->type != ZE_IMAGE_TYPE_BUFFER)
        return ZE_RESULT_ERROR_UNSUPPORTED_IMAGE_FORMAT;
    return GIVE(zeImageCreate, block_of(IMAGE, context, device, "", bytes), out);
}

static ze_result_t ZE_APICALL image_destroy(ze_image_handle_t image) {
    return DONE(stub_take(IMAGE, (uintptr_t)image, STUB_FAILS("zeImageDestroy")));
}

/* --- drivers, devices, contexts -------------------------------------------------------------- */

static ze_result_t ZE_APICALL init(ze_init_flags_t flags) {
    return ZE_RESULT_SUCCESS;
}

static ze_result_t list(uint32_t *n, void **out, char *all, uint32_t count) {
    uint32_t room = *n;
    *n = room == 0 || room > count ? count : room;
    for (uint32_t i = 0; room != 0 && i < *n; i++)
        out[i] = &all[i];
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL driver_get(uint32_t *n, ze_driver_handle_t *out) {
    return list(n, (void **)out, &the_driver, 1);
}

static ze_result_t ZE_APICALL device_get(ze_driver_handle_t driver, uint32_t *n,
                                         ze_device_handle_t *out) {
    return list(n, (void **)out, devices, 2);
}

static ze_result_t ZE_APICALL device_parts(ze_device_handle_t device, uint32_t *n,
                                           ze_device_handle_t *out) {
    if ((void *)device == &devices[0])
        return list(n, (void **)out, parts, 2);
    *n = 0;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL context_create(ze_driver_handle_t driver,
                                             const ze_context_desc_t *desc,
                                             ze_context_handle_t *out) {
    *out = (ze_context_handle_t)&contexts[contexts_made++ % sizeof contexts];
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL context_destroy(ze_context_handle_t context) {
    stub_end((uintptr_t)context);
    return ZE_RESULT_SUCCESS;
}

/* --- the tables that the loader asks for ------------------------------------------------------ */

#define TABLE_OF(prefix, Name, type, ...)                                                          \
    EXPORT ze_result_t ZE_APICALL prefix##Get##Name##ProcAddrTable(ze_api_version_t version,       \
                                                                   type *table) {                  \
        (void)version;                                                                             \
        *table = (type){__VA_ARGS__};                                                              \
        return ZE_RESULT_SUCCESS;                                                                  \
    }
#define TABLE(Name, type, ...) TABLE_OF(ze, Name, type, __VA_ARGS__)
#define EMPTY(Name, type) TABLE(Name, ze_##type##_dditable_t, 0)
#define TOOLS(Name, type) TABLE_OF(zet, Name, zet_##type##_dditable_t, 0)
#define SYSTEM(Name, type) TABLE_OF(zes, Name, zes_##type##_dditable_t, 0)

TABLE(Global, ze_global_dditable_t, .pfnInit = init)
TABLE(Driver, ze_driver_dditable_t, .pfnGet = driver_get)
TABLE(Device, ze_device_dditable_t, .pfnGet = device_get, .pfnGetSubDevices = device_parts)
TABLE(Context, ze_context_dditable_t, .pfnCreate = context_create, .pfnDestroy = context_destroy)
TABLE(Mem, ze_mem_dditable_t, .pfnAllocDevice = alloc_device, .pfnAllocShared = alloc_shared,
      .pfnAllocHost = alloc_host, .pfnFree = mem_free, .pfnFreeExt = mem_free_ext)
TABLE(PhysicalMem, ze_physical_mem_dditable_t, .pfnCreate = physical_create,
      .pfnDestroy = physical_destroy)
TABLE(VirtualMem, ze_virtual_mem_dditable_t, .pfnReserve = reserve, .pfnFree = reserve_free,
      .pfnMap = map, .pfnUnmap = unmap)
TABLE(Image, ze_image_dditable_t, .pfnCreate = image_create, .pfnDestroy = image_destroy)

/* clang-format off */
EMPTY(DeviceExp, device_exp) EMPTY(CommandQueue, command_queue) EMPTY(CommandList, command_list)
EMPTY(ImageExp, image_exp) EMPTY(Fence, fence) EMPTY(EventPool, event_pool) EMPTY(Event, event)
EMPTY(EventExp, event_exp) EMPTY(Module, module) EMPTY(ModuleBuildLog, module_build_log)
EMPTY(Kernel, kernel) EMPTY(KernelExp, kernel_exp) EMPTY(Sampler, sampler)
EMPTY(FabricVertexExp, fabric_vertex_exp) EMPTY(FabricEdgeExp, fabric_edge_exp)
TOOLS(Device, device) TOOLS(Context, context) TOOLS(CommandList, command_list)
TOOLS(Module, module) TOOLS(Kernel, kernel) TOOLS(MetricGroup, metric_group)
TOOLS(MetricGroupExp, metric_group_exp) TOOLS(Metric, metric)
TOOLS(MetricStreamer, metric_streamer) TOOLS(MetricQueryPool, metric_query_pool)
TOOLS(MetricQuery, metric_query) TOOLS(TracerExp, tracer_exp) TOOLS(Debug, debug)
SYSTEM(Driver, driver) SYSTEM(Device, device) SYSTEM(Scheduler, scheduler)
SYSTEM(PerformanceFactor, performance_factor) SYSTEM(Power, power) SYSTEM(Frequency, frequency)
SYSTEM(Engine, engine) SYSTEM(Standby, standby) SYSTEM(Firmware, firmware)
SYSTEM(Memory, memory) SYSTEM(FabricPort, fabric_port) SYSTEM(Temperature, temperature)
SYSTEM(Psu, psu) SYSTEM(Fan, fan) SYSTEM(Led, led) SYSTEM(Ras, ras)
SYSTEM(Diagnostics, diagnostics)
    /* clang-format on */
