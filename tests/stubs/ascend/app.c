/*
 * app.c - a program on Ascend: does to the drivers what the lines of its input say, and prints
 * each result.
 *
 *   app link              calls through its own references (built with the libraries)
 *   app open MODE LIB...  dlopen each LIB with MODE (local, global), dlsym in the last that has it
 *   app default LIB...    dlopen each LIB globally, then dlsym(RTLD_DEFAULT, ...)
 *
 * Lines, where R is a register (0..63), sizes are in bytes: malloc R SIZE | align32 R SIZE | free
 * R | rtmalloc R SIZE | rtfree R | host R SIZE | freehost R | managed R SIZE | hal R SIZE FLAG |
 * halfree R | reserve R SIZE | addrfree R | physical R SIZE DEVICE | create R SIZE SIDE DEVICE |
 * release R | retain R MAPPED | import R SIZE | map ADDRESS SIZE HANDLE | unmap ADDRESS |
 * register R SIZE | unregister R | sample DEVICE | set DEVICE | reset DEVICE | has NAME | race |
 * fork | close | open | exit STATUS | die
 */
#include "ascend.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define REGISTERS 64

/* Every function of the drivers that lines may call: kept in a table, filled by reference or by
 * name. */
/* clang-format off */
#define FUNCTIONS(X) \
    X(aclrtMalloc) X(aclrtMallocAlign32) X(aclrtFree) X(rtMalloc) X(rtFree) X(aclrtMallocHost) \
    X(aclrtFreeHost) X(aclrtMemAllocManaged) X(halMemAlloc) X(halMemFree) \
    X(aclrtReserveMemAddress) X(aclrtReleaseMemAddress) X(aclrtMallocPhysical) X(halMemCreate) \
    X(halMemRelease) X(halMemRetainAllocationHandle) X(halMemImportFromShareableHandle) \
    X(halMemMap) X(halMemUnmap) X(halHostRegister) X(halHostUnregister) X(prof_sample_start) \
    X(aclrtSetDevice) X(aclrtResetDevice)
/* clang-format on */

#define FIELD(name) __typeof__(&name) name;
static struct {
    FUNCTIONS(FIELD)
} api;

#ifdef LINKED
#pragma weak halMemCreate
#pragma weak halMemRelease
#pragma weak halMemRetainAllocationHandle
#pragma weak halMemImportFromShareableHandle
#pragma weak halMemMap
#pragma weak halMemUnmap
static void bind_linked(void) {
#define BIND(name) api.name = name;
    FUNCTIONS(BIND)
}
#else
static void bind_linked(void) {
    fprintf(stderr, "not linked\n");
    exit(2);
}
#endif

static char **paths;
static int library_count, open_mode;
static bool by_handle;
static void *libraries[8];

static void *look_up(const char *name) {
    if (!by_handle)
        return dlsym(RTLD_DEFAULT, name);
    for (int i = library_count - 1; i >= 0; i--) {
        void *found = dlsym(libraries[i], name);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static void bind_by_name(void) {
#define LOOK_UP(name) api.name = (__typeof__(api.name))look_up(#name);
    FUNCTIONS(LOOK_UP)
}

static int open_libraries(void) {
    for (int i = 0; i < library_count; i++) {
        libraries[i] = dlopen(paths[i], open_mode);
        if (libraries[i] == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
    bind_by_name();
    return 0;
}

/* Close all, and see to it that the next driver does not come to lie where this one was. */
static int close_libraries(void) {
    uintptr_t place = (uintptr_t)dlsym(libraries[0], "prof_sample_start") & ~(uintptr_t)4095;
    for (int i = library_count; i > 0; i--)
        dlclose(libraries[i - 1]);
    void *room = mmap((void *)place, 4096, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return room != (void *)place;
}

static void *registers[REGISTERS];

static int missing(void) {
    return -1;
}

#define CALL(name, ...) (api.name != NULL ? (int)api.name(__VA_ARGS__) : missing())

static int allocate(const char *word, void **r, unsigned long size, unsigned long flag) {
    if (strcmp(word, "malloc") == 0)
        return CALL(aclrtMalloc, r, size, ACL_MEM_MALLOC_HUGE_FIRST);
    if (strcmp(word, "align32") == 0)
        return CALL(aclrtMallocAlign32, r, size, ACL_MEM_MALLOC_HUGE_FIRST);
    if (strcmp(word, "rtmalloc") == 0)
        return CALL(rtMalloc, r, size, RT_MEMORY_HBM, APP_MODULE_ID);
    if (strcmp(word, "host") == 0)
        return CALL(aclrtMallocHost, r, size);
    if (strcmp(word, "managed") == 0)
        return CALL(aclrtMemAllocManaged, r, size, 0);
    if (strcmp(word, "hal") == 0)
        return CALL(halMemAlloc, r, size, flag);
    return -2;
}

static int give_back(const char *word, void *r) {
    if (strcmp(word, "free") == 0)
        return CALL(aclrtFree, r);
    if (strcmp(word, "rtfree") == 0)
        return CALL(rtFree, r);
    if (strcmp(word, "freehost") == 0)
        return CALL(aclrtFreeHost, r);
    if (strcmp(word, "halfree") == 0)
        return CALL(halMemFree, r);
    return -2;
}

static int physical(const char *word, unsigned long a, unsigned long b, unsigned long c,
                    unsigned long d) {
    void **r = &registers[a % REGISTERS];
    if (strcmp(word, "reserve") == 0)
        return CALL(aclrtReserveMemAddress, r, b, 0, NULL, 0);
    if (strcmp(word, "addrfree") == 0)
        return CALL(aclrtReleaseMemAddress, *r);
    if (strcmp(word, "physical") == 0) {
        aclrtPhysicalMemProp prop = {.location = {.id = (uint32_t)c, .type = 1}};
        return CALL(aclrtMallocPhysical, r, b, &prop, 0);
    }
    if (strcmp(word, "create") == 0) {
        struct drv_mem_prop prop = {.side = (uint32_t)c, .devid = (uint32_t)d, .pg_type = 1};
        return CALL(halMemCreate, (drv_mem_handle_t **)r, b, &prop, 0);
    }
    if (strcmp(word, "release") == 0)
        return CALL(halMemRelease, *r);
    if (strcmp(word, "retain") == 0)
        return CALL(halMemRetainAllocationHandle, (drv_mem_handle_t **)r, registers[b % REGISTERS]);
    if (strcmp(word, "import") == 0)
        return CALL(halMemImportFromShareableHandle, b, 0, (drv_mem_handle_t **)r);
    if (strcmp(word, "map") == 0)
        return CALL(halMemMap, *r, b, 0, registers[c % REGISTERS], 0);
    if (strcmp(word, "unmap") == 0)
        return CALL(halMemUnmap, *r);
    return -2;
}

/* A free and an allocation of one address, by two threads at once. */
static void *race(void *unused) {
    (void)unused;
    for (int i = 0; i < 2000; i++) {
        void *p = NULL;
        if (api.halMemAlloc(&p, 4096, MEM_DEV | MEM_TYPE_HBM) == DRV_ERROR_NONE)
            api.halMemFree(p);
    }
    return NULL;
}

static int other(const char *word, unsigned long a, unsigned long b) {
    void *unused;
    if (strcmp(word, "register") == 0) {
        registers[a % REGISTERS] = calloc(1, b);
        return CALL(halHostRegister, registers[a % REGISTERS], b, HOST_MEM_MAP_DEV, 0, &unused);
    }
    if (strcmp(word, "unregister") == 0)
        return CALL(halHostUnregister, registers[a % REGISTERS], 0);
    if (strcmp(word, "sample") == 0)
        return CALL(prof_sample_start, (uint32_t)a);
    if (strcmp(word, "set") == 0)
        return CALL(aclrtSetDevice, (int32_t)a);
    if (strcmp(word, "reset") == 0)
        return CALL(aclrtResetDevice, (int32_t)a);
    if (strcmp(word, "race") == 0) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            pthread_create(&threads[i], NULL, race, NULL);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        return 0;
    }
    if (strcmp(word, "close") == 0)
        return close_libraries();
    if (strcmp(word, "open") == 0)
        return open_libraries();
    return -2;
}

/* The child goes on with the input; the parent waits for it and ends as it did. */
static int forked(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        return 0;
    int status = 0;
    waitpid(child, &status, 0);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static int obey(const char *line) {
    char word[24] = "", name[64] = "";
    unsigned long a = 0, b = 0, c = 0, d = 0;
    sscanf(line, "%23s %lu %lu %lu %lu", word, &a, &b, &c, &d);
    if (strcmp(word, "has") == 0) {
        sscanf(line, "%*s %63s", name);
        return look_up(name) != NULL;
    }
    if (strcmp(word, "fork") == 0)
        return forked();
    if (strcmp(word, "exit") == 0)
        _exit((int)a);
    if (strcmp(word, "die") == 0)
        abort();
    int rc = allocate(word, &registers[a % REGISTERS], b, c);
    if (rc == -2)
        rc = give_back(word, registers[a % REGISTERS]);
    if (rc == -2)
        rc = physical(word, a, b, c, d);
    if (rc == -2)
        rc = other(word, a, b);
    return rc;
}

int main(int argc, char **argv) {
    char line[256];
    setvbuf(stdin, NULL, _IONBF, 0);
    if (argc > 1 && strcmp(argv[1], "link") == 0) {
        bind_linked();
    } else {
        by_handle = argc > 1 && strcmp(argv[1], "open") == 0;
        bool local = by_handle && argc > 2 && strcmp(argv[2], "local") == 0;
        open_mode = RTLD_NOW | (local ? RTLD_LOCAL : RTLD_GLOBAL);
        int first = by_handle ? 3 : 2;
        paths = argv + first;
        library_count = argc > first ? argc - first : 0;
        if (library_count > 8 || open_libraries() != 0)
            return 2;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        int rc = obey(line);
        printf("%d\n", rc);
        fflush(stdout);
    }
    return 0;
}
