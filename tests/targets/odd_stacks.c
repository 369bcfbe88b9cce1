/*
 * odd_stacks.c - allocations from stacks that an unwinder does not expect.
 *
 *   coroutine   a context of its own in heap memory       jit      a caller in anonymous executable memory
 *   deep        ten thousand frames of recursion          wild     a frame pointer that points nowhere
 *   early       before any constructor (.preinit_array)
 */
#include "target.h"

#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

static ucontext_t main_context, own_context;

static void alloc_early(void) {
    for (int i = 0; i < 10; i++)
        keep(calloc(1, 21));
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(void) = alloc_early;

static void alloc_coroutine(void) {
    for (int i = 0; i < 100; i++) {
        free(keep(malloc(22)));
        swapcontext(&own_context, &main_context);
    }
}

static void switch_to_and_fro(void) {
    getcontext(&own_context);
    own_context.uc_stack.ss_sp = malloc(65536);
    own_context.uc_stack.ss_size = 65536;
    own_context.uc_link = &main_context;
    makecontext(&own_context, alloc_coroutine, 0);
    for (int i = 0; i < 101; i++)
        swapcontext(&main_context, &own_context);
}

static void *alloc_jit(size_t size) {
    return keep(malloc(size));
}

/* sub $8, %rsp; call *%rsi; add $8, %rsp; ret: no unwind table knows it. */
static void call_from_nowhere(void) {
    static const unsigned char code[] = {0x48, 0x83, 0xec, 0x08, 0xff, 0xd6,
                                         0x48, 0x83, 0xc4, 0x08, 0xc3};
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    EXPECT(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    void *(*call)(size_t, void *(*)(size_t)) = (void *(*)(size_t, void *(*)(size_t)))page;
    for (int i = 0; i < 100; i++)
        call(23, alloc_jit);
    munmap(page, 4096);
}

static int alloc_deep(int depth) {
    if (depth == 0) {
        for (int i = 0; i < 10; i++)
            keep(malloc(24));
        return 0;
    }
    return 1 + alloc_deep(depth - 1);
}

/* Calls malloc with a frame pointer that points nowhere. */
#ifdef __x86_64__
void *alloc_wild(size_t size);
__asm__(".text\n"
        ".globl alloc_wild\n"
        ".type alloc_wild, @function\n"
        "alloc_wild:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbp, 0\n"
        "mov $0x10, %ebp\n"
        "call malloc@PLT\n"
        "pop %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %rbp\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size alloc_wild, . - alloc_wild\n");
#else
static void *alloc_wild(size_t size) {
    return malloc(size);
}
#endif

static void call_wild(void) {
    for (int i = 0; i < 100; i++)
        free(keep(alloc_wild(25)));
}

int main(int argc, char **argv) {
    EXPECT(argc == 2);
    if (strcmp(argv[1], "coroutine") == 0)
        switch_to_and_fro();
    else if (strcmp(argv[1], "jit") == 0)
        call_from_nowhere();
    else if (strcmp(argv[1], "deep") == 0)
        EXPECT(alloc_deep(10000) == 10000);
    else if (strcmp(argv[1], "wild") == 0)
        call_wild();
    say("done");
    return 0;
}
