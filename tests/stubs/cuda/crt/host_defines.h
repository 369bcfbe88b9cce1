/*
 * host_defines.h - stands in for the header of that name, which comes with the compiler for devices: what
 * cuda_runtime_api.h needs of it to be read by a C compiler.
 */
#ifndef STUB_HOST_DEFINES_H
#define STUB_HOST_DEFINES_H

#define __host__
#define __device__
#define __global__
#define __cudart_builtin__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __align__(n) __attribute__((aligned(n)))
#define __specialization_static static
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define CUDAAPI
#define __CUDA_HOSTDEVICE__

#endif
