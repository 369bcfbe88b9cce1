/*
 * plan_file.c - see plan_file.h.
 */
#include "plan_file.h"
#include "hooks/inline_patch.h"

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
#define FILE_BYTES_MAX (MP_PLAN_FILE_PLANS_MAX * PLAN_BYTES_MAX)

static bool first_base(const struct mp_elf *elf, void *base) {
    *(uintptr_t *)base = elf->base;
    return true;
}

/* Bytes of the plan that `left` bytes begin with; 0: they begin with none. */
static size_t plan_bytes(const struct mp_entry_plan *plan, size_t left) {
    if (left < sizeof *plan || plan->entries > MP_PLAN_ENTRIES_MAX ||
        plan->entry_bytes != sizeof(struct mp_entry))
        return 0;
    size_t bytes = sizeof *plan + plan->entries * sizeof(struct mp_entry);
    return bytes <= left ? bytes : 0;
}

/* From addresses of the file to addresses of the process. */
static void relocate(struct mp_entry_plan *plan) {
    uintptr_t base = 0;
    mp_elf_visit(first_base, &base);
    for (uint32_t i = 0; i < plan->entries; i++) {
        struct mp_entry *entry = &plan->entry[i];
        entry->address += base;
        for (unsigned p = 0; p < entry->points && p < MP_PLAN_POINTS; p++)
            for (unsigned f = 0; f < entry->point[p].fixups && f < 2; f++)
                entry->point[p].fixup[f].target += base;
    }
}

/* Its size; 0: it is not a sealed file of ours. */
static size_t sealed_bytes(int fd) {
    struct stat st;
    if (syscall(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
        st.st_size <= 0 || (uint64_t)st.st_size > FILE_BYTES_MAX)
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

/* Follow the first plan that fits this program's code. */
static int install(unsigned char *plans, size_t left) {
    struct mp_entry_counts counts = {0};
    char text[256];
    int rc = -EINVAL;
    for (size_t bytes; rc != 0 && (bytes = plan_bytes((void *)plans, left)) != 0;) {
        relocate((void *)plans);
        rc = mp_entry_install((void *)plans, bytes, &counts, text, sizeof text);
        plans += bytes;
        left -= bytes;
    }
    return rc;
}

int mp_plan_file_install(int fd, bool for_children, bool for_next) {
    size_t bytes = sealed_bytes(fd);
    if (bytes == 0)
        return -EINVAL;
    unsigned char *plans =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc = plans == MAP_FAILED ? -errno : read_whole(fd, plans, bytes) ? 0 : -EIO;
    if (rc == 0)
        rc = install(plans, bytes);
    if (!for_children && !(for_next && rc != 0))
        close(fd);
    if (plans != MAP_FAILED)
        munmap(plans, bytes);
    return rc;
}
