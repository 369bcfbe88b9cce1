/*
 * thread_labels.c - see thread_labels.h.
 */
#include "thread_labels.h"
#include "text.h"
#include "unwind/unwind_walk.h"

#include <string.h>

#define TAG_BITS 7u             /* of the word that holds a local, from 3.14 */
#define BASES_MAX 16            /* of a class, in which Task is looked for */
#define ENTRIES_MAX 64          /* of a dict, in which a name is looked for */
#define STATUS_ACTIVE (1u << 4) /* of a thread state; cleared before the GIL is given up */
#define FLAG_INLINE_VALUES (1u << 2)
#define FLAG_MANAGED_DICT (1u << 4)
#define FLAG_HEAP_TYPE (1u << 9)
#define FLAG_DICT (1u << 29)    /* dict, or a class made from it */
/* The same in all versions: in a type, */
#define TYPE_BASIC_BYTES 32
#define TYPE_FLAGS 168
#define TYPE_BASE 256
#define TYPE_DICT_OFFSET 288
/* in a dict, */
#define DICT_KEYS 32
#define DICT_VALUES 40
/* and in others. */
#define METHOD_DEFINITION 16 /* of a built-in function; its name comes first */
#define METHOD_SELF 24
#define WRAPPER_TASK 16
#define HANDLE_CALLBACK 24 /* slots of a class are in the order of their names */
#define HANDLE_BYTES 32

/* Where an instance has its attributes. */
enum attributes {
    IN_DICT,          /* a dict at the type's offset */
    IN_VALUES_APART,  /* words before the object point to values, and to a dict */
    IN_TAGGED_VALUES, /* one word before it, to either */
    IN_OWN_VALUES, /* values behind it, unless they are not valid; the word before points to the dict */
};

struct offsets {
    uint8_t minor;
    uint8_t attributes;
    uint16_t status; /* in a thread state; 0: the runtime names the state that has the GIL */
    uint16_t locals; /* in a frame */
    uint16_t cached_keys; /* in a class; 0: it has none that are used */
    uint16_t task_bytes; /* of the type _asyncio.Task */
    uint16_t task_name;
};

static const struct offsets offsets[] = {
    {9, IN_DICT, 0, 360, 0, 184, 160},           {10, IN_DICT, 0, 352, 0, 192, 168},
    {11, IN_VALUES_APART, 0, 72, 872, 176, 144}, {12, IN_TAGGED_VALUES, 24, 72, 880, 176, 144},
    {13, IN_OWN_VALUES, 32, 72, 880, 144, 128},  {14, IN_OWN_VALUES, 32, 80, 880, 168, 136},
};

static const struct offsets *offsets_of(const struct mp_py_runtime *r) {
    if (r->layout->free_threaded)
        return NULL;
    unsigned at = r->layout->minor - offsets[0].minor; /* none before the first, none is left out */
    return at < sizeof offsets / sizeof *offsets ? &offsets[at] : NULL;
}

static MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static MP_RAW_READS uint8_t byte_at(uintptr_t at) {
    return *(const uint8_t *)at;
}

static MP_RAW_READS uint32_t half_at(uintptr_t at) {
    return *(const uint32_t *)at;
}

static bool is_aligned(uintptr_t at) {
    return at != 0 && at % sizeof(uintptr_t) == 0;
}

/* The type of an object; 0 if it is not an object. */
static uintptr_t type_of(const struct mp_py_runtime *r, uintptr_t object) {
    uintptr_t type = is_aligned(object) ? word_at(object + r->layout->type) : 0;
    return is_aligned(type) ? type : 0;
}

static MP_RAW_READS bool is_called(uintptr_t text, const char *name) {
    const char *found = (const char *)text;
    if (found == NULL)
        return false;
    while (*found != '\0' && *found == *name) {
        found++;
        name++;
    }
    return *found == *name;
}

static bool has_name(const struct mp_py_runtime *r, uintptr_t type, const char *name) {
    return is_called(word_at(type + r->layout->type_name), name);
}

static bool is_seen(const struct mp_py_runtime *r, const struct mp_py_type_seen *seen,
                    uintptr_t type) {
    return type == seen->type && type != 0 && word_at(type + r->layout->type_name) == seen->name;
}

static void see(const struct mp_py_runtime *r, struct mp_py_type_seen *seen, uintptr_t type) {
    *seen = (struct mp_py_type_seen){type, word_at(type + r->layout->type_name)};
}

/* Does a text of so many bytes end with `end`, as the whole text or after a slash? */
static bool ends_with(const char *text, size_t bytes, const char *end) {
    size_t length = strlen(end);
    return bytes >= length && memcmp(text + bytes - length, end, length) == 0 &&
           (bytes == length || text[bytes - length - 1] == '/');
}

enum mp_py_role mp_py_role_of(const struct mp_python_code *record) {
    const char *name = (const char *)(record + 1);
    const char *file =
        name + (record->name_bytes + 7u) / 8 * 8 + (record->qualname_bytes + 7u) / 8 * 8;
    if (record->name_bytes == 10 && memcmp(name, "_bootstrap", 10) == 0 &&
        ends_with(file, record->file_bytes, "threading.py"))
        return MP_PY_ROLE_THREAD;
    if (record->name_bytes == 4 && memcmp(name, "_run", 4) == 0 &&
        ends_with(file, record->file_bytes, "asyncio/events.py"))
        return MP_PY_ROLE_TASK;
    return MP_PY_ROLE_NONE;
}

bool mp_py_holds_gil(const struct mp_py_runtime *r, uintptr_t state) {
    const struct offsets *o = offsets_of(r);
    if (o == NULL)
        return false;
    if (o->status != 0)
        return (half_at(state + o->status) & STATUS_ACTIVE) != 0;
    /* _PyRuntime.gilstate.tstate_current, which is two words before the key of thread states */
    const uintptr_t *current =
        (const uintptr_t *)(r->state + r->layout->thread_key - 2 * sizeof(uintptr_t));
    return mp_load_relaxed(current) == state;
}

/* Entries of a dict's keys: `value` is where each has its value, 0: beside the keys. */
struct entries {
    uintptr_t first;
    size_t count;
    unsigned bytes, key, value;
};

static struct entries entries_of(const struct offsets *o, uintptr_t keys) {
    if (o->minor <= 10) {
        uint64_t size = word_at(keys + 8);
        unsigned index = size <= 0xff ? 1 : size <= 0xffff ? 2 : size <= 0xffffffff ? 4 : 8;
        return (struct entries){keys + 40 + size * index, word_at(keys + 32), 24, 8, 16};
    }
    unsigned index = byte_at(keys + 9), kind = byte_at(keys + 10);
    size_t count = word_at(keys + 24);
    if (index >= 48 || kind > 2)
        return (struct entries){0};
    uintptr_t first = keys + 32 + ((uintptr_t)1 << index);
    return kind == 0 ? (struct entries){first, count, 24, 8, 16}
                     : (struct entries){first, count, 16, 0, 8};
}

/* Where the attribute `name` is, by these keys: in `values`, or, where that is 0, among the keys. 0: nowhere. */
static uintptr_t slot_of(const struct mp_py_runtime *r, const struct offsets *o, uintptr_t keys,
                         uintptr_t values, const char *name) {
    if (!is_aligned(keys))
        return 0;
    struct entries in = entries_of(o, keys);
    for (size_t i = 0; i < in.count && i < ENTRIES_MAX; i++) {
        uintptr_t entry = in.first + i * in.bytes;
        if (mp_py_text_is(r, word_at(entry + in.key), name))
            return values != 0 ? values + i * sizeof(uintptr_t) : entry + in.value;
    }
    return 0;
}

static uintptr_t slot_in_dict(const struct mp_py_runtime *r, const struct offsets *o,
                              uintptr_t dict, const char *name) {
    uintptr_t type = type_of(r, dict);
    if (type == 0 || (half_at(type + TYPE_FLAGS) & FLAG_DICT) == 0)
        return 0;
    uintptr_t values = word_at(dict + DICT_VALUES);
    if (values != 0 && o->attributes == IN_OWN_VALUES)
        values += sizeof(uintptr_t); /* behind their head */
    return slot_of(r, o, word_at(dict + DICT_KEYS), values, name);
}

/* The values of an instance that has them without a dict, and the word of the object that says so; 0: it has not. */
static uintptr_t values_of(const struct offsets *o, uintptr_t object, uintptr_t type,
                           uintptr_t *watch) {
    uintptr_t before = object - 3 * sizeof(uintptr_t);
    switch (o->attributes) {
    case IN_VALUES_APART:
        *watch = before - sizeof(uintptr_t);
        return word_at(*watch);
    case IN_TAGGED_VALUES:
        *watch = before;
        return (word_at(before) & 1) != 0 ? word_at(before) + 1 : 0;
    case IN_OWN_VALUES:
        *watch = object + word_at(type + TYPE_BASIC_BYTES);
        return (half_at(type + TYPE_FLAGS) & FLAG_INLINE_VALUES) != 0 && byte_at(*watch + 3) != 0
                   ? *watch + sizeof(uintptr_t) /* they are valid */
                   : 0;
    default:
        return 0;
    }
}

/* Value of the attribute `_name` that the instance itself has; 0: it has none. */
static uintptr_t thread_name(const struct mp_py_runtime *r, const struct offsets *o,
                             struct mp_py_owners_seen *seen, uintptr_t object) {
    uintptr_t type = type_of(r, object);
    if (object == seen->name.object && is_seen(r, &seen->thread, type) &&
        word_at(seen->name.watch) == seen->name.value)
        return word_at(seen->name.slot);
    seen->name.object = 0;
    uint32_t flags = type != 0 ? half_at(type + TYPE_FLAGS) : 0;
    if ((flags & FLAG_HEAP_TYPE) == 0)
        return 0;
    uintptr_t dict, slot;
    if (o->attributes == IN_DICT || (flags & FLAG_MANAGED_DICT) == 0) {
        intptr_t offset = (intptr_t)word_at(type + TYPE_DICT_OFFSET);
        dict = offset > 0 ? word_at(object + (uintptr_t)offset) : 0;
    } else {
        uintptr_t watch, values = values_of(o, object, type, &watch);
        if (values != 0) {
            slot = slot_of(r, o, word_at(type + o->cached_keys), values, "_name");
            see(r, &seen->thread, type);
            seen->name.watch = watch;
            seen->name.value = word_at(watch);
            seen->name.slot = slot;
            seen->name.object = slot != 0 ? object : 0;
            return slot != 0 ? word_at(slot) : 0;
        }
        dict = word_at(object - 3 * sizeof(uintptr_t));
    }
    slot = slot_in_dict(r, o, dict, "_name");
    return slot != 0 ? word_at(slot) : 0;
}

static bool is_task(const struct mp_py_runtime *r, const struct offsets *o,
                    struct mp_py_owners_seen *seen, uintptr_t object) {
    uintptr_t own = type_of(r, object), type = own;
    if (is_seen(r, &seen->task, own))
        return true;
    for (unsigned i = 0; type != 0 && i < BASES_MAX; i++) {
        if (has_name(r, type, "_asyncio.Task")) {
            if (word_at(type + TYPE_BASIC_BYTES) != o->task_bytes)
                return false;
            see(r, &seen->task, own);
            return true;
        }
        uintptr_t base = word_at(type + TYPE_BASE);
        type = is_aligned(base) ? base : 0;
    }
    return false;
}

static bool is_handle(const struct mp_py_runtime *r, struct mp_py_owners_seen *seen,
                      uintptr_t object) {
    uintptr_t type = type_of(r, object);
    if (is_seen(r, &seen->handle, type))
        return true;
    if (type == 0 || !(has_name(r, type, "Handle") || has_name(r, type, "TimerHandle")) ||
        word_at(type + TYPE_BASIC_BYTES) < HANDLE_BYTES)
        return false;
    see(r, &seen->handle, type);
    return true;
}

/* Is the built-in function, by its definition, the one that wakes tasks? */
static bool is_wakeup(struct mp_py_owners_seen *seen, uintptr_t definition) {
    if (definition == seen->wakeup && definition != 0)
        return true;
    if (!is_aligned(definition) || !is_called(word_at(definition), "task_wakeup"))
        return false;
    seen->wakeup = definition;
    return true;
}

/* The task whose step the callback is, or seems to be. */
static uintptr_t task_of_callback(const struct mp_py_runtime *r, struct mp_py_owners_seen *seen,
                                  uintptr_t callback) {
    uintptr_t type = type_of(r, callback);
    if (type == 0)
        return 0;
    bool is_method = is_seen(r, &seen->method, type), is_wrapper = is_seen(r, &seen->wrapper, type);
    if (!is_method && !is_wrapper) {
        is_method = has_name(r, type, "builtin_function_or_method");
        is_wrapper = has_name(r, type, "_asyncio.TaskStepMethWrapper") ||
                     has_name(r, type, "TaskStepMethWrapper") ||
                     has_name(r, type, "TaskWakeupMethWrapper");
        if (is_method || is_wrapper)
            see(r, is_method ? &seen->method : &seen->wrapper, type);
    }
    if (is_wrapper)
        return word_at(callback + WRAPPER_TASK);
    return is_method && is_wakeup(seen, word_at(callback + METHOD_DEFINITION))
               ? word_at(callback + METHOD_SELF)
               : 0;
}

static uintptr_t task_name(const struct mp_py_runtime *r, const struct offsets *o,
                           struct mp_py_owners_seen *seen, uintptr_t handle) {
    if (!is_handle(r, seen, handle))
        return 0;
    uintptr_t task = task_of_callback(r, seen, word_at(handle + HANDLE_CALLBACK));
    return is_task(r, o, seen, task) ? word_at(task + o->task_name) : 0;
}

uintptr_t mp_py_owner_name(const struct mp_py_runtime *r, struct mp_py_owners_seen *seen,
                           enum mp_py_role role, uintptr_t frame) {
    const struct offsets *o = offsets_of(r);
    uintptr_t local = o != NULL ? word_at(frame + o->locals) & ~(uintptr_t)TAG_BITS : 0;
    if (local == 0)
        return 0;
    return role == MP_PY_ROLE_TASK ? task_name(r, o, seen, local) : thread_name(r, o, seen, local);
}

static uint16_t digits_at(const char *name, uint16_t at, uint16_t bytes) {
    uint16_t i = at;
    while (i < bytes && name[i] >= '0' && name[i] <= '9')
        i++;
    return i;
}

/* Offset in `name` after `head` and the number that follows it; 0 if it does not begin so. */
static uint16_t behind_number(const char *name, uint16_t bytes, const char *head) {
    uint16_t length = (uint16_t)strlen(head);
    if (bytes <= length || memcmp(name, head, length) != 0)
        return 0;
    uint16_t end = digits_at(name, length, bytes);
    return end == length ? 0 : end;
}

uint16_t mp_py_name_proper(enum mp_py_role role, char *name, uint16_t bytes) {
    static const char pool[] = "ThreadPoolExecutor-", io[] = "asyncio_", plain[] = "Thread-";
    if (role == MP_PY_ROLE_TASK)
        return behind_number(name, bytes, "Task-") == bytes ? 0 : bytes;
    if ((bytes == 10 && memcmp(name, "MainThread", 10) == 0) ||
        behind_number(name, bytes, "Dummy-") == bytes)
        return 0;
    uint16_t end = behind_number(name, bytes, io);
    if (end == bytes)
        return sizeof io - 2;
    end = behind_number(name, bytes, pool);
    if (end != 0 && end < bytes && name[end] == '_' && digits_at(name, end + 1, bytes) == bytes)
        return sizeof pool - 2;
    end = behind_number(name, bytes, plain);
    if (end == bytes)
        return 0;
    if (end == 0 || end + 2 >= bytes || name[end] != ' ' || name[end + 1] != '(')
        return bytes;
    memmove(name + sizeof plain - 2, name + end, bytes - end);
    return (uint16_t)(bytes - end + sizeof plain - 2);
}
