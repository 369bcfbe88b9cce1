/*
 * test_remote_unwind.c - the tables of all modules are copied before a thread is held: an unwinding reads
 * words of the stack, no more, and one that meets a module without a copy asks for it.
 */
#include "check.h"
#include "inject/remote_unwind.h"

#include <link.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define MODULES 64
#define WORD_READ_MAX 16 /* a word, or the code of a signal's return */

static struct mp_inject_module modules[MODULES];
static uint64_t module_count;
static size_t largest_read;

int __real_mp_remote_read(int pid, uint64_t from, void *to, size_t bytes);
int __wrap_mp_remote_read(int pid, uint64_t from, void *to, size_t bytes);

int __wrap_mp_remote_read(int pid, uint64_t from, void *to, size_t bytes) {
    if (bytes > largest_read)
        largest_read = bytes;
    return __real_mp_remote_read(pid, from, to, bytes);
}

static int add_module(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    struct mp_inject_module m = {.start = UINT64_MAX};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uint64_t start = (info->dlpi_addr + p->p_vaddr) & ~4095ULL;
        uint64_t end = (info->dlpi_addr + p->p_vaddr + p->p_memsz + 4095) & ~4095ULL;
        if (p->p_type != PT_LOAD)
            continue;
        m.start = start < m.start ? start : m.start;
        m.end = end > m.end ? end : m.end;
    }
    m.header = m.start;
    if (module_count < MODULES - 1)
        modules[module_count++] = m;
    return 0;
}

/* The registers of a function that is still running. */
static struct mp_regs of_context(const ucontext_t *context) {
    struct mp_regs regs = {0};
#if defined(__x86_64__)
    regs.user.rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    regs.user.rsp = (uint64_t)context->uc_mcontext.gregs[REG_RSP];
    regs.user.rbp = (uint64_t)context->uc_mcontext.gregs[REG_RBP];
#else
    regs.user.pc = context->uc_mcontext.pc;
    regs.user.sp = context->uc_mcontext.sp;
    memcpy(regs.user.regs, context->uc_mcontext.regs, sizeof regs.user.regs);
#endif
    return regs;
}

int main(void) {
    struct mp_remote_unwind u;
    uint64_t frames[MP_INJECT_FRAMES];
    bool complete = true, unprepared = false;
    dl_iterate_phdr(add_module, NULL);
    CHECK(mp_remote_unwind_open(&u, getpid(), modules, module_count) == 0);

    ucontext_t context;
    CHECK(getcontext(&context) == 0);
    struct mp_regs regs = of_context(&context);

    /* A list is read to its end and no further: it would be this module that holds the code. */
    modules[module_count] = (struct mp_inject_module){.start = mp_regs_pc(&regs) & ~4095ULL,
                                                      .end = mp_regs_pc(&regs) + 4096};

    CASE("a module without a copy ends an unwinding and is wanted");
    largest_read = 0;
    CHECK(mp_remote_unwind(&u, &regs, frames, MP_INJECT_FRAMES, &complete, &unprepared) == 1);
    CHECK(!complete && unprepared && largest_read <= WORD_READ_MAX);

    CASE("after the preparation an unwinding reads words, no tables");
    mp_remote_unwind_prepare(&u);
    CHECK(largest_read > 4096);
    largest_read = 0;
    CHECK(mp_remote_unwind(&u, &regs, frames, MP_INJECT_FRAMES, &complete, &unprepared) > 1);
    CHECK(!unprepared && largest_read <= WORD_READ_MAX);

    CASE("where there is no room, all copies make way for the one that is wanted");
    mp_remote_unwind_close(&u);
    CHECK(mp_remote_unwind_open(&u, getpid(), modules, module_count) == 0);
    CHECK(mp_remote_unwind(&u, &regs, frames, MP_INJECT_FRAMES, &complete, &unprepared) == 1);
    u.room = 0;
    mp_remote_unwind_prepare(&u);
    CHECK(mp_remote_unwind(&u, &regs, frames, MP_INJECT_FRAMES, &complete, &unprepared) > 1);
    CHECK(!unprepared);
    mp_remote_unwind_close(&u);
    return check_end();
}
