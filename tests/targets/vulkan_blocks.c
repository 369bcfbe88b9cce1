/*
 * vulkan_blocks.c - device memory by every way of Vulkan that runs on a CPU, with a ledger.
 *
 *   vulkan_blocks kinds     one of each kind; then a device destroyed with live memory
 *   vulkan_blocks devices   two devices at once, more instances than a block of rows holds
 *   vulkan_blocks threads   four threads allocate, free and free for each other
 *   vulkan_blocks leave     ends without having freed anything
 */
#include "ledger.h"

#include <vulkan/vulkan.h>

#define CHECK(call) EXPECT((call) == VK_SUCCESS)
#define DEVICE "vulkan-0"
#define HUGE_BYTES (1ULL << 42)

static VkInstance instance;
static VkPhysicalDevice physical;

static VkInstance make_instance(void) {
    VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo info = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
    VkInstance made;
    CHECK(vkCreateInstance(&info, NULL, &made));
    return made;
}

static VkPhysicalDevice first_physical(VkInstance of) {
    VkPhysicalDevice found;
    uint32_t n = 1;
    VkResult rc = vkEnumeratePhysicalDevices(of, &n, &found);
    EXPECT((rc == VK_SUCCESS || rc == VK_INCOMPLETE) && n == 1);
    return found;
}

static VkDevice make_device(VkPhysicalDevice of) {
    const char *extensions[] = {VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME,
                                VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME};
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue, .enabledExtensionCount = 2,
                               .ppEnabledExtensionNames = extensions};
    VkDevice made;
    CHECK(vkCreateDevice(of, &info, NULL, &made));
    return made;
}

/* Inlined: the function that asks for memory is the one that a stack names. */
static inline __attribute__((always_inline)) VkDeviceMemory allocate(VkDevice device,
                                                                     uint64_t bytes,
                                                                     const void *how,
                                                                     uint32_t type) {
    VkMemoryAllocateInfo info = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = how,
                                 .allocationSize = bytes, .memoryTypeIndex = type};
    VkDeviceMemory memory;
    CHECK(vkAllocateMemory(device, &info, NULL, &memory));
    return memory;
}

static VkDeviceMemory plain(VkDevice device, uint64_t bytes) {
    VkDeviceMemory memory = allocate(device, bytes, NULL, 0);
    ledger_alloc("plain", DEVICE, bytes, 0);
    return memory;
}

static void free_plain(VkDevice device, VkDeviceMemory memory, uint64_t bytes) {
    ledger_free("plain", DEVICE, bytes);
    vkFreeMemory(device, memory, NULL);
}

/* Of the first memory type that is not the device's own; nothing where there is none. */
static void locked(VkDevice device, uint64_t bytes) {
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(physical, &memory);
    for (uint32_t i = 0; i < memory.memoryTypeCount; i++) {
        if (memory.memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)
            continue;
        allocate(device, bytes, NULL, i);
        ledger_alloc("locked", "vulkan-pinned", bytes, 0);
        return;
    }
}

static VkDeviceMemory by_pointer(VkDevice device, uint64_t bytes) {
    PFN_vkAllocateMemory allocate =
        (PFN_vkAllocateMemory)vkGetDeviceProcAddr(device, "vkAllocateMemory");
    VkMemoryAllocateInfo info = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = bytes};
    VkDeviceMemory memory;
    CHECK(allocate(device, &info, NULL, &memory));
    ledger_alloc("by_pointer", DEVICE, bytes, 0);
    return memory;
}

static VkBuffer make_buffer(VkDevice device, uint64_t bytes) {
    VkBufferCreateInfo info = {VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes,
                               .usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VkBuffer buffer;
    CHECK(vkCreateBuffer(device, &info, NULL, &buffer));
    return buffer;
}

/* Also the program that really works: the device fills the buffer, the host reads what it wrote. */
static void dedicated(VkDevice device, uint64_t bytes) {
    VkBuffer buffer = make_buffer(device, bytes);
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(device, buffer, &needs);
    VkMemoryDedicatedAllocateInfo whose = {VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
                                           .buffer = buffer};
    VkDeviceMemory memory = allocate(device, needs.size, &whose, 0);
    ledger_alloc("dedicated", DEVICE, needs.size, 0);
    CHECK(vkBindBufferMemory(device, buffer, memory, 0));

    VkCommandPoolCreateInfo pool_info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    VkCommandPool pool;
    CHECK(vkCreateCommandPool(device, &pool_info, NULL, &pool));
    VkCommandBufferAllocateInfo want = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = pool, .commandBufferCount = 1};
    VkCommandBuffer commands;
    CHECK(vkAllocateCommandBuffers(device, &want, &commands));
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    CHECK(vkBeginCommandBuffer(commands, &begin));
    vkCmdFillBuffer(commands, buffer, 0, bytes, 0x5eed5eed);
    CHECK(vkEndCommandBuffer(commands));
    VkQueue queue;
    vkGetDeviceQueue(device, 0, 0, &queue);
    VkSubmitInfo submit = {VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1,
                           .pCommandBuffers = &commands};
    CHECK(vkQueueSubmit(queue, 1, &submit, VK_NULL_HANDLE));
    CHECK(vkQueueWaitIdle(queue));
    void *seen;
    CHECK(vkMapMemory(device, memory, 0, VK_WHOLE_SIZE, 0, &seen));
    for (uint64_t i = 0; i < bytes / 4; i++)
        EXPECT(((const uint32_t *)seen)[i] == 0x5eed5eed);
    vkUnmapMemory(device, memory);
    vkDestroyCommandPool(device, pool, NULL);
    vkDestroyBuffer(device, buffer, NULL);
    ledger_free("dedicated", DEVICE, needs.size);
    vkFreeMemory(device, memory, NULL);
}

static VkDeviceMemory exported(VkDevice device, uint64_t bytes, int *fd) {
    VkExportMemoryAllocateInfo how = {VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
                                      .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    VkDeviceMemory memory = allocate(device, bytes, &how, 0);
    ledger_alloc("exported", DEVICE, bytes, 0);
    PFN_vkGetMemoryFdKHR get =
        (PFN_vkGetMemoryFdKHR)vkGetDeviceProcAddr(device, "vkGetMemoryFdKHR");
    VkMemoryGetFdInfoKHR which = {VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR, .memory = memory,
                                  .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    CHECK(get(device, &which, fd));
    return memory;
}

/* The same memory once more: not counted. */
static VkDeviceMemory imported_fd(VkDevice device, uint64_t bytes, int fd) {
    VkImportMemoryFdInfoKHR from = {VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
                                    .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
                                    .fd = fd};
    return allocate(device, bytes, &from, 0);
}

/* The program's own host memory: not counted. */
static VkDeviceMemory imported_host(VkDevice device, uint64_t bytes, void *host) {
    VkImportMemoryHostPointerInfoEXT from = {
        VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, .pHostPointer = host};
    return allocate(device, bytes, &from, 0);
}

static void refused(VkDevice device) {
    VkMemoryAllocateInfo info = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .allocationSize = HUGE_BYTES};
    VkDeviceMemory memory;
    VkResult rc = vkAllocateMemory(device, &info, NULL, &memory);
    EXPECT(rc == VK_ERROR_OUT_OF_DEVICE_MEMORY || rc == VK_ERROR_OUT_OF_HOST_MEMORY);
    ledger_fail("refused", DEVICE, HUGE_BYTES);
}

static void kinds(void) {
    VkDevice device = make_device(physical);
    VkDeviceMemory freed = plain(device, 1 << 20);
    plain(device, 3 << 20);
    plain(device, 12345);
    by_pointer(device, 7 << 16);
    dedicated(device, 1 << 18);
    int fd;
    VkDeviceMemory shared = exported(device, 1 << 21, &fd);
    VkDeviceMemory alias = imported_fd(device, 1 << 21, fd);
    void *host = aligned_alloc(1 << 16, 1 << 16);
    VkDeviceMemory own = imported_host(device, 1 << 16, host);
    refused(device);
    free_plain(device, freed, 1 << 20);
    vkFreeMemory(device, VK_NULL_HANDLE, NULL);
    vkFreeMemory(device, alias, NULL);
    vkFreeMemory(device, own, NULL);
    ledger_tell();
    ledger_free("exported", DEVICE, 1 << 21);
    vkFreeMemory(device, shared, NULL);
    ledger_tell();
    vkDestroyDevice(device, NULL);
    ledger_drop_all();
    ledger_tell();
}

static void devices(void) {
    VkInstance many[40];
    VkDevice own[40], first = make_device(physical), second = make_device(physical);
    VkDeviceMemory a = plain(first, 4096), b = plain(second, 8192);
    for (int i = 0; i < 40; i++) {
        many[i] = make_instance();
        own[i] = make_device(first_physical(many[i]));
        plain(own[i], 1000 + (unsigned)i);
    }
    ledger_tell();
    for (int i = 0; i < 40; i++) {
        vkDestroyDevice(own[i], NULL);
        ledger_free("plain", DEVICE, 1000 + (unsigned)i);
        vkDestroyInstance(many[i], NULL);
    }
    free_plain(first, a, 4096);
    ledger_tell();
    free_plain(second, b, 8192);
    plain(first, 64);
    vkDestroyDevice(second, NULL);
    ledger_tell();
}

static VkDevice common;

static uint64_t make_shared(uint64_t bytes) {
    return (uintptr_t)plain(common, bytes);
}

static void release_shared(uint64_t memory, uint64_t bytes) {
    free_plain(common, (VkDeviceMemory)memory, bytes);
}

static void threads(void) {
    static const struct ledger_use use = {make_shared, release_shared};
    common = make_device(physical);
    ledger_share(&use);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    instance = make_instance();
    physical = first_physical(instance);
    if (strcmp(what, "kinds") == 0)
        kinds();
    else if (strcmp(what, "devices") == 0)
        devices();
    else if (strcmp(what, "threads") == 0)
        threads();
    else {
        VkDevice device = make_device(physical);
        plain(device, 1 << 20);
        by_pointer(device, 1 << 16);
        locked(device, 4321);
        ledger_tell();
    }
    return 0;
}
