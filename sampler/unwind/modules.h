/*
 * modules.h - from a code address to the loaded module that holds it, without a lock.
 *
 * Model: _dl_find_object (glibc 2.35 and later) answers from tables that its readers need not lock. On an
 * older glibc a table of our own answers: dl_iterate_phdr fills it when the program starts and at each
 * call of mp_modules_refresh(), so there a module opened since then is unknown. Neither of them reliably
 * reports the vdso, which has a look-up of its own.
 *
 * Holes: the kernel maps the program and the loader, and leaves the addresses between their segments free:
 * anything may be there, also another library. Of a program with holes _dl_find_object knows only the
 * segment of the address, and of a loader with holes it believes (before glibc 2.42) that all of them
 * are the loader's. So the program headers of these two, which are never unloaded, answer before it.
 * Libraries have no such holes: the loader keeps the pages between their segments mapped.
 */
#ifndef MP_MODULES_H
#define MP_MODULES_H

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>

struct mp_module {
    uintptr_t start;          /* first mapped byte */
    uintptr_t end;            /* one past the last mapped byte; other modules may be between */
    uintptr_t run_start;      /* [run_start, run_end) holds the address that was asked for, */
    uintptr_t run_end;        /* and nothing of another module */
    uintptr_t bias;           /* address - ELF virtual address */
    const Elf64_Phdr *phdr;   /* NULL: see mp_module_headers() */
    unsigned phdrs;
    const void *eh_frame_hdr; /* NULL: none */
    const void *link_map;     /* NULL: unknown (vdso, table of our own) */
    const char *name;         /* the loader's: "" for the program; NULL for the vdso */
    bool permanent;           /* was loaded when the program started: cannot be unloaded */
};

/* As dl_iterate_phdr(), which takes the loader's lock. */
typedef int mp_modules_iterate(int (*visit)(struct dl_phdr_info *, size_t, void *), void *arg);

/* INIT. Read the modules that are loaded now, through `iterate` (NULL: dl_iterate_phdr). Called by mp_unwind_init();
 * later calls do nothing. */
void mp_modules_init(mp_modules_iterate *iterate);

/* INIT. The address of the loader's _dl_find_object; NULL: it has none. We do not link it, since a
 * reference to its version would prevent the load of the library with an older glibc. */
void mp_modules_use_loader(void *dl_find_object);

/* INIT. The library was loaded into a running program: no module found so far is permanent. */
void mp_modules_none_permanent(void);

/* HOOK, lock-free. False if no loaded module holds `pc`; then *out is untouched. */
bool mp_module_find(uintptr_t pc, struct mp_module *out);

/* HOOK. The program headers of a module that was found, or NULL where its first page does not tell. */
const Elf64_Phdr *mp_module_headers(const struct mp_module *module, unsigned *count);

/*
 * From outside hooks only: takes the loader's lock. Read the loaded modules again. Does nothing where
 * _dl_find_object exists.
 */
void mp_modules_refresh(void);

/*
 * HOOK. A call that may unload modules begins or ends. In between, a table of our own answers only for
 * permanent modules; call mp_modules_refresh() before the end. mp_unwind_close_begin() and _end()
 * include these two.
 */
void mp_modules_close_begin(void);
void mp_modules_close_end(void);

/* HOOK. A module was unloaded: until the next mp_modules_refresh() a table of our own answers only for
 * permanent modules. */
void mp_modules_distrust(void);

/* TEST. Use the table of our own even where _dl_find_object exists. */
void mp_modules_force_table(bool force);

#endif
