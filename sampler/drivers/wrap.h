/*
 * wrap.h - the wrappers of a table of rows.
 *
 * A table is a macro with one line for each function of a library:
 *
 *   #define ROWS(ROW) ROW(role, result, name, signature, operands) ...
 *
 * `result` and `signature` (signature.h) are those of C. `operands` depend on the role; they are
 * expressions in the parameters, and say where size, pointer or handle, device and container are.
 * Where a role says "after", they may also use `ok` (the call succeeded) and `rc` (its result),
 * and must not read what the driver writes unless ok: MP_OUT(pointer) is 0 then.
 *
 *   role      operands                          what is recorded
 *   allocate  fields of struct mp_device_block  after: a block; a refusal when the call failed
 *   free      .space, .address                  before: the block is taken; put back when refused
 *   create    fields of struct mp_device_block  after: as allocate, but physical memory known by
 *             (.address: the handle)            a handle (physical.h)
 *   release   .space, .address                  before: the handle drops its reference
 *   retain    .space, .address, .container      after: one more reference, had by an address that
 *                                               is mapped (.container)
 *   import    .space, .address                  after: another process's memory: no bytes
 *   map       .space, .address, .container,     after: a handle (.address) is mapped at an address
 *             .asked_bytes                      (.container)
 *   unmap     .space, .address, .asked_bytes    after: what is mapped in the range; 0 bytes: the
 *                                               one mapping
 *   then      an expression                     after success it is evaluated
 *   name      none                              only the API's name, for what is called inside
 *
 * Before the table is expanded the file defines
 *   MP_ROW_BACKEND      enum mp_backend
 *   MP_ROW_FAMILY       enum mp_device_family: calls nested within one are one (device_scope.h)
 *   MP_ROW_TAIL(scope, row)  evaluated last, outside of the scope; it may call the driver
 * and writes
 *   ROWS(MP_ROW_WRAPPER)
 *   MP_LIBRARY(x, MP_BACKEND_X, ("libx.so"), ROWS(MP_ROW_POINTER))
 *
 * A wrapper has the name of its function (hidden): frame 0 of a stack then reads as the API.
 */
#ifndef MP_WRAP_H
#define MP_WRAP_H

#include "backend.h"
#include "device/device_scope.h"
#include "physical.h"
#include "signature.h"

#include <errno.h>

/* What the driver wrote, in the operands of roles that run after the call. */
#define MP_OUT(pointer) (ok ? (uint64_t)(uintptr_t)*(pointer) : 0)
#define MP_ADDRESS(value) ((uint64_t)(uintptr_t)(value))
/* Operands: what the driver wrote, or a value, in a space of addresses. */
#define MP_FROM(kind, pointer) .space = MP_SPACE_##kind, .address = MP_OUT(pointer)
#define MP_OF(kind, value) .space = MP_SPACE_##kind, .address = MP_ADDRESS(value)

/* The signature of a row becomes two arguments before the row is taken apart. */
#define MP_ROW_POINTER(role, result, name, ...) &mp_row_##name,
#define MP_ROW_WRAPPER(...) MP_WRAPPER(__VA_ARGS__)

#define MP_WRAPPER(role, result, name, params, args, ...)                                          \
    result name params;                                                                            \
    static struct mp_device_row mp_row_##name = {.symbol = #name, .wrapper = (uintptr_t)name};     \
    __attribute__((noinline)) result name params {                                                 \
        struct mp_device_scope scope;                                                              \
        struct mp_frame caller;                                                                    \
        MP_CALLER(caller);                                                                         \
        mp_device_backend_call(MP_ROW_BACKEND);                                                    \
        mp_device_enter(&scope, MP_ROW_FAMILY, (uintptr_t)name, &caller);                          \
        MP_BEFORE_##role(__VA_ARGS__);                                                             \
        result rc = ((__typeof__(&name))mp_row_real(&mp_row_##name))args;                          \
        int saved_errno = errno; /* what is recorded may ask the driver */                         \
        bool ok = rc == 0; /* of every driver */                                                   \
        MP_AFTER_##role(__VA_ARGS__);                                                              \
        mp_device_leave(&scope, ok);                                                               \
        MP_ROW_TAIL(&scope, &mp_row_##name);                                                       \
        errno = saved_errno;                                                                       \
        return rc;                                                                                 \
    }

#define MP_BLOCK(...) struct mp_device_block block = {__VA_ARGS__}
#define MP_GIVEN(record, ...)                                                                      \
    MP_BLOCK(__VA_ARGS__);                                                                         \
    if (ok)                                                                                        \
        record(&scope, &block);                                                                    \
    else                                                                                           \
        mp_device_scope_refused(&scope, &block)
#define MP_IF(condition, expression)                                                               \
    if (condition) {                                                                               \
        expression;                                                                                \
    }
#define MP_DONE(call, ...)                                                                         \
    MP_BLOCK(__VA_ARGS__);                                                                         \
    MP_IF(ok, call)

#define MP_BEFORE_allocate(...)
#define MP_AFTER_allocate(...)                                                                     \
    MP_IF(!ok || !scope.counted, MP_GIVEN(mp_device_scope_alloc, __VA_ARGS__))

#define MP_BEFORE_free(...)                                                                        \
    MP_BLOCK(__VA_ARGS__);                                                                         \
    struct mp_device_taken taken;                                                                  \
    mp_device_scope_take(&scope, block.space, block.address, &taken)
#define MP_AFTER_free(...) MP_IF(!ok, mp_device_put_back(&taken))

#define MP_BEFORE_create(...)
#define MP_AFTER_create(...) MP_GIVEN(mp_physical_create, __VA_ARGS__)

#define MP_BEFORE_release(...)                                                                     \
    MP_BLOCK(__VA_ARGS__);                                                                         \
    struct mp_physical_released released;                                                          \
    mp_physical_release(block.space, block.address, &released)
#define MP_AFTER_release(...) MP_IF(!ok, mp_physical_put_back(&released))

#define MP_BEFORE_retain(...)
#define MP_AFTER_retain(...)                                                                       \
    MP_DONE(mp_physical_retain(block.space, block.address, block.container), __VA_ARGS__)

#define MP_BEFORE_import(...)
#define MP_AFTER_import(...) MP_DONE(mp_physical_import(block.space, block.address), __VA_ARGS__)

#define MP_BEFORE_map(...)
#define MP_AFTER_map(...)                                                                          \
    MP_DONE(mp_physical_map(block.space, block.address, block.container, block.asked_bytes),       \
            __VA_ARGS__)

#define MP_BEFORE_unmap(...)
#define MP_AFTER_unmap(...)                                                                        \
    MP_DONE(mp_physical_unmap(block.space, block.address, block.asked_bytes), __VA_ARGS__)

#define MP_BEFORE_then(...)
#define MP_AFTER_then(expression) MP_IF(ok, expression)

#define MP_BEFORE_name(...)
#define MP_AFTER_name(...)

#endif
