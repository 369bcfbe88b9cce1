/*
 * plan_file.c - see plan_file.h.
 */
#include "plan_file.h"
#include "entry_patch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

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

/* Its size; 0: it is not a sealed file of ours. */
static size_t sealed_bytes(int fd) {
    struct stat st;
    if (syscall(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
        st.st_size <= 0 || (uint64_t)st.st_size > PLAN_BYTES_MAX)
        return 0;
    long seals = syscall(SYS_fcntl, fd, F_GET_SEALS);
    return seals >= 0 && (seals & ALL_SEALS) == ALL_SEALS ? (size_t)st.st_size : 0;
}

/* Reads, does not map: an access to a page beyond the file would fault. */
static bool read_whole(int fd, void *to, size_t bytes) {
    for (size_t got = 0; got < bytes;) {
        long n = syscall(SYS_pread64, fd, (char *)to + got, bytes - got, (long)got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static int install(struct mp_entry_plan *plan, size_t bytes) {
    struct mp_entry_counts counts = {0};
    char text[256];
    return relocate(plan, bytes) ? mp_entry_install(plan, bytes, &counts, text, sizeof text)
                                 : -EINVAL;
}

int mp_plan_file_install(int fd, bool keep) {
    size_t bytes = sealed_bytes(fd);
    if (bytes == 0)
        return -EINVAL;
    struct mp_entry_plan *plan =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc = plan == MAP_FAILED ? -errno : read_whole(fd, plan, bytes) ? 0 : -EIO;
    if (!keep)
        close(fd);
    if (rc == 0)
        rc = install(plan, bytes);
    if (plan != MAP_FAILED)
        munmap(plan, bytes);
    return rc;
}
