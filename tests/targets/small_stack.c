/*
 * small_stack.c - a thread with the smallest stack there is forks. The child says how deep the thread's stack was
 * used below the function that forked, and allocates; the parent waits for it.
 */
#include "target.h"

#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAINT 0xa5

static char line[32];
static unsigned char *stack;
static size_t stack_bytes;

static size_t depth_below(const void *here) {
    size_t untouched = 0;
    while (untouched < stack_bytes && stack[untouched] == PAINT)
        untouched++;
    return (size_t)((const unsigned char *)here - (stack + untouched));
}

static void alloc_in_child(void) {
    for (int i = 0; i < 21; i++)
        keep(malloc(21));
}

static void *forks(void *arg) {
    volatile char here = 0;
    *(pid_t *)arg = fork();
    if (*(pid_t *)arg != 0)
        return NULL;
    snprintf(line, sizeof line, "%zu\n", depth_below((const void *)&here));
    alloc_in_child();
    if (write(STDOUT_FILENO, line, strlen(line)) < 0)
        _exit(93);
    _exit(0);
}

int main(void) {
    pthread_attr_t attr;
    pthread_t thread;
    pid_t pid = -1;
    int status;
    stack_bytes = (size_t)PTHREAD_STACK_MIN;
    unsigned char *block =
        mmap(NULL, stack_bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(block != MAP_FAILED && mprotect(block, 4096, PROT_NONE) == 0);
    stack = block + 4096;
    memset(stack, PAINT, stack_bytes);
    pthread_attr_init(&attr);
    EXPECT(pthread_attr_setstack(&attr, stack, stack_bytes) == 0);
    EXPECT(pthread_create(&thread, &attr, forks, &pid) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    say("parent");
    return 0;
}
