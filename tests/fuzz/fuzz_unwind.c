/*
 * fuzz_unwind.c - the callers of a hostile, stopped thread: inject/remote_unwind.c on forged memory and
 * registers. The copies it makes of modules are blocks of the heap here, whose edges AddressSanitizer
 * watches.
 *
 * Input: struct head; the module's bytes; what remains is the stack.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *copy_map(size_t bytes);
static int copy_unmap(void *copy);
#define mmap(at, bytes, protection, flags, fd, offset) copy_map(bytes)
#define munmap(copy, bytes) copy_unmap(copy)
#include "inject/remote_unwind.c"
#undef mmap
#undef munmap

#include "forge.h"

#define MODULE_AT 0x7f0000000000ULL
#define STACK_AT 0x7fff00000000ULL
#define MODULE_MAX (1u << 20)
#define PAGE 4096u
#define FRAMES 128
#define READS_MAX 100000u

struct head {
    uint32_t module_bytes; /* in the input */
    uint32_t mapped_bytes; /* in the target */
    uint32_t pc, sp, fp;   /* from the beginning of the module and of the stack */
    uint32_t second;       /* 1: the same module once more, higher up */
};

static struct {
    const uint8_t *module, *stack;
    size_t module_bytes, mapped_bytes, stack_bytes;
    unsigned reads;
} target;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void *copy_map(size_t bytes) {
    void *copy;
    if (posix_memalign(&copy, PAGE, bytes) != 0)
        return MAP_FAILED;
    return memset(copy, 0, bytes);
}

static int copy_unmap(void *copy) {
    free(copy);
    return 0;
}

/*
 * Stands for remote.c: what the module's file has no bytes for reads as zeros, also behind the module, where
 * another mapping may lie.
 */
int mp_remote_read(int pid, uint64_t from, void *to, size_t bytes) {
    (void)pid;
    if (++target.reads > READS_MAX)
        abort(); /* it does not end */
    if (from >= STACK_AT && from - STACK_AT <= target.stack_bytes &&
        bytes <= target.stack_bytes - (from - STACK_AT)) {
        memcpy(to, target.stack + (from - STACK_AT), bytes);
        return 0;
    }
    uint64_t at = from - MODULE_AT;
    if (from < MODULE_AT || at > 4 * MODULE_MAX || bytes > 4 * MODULE_MAX - at)
        return -EFAULT;
    memset(to, 0, bytes);
    if (at < target.module_bytes) {
        size_t there = target.module_bytes - at;
        memcpy(to, target.module + at, bytes < there ? bytes : there);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    struct head head;
    if (bytes < sizeof head)
        return 0;
    memcpy(&head, data, sizeof head);
    data += sizeof head;
    bytes -= sizeof head;
    target.module_bytes = head.module_bytes < bytes ? head.module_bytes : bytes;
    target.mapped_bytes = (head.mapped_bytes % MODULE_MAX) & -PAGE;
    target.module = data;
    target.stack = data + target.module_bytes;
    target.stack_bytes = bytes - target.module_bytes;
    target.reads = 0;
    struct mp_inject_module modules[] = {
        {MODULE_AT, MODULE_AT + target.mapped_bytes},
        {MODULE_AT + MODULE_MAX, MODULE_AT + MODULE_MAX + target.mapped_bytes},
    };
    struct mp_regs regs = {0};
    regs.user.rip = MODULE_AT + head.pc;
    regs.user.rsp = STACK_AT + head.sp;
    regs.user.rbp = STACK_AT + head.fp;
    uint64_t frames[FRAMES];
    bool complete, unprepared;
    struct mp_remote_unwind u;
    if (mp_remote_unwind_open(&u, 1, modules, head.second == 1 ? 2 : 1) != 0)
        return 0;
    mp_remote_unwind_prepare(&u);
    if (mp_remote_unwind(&u, &regs, frames, FRAMES, &complete, &unprepared) > FRAMES)
        abort();
    mp_remote_unwind_close(&u);
    return 0;
}

/* Half the time: a word of the stack becomes an address of code or of the stack. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t max, unsigned seed) {
    struct head head;
    if (bytes < sizeof head + 64 || seed % 2 == 0)
        return forge(data, bytes, max, seed / 2);
    memcpy(&head, data, sizeof head);
    unsigned mapped = head.mapped_bytes % MODULE_MAX + 1;
    size_t room = bytes - sizeof head;
    size_t module = head.module_bytes < room ? head.module_bytes : room;
    size_t stack = room - module;
    seed /= 2;
    switch (seed % 4) {
    case 0:
        head.pc = seed / 4 % mapped;
        break;
    case 1:
        head.sp = seed / 4 % (unsigned)(stack + 1) & ~7u;
        head.fp = seed / 64 % (unsigned)(stack + 1) & ~7u;
        break;
    default:
        if (stack >= 8) {
            uint64_t word =
                seed % 8 < 6 ? MODULE_AT + seed / 8 % mapped : STACK_AT + seed / 8 % (stack + 1);
            size_t at = seed / 16 % (stack / 8) * 8;
            memcpy(data + sizeof head + module + at, &word, sizeof word);
        }
    }
    memcpy(data, &head, sizeof head);
    return bytes;
}
