/*
 * check.h - the whole of the C test harness: named cases, checks that go on, one closing line.
 *
 *   int main(void) { CASE("what holds"); CHECK(1 + 1 == 2); return check_end(); }
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

/* ThreadSanitizer says nothing of cases with one thread, and makes each access ten times slower. */
#ifdef __SANITIZE_THREAD__
enum { CHECK_ONE_THREAD = 0 };
#else
enum { CHECK_ONE_THREAD = 1 };
#endif

static const char *check_case = "";
static unsigned check_passed, check_failed;

#define CASE(name) (check_case = (name))

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (condition) {                                                                           \
            __atomic_fetch_add(&check_passed, 1, __ATOMIC_RELAXED);                                \
        } else {                                                                                   \
            __atomic_fetch_add(&check_failed, 1, __ATOMIC_RELAXED);                                \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, check_case, #condition);        \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        uint64_t check_a_ = (uint64_t)(a), check_b_ = (uint64_t)(b);                               \
        if (check_a_ == check_b_) {                                                                \
            __atomic_fetch_add(&check_passed, 1, __ATOMIC_RELAXED);                                \
        } else {                                                                                   \
            __atomic_fetch_add(&check_failed, 1, __ATOMIC_RELAXED);                                \
            fprintf(stderr, "%s:%d: %s: %s == %s: %" PRIu64 " != %" PRIu64 "\n", __FILE__,         \
                    __LINE__, check_case, #a, #b, check_a_, check_b_);                             \
        }                                                                                          \
    } while (0)

static inline int check_end(void) {
    printf("%u passed, %u failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
