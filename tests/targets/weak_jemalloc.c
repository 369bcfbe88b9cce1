/*
 * weak_jemalloc.c - asks for jemalloc by weak symbols and dlsym, as programs do that use it when it is there.
 */
#include "target.h"

#include <dlfcn.h>

extern void *mallocx(size_t size, int flags) __attribute__((weak));
extern int mallctl(const char *, void *, size_t *, void *, size_t) __attribute__((weak));
extern void *tc_malloc(size_t size) __attribute__((weak));
extern void *_Znwm(size_t size) __attribute__((weak));

int main(void) {
    const char *names[] = {"mallocx",   "sdallocx", "nallocx", "mallctl",
                           "tc_malloc", "_Znwm",    "_ZdlPv"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT(dlsym(RTLD_DEFAULT, names[i]) == NULL);
    EXPECT(mallocx == NULL && mallctl == NULL && tc_malloc == NULL && _Znwm == NULL);
    say("none");
    return 0;
}
