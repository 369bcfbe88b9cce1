/* Recurses ARGV[1] calls deep, and allocates 100 blocks of 1000 bytes at the bottom. With ARGV[2] it does so
 * when a line comes, in a child that it forks if that is "fork". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile kept[100];

__attribute__((noinline)) static int down(int left) {
    int below = 0;
    if (left > 1)
        below = down(left - 1);
    else
        for (int i = 0; i < 100; i++)
            kept[i] = malloc(1000);
    __asm__ volatile("" ::: "memory");
    return below + 1;
}

int main(int argc, char **argv) {
    int deep = argc > 1 ? atoi(argv[1]) : 10000, status = 0;
    char line[80];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    if (argc > 2) {
        puts("ready");
        if (fgets(line, sizeof line, stdin) == NULL)
            return 1;
    }
    if (argc > 2 && strcmp(argv[2], "fork") == 0 && fork() != 0)
        return wait(&status) < 0 || status != 0;
    printf("%d\n", down(deep));
    if (argc > 2 && strcmp(argv[2], "fork") != 0 && fgets(line, sizeof line, stdin) == NULL)
        return 1;
    return 0;
}
