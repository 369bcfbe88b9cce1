/*
 * stepper.c - a target that does what its input says, one line at a time, and answers each line.
 *
 * a N S   allocate and keep N blocks of S bytes       f       free all blocks that are kept
 * c N S   allocate N blocks of S bytes, free them      x PROG  exec PROG
 * d N     free the N newest of the kept ones             k       fork; the child goes on, the parent waits
 * Blocks are kept in a list inside themselves, so S is at least the size of a pointer.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct block {
    struct block *next;
};

static struct block *kept;

__attribute__((noinline)) static void allocate(long count, long size) {
    while (count-- > 0) {
        struct block *b = malloc((size_t)size);
        if (b == NULL)
            abort();
        b->next = kept;
        kept = b;
    }
}

static void release(long count) {
    while (kept != NULL && count-- > 0) {
        struct block *next = kept->next;
        free(kept);
        kept = next;
    }
}

static void churn(long count, long size) {
    while (count-- > 0) {
        void *volatile block = malloc((size_t)size);
        free(block);
    }
}

static void answer(void) {
    if (write(STDOUT_FILENO, "ok\n", 3) != 3)
        _exit(3);
}

int main(void) {
    static char in[1 << 12], out[1 << 12]; /* stdio shall not allocate */
    char line[256];
    long count, size;
    setvbuf(stdin, in, _IOLBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    answer();
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "a %ld %ld", &count, &size) == 2)
            allocate(count, size);
        else if (sscanf(line, "c %ld %ld", &count, &size) == 2)
            churn(count, size);
        else if (sscanf(line, "d %ld", &count) == 1)
            release(count);
        else if (line[0] == 'f')
            release(LONG_MAX);
        else if (line[0] == 'k' && fork() > 0)
            return wait(NULL) > 0 ? 0 : 1;
        else if (line[0] == 'x')
            execl(line + 2, line + 2, (char *)NULL);
        answer();
    }
    return 0;
}
