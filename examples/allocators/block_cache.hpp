// block_cache.hpp - a cache of blocks of one size in pages of its own, the oldest given up first; each block is in the
// profile with the stack that brought it in.
#ifndef BLOCK_CACHE_HPP
#define BLOCK_CACHE_HPP

#include <mem_profiler.h>

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

class block_cache {
public:
    block_cache(const char *name, std::size_t block_bytes, std::size_t blocks)
        : block_bytes_(block_bytes), blocks_(blocks) {
        mem_profiler_heap_init(&heap_, name, MEM_PROFILER_EXACT | MEM_PROFILER_OWN_PAGES);
        void *pages = mmap(nullptr, block_bytes * blocks, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED)
            throw std::bad_alloc();
        pages_ = static_cast<char *>(pages);
        for (std::size_t i = blocks; i-- > 0;)
            free_.push_back(pages_ + i * block_bytes);
    }
    ~block_cache() {
        mem_profiler_heap_end(&heap_);
        munmap(pages_, block_bytes_ * blocks_);
    }
    block_cache(const block_cache &) = delete;
    block_cache &operator=(const block_cache &) = delete;

    // The block of a key; `is_new`: the caller fills it.
    char *get(std::uint64_t key, bool *is_new) {
        std::lock_guard<std::mutex> lock(mutex_);
        auto found = by_key_.find(key);
        *is_new = found == by_key_.end();
        if (!*is_new)
            return found->second;
        if (free_.empty())
            give_up_oldest();
        char *block = free_.back();
        free_.pop_back();
        order_.push_back(key);
        by_key_[key] = block;
        mem_profiler_report_allocation(&heap_, block, block_bytes_);
        return block;
    }

    std::size_t blocks_in_use() {
        std::lock_guard<std::mutex> lock(mutex_);
        return by_key_.size();
    }

private:
    void give_up_oldest() {
        auto oldest = by_key_.find(order_.front());
        order_.pop_front();
        mem_profiler_report_free(&heap_, oldest->second);
        free_.push_back(oldest->second);
        by_key_.erase(oldest);
    }

    mem_profiler_heap heap_;
    std::size_t block_bytes_, blocks_;
    char *pages_;
    std::mutex mutex_;
    std::vector<char *> free_;
    std::list<std::uint64_t> order_;
    std::unordered_map<std::uint64_t, char *> by_key_;
};

#endif
