/*
 * segment.h - the shared segment: one file per process image, the only thing that target and reader
 * share.
 *
 * Model: the target counts here and writes all tables; the controller reads them, and writes the gate and
 * the capture slots. The file is sparse: its size is the bound `limit_bytes`, and only page 0 exists until
 * a capture starts. Tables hash into levels, each four times the size of the one before; nobody uses a
 * level before all of its pages are reserved, so that no access can raise SIGBUS.
 *
 * Threads: both sides access every shared field with the __atomic builtins (atomics.h); "writer" in a
 * comment names who may store to it. A row is append-only, or a thread claims it by one compare-and-swap;
 * nobody waits for another's claim. Each side treats the other's data as hostile: read once, check, then
 * use.
 *
 * The C compiler reads this header; bindings/mem_profiler/_build.py reads the part between the cffi marks.
 * A newer version only appends fields; readers accept any version >= their own with the same magic.
 */
#ifndef MP_SEGMENT_H
#define MP_SEGMENT_H

#include "abi/event_ring.h"

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
#define MP_SEGMENT_MAGIC 0x31474553504d454dULL /* "MEMPSEG1", little-endian */
#define MP_SEGMENT_VERSION 9
#define MP_CONTROL_BYTES 4096      /* struct mp_control, all of page 0 */
#define MP_GATE_SHIFT 40           /* gate of capture k is k << 40; draws stay below 1 << 40 */
#define MP_CAPTURE_MAX 65535       /* captures of one process image */
#define MP_DEPTH_MAX 4097           /* frames of one stored stack, frame 0 (the hook) included */
#define MP_DEPTH_LIMIT_MAX 4096    /* frames without it; Go's pprof reads lines up to 64 KiB */
#define MP_DEPTH_DEFAULT 128
#define MP_LEVELS 8                /* most levels in one table */
#define MP_BUCKETS 8               /* time buckets of a capture */
#define MP_PART_BITS 8             /* weights of blocks are counted in parts, 2^8 to a byte */
#define MP_PEAK_STEP_BITS 10       /* epochs of a peak are 2^10 to a power of two of its total */
#define MP_EXEC_RANGES 4           /* executable mappings recorded per module */
#define MP_THREAD_ROWS 16384       /* at most; threads that find no free row share row 0 */
#define MP_MODULE_ROWS 2048        /* at most */
#define MP_MODULE_PATH_BYTES 848
#define MP_STACK_RUNS_MAX 32       /* in one stack; one that would have more is stored whole */
#define MP_STACK_LOST_MAX 16       /* a stack id below this is an enum mp_stack_lost, no offset */
#define MP_BUCKET_ROWS 8           /* rows of one hash bucket: one cache line of keys */
#define MP_LOST_CAUSES 16
#define MP_DOMAIN_ROWS 64          /* row 0 is the host's; it stays empty */
#define MP_DOMAIN_NAME_BYTES 64
#define MP_BACKEND_ROWS 8
#define MP_MARK_TEXT_BYTES 192
#define MP_MARK_DOMAIN_BYTES 32
#define MP_MARK_ROWS_MAX 4096      /* 1 MiB */
#define MP_PYTHON_NAME_BYTES 512   /* of a Python function's name, and of its qualified name */
#define MP_PYTHON_FILE_BYTES 1024
#define MP_PYTHON_LINES_BYTES 0x100000 /* of its table of lines; a larger one is left out */
#define MP_PYTHON_LABEL_BYTES 128 /* of the name of a thread or task */
#define MP_PYTHON_LABELS                                                                           \
    256 /* of one kind in one capture; others are "other threads", "other tasks" */
#define MP_DIRECTORY_ROWS 16       /* at most so many arrays */
#define MP_RING_ROWS 64            /* rings of events, at most */
#define MP_RING_EVENTS_MIN 256     /* in each */
#define MP_RING_HEADS_BYTES 8192   /* of all rings, before their events */

/* Limits of a capture and a segment, for the target and the controller. */

/* The largest T, 1 GiB: draws must stay below 1 << MP_GATE_SHIFT. */
#define MP_RATE_MAX_BYTES 0x40000000
/* The first width of a capture's time buckets, 1/16 s; one of known length has up to twice that, so that eight
 * are over when it is. */
#define MP_BIRTH_UNIT_NS 62500000
/* Default size of a segment's file, 256 MiB; MEM_PROFILER_MAX_MEMORY replaces it. */
#define MP_LIMIT_DEFAULT_BYTES 0x10000000
/* The smallest file that can hold a capture, 1 MiB. */
#define MP_LIMIT_MIN_BYTES 0x100000
/* Below this, 8 MiB, there are no rings of events, and all first tables shrink with the file. */
#define MP_LIMIT_WHOLE_BYTES 0x800000
/* A segment takes at most a 16th of its control group's limit, because the kernel charges the segment's
 * pages to that group, and of the address space that its process may still map; where MEM_PROFILER_MAX_MEMORY
 * asks for more, at most a quarter. */
#define MP_LIMIT_GROUP_SHARE 16
#define MP_LIMIT_GROUP_ASKED_SHARE 4

/* Site keys: the whole identity of a site in one word; 0: the row is empty.
 * bits  0..25 stack id, 26..37 size class, 38..43 domain, 44..46 shard, 47..62 capture, 63 zero. */
#define MP_KEY_STACK_SHIFT 0
#define MP_KEY_STACK_BITS 26
#define MP_KEY_CLASS_SHIFT 26
#define MP_KEY_CLASS_BITS 12
#define MP_KEY_DOMAIN_SHIFT 38
#define MP_KEY_DOMAIN_BITS 6
#define MP_KEY_SHARD_SHIFT 44
#define MP_KEY_SHARD_BITS 3
#define MP_SHARDS_OWNED 4 /* each shard below this number belongs to one thread */
#define MP_KEY_CAPTURE_SHIFT 47
#define MP_KEY_CAPTURE_BITS 16
/* A thread is giving this row of an old capture to a new site: skip it. */
#define MP_KEY_RECYCLING 0xffffffffffffffffULL

/* Live keys: the block's address. Odd: claimed, not yet published; 0: the row is empty. */
#define MP_LIVE_CLAIMED 1ULL
#define MP_LIVE_BUCKET_ROWS 4 /* rows of one hash bucket: two cache lines side by side */
#define MP_LIVE_SIZE_BITS 48
#define MP_SCALE_SHIFT 54      /* of a site's time buckets: how often two have become one */
#define MP_SCALE_MAX 511
#define MP_LIVE_BIRTH_SHIFT 22 /* unit of births: 2^22 ns, about one step of the coarse clock */
#define MP_LED_LIBRARIES 8

enum mp_state {
    MP_STATE_STARTING = 0, /* the constructor has not finished */
    MP_STATE_READY = 1, /* a capture can start */
    MP_STATE_SHADOWED = 2, /* calls of malloc go to another object: state_text holds its path */
    MP_STATE_REFUSED = 3, /* no capture is possible here: state_text holds the reason */
    MP_STATE_EXITED = 4, /* the destructor ran */
};

/* Stack ids of sites without a usable stack. A sample without a stack counts there, so that totals have no
 * bias. */
enum mp_stack_lost {
    MP_STACK_LOST_NONE = 0,
    MP_STACK_LOST_EMPTY = 1, /* the unwinder found no frame */
    MP_STACK_LOST_TABLE_FULL = 2, /* no room to store the stack */
    MP_STACK_LOST_SITES_FULL = 3, /* no room for a site of its own */
    MP_STACK_LOST_BUSY = 4, /* all buffers for new stacks were in use */
};

/* Causes of control.lost[]: samples that are in no total, and events that cost a detail. */
enum mp_lost {
    MP_LOST_REENTRY = 0, /* a sample was due while the thread was inside the sampler */
    MP_LOST_LIVE_FULL = 1, /* the live table had no room */
    MP_LOST_SITE_FULL = 2, /* not even the reserved sites had room */
    MP_LOST_RESERVE = 3, /* event: the file system refused pages for a part of the segment */
    MP_LOST_MODULE_FULL = 4, /* event: the sampler could not record a module */
    MP_LOST_THREAD_FULL = 5, /* event: a thread shares row 0 */
    /* The stack ended early: the return address is in no known module (JIT code, for instance). */
    MP_LOST_UNWIND_NO_MODULE = 6,
    /* The stack ended early: the module has no unwind table entry for the address. */
    MP_LOST_UNWIND_NO_RULE = 7,
    /* The stack ended early: the unwinder does not understand the unwind table entry. */
    MP_LOST_UNWIND_BAD_RULE = 8,
    /* The stack ended early: the next frame would be outside the thread's stack. */
    MP_LOST_UNWIND_RANGE = 9,
    MP_LOST_TRUNCATED = 10, /* the stack has more frames than the depth limit */
    MP_LOST_DOMAIN_FULL = 11, /* the domain of a device block has no row */
    MP_LOST_STACK_ROOM = 12, /* the thread had too little stack left to take a sample */
    MP_LOST_PYTHON = 13, /* event: the stack has not all its Python frames */
    MP_LOST_LABEL =
        14, /* event: the stack has not the name of its thread or task, because there are too many */
    MP_LOST_LAUNCH =
        15, /* event: a kernel, operator or access has no name, or is not what it should be */
};

enum mp_startup_flags {
    MP_STARTUP_ATTACHED = 1, /* the sampler is in an attached process and leaves it again */
    /* Another user has the folder's usual name, or the sampler cannot use the place itself: the segment is
     * in a folder of another name or place (process/segment_folder.h). */
    MP_STARTUP_OTHER_FOLDER = 2,
    /* The capture of the start began after constructors of libraries had run, for some of their calls at least. */
    MP_STARTUP_LATE = 4,
    /* The mapping holds a lock on the file's first byte (an open file description lock): nobody has the segment
     * mapped any more once that lock is gone. */
    MP_STARTUP_LOCKED = 8,
    /* The process is dead, and pages without data have been given back. Writer: who did it. */
    MP_STARTUP_TRIMMED = 16,
    /* The functions of an allocator inside the program jump to the hooks (hooks/inline_patch.h). */
    MP_STARTUP_ENTRIES = 32,
    /* MEM_PROFILER_EVENTS is set, and capture 1 has no rings: there is no room. */
    MP_STARTUP_NO_EVENTS = 64,
};

/* What kind of memory a domain is. */
enum mp_memory_kind {
    MP_MEMORY_DEVICE = 0, /* "cuda-0" */
    MP_MEMORY_PINNED = 1, /* page-locked host memory: "cuda-pinned" */
    MP_MEMORY_MANAGED = 2, /* migrates between host and device: "cuda-0-managed" */
    MP_MEMORY_POOL = 3, /* blocks that a pool of the program announces: "pool-<name>" */
    /* Mappings that the program itself made, by what they were when they were made: */
    MP_MEMORY_MAPPED = 4, /* private, without a file: "mmap" */
    MP_MEMORY_MAPPED_SHARED = 5, /* shared, without a file: "mmap-shared" */
    MP_MEMORY_MAPPED_FILE = 6, /* of a file: "mmap-file" */
    MP_MEMORY_MAPPED_RESERVED = 7, /* without access rights: "mmap-reserved" */
    MP_MEMORY_MAPPED_STACK = 8, /* of threads, without guards: "mmap-stack" */
    /* "heap-<name>": blocks that an allocator of the program reports (mem_profiler.h). 1 more: each is a sample,
     * else sampled as the host's. 2 more: its pages are its own, else they are inside blocks of malloc. */
    MP_MEMORY_HEAP = 12,
    MP_MEMORY_HEAP_EXACT = 13,
    MP_MEMORY_HEAP_OWN = 14,
    MP_MEMORY_HEAP_OWN_EXACT = 15,
};

enum mp_mark_kind {
    MP_MARK_POINT = 0,
    MP_MARK_BEGIN = 1, /* a range begins; it ends at the END with the same id */
    MP_MARK_END = 2,
};

enum mp_controller_flags {
    /* Hooks make no system call: the process has a seccomp filter. Writer: controller, constructor. */
    MP_FLAG_SECCOMP = 1,
};

/* One capture's parameters. Slot = capture number & 1. The starter writes them before the gate that
 * publishes them. */
struct mp_capture {
    uint32_t number;
    /* pid of the controller in its own namespace; 0: the target itself (MEM_PROFILER_START) */
    uint32_t owner_pid;
    uint64_t rate_bytes; /* T; 0 or 1: every block */
    uint64_t start_ns; /* CLOCK_MONOTONIC */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; UINT64_MAX: none */
    uint64_t stop_ns; /* 0 while running; writer: the side that closed the gate */
    uint64_t start_realtime_ns;
    /* the first width of its time buckets, in ns (core/births.h) */
    uint64_t birth_unit_ns;
    uint64_t start_anon_bytes; /* resident then, as its controller read it; 0: unknown */
    uint64_t spare[6];
};

/* One level of a hash table: `rows` keys of 8 bytes, then `rows` payload rows. In the table of live blocks
 * the two alternate: each row is a struct mp_live_row. */
struct mp_level {
    uint64_t offset; /* of the keys, from the start of the file; 0: no such level */
    uint32_t rows; /* a power of two */
    uint32_t row_bytes; /* payload bytes per row; 0 for the stack index */
    /* Bytes from the start of the level that have pages; the level is usable when all of it has. */
    uint64_t reserved_bytes;
};

struct mp_table {
    struct mp_level level[MP_LEVELS];
    uint32_t levels; /* levels that the layout has; constant */
    uint32_t levels_ready; /* levels that may be accessed; only grows */
    uint32_t
        crowded; /* of live blocks: how surely the last level is more than 3/8 full; writer: target */
    uint32_t wanted; /* levels that the target asks for */
};

/* Kinds of arrays; a kind is also the number of the array's row in the directory. Append new ones. */
enum mp_array_kind {
    MP_ARRAY_NONE = 0,
    MP_ARRAY_STACKS = 1, /* the arena: struct mp_stack records, back to back; a row is a word */
    MP_ARRAY_THREADS = 2, /* struct mp_thread */
    MP_ARRAY_MODULES = 3, /* struct mp_module_row */
    MP_ARRAY_DOMAINS = 4, /* struct mp_domain */
    MP_ARRAY_MARKS = 5, /* struct mp_mark: a ring, a power of two of rows */
    /* MP_RING_ROWS struct mp_ring, then the events of ring 0, of ring 1, ...; a row is a struct mp_event */
    MP_ARRAY_EVENTS = 6,
    MP_ARRAYS,
};

/* Where one array of the segment is. The cursors in mp_control say how much of it is in use. */
struct mp_array {
    uint32_t kind; /* 0: the segment has none of this kind */
    uint32_t row_bytes;
    uint64_t offset; /* from the start of the file */
    uint64_t rows;
    uint64_t reserved_bytes; /* bytes from the start of the array that have pages */
};

/* The state of one device backend in this process. */
struct mp_backend_seen {
    uint64_t calls; /* calls of its wrapped functions, during captures or not */
    uint32_t asked; /* 1: MEM_PROFILER_DEVICE names it */
    uint32_t loaded; /* 1: the sampler saw its driver */
};

/* The highest live total of one kind of memory in one capture, and the moment whose blocks the sites
 * remember (core/peak.h). The starter of the capture zeroes it and sets `capture`; then the target
 * writes. */
struct mp_peak {
    uint32_t capture; /* number of the capture; if it is another one, the target keeps no total */
    uint32_t epoch; /* class of the live total at the moment that the sites remember */
    int64_t live_parts; /* estimate of the bytes live now, << MP_PART_BITS */
    int64_t high_parts; /* the maximum of live_parts */
    uint64_t high_ns; /* when it was; CLOCK_MONOTONIC */
};

/* What of a process is resident, as the kernel tells it; 0: it does not. */
struct mp_resident {
    uint64_t anon_bytes, file_bytes, shmem_bytes;
    uint64_t high_bytes; /* the most of all three together so far */
};

/* How long threads of the process stood still, one at a time, for the attach and for each search for new code
 * after it. */
struct mp_attach_stops {
    uint64_t total_ns;
    uint64_t longest_ns;
    uint32_t times;
    uint32_t pad;
};

struct mp_control {
    /* cache line 0: constant after the constructor */
    uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* sizeof(struct mp_control) */
    uint64_t limit_bytes; /* size of the file, the bound of the segment */
    uint32_t pid; /* in the target's own pid namespace */
    /* In a fork child that the capture follows: pid of the parent whose capture it continues. Else 0. */
    uint32_t parent_pid;
    uint64_t start_ticks; /* field 22 of /proc/PID/stat */
    uint32_t exec_count;
    uint32_t uid;
    uint64_t pidns_inode;
    uint32_t page_bytes;
    uint32_t depth_limit; /* frames of a stack without frame 0; of captures that choose none */

    /* cache line 1: the gate alone. INT64_MIN: off. k << MP_GATE_SHIFT: capture k is on.
     * Writer: controller; the target closes it at the deadline by compare-and-swap. */
    int64_t gate;
    uint8_t gate_pad[56];

    /* writer: controller */
    struct mp_capture capture[2];
    uint32_t capture_number; /* the latest capture; 0: none yet */
    uint32_t controller_flags;
    uint32_t written_capture; /* the latest capture that ended and has its file */
    uint32_t capture_depth_limit; /* of the latest capture; 0: depth_limit */
    uint64_t device_rate_bytes[2]; /* T of all device domains, by slot; 0 or 1: every block */

    /* writer: target, at start-up */
    uint32_t state; /* enum mp_state */
    uint32_t startup_flags; /* enum mp_startup_flags */
    uint64_t created_monotonic_ns;
    char comm[16];
    char unwinder[16]; /* "cfi", "fp", "libgcc" */
    char exe[512]; /* target of the link /proc/self/exe, cut to fit, NUL-terminated */
    char command[256]; /* command line with spaces instead of NULs, cut to fit */
    char allocator[256]; /* path of the object whose malloc the hooks call */
    char state_text[256];

    /* tables */
    struct mp_table stack_index;
    struct mp_table sites;
    struct mp_table live;
    struct mp_level lost_sites; /* only for sites with a stack id below MP_STACK_LOST_MAX */
    struct mp_array directory[MP_DIRECTORY_ROWS]; /* by enum mp_array_kind */

    /* cursors and counters; writer: target */
    uint64_t arena_cursor; /* bytes used; starts at MP_STACK_LOST_MAX * 8 */
    uint32_t thread_count; /* rows 1 to this number are in use; row 0 is the shared one */
    uint32_t module_count;
    uint32_t generation; /* each dlclose of a module that was in a stack adds 1 */
    uint32_t unused_arrays;
    uint64_t lost[MP_LOST_CAUSES]; /* since the current capture began; its starter sets 0 */

    /* device memory: the layout always has it; it gets pages when the first domain appears */
    struct mp_table device_sites;
    struct mp_table device_live;
    struct mp_level device_lost_sites; /* as lost_sites */
    uint32_t device_wanted; /* 1: the target needs the first levels of the device tables */
    uint32_t device_pad;
    uint64_t mark_count; /* marks added since the start; mark n is in row n % rows of the ring */
    /* mark_count when the capture of the slot began; writer: its starter */
    uint64_t marks_before[2];
    uint64_t device_lost[MP_LOST_CAUSES]; /* as lost, for all device domains together */
    struct mp_backend_seen backend[MP_BACKEND_ROWS]; /* by enum mp_backend (backends.h) */

    /* When the sampler's hooks came before CPython's allocators; CLOCK_MONOTONIC; 0: they did not. */
    uint64_t pymem_ns;
    uint8_t peak_pad[16]; /* every sample writes to `peak`: it has a cache line alone */
    struct mp_peak peak[2]; /* of host memory; slot = capture number & 1 */
    struct mp_attach_stops attach_stops; /* writer: the controller that attached */
    /* 1 + the minor version of a CPython that the sampler reads by what it says itself, and of one that it cannot
     * read (1: of an unknown version); 0: there was none. */
    uint32_t python_unlisted, python_unread;
    struct mp_events events;
    uint64_t memory_limit_bytes; /* of the process's control groups, at its start; 0: none */
    uint64_t arenas_ns; /* as pymem_ns, of the hook before CPython's arenas instead */
    uint64_t exited_ns; /* when the destructor ran; CLOCK_MONOTONIC; 0: it did not */
    /* An address in the code of each library whose own allocator leads to the sampler; 0: no more. */
    uint64_t led_libraries[MP_LED_LIBRARIES];
    /* Libraries that the process opened since an attach, at its last dlopen or dlsym and at a RESCAN. */
    uint64_t opened_later;
    struct mp_resident at_start; /* when the process began, or the segment was made */
    struct mp_resident at_exit; /* when the destructor ran */
};

/* What a record of the arena is. */
enum mp_stack_kind {
    /* Native frames. frames[0] is the first byte of the hook, frames[1..] are return addresses, innermost
     * first. */
    MP_STACK_NATIVE = 0,
    /* A native stack with a Python stack on top of it: frames[0] is the id of the one, `interpreter` of the other;
     * frames[1], if it is there, is the id of its label. */
    MP_STACK_PAIR = 1,
    /* A Python frame below those of its callers: struct mp_python_frame. */
    MP_STACK_PYTHON_FRAME = 2,
    /* A Python function: struct mp_python_code. */
    MP_STACK_PYTHON_CODE = 3,
    /* A piece of a large table of lines: the id of the piece before (0: none), then bytes. */
    MP_STACK_PYTHON_LINES = 4,
    /* Who ran a Python stack, as somebody named it: struct mp_python_label. */
    MP_STACK_PYTHON_LABEL = 5,
    /* A name of a launch, or its path: the number of its bytes, then these. */
    MP_STACK_TEXT = 6,
    /* A tensor: its type in the low half of the first word and its format in the high one, then its dimensions. */
    MP_STACK_TENSOR = 7,
    /* Neighbouring frames of native stacks. */
    MP_STACK_RUN = 8,
    /* A native stack in runs: their ids, innermost first, two in a word (a second one of 0 is none), `interpreter`
     * frames in all. Its hash is that of the frames. */
    MP_STACK_JOINED = 9,
};

enum mp_label_kind {
    MP_LABEL_THREAD = 1, /* threading.Thread */
    MP_LABEL_TASK = 2, /* asyncio.Task */
    MP_LABEL_KINDS = 2,
};

/* A record of the arena, where each is stored once: a stack, or part of one. Its id is its byte offset in the
 * arena / 8. */
struct mp_stack {
    uint64_t hash; /* the target writes it last; 0: not published */
    uint32_t depth;
    uint16_t truncated; /* 1: cut at the depth limit; 2: it ends before the outermost frame */
    uint16_t kind; /* enum mp_stack_kind */
    uint32_t generation;
    uint32_t interpreter; /* of a pair: id of its innermost Python frame */
    /* uint64_t frames[depth] follows */
};

struct mp_python_frame {
    uint32_t caller; /* id of its caller's record; 0: it is the outermost */
    uint32_t code; /* id of its function's record */
    uint32_t unit; /* number of the instruction in the code; UINT32_MAX: unknown */
    uint32_t entry; /* 1: entered from C */
};

/* Name, qualified name and file follow, each padded to whole words, then the table of lines, if lines_record is 0. */
struct mp_python_code {
    uint32_t first_line;
    uint32_t minor; /* of the interpreter's version 3.minor, which decides the form of the table */
    uint32_t lines_bytes;
    uint32_t lines_record; /* id of the last piece of the table; 0: it is here */
    uint16_t name_bytes;
    uint16_t qualname_bytes; /* 0: the version has none */
    uint16_t file_bytes;
    uint16_t pad;
};

/* The name follows as UTF-8, padded to whole words. */
struct mp_python_label {
    uint32_t outer; /* id of the label that this one is in: a task's is in its thread's; 0: none */
    uint16_t kind; /* enum mp_label_kind */
    uint16_t bytes; /* of the name; 0: one of those that have no label of their own */
};

/* Counters of one site. In an owned shard, only the owning thread adds to the counters of allocations; all
 * other adds are atomic. */
struct mp_site_row {
    uint64_t alloc_blocks; /* below scale << MP_SCALE_SHIFT and the busy bit (core/births.h) */
    uint64_t alloc_bytes;
    uint64_t freed_bytes;
    uint64_t peak; /* blocks live when epoch e of struct mp_peak began | e << 32 */
    uint32_t freed_blocks; /* modulo 2^32: of the live blocks there are fewer */
    uint32_t births[MP_BUCKETS - 1]; /* alloc_blocks by time bucket; the last bucket has the rest */
};

/* A live block. Unlike in the other tables, the key is part of the row. */
struct mp_live_row {
    uint64_t key;
    uint64_t size_thread; /* size in bytes | row in threads << MP_LIVE_SIZE_BITS */
    uint64_t site_key;
    uint32_t site; /* level << 28 | row; level 15: lost_sites */
    uint32_t birth; /* CLOCK_MONOTONIC_COARSE >> MP_LIVE_BIRTH_SHIFT, low bits */
};

/* Counters of one site of device memory: atomic adds only. It counts every failed block, at any rate. */
struct mp_device_site_row {
    uint64_t alloc_blocks; /* as in struct mp_site_row */
    uint64_t alloc_bytes; /* bytes that the program asked for */
    uint64_t alloc_taken_bytes; /* bytes that the device gave; a block of unknown size adds 0 */
    uint64_t freed_blocks;
    uint64_t freed_bytes;
    uint64_t freed_taken_bytes;
    uint64_t failed_blocks;
    uint64_t failed_bytes;
    uint64_t peak; /* as in struct mp_site_row */
    uint32_t births[MP_BUCKETS];
};

/* A sampled block of device memory. Its key is a hash of (space, address). Odd: claimed; 0: the row is
 * empty. */
struct mp_device_live_row {
    /* generation << 32 | number of owners; 0 owners: a thread is writing or removing the row */
    uint64_t state;
    uint64_t address;
    uint64_t container;
    uint64_t asked_bytes;
    uint64_t taken_bytes;
    uint64_t birth_ns;
    uint64_t site_key;
    uint32_t site; /* level << 28 | row; level 15: device_lost_sites */
    uint32_t thread;
    uint32_t space; /* enum mp_address_space */
    uint32_t node; /* the target's own: of a heap's list (device/heaps.h); 0: none */
};

/* One kind of memory of one device. Nobody removes a row. */
struct mp_domain {
    uint64_t key; /* hash of family, device and kind, its low bits the kind; 0: the row is free */
    uint32_t published; /* 1 once name, family, device and kind may be read */
    uint32_t kind; /* enum mp_memory_kind */
    int32_t device; /* -1: no single device */
    uint32_t last_capture; /* the latest capture in which the program used it */
    char name[MP_DOMAIN_NAME_BYTES];
    char family[MP_DOMAIN_NAME_BYTES];
    uint64_t alloc_calls; /* calls during captures, sampled or not */
    uint64_t failed_calls;
    uint64_t freed_calls; /* frees of blocks that the sampler knew */
    uint64_t actual_used_bytes; /* memory in use on the whole device, from its driver */
    uint64_t actual_total_bytes;
    uint64_t actual_tracked_bytes; /* estimated bytes of this domain's blocks at actual_ns */
    uint64_t actual_ns; /* when the driver answered; 0: never */
    uint64_t asked_ns; /* when a thread last began to ask the driver */
    int64_t reserved_bytes; /* bytes that a pool holds, used or not */
    uint64_t reserved_peak_bytes;
    uint64_t repeated_blocks; /* of a heap: reported where one was in use, which then ended */
    uint64_t unknown_frees; /* of a heap of which every block is a sample: not known, or older */
    uint64_t pad;
    struct mp_peak peak; /* of this domain's blocks, as asked for */
    uint64_t peak_pad[4];
};

/* A mark of the program. */
struct mp_mark {
    /* Its number + 1; the target writes it last. 0: a thread is writing the row. */
    uint64_t sequence;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t id;
    uint32_t thread;
    uint32_t kind; /* enum mp_mark_kind */
    char domain[MP_MARK_DOMAIN_BYTES];
    char text[MP_MARK_TEXT_BYTES];
};

struct mp_thread {
    uint32_t tid; /* 0: unknown */
    uint32_t pad;
    char name[16]; /* empty: unknown, because the thread must make no system call */
    uint64_t first_ns;
};

struct mp_exec_range {
    uint64_t start;
    uint64_t end;
    uint64_t file_offset;
};

struct mp_module_row {
    uint32_t published; /* 1 once the row may be read */
    uint32_t first_generation;
    uint32_t last_generation; /* UINT32_MAX while the module is loaded */
    uint32_t build_id_bytes;
    uint8_t build_id[32];
    uint64_t start; /* first address of the whole mapped range */
    uint64_t end;
    uint64_t bias; /* address - ELF virtual address */
    uint32_t exec_ranges;
    uint32_t path_bytes;
    struct mp_exec_range exec[MP_EXEC_RANGES];
    char path[MP_MODULE_PATH_BYTES];
};
/* cffi: end */

_Static_assert(sizeof(struct mp_capture) == 112, "segment layout");
_Static_assert(sizeof(struct mp_level) == 24, "segment layout");
_Static_assert(sizeof(struct mp_table) == 208, "segment layout");
_Static_assert(offsetof(struct mp_control, gate) == 64, "gate begins its cache line");
_Static_assert(offsetof(struct mp_control, capture) == 128, "gate is alone on its cache line");
_Static_assert(offsetof(struct mp_control, state) == 384, "segment layout");
_Static_assert(sizeof(struct mp_control) <= MP_CONTROL_BYTES, "control fits page 0");
_Static_assert(offsetof(struct mp_control, events) / 64 ==
                   (offsetof(struct mp_control, attach_stops) + sizeof(struct mp_attach_stops)) /
                       64,
               "no counter of the hot path shares the line of `events`");
_Static_assert(sizeof(struct mp_peak) == 32, "segment layout");
_Static_assert(offsetof(struct mp_control, peak) % 64 == 0, "peaks begin their line");
_Static_assert(sizeof(struct mp_array) == 32, "segment layout");
_Static_assert(sizeof(struct mp_stack) == 24, "segment layout");
_Static_assert(sizeof(struct mp_python_frame) == 16, "segment layout");
_Static_assert(sizeof(struct mp_python_code) == 24, "segment layout");
_Static_assert(sizeof(struct mp_python_label) == 8, "segment layout");
_Static_assert(sizeof(struct mp_site_row) == 64, "a site is one cache line");
_Static_assert(sizeof(struct mp_live_row) == 32, "two live rows a cache line");
_Static_assert(sizeof(struct mp_device_site_row) == 104, "segment layout");
_Static_assert(sizeof(struct mp_device_live_row) == 72, "segment layout");
_Static_assert(sizeof(struct mp_domain) == 320, "segment layout");
_Static_assert(sizeof(struct mp_mark) == 256, "segment layout");
_Static_assert(sizeof(struct mp_event) == 32, "two events a cache line");
_Static_assert(sizeof(struct mp_ring) * MP_RING_ROWS == MP_RING_HEADS_BYTES, "segment layout");
_Static_assert(MP_KEY_STACK_BITS + MP_KEY_DOMAIN_BITS == 32, "an event names both in one word");
_Static_assert(sizeof(struct mp_thread) == 32, "segment layout");
_Static_assert(sizeof(struct mp_module_row) == 1024, "segment layout");

#endif
