/*
 * test_pad.c - the way back that the pad finds by itself: every register as it is told, nowhere else.
 *
 * The pad's code and data are copied as into a target, and entered where the borrowed thread leaves. It
 * must arrive at `landing` with the registers of its data; what it found there is compared.
 */
#include "inject/arch.h"
#include "inject/payload.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"

#define PAD_BYTES 4096
#define ROUNDS 200

/* Named in the assembly below. */
uint64_t arrived[34];
uint64_t before[2];
extern const unsigned char landing[];

static uint64_t state = 88172645463325252ULL;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

#if defined(__x86_64__)

#define REGISTERS 15 /* of those 16 in the data: all but the stack pointer, which is our own */

/* Saves what the caller needs, enters the pad at `way` without a region, and comes back at landing. */
void cross(const void *way, struct mp_pad_data *data);
__asm__(".text\n"
        ".global cross, landing\n"
        "cross:\n"
        "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "    mov %rsp, before(%rip)\n"
        "    mov %rsp, 56(%rsi)\n"
        "    mov %rdi, %rax\n"
        "    xor %ebx, %ebx\n"
        "    jmp *%rax\n"
        "landing:\n"
        "    mov %rax, 0+arrived(%rip)\n"
        "    mov %rbx, 8+arrived(%rip)\n"
        "    mov %rcx, 16+arrived(%rip)\n"
        "    mov %rdx, 24+arrived(%rip)\n"
        "    mov %rsi, 32+arrived(%rip)\n"
        "    mov %rdi, 40+arrived(%rip)\n"
        "    mov %rbp, 48+arrived(%rip)\n"
        "    mov %rsp, 56+arrived(%rip)\n"
        "    mov %r8, 64+arrived(%rip)\n"
        "    mov %r9, 72+arrived(%rip)\n"
        "    mov %r10, 80+arrived(%rip)\n"
        "    mov %r11, 88+arrived(%rip)\n"
        "    mov %r12, 96+arrived(%rip)\n"
        "    mov %r13, 104+arrived(%rip)\n"
        "    mov %r14, 112+arrived(%rip)\n"
        "    mov %r15, 120+arrived(%rip)\n"
        "    pushf\n"
        "    pop 136+arrived(%rip)\n"
        "    mov before(%rip), %rsp\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n");

static void fill(struct mp_pad_data *d, uint64_t mask) {
    uint64_t *words = (uint64_t *)d;
    for (unsigned i = 0; i < 16; i++)
        words[i] = draw();
    d->rip = (uint64_t)(uintptr_t)landing;
    d->flags = 0x202 | (draw() & 0x8d5);
    d->mask = mask;
}

static void link_pad(unsigned char *pad) {
    (void)pad;
}

static void compare(const struct mp_pad_data *d) {
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(arrived[i], ((const uint64_t *)d)[i]);
    CHECK_EQ(arrived[17] & 0x8d5, d->flags & 0x8d5);
}

#elif defined(__aarch64__)

void cross(const void *way, struct mp_pad_data *data);
__asm__(".text\n"
        ".global cross, landing\n"
        "cross:\n"
        "    stp x19, x20, [sp, #-96]!\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    mov x9, sp\n"
        "    str x9, [x1, #248]\n"
        "    mov x16, x0\n"
        "    mov x19, #0\n"
        "    br x16\n"
        "landing:\n"
        "    str x0, [sp, #-16]!\n"
        "    adrp x0, arrived\n"
        "    add x0, x0, :lo12:arrived\n"
        "    stp x2, x3, [x0, #16]\n"
        "    stp x4, x5, [x0, #32]\n"
        "    stp x6, x7, [x0, #48]\n"
        "    stp x8, x9, [x0, #64]\n"
        "    stp x10, x11, [x0, #80]\n"
        "    stp x12, x13, [x0, #96]\n"
        "    stp x14, x15, [x0, #112]\n"
        "    stp x16, x17, [x0, #128]\n"
        "    stp x18, x19, [x0, #144]\n"
        "    stp x20, x21, [x0, #160]\n"
        "    stp x22, x23, [x0, #176]\n"
        "    stp x24, x25, [x0, #192]\n"
        "    stp x26, x27, [x0, #208]\n"
        "    stp x28, x29, [x0, #224]\n"
        "    str x30, [x0, #240]\n"
        "    str x1, [x0, #8]\n"
        "    ldr x1, [sp], #16\n"
        "    str x1, [x0]\n"
        "    mov x1, sp\n"
        "    str x1, [x0, #248]\n"
        "    mrs x1, nzcv\n"
        "    str x1, [x0, #256]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp x19, x20, [sp], #96\n"
        "    ret\n");

static void fill(struct mp_pad_data *d, uint64_t mask) {
    for (unsigned i = 0; i < 31; i++)
        d->x[i] = draw();
    d->flags = draw() & 0xf0000000u;
    d->mask = mask;
}

static void link_pad(unsigned char *pad) {
    struct mp_regs regs = {.user.pc = (uint64_t)(uintptr_t)landing};
    CHECK(mp_pad_can_return((uint64_t)(uintptr_t)pad, &regs));
    mp_pad_link(pad, (uint64_t)(uintptr_t)pad, &regs);
}

static void compare(const struct mp_pad_data *d) {
    for (unsigned i = 0; i < 31; i++)
        CHECK_EQ(arrived[i], d->x[i]);
    CHECK_EQ(arrived[31], d->sp);
    CHECK_EQ(arrived[32], d->flags);
}

#endif

/* Near the program's own code, where a branch reaches. */
static unsigned char *place(void) {
    uintptr_t hint = ((uintptr_t)landing + (16u << 20)) & ~(uintptr_t)0xffff;
    void *pad = mmap((void *)hint, PAD_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pad == MAP_FAILED ? NULL : pad;
}

int main(void) {
    unsigned char *pad = place();
    CASE("room for the pad");
    CHECK(pad != NULL && (size_t)(mp_pad_code_end - mp_pad_code) < PAD_BYTES);
    if (pad == NULL)
        return check_end();
    for (unsigned i = 0; i < ROUNDS; i++) {
        CASE("every register as told");
        sigset_t blocked;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        pthread_sigmask(SIG_SETMASK, &blocked, NULL);
        memcpy(pad, mp_pad_code, (size_t)(mp_pad_code_end - mp_pad_code));
        struct mp_pad_data *data = (struct mp_pad_data *)(pad + (mp_pad_data - mp_pad_code));
        fill(data, 1ull << (SIGUSR2 - 1));
        link_pad(pad);
        __builtin___clear_cache((char *)pad, (char *)pad + PAD_BYTES);
        cross(pad + (mp_pad_leave - mp_pad_code), data);
        compare(data);
        CASE("the signal mask too");
        pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        CHECK(sigismember(&blocked, SIGUSR2) == 1 && sigismember(&blocked, SIGUSR1) == 0);
    }
    return check_end();
}
