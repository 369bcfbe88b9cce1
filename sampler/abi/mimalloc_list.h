/*
 * mimalloc_list.h - the functions of mimalloc that allocate and free: the one list, for slots that lead to a shared
 * libmimalloc (hooks/hooks_mimalloc.c) and for entry points inside a program (entries/names.py, which explains the
 * letters).
 *
 * X(name, signature); h is the heap, if not the thread's own. Of mimalloc.h 1.8 to 3.2. Not here: mi_heap_destroy(),
 * which ends all blocks of a heap, and what copies texts (mi_strdup), whose blocks go unseen.
 */
#ifndef MP_MIMALLOC_LIST_H
#define MP_MIMALLOC_LIST_H

/* clang-format off */
#define MP_MIMALLOC_LIST(X)                                                                        \
    X(mi_malloc, "A:s") X(mi_zalloc, "A:s") X(mi_malloc_small, "A:s") X(mi_zalloc_small, "A:s")    \
    X(mi_calloc, "A:ns") X(mi_mallocn, "A:ns") X(mi_realloc, "R:bs") X(mi_reallocn, "R:bns")       \
    X(mi_reallocf, "r:bs") X(mi_rezalloc, "R:bs") X(mi_recalloc, "R:bns") X(mi_expand, "R:bs")     \
    X(mi_reallocarray, "R:bns") X(mi_reallocarr, "I:bns") X(mi_free, "F:b") X(mi_cfree, "F:b")     \
    X(mi_free_small, "F:b") X(mi_theap_realloc, "R:hbs") X(mi_free_size, "F:b-") X(mi_free_size_aligned, "F:b--") X(mi_free_aligned, "F:b-")            \
    X(mi_malloc_aligned, "A:s-") X(mi_malloc_aligned_at, "A:s--") X(mi_zalloc_aligned, "A:s-")     \
    X(mi_zalloc_aligned_at, "A:s--") X(mi_calloc_aligned, "A:ns-")                                 \
    X(mi_calloc_aligned_at, "A:ns--") X(mi_realloc_aligned, "R:bs-")                               \
    X(mi_realloc_aligned_at, "R:bs--") X(mi_rezalloc_aligned, "R:bs-")                             \
    X(mi_rezalloc_aligned_at, "R:bs--") X(mi_recalloc_aligned, "R:bns-")                           \
    X(mi_recalloc_aligned_at, "R:bns--") X(mi_posix_memalign, "P:b-s") X(mi_memalign, "A:-s")      \
    X(mi_valloc, "A:s") X(mi_pvalloc, "A:s") X(mi_aligned_alloc, "A:-s") X(mi_new, "A:s")          \
    X(mi_new_aligned, "A:s-") X(mi_new_nothrow, "A:s") X(mi_new_aligned_nothrow, "A:s-")           \
    X(mi_new_n, "A:ns") X(mi_new_realloc, "R:bs") X(mi_new_reallocn, "R:bns")                      \
    X(mi_heap_malloc, "A:hs") X(mi_heap_zalloc, "A:hs") X(mi_heap_malloc_small, "A:hs")            \
    X(mi_heap_zalloc_small, "A:hs") X(mi_heap_calloc, "A:hns") X(mi_heap_mallocn, "A:hns")         \
    X(mi_heap_realloc, "R:hbs") X(mi_heap_reallocn, "R:hbns") X(mi_heap_reallocf, "r:hbs")         \
    X(mi_heap_rezalloc, "R:hbs") X(mi_heap_recalloc, "R:hbns") X(mi_heap_malloc_aligned, "A:hs-")  \
    X(mi_heap_malloc_aligned_at, "A:hs--") X(mi_heap_zalloc_aligned, "A:hs-")                      \
    X(mi_heap_zalloc_aligned_at, "A:hs--") X(mi_heap_calloc_aligned, "A:hns-")                     \
    X(mi_heap_calloc_aligned_at, "A:hns--") X(mi_heap_realloc_aligned, "R:hbs-")                   \
    X(mi_heap_realloc_aligned_at, "R:hbs--") X(mi_heap_rezalloc_aligned, "R:hbs-")                 \
    X(mi_heap_rezalloc_aligned_at, "R:hbs--") X(mi_heap_recalloc_aligned, "R:hbns-")               \
    X(mi_heap_alloc_new, "A:hs") X(mi_heap_alloc_new_n, "A:hns") X(mi_umalloc, "A:s-")             \
    X(mi_umalloc_small, "A:s-") X(mi_uzalloc_small, "A:s-") X(mi_ucalloc, "A:ns-")                 \
    X(mi_urealloc, "R:bs--") X(mi_umalloc_aligned, "A:s--") X(mi_uzalloc_aligned, "A:s--")         \
    X(mi_ufree, "F:b-")
/* clang-format on */

#endif
