/*
 * cxx_heaps.cc - a memory resource and a block cache that report, and what is true of them, line by line on stdin:
 *
 *   vectors N   N vectors of 100 ints on the resource, of which every other one stays
 *   release     the resource gives up all
 *   pages N     N keys of the cache, each new
 *
 * Answers: blocks and bytes ever allocated and in use, of the resource and of the cache.
 */
#include "../../examples/allocators/block_cache.hpp"
#include "../../examples/allocators/reported_resource.hpp"

#include <cstdio>
#include <cstring>
#include <unistd.h>
#include <vector>

/* Between the reporting resource and the buffer: counts what is true. */
class ledger : public std::pmr::memory_resource {
public:
    unsigned long blocks = 0, bytes = 0, live_blocks = 0, live_bytes = 0;
    std::pmr::monotonic_buffer_resource buffer;

private:
    void *do_allocate(std::size_t n, std::size_t alignment) override {
        blocks++;
        live_blocks++;
        bytes += n;
        live_bytes += n;
        return buffer.allocate(n, alignment);
    }
    void do_deallocate(void *p, std::size_t n, std::size_t alignment) override {
        live_blocks--;
        live_bytes -= n;
        buffer.deallocate(p, n, alignment);
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
        return this == &other;
    }
};

static ledger truth;
static block_cache cache("pages", 4096, 64);
static unsigned long key;

__attribute__((noinline)) static void parse_request(std::pmr::memory_resource *from, bool stays) {
    using numbers = std::pmr::vector<int>;
    auto *v = static_cast<numbers *>(from->allocate(sizeof(numbers), alignof(numbers)));
    new (v) numbers(100, 7, from);
    if (!stays) {
        v->~numbers();
        from->deallocate(v, sizeof(numbers), alignof(numbers));
    }
}

__attribute__((noinline)) static void read_page() {
    bool is_new;
    char *page = cache.get(++key, &is_new);
    if (is_new)
        std::memset(page, 1, 4096);
}

int main() {
    reported_resource requests("cxx requests", &truth);
    char line[128], word[16];
    setvbuf(stdin, nullptr, _IOLBF, 4096);
    setvbuf(stdout, nullptr, _IOLBF, 4096);
    std::strcpy(line, "start");
    do {
        unsigned long n = 0;
        if (std::sscanf(line, "%15s %lu", word, &n) < 1)
            return 2;
        if (std::strcmp(word, "vectors") == 0) {
            for (unsigned long i = 0; i < n; i++)
                parse_request(&requests, i % 2 == 0);
        } else if (std::strcmp(word, "release") == 0) {
            requests.reset();
            truth.buffer.release();
            truth.live_blocks = truth.live_bytes = 0;
        } else if (std::strcmp(word, "pages") == 0) {
            for (unsigned long i = 0; i < n; i++)
                read_page();
        }
        unsigned long pages = cache.blocks_in_use();
        std::printf("%d %lu %lu %lu %lu %lu %lu %lu %lu\n", getpid(), truth.blocks, truth.bytes,
                    truth.live_blocks, truth.live_bytes, key, key * 4096, pages, pages * 4096);
    } while (std::fgets(line, sizeof line, stdin) != nullptr);
    return 0;
}
