/*
 * heaps.c - arenas and slabs that report their blocks, as lines on stdin say; each is answered by what is true then:
 * blocks and bytes ever allocated, blocks and bytes in use, of the arena and of the slab.
 *
 *   arena N BYTES   N blocks of the arena            reset      all blocks of the arena end
 *   slab N BYTES    N blocks of the slab (exact)     unslab N   its latest N blocks end
 *   resize BYTES    the slab's latest block          twice      a block of the slab is reported once more
 *   unknown         a free that was no block         churn N    blocks of the slab that end at once
 *   fork            a child allocates from the arena; the child answers, and ends when told
 *   threads N       N threads with an arena of their own and one slab for all
 *   open LIBRARY    which has a heap of its own, and allocates from it
 */
#include "../../examples/allocators/arena.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLAB_BYTES (256ul << 20)
#define THREAD_ROUNDS 2000

struct tally {
    atomic_ulong blocks, bytes, live_blocks, live_bytes;
};

static struct mem_profiler_heap slab_heap =
    MEM_PROFILER_HEAP("slab ../x", MEM_PROFILER_EXACT | MEM_PROFILER_OWN_PAGES);
static struct arena arena;
static struct tally of_arena, of_slab;
static char *slab;
static size_t slab_blocks, sizes[1 << 16], places[1 << 16], slab_end;

static void count(struct tally *t, size_t bytes) {
    atomic_fetch_add(&t->blocks, 1);
    atomic_fetch_add(&t->bytes, bytes);
    atomic_fetch_add(&t->live_blocks, 1);
    atomic_fetch_add(&t->live_bytes, bytes);
}

static void uncount(struct tally *t, size_t bytes) {
    atomic_fetch_sub(&t->live_blocks, 1);
    atomic_fetch_sub(&t->live_bytes, bytes);
}

static void serve_request(unsigned long n, size_t bytes) {
    for (unsigned long i = 0; i < n; i++) {
        if (arena_alloc(&arena, bytes) == NULL)
            abort();
        count(&of_arena, bytes);
    }
}

static void fill_slab(unsigned long n, size_t bytes) {
    for (unsigned long i = 0; i < n; i++) {
        places[slab_blocks] = slab_end;
        sizes[slab_blocks++] = bytes;
        slab_end += (bytes + 15) & ~15ul;
        if (slab_end > SLAB_BYTES)
            abort();
        mem_profiler_report_allocation(&slab_heap, slab + places[slab_blocks - 1], bytes);
        count(&of_slab, bytes);
    }
}

static void empty_slab(unsigned long n) {
    while (n-- > 0 && slab_blocks > 0) {
        slab_blocks--;
        mem_profiler_report_free(&slab_heap, slab + places[slab_blocks]);
        uncount(&of_slab, sizes[slab_blocks]);
        slab_end = places[slab_blocks];
    }
}

static void *serve(void *ordinal) {
    struct arena own;
    arena_init(&own, "requests");
    char *mine = slab + SLAB_BYTES / 2 + ((size_t)(uintptr_t)ordinal << 16);
    for (int i = 0; i < THREAD_ROUNDS; i++) {
        for (int k = 1; k <= 8; k++) {
            if (arena_alloc(&own, 16ul * k) == NULL)
                abort();
            count(&of_arena, 16ul * k);
        }
        mem_profiler_report_allocation(&slab_heap, mine, 32);
        count(&of_slab, 32);
        mem_profiler_report_free(&slab_heap, mine);
        uncount(&of_slab, 32);
        if (i % 3 == 0)
            arena_reset(&own);
    }
    arena_destroy(&own);
    return NULL;
}

static void run_threads(unsigned long n) {
    pthread_t threads[64];
    unsigned long live_blocks = of_arena.live_blocks, live_bytes = of_arena.live_bytes;
    for (unsigned long i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, serve, (void *)(uintptr_t)i);
    for (unsigned long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    of_arena.live_blocks = live_blocks;
    of_arena.live_bytes = live_bytes;
}

static void answer(void) {
    printf("%d %lu %lu %lu %lu %lu %lu %lu %lu\n", (int)getpid(), of_arena.blocks, of_arena.bytes,
           of_arena.live_blocks, of_arena.live_bytes, of_slab.blocks, of_slab.bytes,
           of_slab.live_blocks, of_slab.live_bytes);
}

int main(void) {
    static char in[1 << 12], out[1 << 12]; /* stdio shall not allocate */
    char line[512], word[16], path[400];
    setvbuf(stdin, in, _IOLBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    arena_init(&arena, "requests");
    slab = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    answer();
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long n = 0, bytes = 0;
        if (sscanf(line, "%15s %lu %lu", word, &n, &bytes) < 1)
            return 2;
        if (strcmp(word, "arena") == 0) {
            serve_request(n, bytes);
        } else if (strcmp(word, "reset") == 0) {
            arena_reset(&arena);
            of_arena.live_blocks = of_arena.live_bytes = 0;
        } else if (strcmp(word, "slab") == 0) {
            fill_slab(n, bytes);
        } else if (strcmp(word, "unslab") == 0) {
            empty_slab(n);
        } else if (strcmp(word, "resize") == 0) {
            char *latest = slab + places[slab_blocks - 1];
            mem_profiler_report_resize(&slab_heap, latest, latest, n);
            uncount(&of_slab, sizes[slab_blocks - 1]);
            sizes[slab_blocks - 1] = n;
            count(&of_slab, n);
        } else if (strcmp(word, "twice") == 0) {
            size_t size = sizes[slab_blocks - 1];
            mem_profiler_report_allocation(&slab_heap, slab + places[slab_blocks - 1], size);
            uncount(&of_slab, size);
            count(&of_slab, size);
        } else if (strcmp(word, "unknown") == 0) {
            mem_profiler_report_free(&slab_heap, slab + SLAB_BYTES - 16);
        } else if (strcmp(word, "churn") == 0) {
            for (; n > 0; n--) {
                fill_slab(1, 48);
                empty_slab(1);
            }
        } else if (strcmp(word, "threads") == 0) {
            run_threads(n);
        } else if (strcmp(word, "fork") == 0) {
            if (fork() != 0) {
                wait(NULL);
                continue;
            }
            memset(&of_arena, 0, sizeof of_arena);
            memset(&of_slab, 0, sizeof of_slab);
        } else if (strcmp(word, "open") == 0 && sscanf(line, "%*s %399s", path) == 1) {
            void *library = dlopen(path, RTLD_NOW);
            void (*use)(void) = library != NULL ? (void (*)(void))dlsym(library, "use") : NULL;
            if (use == NULL)
                return 3;
            use();
        }
        answer();
    }
    return 0;
}
