/*
 * heaps_plugin.c - a library with an allocator of its own.
 */
#include <mem_profiler.h>

static struct mem_profiler_heap heap = MEM_PROFILER_HEAP("plugin", MEM_PROFILER_EXACT);
static char memory[1 << 16];

void use(void);
void use(void) {
    for (int i = 0; i < 10; i++)
        mem_profiler_report_allocation(&heap, memory + 1000 * i, 1000);
    mem_profiler_report_free(&heap, memory);
}
