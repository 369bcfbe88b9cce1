// reported_resource.hpp - a std::pmr::memory_resource that reports what it hands out to mem_profiler.
//
//     std::pmr::monotonic_buffer_resource buffer;
//     reported_resource requests("requests", &buffer);
//     std::pmr::vector<int> v(&requests);
#ifndef REPORTED_RESOURCE_HPP
#define REPORTED_RESOURCE_HPP

#include <mem_profiler.h>

#include <cstddef>
#include <memory_resource>

class reported_resource : public std::pmr::memory_resource {
public:
    explicit reported_resource(const char *name,
                               std::pmr::memory_resource *upstream = std::pmr::get_default_resource(),
                               unsigned flags = MEM_PROFILER_ARENA)
        : upstream_(upstream) {
        mem_profiler_heap_init(&heap_, name, flags);
    }
    ~reported_resource() override { mem_profiler_heap_end(&heap_); }
    reported_resource(const reported_resource &) = delete;
    reported_resource &operator=(const reported_resource &) = delete;

    // Call it beside release() of a monotonic or pool resource upstream.
    void reset() { mem_profiler_heap_reset(&heap_); }

private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override {
        void *block = upstream_->allocate(bytes, alignment);
        mem_profiler_report_allocation(&heap_, block, bytes);
        return block;
    }
    void do_deallocate(void *block, std::size_t bytes, std::size_t alignment) override {
        mem_profiler_report_free(&heap_, block);
        upstream_->deallocate(block, bytes, alignment);
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
        return this == &other;
    }

    mem_profiler_heap heap_;
    std::pmr::memory_resource *upstream_;
};

#endif
