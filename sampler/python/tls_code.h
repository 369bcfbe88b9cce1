/*
 * tls_code.h - which thread-local variable a small function returns, by its instructions.
 *
 * Model: from 3.15 CPython keeps the state of a thread in a thread-local variable, and a function of two to ten
 * instructions returns it. The compiler and the linker know a few ways to reach such a variable (ELF Handling For
 * Thread-Local Storage, and the TLS descriptors of both processors). The decoder follows the values of a few
 * registers, from the first instruction to the return; what it does not know ends it. Nothing is executed,
 * and nothing but the instructions is read.
 *
 * Threads: HOOK. Works on bytes alone, so that both processors' code is decoded on either.
 */
#ifndef MP_PY_TLS_CODE_H
#define MP_PY_TLS_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_PY_TLS_CODE_BYTES 96 /* no form is longer */

enum mp_py_tls_way {
    MP_PY_TLS_UNKNOWN = 0,
    MP_PY_TLS_OFFSET,     /* the variable is `offset` behind the thread pointer */
    MP_PY_TLS_SLOT,       /* ... and as many bytes more as the word at `at` says */
    MP_PY_TLS_INDEX, /* in the block of the module that the pair at `at` names (__tls_get_addr) */
    MP_PY_TLS_DESCRIPTOR, /* as SLOT, by the function and argument at `at` */
};

struct mp_py_tls_form {
    enum mp_py_tls_way way;
    uintptr_t at;
    int64_t offset;
};

/* HOOK. The variable that the function returns whose first `bytes` instructions bytes are `code`, and which runs
 * at `address`. */
struct mp_py_tls_form mp_py_tls_code_x86_64(const uint8_t *code, size_t bytes, uintptr_t address);
struct mp_py_tls_form mp_py_tls_code_aarch64(const uint8_t *code, size_t bytes, uintptr_t address);

#endif
