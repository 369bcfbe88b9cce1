/*
 * payload_syscall.h - system calls of code that may link to nothing. Results are as the kernel gives
 * them: -errno on failure.
 */
#ifndef MP_PAYLOAD_SYSCALL_H
#define MP_PAYLOAD_SYSCALL_H

#include <errno.h>

static inline __attribute__((always_inline)) long mp_syscall4(long number, long a, long b, long c,
                                                              long d) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x8 __asm__("x8") = number;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x8) : "memory");
    return x0;
#else
#error "only x86_64 and aarch64 are supported"
#endif
}

#endif
