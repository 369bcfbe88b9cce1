/*
 * cuda_abi.h - the part of CUDA's interfaces used by the wrappers: types, values and structures.
 *
 * Source: cuda.h and driver_types.h of CUDA 12.9; a test compares sizes, offsets and signatures with the published
 * headers. Enumerations are passed as int; handles of which only the value matters are pointers.
 */
#ifndef MP_CUDA_ABI_H
#define MP_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUmemGenericAllocationHandle;
typedef uint64_t cuuint64_t;
typedef unsigned int CUmemAllocationHandleType;
typedef unsigned int CUdriverProcAddressQueryResult;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUmemPoolHandle_st *CUmemoryPool;
typedef struct CUarray_st *CUarray;
typedef struct CUmipmappedArray_st *CUmipmappedArray;
typedef struct CUmemPoolPtrExportData_st CUmemPoolPtrExportData;
typedef struct CUmemPoolProps_st CUmemPoolProps;

typedef struct {
    char reserved[64];
} CUipcMemHandle;

typedef struct {
    size_t Width;
    size_t Height;
    unsigned int Format; /* enum cuda_format */
    unsigned int NumChannels;
} CUDA_ARRAY_DESCRIPTOR;

typedef struct {
    size_t Width;
    size_t Height;
    size_t Depth;
    unsigned int Format;
    unsigned int NumChannels;
    unsigned int Flags; /* enum cuda_array_flags */
} CUDA_ARRAY3D_DESCRIPTOR;

typedef struct {
    unsigned int type;
    unsigned int requestedHandleTypes;
    struct {
        unsigned int type; /* enum cuda_location */
        int id;
    } location;
    void *win32HandleMetaData;
    unsigned char allocFlags[8];
} CUmemAllocationProp;

enum cuda_result { MP_CUDA_SUCCESS = 0, MP_CUDA_OUT_OF_MEMORY = 2 };
enum cuda_location { MP_CUDA_LOCATION_DEVICE = 1 };
enum cuda_array_flags { MP_CUDA_ARRAY_SPARSE = 0x40, MP_CUDA_ARRAY_DEFERRED = 0x80 };
/* cudaChannelFormatKind: block-compressed ones are in the order of CUarray_format. */
enum cuda_channels { MP_CUDA_KIND_NV12 = 4, MP_CUDA_KIND_BC1 = 17, MP_CUDA_KIND_BC7_SRGB = 30 };
enum cuda_array_format {
    MP_CUDA_FORMAT_BYTE = 0x01,
    MP_CUDA_FORMAT_BC1 = 0x91,
    MP_CUDA_FORMAT_NV12 = 0xb0,
};
enum cuda_capture { MP_CUDA_CAPTURE_NONE = 0 };
enum cuda_lookup { MP_CUDA_LOOKUP_PER_THREAD = 2 };

/* Streams that are no handles: 0 is the one or the other by the variant of the function. */
#define MP_CUDA_STREAM_LEGACY ((CUstream)1)
#define MP_CUDA_STREAM_PER_THREAD ((CUstream)2)

typedef int cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUmemPoolHandle_st *cudaMemPool_t;
typedef struct cudaArray *cudaArray_t;
typedef struct cudaMipmappedArray *cudaMipmappedArray_t;
struct cudaPitchedPtr {
    void *ptr;
    size_t pitch, xsize, ysize;
};
struct cudaChannelFormatDesc {
    int x, y, z, w; /* bits of each channel */
    int f;          /* enum cuda_channels */
};
struct cudaExtent {
    size_t width, height, depth;
};
typedef CUipcMemHandle cudaIpcMemHandle_t;

#endif
