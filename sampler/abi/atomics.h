/*
 * atomics.h - the few atomic operations the sampler uses, on plain integers.
 *
 * Two programs map the segment, and cffi reads its declarations, so its fields are plain integers and not
 * _Atomic; every access to a field that another thread may change uses these. Acquire loads pair with
 * release stores or with the release half of a successful compare-and-swap. The Threads paragraph in the
 * header of each table names the word that is loaded and stored like this.
 */
#ifndef MP_ATOMICS_H
#define MP_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#define mp_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define mp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define mp_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define mp_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define mp_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

/*
 * Fences for copying a row word by word under a version. The writer makes the version odd, calls
 * mp_fence_release(), and writes the words relaxed. The reader reads them relaxed, calls
 * mp_fence_acquire(), and reads the version again: if it read a new word, it reads a changed version. On
 * x86_64 the fences are no instruction. ThreadSanitizer does not support fences; to it, the relaxed
 * accesses are atomic anyway.
 */
#if defined(__SANITIZE_THREAD__)
#define mp_fence_acquire() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define mp_fence_release() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define mp_fence_all() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#else
#define mp_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define mp_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
#define mp_fence_all() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

/*
 * Add to a counter that only the calling thread writes. It is one instruction, so that a signal handler of
 * the thread may add to it as well, and it takes no bus lock, unlike an atomic add. The 64-bit one is a release.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
static inline void mp_add_own_u64(uint64_t *p, uint64_t v) {
    __asm__ volatile("addq %1, %0" : "+m"(*p) : "er"(v) : "cc", "memory");
}

static inline void mp_add_own_u32(uint32_t *p, uint32_t v) {
    __asm__ volatile("addl %1, %0" : "+m"(*p) : "er"(v) : "cc", "memory");
}
#else
static inline void mp_add_own_u64(uint64_t *p, uint64_t v) {
    __atomic_fetch_add(p, v, __ATOMIC_RELEASE);
}

static inline void mp_add_own_u32(uint32_t *p, uint32_t v) {
    __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
#endif

#define mp_likely(x) __builtin_expect(!!(x), 1)
#define mp_unlikely(x) __builtin_expect(!!(x), 0)

/* If *p is `expected`, store `desired` and return true. The order is acquire-release for every caller,
 * also for those that need no order. */
static inline bool mp_cas_u64(uint64_t *p, uint64_t expected, uint64_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static inline bool mp_cas_u32(uint32_t *p, uint32_t expected, uint32_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

#endif
