/*
 * fuzz_seccomp.c - seccomp filters of a hostile target, run outside: inject/seccomp_filter.c.
 * Input: struct seccomp_data, then instructions.
 */
#include "inject/seccomp_filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct seccomp_data call;
    if (bytes < sizeof call)
        return 0;
    memcpy(&call, data, sizeof call);
    unsigned count = (unsigned)((bytes - sizeof call) / sizeof(struct sock_filter));
    struct sock_filter *code = malloc(count * sizeof *code + 1);
    memcpy(code, data + sizeof call, count * sizeof *code);
    mp_seccomp_run(code, count, &call);
    free(code);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    return forge(data, bytes, max, seed);
}
