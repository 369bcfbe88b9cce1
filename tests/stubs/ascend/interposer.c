/*
 * interposer.c - another tool that is preloaded: exports a function of the driver, and finds the
 * real one behind itself. It counts calls, and says so at its end.
 */
#include "ascend.h"

#include <dlfcn.h>
#include <stdio.h>

static unsigned calls;

drvError_t halMemAlloc(void **pp, unsigned long long size, unsigned long long flag) {
    static __typeof__(&halMemAlloc) real;
    if (real == NULL)
        real = (__typeof__(&halMemAlloc))dlsym(RTLD_NEXT, "halMemAlloc");
    calls++;
    return real != NULL && dlerror() == NULL ? real(pp, size, flag) : DRV_ERROR_NOT_SUPPORT;
}

__attribute__((destructor)) static void tell(void) {
    fprintf(stderr, "interposer %u\n", calls);
}
