// Exceptions in flight: unwinding from destructors, handlers, and while the runtime allocates.
#include <pthread.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include "check.h"
#include "unwind_oracle.h"
}

namespace {

__attribute__((noinline)) void complete(const char *where) {
    CHECK(oracle_check(where) == MP_UNWIND_OUTERMOST);
    asm volatile("" ::: "memory");
}

struct guard {
    ~guard() {
        complete("destructor while unwinding");
    }
};

__attribute__((noinline)) int thrower(int depth) {
    guard g;
    std::string text(static_cast<size_t>(depth) * 7, 'x');
    if (depth == 0) {
        throw std::runtime_error("thrown");
    }
    return thrower(depth - 1) + static_cast<int>(text.size());
}

__attribute__((noinline)) void catcher(int depth) {
    try {
        thrower(depth);
    } catch (const std::exception &) {
        complete("catch");
        try {
            throw;
        } catch (...) {
            complete("catch of a rethrown exception");
        }
    }
}

template <typename T> __attribute__((noinline)) T generic(T value) {
    auto call = [&](T other) {
        complete("lambda");
        return other + value;
    };
    return call(value);
}

struct base {
    virtual ~base() = default;
    virtual int run(int n) = 0;
};

struct derived : base {
    int run(int n) override {
        std::vector<int> many(static_cast<size_t>(n), 1);
        complete("virtual function");
        return many[0];
    }
};

// The same on another stack.
void *thread(void *) {
    for (int i = 0; i < 200; i++) {
        try {
            thrower(0);
        } catch (const std::exception &) {
        }
    }
    return nullptr;
}

} // namespace

int main() {
    CASE("exceptions");
    oracle_init(MP_UNWIND_CFI, true);
    catcher(0);
    catcher(12);
    CHECK(generic(3) == 6);
    CHECK(generic(2.5) == 5.0);
    derived d;
    base *b = &d;
    CHECK(b->run(3) == 1);
    pthread_t id;
    pthread_create(&id, nullptr, thread, nullptr);
    pthread_join(id, nullptr);
    CHECK(oracle_checks() > 200);
    CHECK(oracle_failures() == 0);
    return check_end();
}
