/*
 * plan_file.c - see plan_file.h.
 */
#include "plan_file.h"

#include "entry_patch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLAN_BYTES_MAX                                                                             \
    (sizeof(struct mp_entry_plan) + MP_PLAN_ENTRIES_MAX * sizeof(struct mp_entry))

static bool first_base(const struct mp_elf *elf, void *base) {
    *(uintptr_t *)base = elf->base;
    return true;
}

/* From addresses of the file to addresses of the process. False: it is no plan. */
static bool relocate(struct mp_entry_plan *plan, size_t bytes) {
    uintptr_t base = 0;
    if (bytes < sizeof *plan || plan->entries > MP_PLAN_ENTRIES_MAX ||
        plan->entry_bytes != sizeof(struct mp_entry) ||
        bytes != sizeof *plan + plan->entries * sizeof(struct mp_entry))
        return false;
    mp_elf_visit(first_base, &base);
    for (uint32_t i = 0; i < plan->entries; i++) {
        struct mp_entry *entry = &plan->entry[i];
        entry->address += base;
        for (unsigned p = 0; p < entry->points && p < MP_PLAN_POINTS; p++)
            for (unsigned f = 0; f < entry->point[p].fixups && f < 2; f++)
                entry->point[p].fixup[f].target += base;
    }
    return true;
}

int mp_plan_file_install(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    off_t end = lseek(fd, 0, SEEK_END); /* fails on what is no file */
    if (end <= 0 || (size_t)end > PLAN_BYTES_MAX) {
        close(fd);
        return -EINVAL;
    }
    size_t bytes = (size_t)end;
    struct mp_entry_plan *plan = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    if (plan == MAP_FAILED)
        return -errno;
    struct mp_entry_counts counts = {0};
    char text[256];
    int rc =
        relocate(plan, bytes) ? mp_entry_install(plan, bytes, &counts, text, sizeof text) : -EINVAL;
    munmap(plan, bytes);
    return rc;
}
