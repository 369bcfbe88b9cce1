/*
 * hal_abi.h - the part of Ascend's interfaces that the wrappers use: types, flags and structures.
 *
 * Source: the published headers of CANN, ascend_hal_base.h, ascend_hal_define.h,
 * ascend_hal_error.h (driver), acl/acl_rt.h and runtime/mem.h (runtime). Enumerations are passed
 * as int; handles of which only the value matters are void pointers.
 */
#ifndef MP_HAL_ABI_H
#define MP_HAL_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int drvError_t; /* 0: none, 6: out of memory, 0xfffe: not supported */
typedef int DVresult;
typedef uint32_t DVdevice;
typedef unsigned long long DVdeviceptr;
typedef struct drv_mem_handle drv_mem_handle_t;

struct drv_mem_prop {
    uint32_t side;    /* enum hal_side */
    uint32_t devid;   /* a NUMA node where side is MP_HAL_SIDE_NUMA */
    uint32_t module_id;
    uint32_t pg_type; /* enum hal_page */
    uint32_t mem_type;
    uint64_t reserve;
};

struct MemPhyInfo {
    unsigned long total, free;           /* normal pages */
    unsigned long huge_total, huge_free; /* huge pages */
};

/* Whatever union the driver has here begins with the above and is not larger than this. */
struct MemInfo {
    struct MemPhyInfo phy_info;
    uint64_t room[64];
};

typedef struct {
    uint32_t close_type; /* 2: only the resources of the host side */
    uint32_t reserve0;
    uint64_t reserve[7];
} halDevCloseIn;

enum hal_side { MP_HAL_SIDE_HOST = 0, MP_HAL_SIDE_DEVICE = 1, MP_HAL_SIDE_NUMA = 2 };
enum hal_page { MP_HAL_PAGE_NORMAL = 0, MP_HAL_PAGE_HUGE = 1, MP_HAL_PAGE_GIANT = 2 };

/* Bits 10..13 of the flag of halMemAlloc. */
enum hal_virtual {
    MP_HAL_SVM = 0,
    MP_HAL_DEV = 1,
    MP_HAL_HOST = 2,
    MP_HAL_DVPP = 3,
    MP_HAL_HOST_AGENT = 4,
    MP_HAL_RESERVE = 5,
    MP_HAL_HOST_UVA = 6,
    MP_HAL_UVM = 7,
};

/* Kinds of halHostRegister; these map device memory to the host, all others host memory to a
 * device. */
enum hal_register { MP_HAL_DEV_SVM_MAP_HOST = 2, MP_HAL_DEV_MEM_MAP_HOST = 4 };

#define MP_HAL_INFO_DDR 1u
#define MP_HAL_INFO_HBM 2u
#define MP_HAL_CLOSE_HOST_USER 2u

typedef int aclError;
typedef int rtError_t;
typedef uint32_t rtMemType_t;
typedef int aclrtMemMallocPolicy;
typedef int aclrtHostRegisterType;
typedef int aclrtMemSharedHandleType;
typedef void *aclrtDrvMemHandle;
typedef void *aclrtMemPool;
typedef void *aclrtStream;
typedef void *aclrtContext;
typedef void *aclrtMbuf;
typedef void *rtDrvMemHandle;

#endif
