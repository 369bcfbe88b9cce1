/*
 * torch_pool.cc - an allocator for PyTorch's tensors of the host that announces its blocks as
 * torch_npu's caching pool does: what the pool has reserved, then the block.
 *
 * Built against PyTorch's own headers; `pool_begin` makes PyTorch use it.
 */
#include "mstx.h"

#include <c10/core/Allocator.h>

#include <cstdlib>
#include <cstring>
#include <new>

static const size_t alignment = 64, page = 2 << 20;
static mstxDomainHandle_t domain;
static size_t reserved, used;

static void reserve(const void *block) {
    mstxMemVirtualRangeDesc_t total = {0, block, reserved};
    mstxMemHeapDesc_t heap;
    std::memset(&heap, 0xa5, sizeof heap); /* what torch_npu does not set holds rubbish */
    heap.typeSpecificDesc = &total;
    mstxMemHeapRegister(domain, &heap);
}

/* The bytes of a block stand before it. */
static void freed(void *block) {
    size_t *head = reinterpret_cast<size_t *>(static_cast<char *>(block) - alignment);
    used -= *head;
    reserve(block);
    mstxMemRegionRef_t ref;
    std::memset(&ref, 0, sizeof ref);
    ref.pointer = block;
    mstxMemRegionsUnregisterBatch_t batch = {1, &ref};
    mstxMemRegionsUnregister(domain, &batch);
    std::free(head);
}

class Pool final : public c10::Allocator {
  public:
    c10::DataPtr allocate(size_t bytes) override {
        if (bytes == 0)
            return {nullptr, nullptr, &freed, c10::Device(c10::DeviceType::CPU)};
        size_t whole = alignment + (bytes + alignment - 1) / alignment * alignment;
        char *head = static_cast<char *>(std::aligned_alloc(alignment, whole));
        if (head == nullptr)
            throw std::bad_alloc();
        *reinterpret_cast<size_t *>(head) = bytes;
        void *block = head + alignment;
        used += bytes;
        reserved = used > reserved ? (used + page - 1) / page * page : reserved;
        reserve(block);
        mstxMemVirtualRangeDesc_t range = {0, block, bytes};
        mstxMemRegionsRegisterBatch_t batch;
        std::memset(&batch, 0xa5, sizeof batch);
        batch.regionCount = 1;
        batch.regionDescArray = &range;
        mstxMemRegionsRegister(domain, &batch);
        return {block, block, &freed, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override {
        return &freed;
    }
    void copy_data(void *to, const void *from, size_t bytes) const override {
        default_copy_data(to, from, bytes);
    }
};

extern "C" void pool_begin(void) {
    static Pool pool;
    domain = mstxDomainCreateA("ptaCaching");
    c10::SetAllocator(c10::DeviceType::CPU, &pool, 255);
}
