/*
 * mapped_kinds.c - mappings of each kind by a function of its own, touched, given back, inherited and moved in part.
 * Then a line "NAME bytes resident" for each function, and it waits.
 */
#include "target.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define MIB (1UL << 20)
#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define FUNCTION __attribute__((noinline)) static

#define MAP(bytes, flags, fd)                                                                      \
    ({                                                                                             \
        void *at_ = keep(mmap(NULL, (bytes), RW, (flags), (fd), 0));                               \
        EXPECT(at_ != MAP_FAILED);                                                                 \
        at_;                                                                                       \
    })

static void tell(const char *name, size_t bytes, size_t resident) {
    say("%s %zu %zu", name, bytes, resident);
}

FUNCTION void of_memfd(void) {
    int fd = memfd_create("x", 0);
    EXPECT(fd >= 0 && ftruncate(fd, 3 * MIB) == 0);
    memset(MAP(3 * MIB, MAP_SHARED, fd), 1, 2 * MIB);
    tell("of_memfd", 3 * MIB, 2 * MIB);
}

FUNCTION void of_shm_open(void) {
    char name[64];
    snprintf(name, sizeof name, "/mem_profiler-test-%d", getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    EXPECT(fd >= 0 && shm_unlink(name) == 0 && ftruncate(fd, 2 * MIB) == 0);
    memset(MAP(2 * MIB, MAP_SHARED, fd), 1, MIB);
    tell("of_shm_open", 2 * MIB, MIB);
}

FUNCTION void of_shmat(void) {
    int id = shmget(IPC_PRIVATE, 2 * MIB - 100, IPC_CREAT | 0600);
    EXPECT(id >= 0);
    char *one = keep(shmat(id, NULL, 0)), *two = keep(shmat(id, NULL, 0));
    EXPECT(one != MAP_FAILED && two != MAP_FAILED && shmctl(id, IPC_RMID, NULL) == 0);
    memset(one, 1, MIB);
    EXPECT(shmdt(two) == 0 && shmdt(two) != 0 && shmdt(one + 4096) != 0);
    EXPECT(shmat(-1, NULL, 0) == MAP_FAILED);
    tell("of_shmat", 2 * MIB, MIB);
}

FUNCTION void of_break(void) {
    char *old = sbrk((intptr_t)(3 * MIB));
    EXPECT(old != (void *)-1);
    memset(old, 1, 3 * MIB);
    EXPECT(sbrk(-(intptr_t)MIB) == old + 3 * MIB && brk(old + 4 * MIB) == 0);
    EXPECT(brk(old + MIB) == 0 && brk(old + 2 * MIB) == 0);
    memset(old + MIB, 1, MIB);
    for (int i = 0; i < 50; i++) /* the kernel maps whole pages */
        memset(sbrk(100), 1, 100);
    tell("of_break", 2 * MIB + 8192, 2 * MIB + 8192);
}

FUNCTION void given_back(void) {
    char *at = MAP(8 * MIB, PRIVATE, -1);
    memset(at, 1, 8 * MIB);
    EXPECT(madvise(at, 3 * MIB, MADV_DONTNEED) == 0);
    char *shared = MAP(4 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1);
    memset(shared, 1, 4 * MIB);
    EXPECT(madvise(shared, MIB, MADV_REMOVE) == 0);
    tell("given_back", 12 * MIB, 8 * MIB);
}

FUNCTION void inherited(void) {
    char *at = MAP(4 * MIB, PRIVATE, -1);
    memset(at, 1, 4 * MIB);
    pid_t child = fork();
    if (child == 0) {
        bool done = munmap(at, 4 * MIB) == 0 && MAP(MIB, PRIVATE, -1) != NULL;
        _exit(done ? 0 : 1);
    }
    int status;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    tell("inherited", 4 * MIB, 4 * MIB);
}

FUNCTION void copied(void) {
    char *at = MAP(2 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1);
    memset(at, 1, 2 * MIB);
    char *again = keep(mremap(at, 0, 2 * MIB, MREMAP_MAYMOVE));
    EXPECT(again != MAP_FAILED && again != at && again[MIB] == 1);
    memset(again, 2, 2 * MIB);
    tell("copied", 4 * MIB, 4 * MIB);
}

/* A stack of guard pages and memory in one reservation, and a part that got a home elsewhere. */
FUNCTION void reserved(void) {
    char *at = keep(mmap(NULL, 64 * MIB, PROT_NONE, PRIVATE, -1, 0));
    EXPECT(at != MAP_FAILED && mprotect(at + MIB, 2 * MIB, RW) == 0);
    memset(at + MIB, 1, MIB);
    EXPECT(munmap(at + 32 * MIB, 16 * MIB) == 0);
    tell("reserved", 48 * MIB, MIB);
}

int main(void) {
    step("ready");
    of_memfd();
    of_shm_open();
    of_shmat();
    of_break();
    given_back();
    inherited();
    copied();
    reserved();
    step("told");
    return 0;
}
