/*
 * held_lock.c - an allocator with one lock, which the main thread holds while it waits for a line. Whoever
 * makes it allocate meanwhile waits for ever.
 *
 * Prints "ready"; each line is answered with "same" if read() gave just that line, else "changed".
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define POOL_BYTES (64u << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char pool[POOL_BYTES] __attribute__((aligned(16)));
static size_t used;

void *malloc(size_t size) {
    pthread_mutex_lock(&lock);
    size_t start = used + 16;
    void *block = NULL;
    if (size < POOL_BYTES - start - 32) {
        memcpy(pool + used, &size, sizeof size);
        used = (start + size + 15) / 16 * 16;
        block = pool + start;
    }
    pthread_mutex_unlock(&lock);
    return block;
}

void free(void *block) {
    (void)block;
}

void *calloc(size_t count, size_t size) {
    void *block = malloc(count * size);
    return block != NULL ? memset(block, 0, count * size) : NULL;
}

void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    size_t before = 0;
    if (old != NULL)
        memcpy(&before, (unsigned char *)old - 16, sizeof before);
    return block != NULL && old != NULL ? memcpy(block, old, before < size ? before : size) : block;
}

int main(void) {
    char line[64];
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        return 2;
    for (;;) {
        pthread_mutex_lock(&lock);
        ssize_t n = read(STDIN_FILENO, line, sizeof line);
        pthread_mutex_unlock(&lock);
        if (n <= 0)
            return n < 0;
        const char *said = n == 6 && memcmp(line, "hello\n", 6) == 0 ? "same\n" : "changed\n";
        if (malloc(100) == NULL || write(STDOUT_FILENO, said, strlen(said)) < 0)
            return 3;
    }
}
