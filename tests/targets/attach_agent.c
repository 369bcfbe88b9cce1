/*
 * attach_agent.c - puts the sampler into the process it is preloaded to, the way an injector does: a thread of its
 * own opens the library from a descriptor and calls mem_profiler_attach().
 *
 * Environment: AGENT_LIBRARY, the sampler, or AGENT_PRELOADED for the one that is there; AGENT_IN and AGENT_OUT, fifos for command and answer lines;
 * AGENT_HOLD=1: main begins only after the command "go".
 * Commands: begin DIR [OPTION], rescan, detach: answered by "result patched restored failed modules held kept: text".
 *           plan FILE: what the next calls hand over as their plan.
 *           cycle N DIR: N times begin and detach, answered by the failures and the last text.
 *           churn N DIR: the same while libraries come and go: only refusals are failures.
 *           scan N: N times rescan, answered by the failures.
 *           slots FILE: write "path offset value" of every slot of every module, and "path relro PERMISSIONS".
 *           go: let main begin. end: no more commands here; a fork child that calls agent_in_child() may follow.
 */
#include "abi/attach.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sem_t may_begin;
static int (*attach)(struct mp_attach_request *);
static int in = -1, out = -1;
static uint64_t plan[1 << 14];
static size_t plan_bytes;

static void answer(const char *text) {
    char line[1200];
    int n = snprintf(line, sizeof line, "%s\n", text);
    if (write(out, line, (size_t)n) != n)
        _exit(95);
}

static bool hear(char *text, size_t n) {
    size_t got = 0;
    char c;
    while (read(in, &c, 1) == 1) {
        if (c == '\n') {
            text[got] = '\0';
            return true;
        }
        if (got + 1 < n)
            text[got++] = c;
    }
    return false;
}

/* Bytes of the file in a memfd, opened as /proc/PID/fd/N. */
static void load(void) {
    char path[64];
    static char buffer[1 << 16];
    if (getenv("AGENT_PRELOADED") != NULL) {
        attach = (int (*)(struct mp_attach_request *))dlsym(RTLD_DEFAULT, "mem_profiler_attach");
        return;
    }
    int from = open(getenv("AGENT_LIBRARY"), O_RDONLY | O_CLOEXEC);
    int to = memfd_create("mem_profiler", MFD_CLOEXEC);
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)n) != n)
            _exit(96);
    close(from);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), to);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        answer(dlerror());
        _exit(97);
    }
    close(to);
    attach = (int (*)(struct mp_attach_request *))dlsym(library, "mem_profiler_attach");
}

static void call(struct mp_attach_request *r, uint32_t command, const char *dir,
                 const char *options) {
    if (attach == NULL)
        load();
    memset(r, 0, sizeof *r);
    r->version = MP_ATTACH_VERSION;
    r->command = command;
    r->flags = getenv("AGENT_FOLLOW") != NULL ? MP_ATTACH_FOLLOW : 0;
    snprintf(r->installed_path, sizeof r->installed_path, "%s", getenv("AGENT_LIBRARY"));
    snprintf(r->dir, sizeof r->dir, "%s", dir);
    snprintf(r->options, sizeof r->options, "%s", options);
    r->plan = plan_bytes != 0 ? (uintptr_t)plan : 0;
    r->plan_bytes = plan_bytes;
    attach(r);
}

static void call_and_answer(uint32_t command, const char *dir, const char *options) {
    struct mp_attach_request r;
    char line[512];
    call(&r, command, dir, options);
    snprintf(line, sizeof line, "%d %u %u %u %u %llu %llu: %s", r.result, r.slots_patched,
             r.slots_restored, r.slots_failed, r.modules, (unsigned long long)r.slots_held,
             (unsigned long long)r.slots_kept, r.text);
    answer(line);
}

static void scan(unsigned n) {
    struct mp_attach_request r = {0};
    unsigned failures = 0;
    char line[64];
    for (unsigned i = 0; i < n; i++) {
        call(&r, MP_ATTACH_RESCAN, "", "");
        failures += r.result != 0;
    }
    snprintf(line, sizeof line, "%u", failures);
    answer(line);
}

static void cycle(unsigned n, const char *dir, bool steady) {
    struct mp_attach_request r = {0};
    unsigned failures = 0;
    char line[512];
    for (unsigned i = 0; i < n; i++) {
        call(&r, MP_ATTACH_BEGIN, dir, "");
        failures += r.result != 0 || (steady && (r.slots_failed != 0 || r.slots_patched == 0));
        uint32_t patched = r.slots_patched;
        call(&r, MP_ATTACH_DETACH, "", "");
        failures += r.result != 0 || (steady && r.slots_restored != patched);
    }
    snprintf(line, sizeof line, "%u %s", failures, r.text);
    answer(line);
}

static void permissions_at(uintptr_t address, char text[8]) {
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end;
        char permissions[8];
        if (sscanf(line, "%lx-%lx %7s", &start, &end, permissions) == 3 && address >= start &&
            address < end)
            strcpy(text, permissions);
    }
    fclose(maps);
}

static void dump_table(FILE *file, const char *path, uintptr_t base, const ElfW(Rela) * rela,
                       size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned type = ELF64_R_TYPE(rela[i].r_info);
        uintptr_t address = base + rela[i].r_offset, value;
        if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64)
            continue;
        memcpy(&value, (const void *)address, sizeof value);
        fprintf(file, "%s %#lx %#lx\n", path, (unsigned long)rela[i].r_offset,
                (unsigned long)value);
    }
}

static int dump(struct dl_phdr_info *info, size_t size, void *arg) {
    const char *path = info->dlpi_name[0] ? info->dlpi_name : "program";
    const ElfW(Dyn) *d = NULL;
    const ElfW(Rela) *rela = NULL, *plt = NULL;
    size_t rela_bytes = 0, plt_bytes = 0;
    (void)size;
    if (strncmp(path, "/proc/", 6) == 0 || strstr(path, "vdso") != NULL)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            d = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
            char text[8] = "?";
            permissions_at(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, text);
            fprintf(arg, "%s relro %s\n", path, text);
        }
    }
    for (; d != NULL && d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_RELA)
            rela = (const ElfW(Rela) *)d->d_un.d_ptr;
        if (d->d_tag == DT_RELASZ)
            rela_bytes = d->d_un.d_val;
        if (d->d_tag == DT_JMPREL)
            plt = (const ElfW(Rela) *)d->d_un.d_ptr;
        if (d->d_tag == DT_PLTRELSZ)
            plt_bytes = d->d_un.d_val;
    }
    dump_table(arg, path, info->dlpi_addr, rela, rela_bytes / sizeof *rela);
    dump_table(arg, path, info->dlpi_addr, plt, plt_bytes / sizeof *plt);
    return 0;
}

static void dump_slots(const char *path) {
    FILE *file = fopen(path, "w");
    dl_iterate_phdr(dump, file);
    fclose(file);
    answer("dumped");
}

static void read_plan(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(file, plan, sizeof plan);
    close(file);
    plan_bytes = n > 0 ? (size_t)n : 0;
    answer("read");
}

static bool obey(char *line) {
    char *rest = line;
    char *word = strsep(&rest, " "), *first = rest ? strsep(&rest, " ") : "";
    if (strcmp(word, "begin") == 0)
        call_and_answer(MP_ATTACH_BEGIN, first, rest ? rest : "");
    else if (strcmp(word, "rescan") == 0)
        call_and_answer(MP_ATTACH_RESCAN, "", "");
    else if (strcmp(word, "detach") == 0)
        call_and_answer(MP_ATTACH_DETACH, "", "");
    else if (strcmp(word, "cycle") == 0)
        cycle((unsigned)atoi(first), rest, true);
    else if (strcmp(word, "churn") == 0)
        cycle((unsigned)atoi(first), rest, false);
    else if (strcmp(word, "scan") == 0)
        scan((unsigned)atoi(first));
    else if (strcmp(word, "slots") == 0)
        dump_slots(first);
    else if (strcmp(word, "plan") == 0)
        read_plan(first);
    else if (strcmp(word, "go") == 0)
        sem_post(&may_begin);
    else
        return false;
    return true;
}

static void *serve(void *unused) {
    char line[1024];
    in = open(getenv("AGENT_IN"), O_RDWR | O_CLOEXEC);
    out = open(getenv("AGENT_OUT"), O_RDWR | O_CLOEXEC);
    while (hear(line, sizeof line) && obey(line))
        continue;
    answer("ended");
    close(in);
    close(out);
    return unused;
}

static void start_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, serve, NULL);
    pthread_detach(thread);
}

/* In a fork child, which takes over: its parent's thread must not hear anything any more. */
void agent_in_child(void);
void agent_in_child(void) {
    start_thread();
}

__attribute__((constructor)) static void start(void) {
    const char *hold = getenv("AGENT_HOLD");
    unsetenv("LD_PRELOAD"); /* children are nobody's targets */
    sem_init(&may_begin, 0, 0);
    start_thread();
    if (hold != NULL)
        while (sem_wait(&may_begin) != 0 && errno == EINTR)
            continue;
}
