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
    (void)alignment;
    if (desc->pNext == NULL)
        return GIVE(zeMemAllocDevice, block_of(POINTER, context, device, "", size), p);
    *p = &devices[0]; /* an import: memory that is there already */
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL alloc_shared(ze_context_handle_t context,
                                           const ze_device_mem_alloc_desc_t *desc,
                                           const ze_host_mem_alloc_desc_t *host, size_t size,
                                           size_t alignment, ze_device_handle_t device, void **p) {
    (void)desc, (void)host, (void)alignment;
    struct stub_block block = block_of(POINTER, context, device, "-managed", size);
    if (device == NULL)
        strcpy(block.domain, "ze-managed");
    return GIVE(zeMemAllocShared, block, p);
}

static ze_result_t ZE_APICALL alloc_host(ze_context_handle_t context,
                                         const ze_host_mem_alloc_desc_t *host, size_t size,
                                         size_t alignment, void **p) {
    (void)host, (void)alignment;
    struct stub_block block = block_of(POINTER, context, NULL, "", size);
    stub_place(&block, "ze", -1, "");
    return GIVE(zeMemAllocHost, block, p);
}

static ze_result_t ZE_APICALL mem_free(ze_context_handle_t context, void *p) {
    (void)context;
    return DONE(stub_take(POINTER, (uintptr_t)p, STUB_FAILS("zeMemFree")));
}

static ze_result_t ZE_APICALL mem_free_ext(ze_context_handle_t context,
                                           const ze_memory_free_ext_desc_t *desc, void *p) {
    (void)context, (void)desc;
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
    (void)context;
    return DONE(stub_release((uintptr_t)handle, STUB_FAILS("zePhysicalMemDestroy")));
}

static ze_result_t ZE_APICALL reserve(ze_context_handle_t context, const void *start, size_t size,
                                      void **out) {
    (void)context, (void)start, (void)size;
    *out = (void *)stub_reserve();
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL reserve_free(ze_context_handle_t context, const void *start,
                                           size_t size) {
    (void)context, (void)start, (void)size;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL map(ze_context_handle_t context, const void *at, size_t size,
                                  ze_physical_mem_handle_t handle, size_t offset,
                                  ze_memory_access_attribute_t access) {
    (void)context, (void)offset, (void)access;
    return DONE(stub_map((uintptr_t)at, size, (uintptr_t)handle));
}

static ze_result_t ZE_APICALL unmap(ze_context_handle_t context, const void *at, size_t size) {
    (void)context;
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
    (void)flags;
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
    (void)driver;
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
    (void)driver, (void)desc;
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
#define TOOLS(Name, type) TABLE_OF(zet, Name, type, 0)
#define SYSTEM(Name, type) TABLE_OF(zes, Name, type, 0)

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
TABLE(DeviceExp, ze_device_exp_dditable_t, 0)
TABLE(CommandQueue, ze_command_queue_dditable_t, 0)
TABLE(CommandList, ze_command_list_dditable_t, 0)
TABLE(ImageExp, ze_image_exp_dditable_t, 0)
TABLE(Fence, ze_fence_dditable_t, 0)
TABLE(EventPool, ze_event_pool_dditable_t, 0)
TABLE(Event, ze_event_dditable_t, 0)
TABLE(EventExp, ze_event_exp_dditable_t, 0)
TABLE(Module, ze_module_dditable_t, 0)
TABLE(ModuleBuildLog, ze_module_build_log_dditable_t, 0)
TABLE(Kernel, ze_kernel_dditable_t, 0)
TABLE(KernelExp, ze_kernel_exp_dditable_t, 0)
TABLE(Sampler, ze_sampler_dditable_t, 0)
TABLE(FabricVertexExp, ze_fabric_vertex_exp_dditable_t, 0)
TABLE(FabricEdgeExp, ze_fabric_edge_exp_dditable_t, 0)
TOOLS(Device, zet_device_dditable_t)
TOOLS(Context, zet_context_dditable_t)
TOOLS(CommandList, zet_command_list_dditable_t)
TOOLS(Module, zet_module_dditable_t)
TOOLS(Kernel, zet_kernel_dditable_t)
TOOLS(MetricGroup, zet_metric_group_dditable_t)
TOOLS(MetricGroupExp, zet_metric_group_exp_dditable_t)
TOOLS(Metric, zet_metric_dditable_t)
TOOLS(MetricStreamer, zet_metric_streamer_dditable_t)
TOOLS(MetricQueryPool, zet_metric_query_pool_dditable_t)
TOOLS(MetricQuery, zet_metric_query_dditable_t)
TOOLS(TracerExp, zet_tracer_exp_dditable_t)
TOOLS(Debug, zet_debug_dditable_t)
SYSTEM(Driver, zes_driver_dditable_t)
SYSTEM(Device, zes_device_dditable_t)
SYSTEM(Scheduler, zes_scheduler_dditable_t)
SYSTEM(PerformanceFactor, zes_performance_factor_dditable_t)
SYSTEM(Power, zes_power_dditable_t)
SYSTEM(Frequency, zes_frequency_dditable_t)
SYSTEM(Engine, zes_engine_dditable_t)
SYSTEM(Standby, zes_standby_dditable_t)
SYSTEM(Firmware, zes_firmware_dditable_t)
SYSTEM(Memory, zes_memory_dditable_t)
SYSTEM(FabricPort, zes_fabric_port_dditable_t)
SYSTEM(Temperature, zes_temperature_dditable_t)
SYSTEM(Psu, zes_psu_dditable_t)
SYSTEM(Fan, zes_fan_dditable_t)
SYSTEM(Led, zes_led_dditable_t)
SYSTEM(Ras, zes_ras_dditable_t)
SYSTEM(Diagnostics, zes_diagnostics_dditable_t)
