/*
 * contexts.c - blocks in contexts that are freed, resized, reset and deleted. Says what is true at the end: blocks and
 * bytes ever allocated, blocks and bytes in use.
 */
#include "../../examples/allocators/contexts.h"

#include <stdio.h>

static void *parse_query(struct context *context, size_t bytes) {
    void *block = context_alloc(context, bytes);
    if (block == NULL)
        abort();
    return block;
}

int main(void) {
    struct context *query = context_create(), *session = context_create();
    if (query == NULL || session == NULL)
        return 1;
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 20; k++)
            parse_query(query, 100);
        context_free(query, parse_query(query, 40));
        context_reset(query); /* the session's go on */
        parse_query(session, 200);
    }
    parse_query(query, 50);
    context_realloc(session, parse_query(session, 64), 64, 30);
    context_realloc(session, parse_query(session, 64), 64, 300);
    struct context *gone = context_create();
    if (gone == NULL)
        return 1;
    parse_query(gone, 1000);
    context_delete(gone);
    printf("%d %d %d %d\n", 200 + 10 + 10 + 1 + 2 + 2 + 1,
           200 * 100 + 10 * 40 + 10 * 200 + 50 + (64 + 30) + (64 + 300) + 1000, 10 + 1 + 2,
           10 * 200 + 50 + 30 + 300);
    fflush(stdout);
    return getchar() == EOF ? 0 : 1;
}
