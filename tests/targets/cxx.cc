/*
 * cxx.cc - new and delete in all their forms, containers, and exceptions through frames that own memory.
 */
#include "target.h"

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct alignas(128) Wide {
    char bytes[256];
};

static void *kept[8];

static void new_kept() {
    kept[0] = keep(new char[1000]);
    kept[1] = keep(new Wide);
    kept[2] = keep(new (std::nothrow) int[25]);
    kept[3] = keep(::operator new(333));
}

static void new_deleted() {
    delete[] static_cast<char *>(keep(new char[1000]));
    delete static_cast<Wide *>(keep(new Wide));
    ::operator delete(keep(::operator new(55)), static_cast<size_t>(55));
}

static void throw_deep(int depth) {
    std::unique_ptr<std::string> owned(new std::string(200, 'x'));
    keep(owned.get());
    if (depth == 0)
        throw std::runtime_error(std::string(100, 'e'));
    throw_deep(depth - 1);
}

static int catch_many(int n) {
    int caught = 0;
    for (int i = 0; i < n; i++) {
        try {
            throw_deep(20);
        } catch (const std::exception &) {
            caught++;
        }
    }
    return caught;
}

static int refuse_too_much() {
    int caught = 0;
    volatile size_t huge = static_cast<size_t>(1) << 62;
    try {
        keep(::operator new(huge));
    } catch (const std::bad_alloc &) {
        caught++;
    }
    if (::operator new(huge, std::nothrow) == nullptr)
        caught++;
    return caught;
}

int main() {
    new_kept();
    new_deleted();
    EXPECT(catch_many(200) == 200);
    EXPECT(refuse_too_much() == 2);
    int caught = 0;
    std::thread thread([&caught] { caught = catch_many(200); });
    thread.join();
    EXPECT(caught == 200);
    say("caught");
    return 0;
}
