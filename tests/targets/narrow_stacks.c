/*
 * narrow_stacks.c - how much stack the hooks need, and programs that have little of it.
 *
 * narrow_stacks MODE N
 *   measure    runs every hook N times on painted stacks: prints for each kind of stack and each hook the
 *              most bytes that were written below the caller
 *   handler    handles N signals on an alternate stack of 4 KiB plus what the kernel's frame needs of it
 *              beyond 2 KiB, a guard page below it; the handler uses the malloc family
 *   threads    starts N threads of PTHREAD_STACK_MIN that do
 *   coroutines switches N times to a coroutine of 8 KiB, a guard page below it, that does
 *   edge       allocates N times where a thread has 900 bytes of stack left, and once where it has enough
 *   edge-coroutine  the same in a coroutine
 */
#include "target.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define PAINT ((uintptr_t)0xa5a5c3c35a5a3c3cULL)
#define PAINTED_BYTES 8192
#define BRANCHES 10
#define NOINLINE __attribute__((noinline, noclone))

enum hook { MALLOC, CALLOC, REALLOC, REFUSED, ALIGNED, POSIX, FREE, HOOKS };
static const char *const names[HOOKS] = {"malloc",        "calloc",         "realloc", "refused",
                                         "aligned_alloc", "posix_memalign", "free"};
static size_t used[HOOKS];
static void *blocks[HOOKS];
static unsigned long rounds;

#if defined(__x86_64__)
#define READ_SP(sp) __asm__ volatile("mov %%rsp, %0" : "=r"(sp))
#else
#define READ_SP(sp) __asm__ volatile("mov %0, sp" : "=r"(sp))
#endif

/* The rule of such a function is an expression, which no cache keeps. */
#ifdef __x86_64__
void call_by_expression(void (*call)(enum hook hook), enum hook hook);
__asm__(".text\n"
        ".globl call_by_expression\n"
        ".type call_by_expression, @function\n"
        "call_by_expression:\n"
        ".cfi_startproc\n"
        "push %rbx\n"
        ".cfi_escape 0x0f, 0x02, 0x77, 0x10\n" /* CFA = rsp + 16 */
        "mov %rdi, %rax\n"
        "mov %esi, %edi\n"
        "call *%rax\n"
        "pop %rbx\n"
        ".cfi_def_cfa %rsp, 8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size call_by_expression, . - call_by_expression\n");
#else
static NOINLINE void call_by_expression(void (*call)(enum hook hook), enum hook hook) {
    call(hook);
}
#endif

static NOINLINE void use(enum hook hook) {
    void *p = NULL;
    switch (hook) {
    case MALLOC:
        p = malloc(40);
        break;
    case CALLOC:
        p = calloc(3, 20);
        break;
    case REALLOC:
        p = realloc(blocks[REALLOC], 70);
        break;
    case REFUSED:
        if (blocks[REFUSED] == NULL)
            p = malloc(90);
        else
            EXPECT(realloc(blocks[REFUSED], PTRDIFF_MAX) == NULL);
        break;
    case ALIGNED:
        p = aligned_alloc(64, 128);
        break;
    case POSIX:
        EXPECT(posix_memalign(&p, 64, 80) == 0);
        break;
    default:
        free(blocks[MALLOC]);
        blocks[MALLOC] = NULL;
        return;
    }
    if (hook == MALLOC || hook == REALLOC || (hook == REFUSED && p != NULL))
        blocks[hook] = keep(p);
}

/* Paints what lies below, calls the hook, and looks how far down the paint is gone. */
static NOINLINE void measure(enum hook hook) {
    uintptr_t sp;
    READ_SP(sp);
    volatile uintptr_t *low = (volatile uintptr_t *)(sp - PAINTED_BYTES), *p;
    for (p = low; p < (volatile uintptr_t *)sp; p++)
        *p = PAINT;
    use(hook);
    for (p = low; *p == PAINT;)
        p++;
    size_t bytes = sp - (uintptr_t)p;
    if (bytes > used[hook])
        used[hook] = bytes;
}

static NOINLINE void turn_left(unsigned long way, unsigned depth, enum hook hook);

/* Each number leads here by a way of its own: every stack is new. */
static NOINLINE void turn_right(unsigned long way, unsigned depth, enum hook hook) {
    if (depth == 0)
        call_by_expression(measure, hook);
    else if (way & 1)
        turn_left(way >> 1, depth - 1, hook);
    else
        turn_right(way >> 1, depth - 1, hook);
    __asm__ volatile("");
}

static NOINLINE void turn_left(unsigned long way, unsigned depth, enum hook hook) {
    volatile uintptr_t frame[4] = {way};
    turn_right(way >> 1, depth - (depth > 0), hook);
    frame[1] = frame[0];
}

static void measure_all(void) {
    for (unsigned long i = 0; i < rounds; i++)
        for (unsigned hook = 0; hook < HOOKS; hook++)
            turn_right(i, BRANCHES + i % 7 * 9, (enum hook)hook);
}

static void report(const char *stack) {
    for (unsigned i = 0; i < HOOKS; i++)
        say("%s %s %zu", stack, names[i], used[i]);
    memset(used, 0, sizeof used);
}

static void *measure_thread(void *unused) {
    measure_all();
    return unused;
}

static unsigned char *stack_above_guard(size_t bytes) {
    unsigned char *at =
        mmap(NULL, bytes + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(at != MAP_FAILED && mprotect(at, 65536, PROT_NONE) == 0);
    return at + 65536;
}

static ucontext_t outer, inner;

static void run_coroutine(unsigned char *stack, size_t bytes, void (*function)(void)) {
    getcontext(&inner);
    inner.uc_stack.ss_sp = stack;
    inner.uc_stack.ss_size = bytes;
    inner.uc_link = &outer;
    makecontext(&inner, function, 0);
    EXPECT(swapcontext(&outer, &inner) == 0);
}

static void join_thread(void *(*function)(void *), const pthread_attr_t *attr) {
    pthread_t thread;
    EXPECT(pthread_create(&thread, attr, function, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
}

static void measure_everywhere(void) {
    run_coroutine(stack_above_guard(65536), 65536, measure_all);
    report("coroutine");
    join_thread(measure_thread, NULL);
    report("thread");
    measure_all();
    report("main");
}

static NOINLINE void use_family(void) {
    for (unsigned hook = 0; hook < HOOKS; hook++)
        use((enum hook)hook);
}

static unsigned long handled;

static void handle(int number) {
    (void)number;
    use_family();
    handled++;
}

static void handle_on_narrow_stack(void) {
    size_t least = getauxval(AT_MINSIGSTKSZ), page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = 4096 + (least > 2048 ? least - 2048 : 0);
    unsigned char *stack = stack_above_guard((bytes + page - 1) / page * page);
    stack_t narrow = {.ss_sp = stack, .ss_size = bytes};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    EXPECT(sigaltstack(&narrow, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    for (unsigned long i = 0; i < rounds; i++)
        EXPECT(raise(SIGUSR1) == 0);
    EXPECT(handled == rounds);
}

static void *use_in_thread(void *unused) {
    use_family();
    return unused;
}

static void use_in_threads(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    EXPECT(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN) == 0);
    for (unsigned long i = 0; i < rounds; i++)
        join_thread(use_in_thread, &attr);
}

static void use_in_coroutines(void) {
    unsigned char *stack = stack_above_guard(8192);
    for (unsigned long i = 0; i < rounds; i++)
        run_coroutine(stack, 8192, use_family);
}

static uintptr_t edge;

static NOINLINE void *alloc_at_edge(void) {
    void *p = keep(malloc(41));
    free(p);
    return p;
}

static NOINLINE void *alloc_above_edge(void) {
    return keep(malloc(42));
}

static NOINLINE void go_to_edge(void) {
    volatile uintptr_t frame[2];
    uintptr_t sp;
    READ_SP(sp);
    frame[0] = sp;
    if (sp > edge)
        go_to_edge();
    else
        for (unsigned long i = 0; i < rounds; i++)
            alloc_at_edge();
    frame[1] = frame[0];
}

static void visit_edge(void) {
    alloc_above_edge();
    go_to_edge();
}

static void *visit_edge_in_thread(void *unused) {
    visit_edge();
    return unused;
}

static void allocate_at_edge(void) {
    pthread_attr_t attr;
    unsigned char *low = stack_above_guard(65536);
    edge = (uintptr_t)low + 900;
    pthread_attr_init(&attr);
    EXPECT(pthread_attr_setstack(&attr, low, 65536) == 0);
    join_thread(visit_edge_in_thread, &attr);
}

static void allocate_at_edge_of_coroutine(void) {
    unsigned char *low = stack_above_guard(65536);
    edge = (uintptr_t)low + 900;
    run_coroutine(low, 65536, visit_edge);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {{"measure", measure_everywhere},
                 {"handler", handle_on_narrow_stack},
                 {"threads", use_in_threads},
                 {"coroutines", use_in_coroutines},
                 {"edge-coroutine", allocate_at_edge_of_coroutine},
                 {"edge", allocate_at_edge}};
    EXPECT(argc == 3);
    rounds = strtoul(argv[2], NULL, 10);
    for (unsigned i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(argv[1], modes[i].name) == 0)
            modes[i].run();
    say("done");
    return 0;
}
