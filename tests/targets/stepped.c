/*
 * stepped.c - how many instructions a malloc and its free take, counted one by one.
 *
 *   stepped DEPTH PAIRS   prints, for each pair, `SAMPLER SAMPLER_ATOMIC OTHERS`
 *
 * Model: the program runs itself as its own child under ptrace. The child makes pairs of blocks from a call
 * chain of DEPTH functions, with a breakpoint before and after each pair; the parent steps from one to the
 * other and asks of each instruction in which object it is, and whether it locks the bus. The same build counts
 * the same numbers on every machine, however busy.
 *
 * The first 16 pairs are not counted: rules, stacks and sites are known after them.
 */
#include "target.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#define WARM_UP 16
#define STEPS_MAX 20000 /* of one pair; a runaway ends */
#define BLOCK_BYTES 300

struct range {
    uint64_t low, high;
};

static __attribute__((noinline)) void stop_here(void) {
    __asm__ volatile("int3");
}

static __attribute__((noinline)) void pair(void) {
    stop_here();
    free(keep(malloc(BLOCK_BYTES)));
    stop_here();
}

/* Two functions in turns, whose frames differ. */
static void even(unsigned depth);
static __attribute__((noinline)) void odd(unsigned depth) {
    volatile char room[56];
    room[0] = 1;
    if (depth == 0)
        pair();
    else
        even(depth - 1);
    room[1] = room[0];
}
static __attribute__((noinline)) void even(unsigned depth) {
    volatile char room[120];
    room[0] = 1;
    if (depth == 0)
        pair();
    else
        odd(depth - 1);
    room[1] = room[0];
}

static int child(unsigned depth, unsigned pairs) {
    for (unsigned i = 0; i < WARM_UP + pairs; i++)
        even(depth);
    return 0;
}

static struct range text_of(pid_t pid, const char *object) {
    char path[64], line[512];
    struct range found = {0};
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, object) != NULL && strstr(line, " r-xp ") != NULL)
            sscanf(line, "%" SCNx64 "-%" SCNx64, &found.low, &found.high);
    if (maps != NULL)
        fclose(maps);
    return found;
}

/* Continue, or make one step, and wait. False: the child has ended. */
static bool resume(pid_t pid, bool step) {
    int status;
    EXPECT(ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, NULL, NULL) == 0);
    EXPECT(waitpid(pid, &status, 0) == pid);
    EXPECT(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
    EXPECT(WIFEXITED(status) || (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP));
    return WIFSTOPPED(status);
}

static uint64_t pc_of(pid_t pid) {
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, (void *)offsetof(struct user, regs.rip), NULL);
}

/* A lock prefix, or an exchange with memory, which locks without one; behind any legacy or REX prefix. */
static bool is_atomic(pid_t pid, uint64_t pc) {
    uint64_t word = (uint64_t)ptrace(PTRACE_PEEKTEXT, pid, (void *)pc, NULL);
    for (uint8_t byte; (byte = (uint8_t)word) != 0; word >>= 8) {
        if (byte == 0xf0)
            return true;
        if (byte == 0x86 || byte == 0x87)
            return (word >> 14 & 3) != 3;
        if (byte != 0x66 && (byte & 0xf0) != 0x40)
            return false;
    }
    return false;
}

static void count_pair(pid_t pid, struct range sampler) {
    unsigned inside = 0, atomic = 0, others = 0;
    uint64_t end = pc_of(pid), pc; /* every breakpoint is the one of stop_here() */
    for (unsigned i = 0; resume(pid, true) && (pc = pc_of(pid)) != end; i++) {
        EXPECT(i < STEPS_MAX);
        bool ours = pc >= sampler.low && pc < sampler.high;
        inside += ours;
        others += !ours;
        atomic += ours && is_atomic(pid, pc);
    }
    say("%u %u %u", inside, atomic, others);
}

static int count(const char *self, char **argv) {
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        personality(ADDR_NO_RANDOMIZE); /* hashes of addresses */
        setenv("LD_PRELOAD", getenv("STEPPED_PRELOAD"), 1);
        execl(self, self, argv[1], argv[2], "child", NULL);
        _exit(93);
    }
    int status;
    EXPECT(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)); /* of the exec */
    struct range sampler = {0};
    for (unsigned stops = 0; resume(pid, false); stops++) {
        if (stops == 0)
            sampler = text_of(pid, "libmem_sampler.so");
        EXPECT(sampler.high != 0);
        if (stops >= 2 * WARM_UP)
            count_pair(pid, sampler);
    }
    return 0;
}

int main(int argc, char **argv) {
    EXPECT(argc >= 3);
    unsigned depth = (unsigned)atoi(argv[1]), pairs = (unsigned)atoi(argv[2]);
    return argc > 3 ? child(depth, pairs) : count("/proc/self/exe", argv);
}
