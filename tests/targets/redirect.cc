/*
 * redirect.cc - blocks from each entry point of an allocator, one function of ours per entry point.
 *
 * Each function allocates 10 blocks of a size of its own and frees 4 of them the matching way. With the path of a
 * plugin as argument, that is opened and asked for blocks too. Built in many ways by the tests.
 */
#include "target.h"

#include <dlfcn.h>
#include <malloc.h>
#include <memory_resource>
#include <new>
#include <string>

#define N 10
#define FREED 4
#define EACH(allocate, release)                                                                    \
    do {                                                                                           \
        for (int i = 0; i < N; i++) {                                                              \
            auto *p = static_cast<char *>(keep(allocate));                                         \
            if (p == nullptr)                                                                      \
                _exit(93);                                                                         \
            if (i < FREED) {                                                                       \
                release;                                                                           \
            }                                                                                      \
        }                                                                                          \
    } while (0)

extern "C" {
void *mallocx(size_t, int) __attribute__((weak));
void *rallocx(void *, size_t, int) __attribute__((weak));
size_t xallocx(void *, size_t, size_t, int) __attribute__((weak));
void dallocx(void *, int) __attribute__((weak));
void sdallocx(void *, size_t, int) __attribute__((weak));
void *tc_malloc(size_t) __attribute__((weak));
void tc_free(void *) __attribute__((weak));
void *mi_malloc(size_t) __attribute__((weak));
void *mi_calloc(size_t, size_t) __attribute__((weak));
void *mi_calloc_aligned_at(size_t, size_t, size_t, size_t) __attribute__((weak));
void *mi_realloc(void *, size_t) __attribute__((weak));
void mi_free(void *) __attribute__((weak));
void *mi_heap_new(void) __attribute__((weak));
void mi_heap_delete(void *) __attribute__((weak));
void mi_heap_destroy(void *) __attribute__((weak));
void *mi_heap_set_default(void *) __attribute__((weak));
void *mi_heap_malloc(void *, size_t) __attribute__((weak));
void *mi_heap_malloc_aligned(void *, size_t, size_t) __attribute__((weak));
void *mi_heap_realloc(void *, void *, size_t) __attribute__((weak));

void by_malloc() {
    EACH(malloc(101), free(p));
}

void by_calloc() {
    EACH(calloc(1, 102), free(p));
}

void by_realloc() {
    EACH(realloc(malloc(11), 103), free(p));
}

void by_posix_memalign() {
    void *q = nullptr;
    EACH(posix_memalign(&q, 64, 104) == 0 ? q : nullptr, free(p));
}

void by_pointer() {
    void *(*volatile allocate)(size_t) = &malloc;
    void (*volatile release)(void *) = &free;
    EACH(allocate(105), release(p));
}

void by_new() {
    EACH(::operator new(106), ::operator delete(p));
}

void by_new_array() {
    EACH(::operator new[](107), ::operator delete[](p));
}

void by_new_nothrow() {
    EACH(::operator new(108, std::nothrow), ::operator delete(p, std::nothrow));
}

void by_new_aligned() {
    EACH(::operator new(109, std::align_val_t(64)), ::operator delete(p, std::align_val_t(64)));
}

void by_new_sized() {
    EACH(::operator new(110), ::operator delete(p, size_t(110)));
}

void by_table() {
    static void *(*volatile table[])(size_t) = {malloc, ::operator new};
    EACH(table[0](111), free(p));
}

/* The calls come from libstdc++, which defines these operators itself. */
void by_string() {
    alignas(std::string) static char kept[N][sizeof(std::string)]; /* none ends with the program */
    for (int i = 0; i < N; i++) {
        auto *text = new (kept[i]) std::string;
        text->reserve(119);
        if (i < FREED) {
            text->clear();
            text->shrink_to_fit();
        }
    }
}

void by_resource() {
    std::pmr::memory_resource *resource = std::pmr::new_delete_resource();
    EACH(resource->allocate(192, 64), resource->deallocate(p, 192, 64));
}

void by_mallocx() {
    EACH(mallocx(112, 0), (i % 2 ? dallocx(p, 0) : sdallocx(p, 112, 0)));
}

void by_rallocx() {
    EACH(rallocx(mallocx(10000, 0), 113, 0), dallocx(p, 0));
}

void by_tc_malloc() {
    EACH(tc_malloc(114), tc_free(p));
}

void by_mi_malloc() {
    EACH(mi_malloc(115), mi_free(p));
}

void by_mi_calloc() {
    EACH(mi_calloc(2, 58), mi_free(p));
}

void by_mi_realloc() {
    EACH(mi_realloc(mi_calloc_aligned_at(1, 11, 64, 8), 117), free(p));
}

/* Of the blocks of two heaps those of the one go on in the default heap, those of the other end. */
void by_mi_heap() {
    void *heap = mi_heap_new();
    EACH(mi_heap_malloc(heap, 118), mi_free(p));
    mi_heap_delete(heap);
}

void by_mi_heap_destroy() {
    void *heap = mi_heap_new();
    void *before = mi_heap_set_default(heap);
    for (int i = 0; i < 1000; i++)
        keep(mi_heap_realloc(heap, mi_heap_malloc_aligned(heap, 24, 256), 5000));
    keep(malloc(119));
    mi_heap_set_default(before);
    mi_heap_destroy(heap);
}
}

static int refused() {
    volatile size_t huge = size_t(1) << 62;
    try {
        keep(::operator new(huge));
    } catch (const std::bad_alloc &) {
        return ::operator new(huge, std::nothrow) == nullptr;
    }
    return 0;
}

static void ask_plugin(const char *path, int flags) {
    void *library = dlopen(path, flags);
    if (library == nullptr) {
        say("%s", dlerror());
        _exit(94);
    }
    auto *plugin = reinterpret_cast<void (*)()>(dlsym(library, "plugin_allocate"));
    EXPECT(plugin != nullptr);
    EXPECT(dlsym(RTLD_DEFAULT, "malloc") != nullptr);
    plugin();
}

int main(int argc, char **argv) {
    by_malloc();
    by_calloc();
    by_realloc();
    by_posix_memalign();
    by_pointer();
    by_new();
    by_new_array();
    by_new_nothrow();
    by_new_aligned();
    by_new_sized();
    by_table();
    by_string();
    by_resource();
    if (mallocx != nullptr) {
        by_mallocx();
        by_rallocx();
    }
    if (tc_malloc != nullptr)
        by_tc_malloc();
    if (mi_malloc != nullptr) {
        by_mi_malloc();
        by_mi_calloc();
        if (mi_heap_new != nullptr) {
            by_mi_realloc();
            by_mi_heap();
            by_mi_heap_destroy();
        }
    }
    if (mi_heap_new ==
        nullptr) /* Debian's is built as C: it ends the program instead of throwing */
        EXPECT(refused() == 1);
    if (argc > 1)
        ask_plugin(argv[1], argc > 2 ? RTLD_NOW | RTLD_DEEPBIND : RTLD_LAZY);
    say("mallocx %d tc_malloc %d", mallocx != nullptr, tc_malloc != nullptr);
    return 0;
}
