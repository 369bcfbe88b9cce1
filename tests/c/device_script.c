/*
 * device_script.c - does to the device tables what the lines of its input say, and answers each with numbers.
 */
#include "device_segment.h"

#include <fcntl.h>
#include <unistd.h>

static void open_segment_file(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, MP_LIMIT_WHOLE_BYTES) == 0);
    open_segment_in(fd, MP_LIMIT_WHOLE_BYTES);
    close(fd);
}

#define TAKEN_MAX 64

/*
 * One operation a line: alloc D S A C ASKED TAKEN | fail D ASKED | take S A | put N | retain S A | drop S C |
 * start N | stop | mark ID | actual D USED TOTAL | sums D N | live | new PATH. Each is answered by one line of
 * numbers.
 */
int main(void) {
    start_unwinder();
    static struct mp_device_taken taken[TAKEN_MAX];
    unsigned n_taken = 0;
    char line[512], word[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long a[6] = {0};
        int n = sscanf(line, "%15s %llu %llu %llu %llu %llu %llu", word, &a[0], &a[1], &a[2], &a[3],
                       &a[4], &a[5]);
        uint64_t answer = 0;
        bool of_domain = strcmp(word, "alloc") == 0 || strcmp(word, "fail") == 0 ||
                         strcmp(word, "actual") == 0 || strcmp(word, "sums") == 0;
        uint32_t domain =
            of_domain && n > 1 ? mp_domain_intern("hal", (int)a[0], MP_MEMORY_DEVICE) : 0;
        if (strcmp(word, "new") == 0) {
            if (mp_local.segment.base != NULL)
                close_segment();
            line[strcspn(line, "\n")] = '\0';
            open_segment_file(line + strlen("new "));
            n_taken = 0;
        } else if (strcmp(word, "mark") == 0) {
            mp_mark_add(MP_MARK_BEGIN, a[0], "test", "a mark");
        } else if (strcmp(word, "actual") == 0) {
            mp_device_actual(domain, a[1], a[2]);
        } else if (strcmp(word, "start") == 0) {
            begin_capture((uint32_t)a[0], 1);
        } else if (strcmp(word, "stop") == 0) {
            end_capture();
        } else if (strcmp(word, "alloc") == 0) {
            alloc_block(domain, (uint32_t)a[1], a[2], a[3], a[4], a[5]);
        } else if (strcmp(word, "fail") == 0) {
            fail_block(domain, a[1]);
        } else if (strcmp(word, "take") == 0) {
            mp_device_take((uint32_t)a[0], a[1], &taken[n_taken % TAKEN_MAX]);
            answer = taken[n_taken++ % TAKEN_MAX].found;
        } else if (strcmp(word, "put") == 0) {
            mp_device_put_back(&taken[a[0] % TAKEN_MAX]);
        } else if (strcmp(word, "retain") == 0) {
            answer = mp_device_retain((uint32_t)a[0], a[1]);
        } else if (strcmp(word, "drop") == 0) {
            answer = mp_device_drop_container((uint32_t)a[0], a[1]);
        } else if (strcmp(word, "live") == 0) {
            answer = live_rows();
        } else if (strcmp(word, "sums") == 0) {
            struct mp_device_site_row s = sums(domain, (uint32_t)a[1]);
            printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                   " %" PRIu64 " ",
                   s.alloc_blocks, s.alloc_bytes, s.alloc_taken_bytes, s.freed_blocks,
                   s.freed_bytes, s.freed_taken_bytes, s.failed_blocks);
            answer = s.failed_bytes;
        }
        printf("%" PRIu64 "\n", answer);
        fflush(stdout);
    }
    return check_failed != 0;
}
