/* real_runtime.c - asks the real CUDA runtime for memory, prints what it answers, and waits. */
#include <cuda_runtime_api.h>
#include <stdio.h>

int main(void) {
    void *pointer;
    printf("%d\n", (int)cudaMalloc(&pointer, 4096));
    fflush(stdout);
    getchar();
    return 0;
}
