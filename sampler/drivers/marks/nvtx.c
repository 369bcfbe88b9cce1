/*
 * nvtx.c - marks, ranges and memory pools that CUDA programs announce through NVTX.
 *
 * How it gets here: the first NVTX call of each shared object opens the library that
 * NVTX_INJECTION64_PATH names, which is ours again, and looks up InitializeInjectionNvtx2 in it (version
 * 2 of NVTX: InitializeInjectionNvtx). Preloading is not enough. Extensions, of which we serve the one
 * for memory, look up InitializeInjectionNvtxExtension. We export these names; none belongs to a driver.
 *
 * Interface: nvToolsExt.h, nvToolsExtMem.h and nvtxDetail/nvtxTypes.h, nvtxExtTypes.h of NVTX 3.
 */
#include "drivers/backend.h"
#include "drivers/pools.h"

#include <stddef.h>
#include <wchar.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLED __attribute__((noinline)) static
#define STRINGS 512u /* 98 KiB; a program registers its names once */
#define TEXT_BYTES MP_MARK_TEXT_BYTES

typedef const void *(*get_export_table)(uint32_t id);

struct callbacks {
    size_t bytes;
    mp_get_slots *get_module;
};

enum { ETID_CALLBACKS = 1, MODULE_CORE = 1, MODULE_CORE2 = 5 };
enum { MESSAGE_ASCII = 1, MESSAGE_UNICODE = 2, MESSAGE_REGISTERED = 3 };

struct attributes {
    uint16_t version, bytes;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const void *message;
};

int InitializeInjectionNvtx(get_export_table get);
int InitializeInjectionNvtx2(get_export_table get);

/* A string that was registered. Its address is the handle. */
struct string {
    uint32_t state; /* 0: free, 1: being written, 2: may be read */
    char text[TEXT_BYTES];
};

static struct string strings[STRINGS];

/* How many pushed ranges of each domain are open in this thread; domains past the last counter
 * share it, and their ranges pair up as long as they nest. Static TLS is scarce. */
#define COUNTERS 8
static __thread uint16_t depth[COUNTERS] __attribute__((tls_model("initial-exec")));

/* UTF-32 to UTF-8, cut at a whole character. */
static const char *narrow(char out[TEXT_BYTES], const wchar_t *wide) {
    size_t at = 0;
    for (; wide != NULL && *wide != L'\0' && at + 5 <= TEXT_BYTES; wide++) {
        uint32_t c = (uint32_t)*wide;
        if (c < 0x80) {
            out[at++] = (char)c;
            continue;
        }
        unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
        out[at++] = (char)(lead[more] | (c >> 6 * more & 0x3f));
        while (more-- > 0)
            out[at++] = (char)(0x80 | (c >> 6 * more & 0x3f));
    }
    out[at] = '\0';
    return out;
}

static const char *registered_text(const void *handle) {
    uintptr_t offset = (uintptr_t)handle - (uintptr_t)strings;
    if (offset >= sizeof strings || offset % sizeof strings[0] != 0)
        return "";
    return strings[offset / sizeof strings[0]].text;
}

/* The message of an event; `buffer` holds it where it has to be converted. */
static const char *text_of(const struct attributes *event, char buffer[TEXT_BYTES]) {
    if (event == NULL || event->message == NULL ||
        event->bytes < offsetof(struct attributes, message) + sizeof event->message)
        return "";
    switch (event->message_type) {
    case MESSAGE_ASCII:
        return event->message;
    case MESSAGE_UNICODE:
        return narrow(buffer, event->message);
    case MESSAGE_REGISTERED:
        return registered_text(event->message);
    default:
        return "";
    }
}

/* A pushed range has no id of its own: thread, domain and depth are one until it is popped. */
static uint64_t pushed_id(const struct mp_tool_domain *domain, unsigned level) {
    return 1ULL << 63 | ((uint64_t)(uintptr_t)depth << 19 & ~(1ULL << 63)) |
           (uint64_t)mp_tool_domain_index(domain) << 16 | level;
}

static uint16_t *counter_of(const struct mp_tool_domain *domain) {
    unsigned index = mp_tool_domain_index(domain);
    return &depth[index < COUNTERS ? index : COUNTERS - 1];
}

static int push(const void *handle, const char *text) {
    const struct mp_tool_domain *domain = mp_tool_domain_of(handle);
    uint16_t *open = counter_of(domain);
    if (*open == UINT16_MAX)
        return -1;
    mp_mark_add(MP_MARK_BEGIN, pushed_id(domain, *open), mp_tool_domain_name(domain),
                text != NULL ? text : "");
    return (*open)++;
}

static int pop(const void *handle) {
    const struct mp_tool_domain *domain = mp_tool_domain_of(handle);
    uint16_t *open = counter_of(domain);
    if (*open == 0)
        return -1;
    --*open;
    mp_mark_add(MP_MARK_END, pushed_id(domain, *open), mp_tool_domain_name(domain), "");
    return *open;
}

CALLED void nvtxDomainMarkEx(void *domain, const struct attributes *event) {
    char buffer[TEXT_BYTES];
    mp_tool_mark(domain, text_of(event, buffer));
}

CALLED void nvtxMarkEx(const struct attributes *event) {
    nvtxDomainMarkEx(NULL, event);
}

CALLED void nvtxMarkA(const char *text) {
    mp_tool_mark(NULL, text);
}

CALLED void nvtxMarkW(const wchar_t *text) {
    char buffer[TEXT_BYTES];
    mp_tool_mark(NULL, narrow(buffer, text));
}

CALLED uint64_t nvtxDomainRangeStartEx(void *domain, const struct attributes *event) {
    char buffer[TEXT_BYTES];
    return mp_tool_range_begin(domain, text_of(event, buffer));
}

CALLED uint64_t nvtxRangeStartEx(const struct attributes *event) {
    return nvtxDomainRangeStartEx(NULL, event);
}

CALLED uint64_t nvtxRangeStartA(const char *text) {
    return mp_tool_range_begin(NULL, text);
}

CALLED uint64_t nvtxRangeStartW(const wchar_t *text) {
    char buffer[TEXT_BYTES];
    return mp_tool_range_begin(NULL, narrow(buffer, text));
}

CALLED void nvtxDomainRangeEnd(void *domain, uint64_t id) {
    mp_tool_range_end(domain, id);
}

CALLED void nvtxRangeEnd(uint64_t id) {
    mp_tool_range_end(NULL, id);
}

CALLED int nvtxDomainRangePushEx(void *domain, const struct attributes *event) {
    char buffer[TEXT_BYTES];
    return push(domain, text_of(event, buffer));
}

CALLED int nvtxRangePushEx(const struct attributes *event) {
    return nvtxDomainRangePushEx(NULL, event);
}

CALLED int nvtxRangePushA(const char *text) {
    return push(NULL, text);
}

CALLED int nvtxRangePushW(const wchar_t *text) {
    char buffer[TEXT_BYTES];
    return push(NULL, narrow(buffer, text));
}

CALLED int nvtxDomainRangePop(void *domain) {
    return pop(domain);
}

CALLED int nvtxRangePop(void) {
    return pop(NULL);
}

CALLED void *nvtxDomainRegisterStringA(void *domain, const char *text) {
    (void)domain;
    for (unsigned i = 0; text != NULL && i < STRINGS; i++) {
        if (mp_load_relaxed(&strings[i].state) != 0 || !mp_cas_u32(&strings[i].state, 0, 1))
            continue;
        for (unsigned k = 0; k < TEXT_BYTES - 1 && text[k] != '\0'; k++)
            strings[i].text[k] = text[k];
        mp_store_release(&strings[i].state,
                         2u); /* the text is whole; the caller hands the row around */
        return &strings[i];
    }
    return NULL;
}

CALLED void *nvtxDomainRegisterStringW(void *domain, const wchar_t *text) {
    char buffer[TEXT_BYTES];
    return nvtxDomainRegisterStringA(domain, narrow(buffer, text));
}

CALLED void *nvtxDomainCreateA(const char *name) {
    return mp_tool_domain(name);
}

CALLED void *nvtxDomainCreateW(const wchar_t *name) {
    char buffer[TEXT_BYTES];
    return mp_tool_domain(narrow(buffer, name));
}

#define SLOT(module, index, function) {module, index, (mp_slot_function)function}

static const struct mp_tool_slot slots[] = {
    SLOT(MODULE_CORE, 1, nvtxMarkEx),
    SLOT(MODULE_CORE, 2, nvtxMarkA),
    SLOT(MODULE_CORE, 3, nvtxMarkW),
    SLOT(MODULE_CORE, 4, nvtxRangeStartEx),
    SLOT(MODULE_CORE, 5, nvtxRangeStartA),
    SLOT(MODULE_CORE, 6, nvtxRangeStartW),
    SLOT(MODULE_CORE, 7, nvtxRangeEnd),
    SLOT(MODULE_CORE, 8, nvtxRangePushEx),
    SLOT(MODULE_CORE, 9, nvtxRangePushA),
    SLOT(MODULE_CORE, 10, nvtxRangePushW),
    SLOT(MODULE_CORE, 11, nvtxRangePop),
    SLOT(MODULE_CORE2, 1, nvtxDomainMarkEx),
    SLOT(MODULE_CORE2, 2, nvtxDomainRangeStartEx),
    SLOT(MODULE_CORE2, 3, nvtxDomainRangeEnd),
    SLOT(MODULE_CORE2, 4, nvtxDomainRangePushEx),
    SLOT(MODULE_CORE2, 5, nvtxDomainRangePop),
    SLOT(MODULE_CORE2, 10, nvtxDomainRegisterStringA),
    SLOT(MODULE_CORE2, 11, nvtxDomainRegisterStringW),
    SLOT(MODULE_CORE2, 12, nvtxDomainCreateA),
    SLOT(MODULE_CORE2, 13, nvtxDomainCreateW),
};

/* Called once for each shared object that uses NVTX. 1: we take the calls. */
EXPORT int InitializeInjectionNvtx2(get_export_table get) {
    const struct callbacks *callbacks = get != NULL ? get(ETID_CALLBACKS) : NULL;
    if (!mp_device_marks_on() || callbacks == NULL || callbacks->bytes < sizeof *callbacks ||
        callbacks->get_module == NULL)
        return 0;
    mp_tool_take_slots(slots, sizeof slots / sizeof slots[0], callbacks->get_module, false);
    return 1;
}

EXPORT int InitializeInjectionNvtx(get_export_table get) {
    return InitializeInjectionNvtx2(get);
}
