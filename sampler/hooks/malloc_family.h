/*
 * malloc_family.h - the functions that the sampler wraps: one list that declares, resolves and redirects
 * them. exports.map names them once more.
 *
 * One line each: X(name, id, needed, result, parameters, arguments)
 *   id       MP_HOOK_<id> is frame 0 of the stacks recorded
 *   needed   every C library has it since glibc 2.17; the others are NULL where neither C library nor
 *            allocator has them:
 *              reallocarray           glibc 2.26; jemalloc and tcmalloc lack it: the C library's
 *              calls realloc
 *              aligned_alloc          glibc 2.16
 *              memalign valloc pvalloc   glibc has all, musl lacks valloc and pvalloc
 */
#ifndef MP_MALLOC_FAMILY_H
#define MP_MALLOC_FAMILY_H

/* clang-format off */
#define MP_MALLOC_ALLOCATING(X)                                                                    \
    X(malloc, MALLOC, true, void *, (size_t size), (size))                                         \
    X(calloc, CALLOC, true, void *, (size_t n, size_t size), (n, size))                            \
    X(realloc, REALLOC, true, void *, (void *p, size_t size), (p, size))                           \
    X(reallocarray, REALLOCARRAY, false, void *, (void *p, size_t n, size_t size), (p, n, size))   \
    X(posix_memalign, POSIX_MEMALIGN, true, int, (void **out, size_t alignment, size_t size),      \
      (out, alignment, size))                                                                      \
    X(aligned_alloc, ALIGNED_ALLOC, false, void *, (size_t alignment, size_t size),                \
      (alignment, size))                                                                           \
    X(memalign, MEMALIGN, false, void *, (size_t alignment, size_t size), (alignment, size))       \
    X(valloc, VALLOC, false, void *, (size_t size), (size))                                        \
    X(pvalloc, PVALLOC, false, void *, (size_t size), (size))

/* Frees record no stack. */
#define MP_MALLOC_FAMILY(X)                                                                        \
    MP_MALLOC_ALLOCATING(X)                                                                        \
    X(free, none, true, void, (void *p), (p))
/* clang-format on */

#endif
