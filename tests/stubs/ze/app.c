/*
 * app.c - a program on Level Zero (../app.h).
 *
 * Lines, where D is a device (0, 1; 2: a part of device 0; 3: none): device R SIZE D | shared R SIZE D | host R SIZE |
 * import R SIZE | free R | freeext R | create R SIZE D | release R | reserve R SIZE | unreserve R SIZE | map R SIZE CREATED |
 * unmap R SIZE | flat R WIDTH HEIGHT | solid R SIDE | line R SIZE | noimage R | context (all from now on in a new one) |
 * end (destroys the context)
 */
#include <level_zero/ze_api.h>

/* clang-format off */
#define FUNCTIONS(X) \
    X(zeInit) X(zeDriverGet) X(zeDeviceGet) X(zeDeviceGetSubDevices) X(zeContextCreate) X(zeContextDestroy) \
    X(zeMemAllocDevice) X(zeMemAllocShared) X(zeMemAllocHost) X(zeMemFree) X(zeMemFreeExt) \
    X(zePhysicalMemCreate) X(zePhysicalMemDestroy) X(zeVirtualMemReserve) X(zeVirtualMemFree) \
    X(zeVirtualMemMap) X(zeVirtualMemUnmap) X(zeImageCreate) X(zeImageDestroy)
/* clang-format on */

#include "../app.h"

static ze_driver_handle_t driver;
static ze_device_handle_t devices[4];
static ze_context_handle_t context;

static int make_context(void) {
    ze_context_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_CONTEXT_DESC};
    return (int)api.zeContextCreate(driver, &desc, &context);
}

static int start(void) {
    uint32_t one = 1, two = 2, part = 1;
    if (api.zeInit(0) != 0 || api.zeDriverGet(&one, &driver) != 0 ||
        api.zeDeviceGet(driver, &two, devices) != 0 ||
        api.zeDeviceGetSubDevices(devices[0], &part, &devices[2]) != 0)
        return 3;
    return make_context();
}

static int make_image(unsigned long long r, ze_image_type_t type, ze_image_format_layout_t layout,
                      unsigned long long width, unsigned long long height) {
    ze_image_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_IMAGE_DESC,
                            .type = type,
                            .width = width,
                            .height = (uint32_t)height,
                            .depth = (uint32_t)width,
                            .format.layout = layout};
    return CALL(zeImageCreate, context, devices[0], &desc, OUT(r));
}

static int allocate(const char *word, unsigned long long *a) {
    ze_external_memory_import_fd_t from = {.stype = ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD};
    ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    ze_device_mem_alloc_desc_t import = {.stype = desc.stype, .pNext = &from};
    ze_host_mem_alloc_desc_t host = {.stype = ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC};
    ze_device_handle_t where = devices[a[2] & 3];
    WORD(device, CALL(zeMemAllocDevice, context, &desc, a[1], 1, where, OUT(a[0])))
    WORD(shared, CALL(zeMemAllocShared, context, &desc, &host, a[1], 1, where, OUT(a[0])))
    WORD(host, CALL(zeMemAllocHost, context, &host, a[1], 1, OUT(a[0])))
    WORD(import, CALL(zeMemAllocDevice, context, &import, a[1], 1, devices[0], OUT(a[0])))
    WORD(flat, make_image(a[0], ZE_IMAGE_TYPE_2D, ZE_IMAGE_FORMAT_LAYOUT_8_8_8_8, a[1], a[2]))
    WORD(solid, make_image(a[0], ZE_IMAGE_TYPE_3D, ZE_IMAGE_FORMAT_LAYOUT_16, a[1], a[1]))
    WORD(line, make_image(a[0], ZE_IMAGE_TYPE_BUFFER, ZE_IMAGE_FORMAT_LAYOUT_32, a[1], 3))
    return NO_WORD;
}

static int once(void) {
    void *p;
    ze_host_mem_alloc_desc_t host = {.stype = ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC};
    return api.zeMemAllocHost(context, &host, 4096, 1, &p) != ZE_RESULT_SUCCESS ||
           api.zeMemFree(context, p) != ZE_RESULT_SUCCESS;
}

static int obey(const char *word, unsigned long long *a) {
    ze_memory_free_ext_desc_t how = {.stype = ZE_STRUCTURE_TYPE_MEMORY_FREE_EXT_DESC};
    ze_physical_mem_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_PHYSICAL_MEM_DESC, .size = a[1]};
    int rc = allocate(word, a);
    if (rc != NO_WORD)
        return rc;
    WORD(free, CALL(zeMemFree, context, AT(a[0])))
    WORD(freeext, CALL(zeMemFreeExt, context, &how, AT(a[0])))
    WORD(create, CALL(zePhysicalMemCreate, context, devices[a[2] & 3], &desc, OUT(a[0])))
    WORD(release, CALL(zePhysicalMemDestroy, context, AT(a[0])))
    WORD(reserve, CALL(zeVirtualMemReserve, context, NULL, a[1], OUT(a[0])))
    WORD(unreserve, CALL(zeVirtualMemFree, context, AT(a[0]), a[1]))
    WORD(map, CALL(zeVirtualMemMap, context, AT(a[0]), a[1], AT(a[2]), 0,
                   ZE_MEMORY_ACCESS_ATTRIBUTE_READWRITE))
    WORD(unmap, CALL(zeVirtualMemUnmap, context, AT(a[0]), a[1]))
    WORD(noimage, CALL(zeImageDestroy, AT(a[0])))
    WORD(context, make_context())
    WORD(end, CALL(zeContextDestroy, context))
    return NO_WORD;
}

int main(int argc, char **argv) {
    int rc = bind_functions(argc, argv);
    rc = rc != 0 ? rc : start();
    return rc != 0 ? rc : run_lines();
}
