/*
 * plan_file.c - see plan_file.h.
 */
#include "plan_file.h"
#include "core/local.h"
#include "hooks/inline_patch.h"
#include "lifecycle.h"
#include "redirect/redirect_later.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
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

#define REFUSED 2 /* in `of_library` of a plan that fits, but cannot be followed */

/* The plans for libraries, for the addresses in their files, and the mapping that they are in. */
static unsigned char *kept;
static size_t kept_bytes, mapped_bytes;

static bool first_base(const struct mp_elf *elf, void *base) {
    *(uintptr_t *)base = elf->base;
    return true;
}

/* From addresses of the file to addresses of the process; with -base, back. */
static void relocate(struct mp_entry_plan *plan, uintptr_t base) {
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

/* Follow the first plan that fits this program's code; those for libraries move to the front: `*libraries` bytes. */
static int install(unsigned char *plans, size_t left, size_t *libraries) {
    struct mp_entry_counts counts = {0};
    char text[256];
    unsigned char *at = plans;
    uintptr_t base = 0;
    int rc = -EINVAL;
    mp_elf_visit(first_base, &base);
    for (size_t bytes; (bytes = mp_entry_plan_bytes((void *)at, left)) != 0;
         at += bytes, left -= bytes) {
        if (((struct mp_entry_plan *)at)->of_library != 0) {
            memmove(plans + *libraries, at, bytes);
            *libraries += bytes;
        } else if (rc != 0) {
            relocate((void *)at, base);
            rc = mp_entry_install((void *)at, bytes, &counts, text, sizeof text);
        }
    }
    return rc;
}

/* Then the loader may write to the code just now. */
static bool has_text_relocations(const struct mp_elf *elf) {
    for (const ElfW(Dyn) *d = elf->dynamic; d->d_tag != DT_NULL; d++)
        if (d->d_tag == DT_TEXTREL || (d->d_tag == DT_FLAGS && (d->d_un.d_val & DF_TEXTREL) != 0))
            return true;
    return false;
}

struct search {
    const struct mp_entry_plan *plan;
    uintptr_t base;
};

/* The module whose code is that of the plan, and not redirected. */
static bool find_base(const struct mp_elf *elf, void *arg) {
    struct search *s = arg;
    for (uint32_t i = 0; i < s->plan->entries; i++) {
        const struct mp_entry *e = &s->plan->entry[i];
        uintptr_t at = elf->base + e->address;
        if (e->code_bytes == 0 || e->code_bytes > MP_PLAN_CODE_BYTES ||
            mp_elf_segment_rest(elf, at, PF_R | PF_X) < e->code_bytes ||
            memcmp((const void *)at, e->code, e->code_bytes) != 0)
            return false;
    }
    s->base = elf->base;
    return s->plan->entries != 0 && !has_text_relocations(elf);
}

static void follow(struct mp_entry_plan *plan, size_t bytes) {
    struct mp_entry_counts counts = {0};
    struct search search = {.plan = plan};
    char text[256];
    if (plan->of_library == REFUSED || !mp_elf_visit(find_base, &search))
        return;
    relocate(plan, search.base);
    if (mp_entry_install(plan, bytes, &counts, text, sizeof text) != 0)
        plan->of_library = REFUSED;
    relocate(plan, -search.base);
}

void mp_plan_file_look(void) {
    struct mp_control *c = mp_local.segment.control;
    if (kept_bytes == 0)
        return;
    if (c != NULL && (mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP) != 0)
        return; /* without the system calls that the next question takes */
    if (mp_is_filtered())
        return;
    mp_entry_forget_closed();
    size_t left = kept_bytes;
    unsigned char *at = kept;
    for (size_t bytes; (bytes = mp_entry_plan_bytes((void *)at, left)) != 0;
         at += bytes, left -= bytes)
        follow((void *)at, bytes);
    mp_process_tell_entries(c);
}

void mp_plan_file_follow(void) {
    static struct mp_slot_counts loader;
    mp_plan_file_look();
    mp_redirect_look(mp_plan_file_look, &loader);
}

static unsigned char *new_pages(size_t bytes) {
    unsigned char *made =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return made == MAP_FAILED ? NULL : made;
}

int mp_plan_file_keep(const void *plans, size_t bytes) {
    unsigned char *copy = NULL;
    if (bytes > FILE_BYTES_MAX)
        return -EINVAL;
    if (bytes != 0 && (copy = new_pages(bytes)) == NULL)
        return -ENOMEM;
    if (bytes != 0)
        memcpy(copy, plans, bytes);
    if (kept_bytes != 0)
        munmap(kept, mapped_bytes);
    kept = copy;
    kept_bytes = mapped_bytes = bytes;
    return 0;
}

int mp_plan_file_install(int fd, bool for_children, bool for_next) {
    size_t bytes = sealed_bytes(fd);
    if (bytes == 0)
        return -EINVAL;
    unsigned char *plans = new_pages(bytes);
    int rc = plans == NULL ? -ENOMEM : read_whole(fd, plans, bytes) ? 0 : -EIO;
    if (rc == 0)
        rc = install(plans, bytes, &kept_bytes);
    if (!for_children && !(for_next && rc != 0))
        close(fd);
    kept = plans;
    mapped_bytes = bytes;
    if (kept_bytes == 0 && plans != NULL)
        munmap(plans, bytes);
    return rc;
}
