/*
 * Stacks other than the main thread's own: threads, signal handlers, coroutines, generated code.
 */
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"
#include "unwind/stack_range.h"
#include "unwind_oracle.h"

#define NOINLINE __attribute__((noinline))
#define AFTER_CALL() __asm__ volatile("" ::: "memory")

static volatile unsigned handled;

static NOINLINE void expect(const char *where, uint8_t end) {
    uint8_t got = oracle_check(where);
    CHECK_EQ(got, end);
    AFTER_CALL();
}

static NOINLINE int deeper(int depth, const char *where) {
    volatile char pad[100];
    pad[0] = (char)depth;
    if (depth == 0)
        expect(where, MP_UNWIND_OUTERMOST);
    else
        deeper(depth - 1, where);
    return pad[0];
}

/* --- signals --- */

static void on_signal(int number) {
    (void)number;
    handled++;
    deeper(3, "signal handler");
}

static void on_signal_nested(int number) {
    (void)number;
    handled++;
    raise(SIGUSR1);
    AFTER_CALL();
}

static void on_signal_blind(int number) {
    (void)number;
    handled++;
    /* Where no system call is allowed, what lies past the page in use is unknown. */
    uint8_t end = oracle_check_prefix("signal handler, no system calls");
    CHECK(end == MP_UNWIND_OUTERMOST || end == MP_LOST_UNWIND_RANGE);
    AFTER_CALL();
}

static void set_handler(int number, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(number, &action, NULL);
}

static NOINLINE void signals(void) {
    static char space[65536];
    stack_t alternate = {.ss_sp = space, .ss_size = sizeof(space)};
    sigaltstack(&alternate, NULL);
    set_handler(SIGUSR1, on_signal, 0);
    raise(SIGUSR1);
    set_handler(SIGUSR1, on_signal, SA_ONSTACK);
    raise(SIGUSR1);
    set_handler(SIGUSR2, on_signal_nested, 0);
    raise(SIGUSR2);
    set_handler(SIGUSR2, on_signal_nested, SA_ONSTACK);
    raise(SIGUSR2);
    CHECK_EQ(handled, 6);
    oracle_allow_probe(false);
    set_handler(SIGUSR1, on_signal_blind, SA_ONSTACK);
    raise(SIGUSR1);
    oracle_allow_probe(true);
    CHECK_EQ(handled, 7);
}

/* Handlers that interrupt at any instruction, in prologues and epilogues too. */
static NOINLINE int leaf(int n) {
    return n * 3 + 1;
}

static NOINLINE int busy(int n) {
    volatile int sum = 0;
    for (int i = 0; i < n; i++)
        sum += leaf(i) + abs(i);
    return sum;
}

static void on_timer(int number) {
    (void)number;
    handled++;
    oracle_check("timer");
}

static NOINLINE void interrupted_anywhere(void) {
    set_handler(SIGALRM, on_timer, SA_ONSTACK | SA_RESTART);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec every = {{0, 200000}, {0, 200000}};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    unsigned before = handled;
    timer_settime(timer, 0, &every, NULL);
    for (int i = 0; i < 3000 && handled - before < 300; i++)
        busy(20000);
    timer_delete(timer);
    CHECK(handled - before >= 50);
}

/* --- coroutines --- */

static ucontext_t back, there;

static void coroutine(void) {
    deeper(20, "coroutine");
    swapcontext(&there, &back);
}

static void coroutine_blind(void) {
    uint8_t end = oracle_check_prefix("coroutine, no system calls");
    CHECK(end == MP_UNWIND_OUTERMOST || end == MP_LOST_UNWIND_RANGE);
    swapcontext(&there, &back);
}

static NOINLINE void run_on(void *stack, size_t bytes, void (*body)(void)) {
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = bytes;
    there.uc_link = NULL;
    makecontext(&there, body, 0);
    swapcontext(&back, &there);
}

/* Called at the very top of its mapping by code whose own frame lies elsewhere: the frame above must not
 * be looked for in the page behind. */
static NOINLINE void bottomless(void) {
    struct mp_frame frame;
    struct mp_unwind_result result;
    uintptr_t pcs[64];
    MP_CALLER(frame);
    CHECK_EQ(mp_unwind(&frame, pcs, 64, &result), 1);
    CHECK_EQ(result.end, MP_LOST_UNWIND_RANGE);
}

static NOINLINE void jump_to_top(char *top) {
#ifdef __x86_64__
    __asm__ volatile("push %%rbp\n\t"
                     "mov %%rsp, %%r12\n\t"
                     "mov %0, %%rsp\n\t"
                     "call *%1\n\t"
                     "mov %%r12, %%rsp\n\t"
                     "pop %%rbp\n\t"
                     :
                     : "r"(top), "r"(bottomless)
                     : "r12", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory",
                       "cc");
#else
    (void)top;
    (void)bottomless;
#endif
}

static NOINLINE void coroutines(void) {
    size_t bytes = 262144;
    char *heap = malloc(bytes);
    run_on(heap, bytes, coroutine);
    free(heap);
    char *mapped = mmap(NULL, bytes + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(mapped + 4096, bytes, PROT_READ | PROT_WRITE);
    run_on(mapped + 4096, bytes, coroutine);
    unsigned asked = oracle_probes();
    CHECK(asked > 0);
    oracle_allow_probe(false);
    run_on(mapped + 4096, bytes, coroutine_blind);
    oracle_allow_probe(true);
    run_on(mapped + 4096, bytes, coroutine_blind);
    munmap(mapped, bytes + 8192);
}

/* --- threads --- */

static pthread_key_t key;

static void at_thread_exit(void *value) {
    deeper(2, value);
}

static void *thread(void *argument) {
    expect("thread", MP_UNWIND_OUTERMOST);
    deeper(50, "deep in a thread");
    pthread_setspecific(key, argument);
    return NULL;
}

static void *thread_with_coroutine(void *argument) {
    coroutines();
    signals();
    return argument;
}

static void run_thread(pthread_attr_t *attributes, void *(*body)(void *)) {
    pthread_t id;
    CHECK(pthread_create(&id, attributes, body, (void *)"thread exit") == 0);
    pthread_join(id, NULL);
}

static void threads(void) {
    pthread_attr_t attributes;
    size_t bytes = 1 << 20;
    pthread_key_create(&key, at_thread_exit);
    run_thread(NULL, thread);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    run_thread(&attributes, thread);
    void *own = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_setstack(&attributes, own, bytes);
    run_thread(&attributes, thread);
    munmap(own, bytes);
}

/* --- code made at run time --- */

static uint8_t generated_end;

static void from_generated(void) {
    generated_end = oracle_check("called by generated code");
    AFTER_CALL();
}

static void generated_code(void) {
#ifdef __x86_64__
    /* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
#else
    /* stp x29,x30,[sp,#-16]!; mov x29,sp; blr x0; ldp x29,x30,[sp],#16; ret */
    static const unsigned code[] = {0xa9bf7bfd, 0x910003fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
#endif
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof(code));
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    __builtin___clear_cache(page, (char *)page + sizeof(code));
    void (*function)(void (*)(void)) = (void (*)(void (*)(void)))(uintptr_t)page;
    function(from_generated);
    CHECK_EQ(generated_end, MP_LOST_UNWIND_NO_MODULE);
    AFTER_CALL();
    munmap(page, 4096);
}

static NOINLINE void top_of_mapping(void) {
#ifdef __x86_64__
    size_t bytes = 65536;
    char *mapped = mmap(NULL, bytes + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(mapped, bytes, PROT_READ | PROT_WRITE);
    oracle_allow_probe(false);
    jump_to_top(mapped + bytes);
    oracle_allow_probe(true);
    jump_to_top(mapped + bytes);
    munmap(mapped, bytes + 4096);
#else
    (void)jump_to_top;
#endif
}

int main(int argc, char **argv) {
    CASE("stacks");
    bool emulated = argc > 1 && strcmp(argv[1], "emulated") == 0; /* no vdso, so no signal frames */
    (void)argv;
    oracle_init(MP_UNWIND_CFI, true);
    CHECK(mp_stack_knows_threads());
    threads();
    CHECK_EQ(oracle_probes(), 0);
    if (!emulated) {
        signals();
        interrupted_anywhere();
    }
    handled = 0;
    coroutines();
    if (!emulated)
        run_thread(NULL, thread_with_coroutine);
    generated_code();
    top_of_mapping();
    CHECK(oracle_checks() > (emulated ? 10 : 20));
    CHECK_EQ(oracle_failures(), 0);
    return check_end();
}
