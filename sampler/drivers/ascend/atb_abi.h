/*
 * atb_abi.h - the part of the interface of Ascend's library of transformer operators (ATB) that the wrappers read.
 *
 * Source: its published headers, atb/types.h and atb/svector.h, and the description of a runner's pack in its
 * sources (atb/utils/runner_variant_pack.h), which is not a public interface: numbers in it are
 * checked.
 */
#ifndef MP_ATB_ABI_H
#define MP_ATB_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_ATB_INLINE 64u   /* elements of a list that are in the list itself */
#define MP_ATB_MOST 256u    /* elements of any list */
#define MP_ATB_DIMENSIONS 8u

struct atb_tensor {
    int32_t type;
    int32_t format;
    int64_t dimension[MP_ATB_DIMENSIONS];
    uint64_t dimensions;
    void *device_data;
    void *host_data;
    uint64_t bytes;
};

struct atb_tensors {
    size_t capacity;
    size_t size;
    struct atb_tensor inside[MP_ATB_INLINE + 1];
    struct atb_tensor *heap; /* NULL: they are inside */
};

struct atb_flags {
    size_t capacity;
    size_t size;
    bool inside[MP_ATB_INLINE + 1];
    bool *heap;
};

/* More fields follow. */
struct atb_pack {
    struct atb_tensors in;
    struct atb_tensors out;
    struct atb_flags in_can_free;
    struct atb_flags out_needs_memory;
    uint8_t *host_tiling;
    uint8_t *tiling;
    uint64_t tiling_bytes;
    uint8_t *workspace;
    uint64_t workspace_bytes;
    uint8_t *intermediate;
    uint64_t intermediate_bytes;
};

/* std::string of C++11 in libstdc++; in the one before, a pointer to the text, whose length is three words before. */
struct atb_string {
    const char *text;
    size_t bytes;
};

#endif
