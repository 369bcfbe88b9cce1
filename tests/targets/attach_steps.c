/*
 * attach_steps.c - a program that is told what to do while the sampler comes and goes.
 *
 * Lines in, one line out each:
 *   alloc N        step_alloc() allocates N blocks of 1000 bytes and frees half of them
 *   keep N / drop  kept_blocks() allocates N blocks of 500 bytes; drop frees them
 *   dup            strdup() and getline() in functions of these names with _inside
 *   open PATH MODE dlopen with these flags; answers its base
 *   call           ask_plugin() asks the opened library for a block of its own and keeps it
 *   close          dlclose
 *   bind           write the real malloc into our own slot, as the loader does when it binds
 *   tool           put a counting hook over whatever our own slot of malloc holds; answers that
 *   tooled         calls that the counting hook has seen, and whether the slot still leads to it
 *   threads N      N threads allocate, check what they wrote, and free
 *   stop           join them; answers the blocks they had
 *   lock           lock all memory of the process, now and in future; answers the errno
 *   fork           a child allocates and ends; answers its status
 *   filter         let the kernel kill the process for what changes the protection of memory
 *   linger         fork a child that goes on with these commands instead of us; we wait for it
 */
#include "target.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define THREADS_MAX 16
#define KEPT_MAX 4096

static void *plugin;
static void *kept[KEPT_MAX];
static unsigned kept_count;

void step_alloc(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        void *p = keep(malloc(1000));
        if (i % 2)
            free(p);
    }
}

void kept_blocks(unsigned n) {
    for (unsigned i = 0; i < n && kept_count < KEPT_MAX; i++)
        kept[kept_count++] = keep(malloc(500));
}

static void drop_blocks(void) {
    while (kept_count > 0)
        free(kept[--kept_count]);
}

void strdup_inside(void) {
    keep(strdup("twenty-one characters"));
}

void getline_inside(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char *line = NULL;
    size_t n = 0;
    EXPECT(getline(&line, &n, file) > 0);
    fclose(file);
}

void ask_plugin(void) {
    void *(*block)(void) = (void *(*)(void))dlsym(plugin, "plugin_block");
    EXPECT(block != NULL && keep(block()) != NULL);
}

static uintptr_t *slot_of(const char *name) {
    const ElfW(Rela) *rela = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    size_t bytes = 0;
    struct link_map *map = _r_debug.r_map;
    for (const ElfW(Dyn) *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_JMPREL)
            rela = (const ElfW(Rela) *)d->d_un.d_ptr;
        if (d->d_tag == DT_PLTRELSZ)
            bytes = d->d_un.d_val;
        if (d->d_tag == DT_SYMTAB)
            symbols = (const ElfW(Sym) *)d->d_un.d_ptr;
        if (d->d_tag == DT_STRTAB)
            strings = (const char *)d->d_un.d_ptr;
    }
    for (size_t i = 0; i < bytes / sizeof *rela; i++)
        if (strcmp(strings + symbols[ELF64_R_SYM(rela[i].r_info)].st_name, name) == 0)
            return (uintptr_t *)(map->l_addr + rela[i].r_offset);
    return NULL;
}

static unsigned tool_calls;
static void *(*below_tool)(size_t);

static void *tool_malloc(size_t size) {
    __atomic_fetch_add(&tool_calls, 1, __ATOMIC_RELAXED);
    return below_tool(size);
}

static void put_tool(void) {
    uintptr_t *slot = slot_of("malloc");
    EXPECT(slot != NULL);
    below_tool = (void *(*)(size_t)) * slot;
    *slot = (uintptr_t)tool_malloc;
    say("%#lx", (unsigned long)(uintptr_t)below_tool);
}

static pthread_t thread[THREADS_MAX];
static unsigned threads;
static int stopping;

static void *worker(void *arg) {
    uintptr_t self = (uintptr_t)arg, blocks = 0;
    unsigned char *held[64] = {0};
    while (!__atomic_load_n(&stopping, __ATOMIC_RELAXED)) {
        unsigned i = blocks++ * 7 % 64;
        size_t size = 16 + blocks * 37 % 3000;
        if (held[i] != NULL) {
            if (held[i][0] != (unsigned char)self || held[i][1] != i)
                return NULL;
            free(held[i]);
        }
        held[i] = blocks % 3 ? malloc(size) : realloc(calloc(1, 16), size);
        held[i][0] = (unsigned char)self;
        held[i][1] = (unsigned char)i;
    }
    for (unsigned i = 0; i < 64; i++)
        free(held[i]);
    return (void *)blocks;
}

static void start_threads(unsigned n) {
    stopping = 0;
    for (threads = 0; threads < n; threads++)
        EXPECT(pthread_create(&thread[threads], NULL, worker, (void *)(uintptr_t)(threads + 1)) ==
               0);
    say("started");
}

static void stop_threads(void) {
    uintptr_t blocks = 0;
    __atomic_store_n(&stopping, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < threads; i++) {
        void *result;
        pthread_join(thread[i], &result);
        EXPECT(result != NULL);
        blocks += (uintptr_t)result;
    }
    say("%lu", (unsigned long)blocks);
}

static void set_filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int wait_for(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static void fork_child(void) {
    pid_t child = fork();
    if (child == 0) {
        step_alloc(100);
        _exit(7);
    }
    say("%d", wait_for(child));
}

static void linger(void) {
    pid_t child = fork();
    if (child != 0)
        exit(WEXITSTATUS(wait_for(child)));
    void (*agent)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "agent_in_child");
    EXPECT(agent != NULL);
    agent();
    say("%d", getpid());
}

static void open_library(char *arguments) {
    char *path = strsep(&arguments, " ");
    plugin = dlopen(path, atoi(arguments));
    if (plugin == NULL)
        say("%s", dlerror());
    else
        say("%#lx", (unsigned long)((struct link_map *)plugin)->l_addr);
}

static void obey(const char *word, char *rest) {
    if (strcmp(word, "open") == 0)
        return open_library(rest);
    if (strcmp(word, "threads") == 0)
        return start_threads((unsigned)atoi(rest));
    if (strcmp(word, "stop") == 0)
        return stop_threads();
    if (strcmp(word, "tool") == 0)
        return put_tool();
    if (strcmp(word, "tooled") == 0)
        return say("%u %d", tool_calls, *slot_of("malloc") == (uintptr_t)tool_malloc);
    if (strcmp(word, "lock") == 0)
        return say("%d", mlockall(MCL_CURRENT | MCL_FUTURE) == 0 ? 0 : errno);
    if (strcmp(word, "fork") == 0)
        return fork_child();
    if (strcmp(word, "linger") == 0)
        return linger();
    if (strcmp(word, "alloc") == 0)
        step_alloc((unsigned)atoi(rest));
    else if (strcmp(word, "keep") == 0)
        kept_blocks((unsigned)atoi(rest));
    else if (strcmp(word, "drop") == 0)
        drop_blocks();
    else if (strcmp(word, "dup") == 0)
        strdup_inside(), getline_inside();
    else if (strcmp(word, "call") == 0)
        ask_plugin();
    else if (strcmp(word, "filter") == 0)
        set_filter();
    else if (strcmp(word, "close") == 0)
        EXPECT(dlclose(plugin) == 0);
    else if (strcmp(word, "bind") == 0)
        *slot_of("malloc") = (uintptr_t)dlsym(RTLD_NEXT, "malloc");
    else
        EXPECT(!"a known command");
    say("done");
}

int main(void) {
    char line[1024];
    free(keep(malloc(1))); /* the slots of both are bound */
    say("ready");
    while (hear(line, sizeof line)) {
        char *rest = line, *word = strsep(&rest, " ");
        obey(word, rest);
    }
    return 0;
}
