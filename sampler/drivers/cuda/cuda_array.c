/*
 * cuda_array.c - see cuda_array.h. Formats: CUarray_format of cuda.h.
 */
#include "cuda_array.h"

struct format {
    uint8_t first, last;
    uint8_t bits; /* of an element; of a channel where per_channel; of a 4 x 4 block where block */
    uint8_t per_channel;
    uint8_t block;
};

static const struct format formats[] = {
    {0x01, 0x01, 8, 1, 0},   {0x02, 0x02, 16, 1, 0},
    {0x03, 0x03, 32, 1, 0}, /* unsigned */
    {0x08, 0x08, 8, 1, 0},   {0x09, 0x09, 16, 1, 0},
    {0x0a, 0x0a, 32, 1, 0}, /* signed */
    {0x10, 0x10, 16, 1, 0},  {0x20, 0x20, 32, 1, 0}, /* half, float */
    {0x50, 0x50, 32, 0, 0}, /* 10, 10, 10, 2 */
    {0x91, 0x92, 64, 0, 1},  {0x93, 0x96, 128, 0, 1},
    {0x97, 0x98, 64, 0, 1}, /* BC1, 2-3, 4 */
    {0x99, 0x9e, 128, 0, 1}, /* BC5 to 7 */
    {0x9f, 0x9f, 24, 0, 0},  {0xa1, 0xa1, 24, 0, 0}, /* P010, P016 */
    {0xa2, 0xa2, 16, 0, 0},  {0xa3, 0xa4, 32, 0, 0}, /* NV16, P210 and P216 */
    {0xa5, 0xa5, 16, 0, 0},  {0xa6, 0xa7, 32, 0, 0}, /* YUY2, Y210 and Y216 */
    {0xa8, 0xa9, 32, 0, 0},  {0xb1, 0xb1, 64, 0, 0}, /* AYUV and Y410, Y416 */
    {0xb0, 0xb0, 12, 0, 0}, /* NV12 */
    {0xb2, 0xb2, 24, 0, 0},  {0xb3, 0xb3, 48, 0, 0},
    {0xb4, 0xb4, 24, 0, 0}, /* YUV 4:4:4 */
    {0xb5, 0xb5, 48, 0, 0},  {0xc0, 0xc2, 8, 1, 0},
    {0xc3, 0xc5, 16, 1, 0}, /* unsigned normalized */
    {0xc6, 0xc8, 8, 1, 0},   {0xc9, 0xcb, 16, 1, 0}, /* signed normalized */
};

static size_t at_least_1(size_t n) {
    return n != 0 ? n : 1;
}

uint64_t mp_cuda_array_bytes_of(size_t width, size_t height, size_t depth, unsigned format,
                                unsigned channels) {
    struct format found = {.bits = 8, .per_channel = 1};
    for (unsigned i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (format >= formats[i].first && format <= formats[i].last)
            found = formats[i];
    uint64_t w = at_least_1(width), h = at_least_1(height), d = at_least_1(depth);
    if (found.block)
        return (w + 3) / 4 * ((h + 3) / 4) * d * found.bits / 8;
    return w * h * d * found.bits * (found.per_channel ? at_least_1(channels) : 1) / 8;
}

uint64_t mp_cuda_array_bytes(const CUDA_ARRAY_DESCRIPTOR *array) {
    if (array == NULL)
        return 0;
    return mp_cuda_array_bytes_of(array->Width, array->Height, 1, array->Format,
                                  array->NumChannels);
}

uint64_t mp_cuda_array3d_bytes(const CUDA_ARRAY3D_DESCRIPTOR *array, unsigned levels) {
    uint64_t bytes = 0;
    for (unsigned level = 0; array != NULL && level < levels && level < 32; level++)
        bytes += mp_cuda_array_bytes_of(array->Width >> level, array->Height >> level,
                                        array->Depth >> level, array->Format, array->NumChannels);
    return bytes;
}
