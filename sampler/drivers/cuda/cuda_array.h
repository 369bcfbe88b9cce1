/*
 * cuda_array.h - how many bytes a CUDA array asks for, by its description.
 *
 * Threads: HOOK.
 */
#ifndef MP_CUDA_ARRAY_H
#define MP_CUDA_ARRAY_H

#include "cuda_abi.h"

/* Bytes of `width` x `height` x `depth` elements (0 counts as 1) without the driver's padding; 1 byte an
 * element and channel for a format that is not known. */
uint64_t mp_cuda_array_bytes_of(size_t width, size_t height, size_t depth, unsigned format,
                                unsigned channels);

uint64_t mp_cuda_array_bytes(const CUDA_ARRAY_DESCRIPTOR *array);

/* `levels` of a mipmap, each half as wide, high and deep as the one before; 1: an array. */
uint64_t mp_cuda_array3d_bytes(const CUDA_ARRAY3D_DESCRIPTOR *array, unsigned levels);

#endif
