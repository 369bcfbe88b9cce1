/*
 * limits.c - preloaded behind the sampler, so begun before it: sets one resource limit.
 *
 *   LIMIT=NUMBER:BYTES      setrlimit(NUMBER, BYTES), soft and hard
 *   LIMIT_AT=CALL           not at once, but between the look at the limit, which shows none, and the system call
 *                           of that number: what another process could do
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static long late = -1;
static int number = -1;
static unsigned long bytes;

static void set_limit(void) {
    struct rlimit limit = {bytes, bytes};
    setrlimit((__rlimit_resource_t)number, &limit);
}

long syscall(long call, long a, long b, long c, long d, long e, long f) {
    static long (*next)(long, long, long, long, long, long, long);
    if (next == NULL)
        next = (long (*)(long, long, long, long, long, long, long))dlsym(RTLD_NEXT, "syscall");
    if (call == late) {
        late = -1;
        set_limit();
    }
    return next(call, a, b, c, d, e, f);
}

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("LIMIT_AT"), *limit = getenv("LIMIT");
    if (limit == NULL || sscanf(limit, "%d:%lu", &number, &bytes) != 2)
        return;
    if (at != NULL)
        late = atol(at);
    else
        set_limit();
}
