/*
 * test_thread_labels.c - names that nobody gave are no labels, and the frames that tell who runs are found by their functions.
 */
#include "check.h"
#include "python/thread_labels.h"

#include <string.h>

static void check_name(enum mp_py_role role, const char *name, const char *wanted) {
    char text[MP_PYTHON_LABEL_BYTES];
    uint16_t bytes = (uint16_t)strlen(name);
    memset(text, '#', sizeof text);
    memcpy(text, name, bytes);
    uint16_t left = mp_py_name_proper(role, text, bytes);
    CHECK_EQ(left, strlen(wanted));
    CHECK(memcmp(text, wanted, left) == 0);
    CHECK_EQ(text[bytes], '#');
}

static void test_names(void) {
    static const char *const names[][2] = {
        {"worker-3", "worker-3"},
        {"MainThread", ""},
        {"MainThreads", "MainThreads"},
        {"Thread-1", ""},
        {"Thread-12 (work)", "Thread (work)"},
        {"Thread-12 (<lambda>)", "Thread (<lambda>)"},
        {"Thread-12 of mine", "Thread-12 of mine"},
        {"Thread-12 (", "Thread-12 ("},
        {"Thread-", "Thread-"},
        {"Thread-x", "Thread-x"},
        {"Dummy-7", ""},
        {"Dummy-", "Dummy-"},
        {"ThreadPoolExecutor-0_12", "ThreadPoolExecutor"},
        {"ThreadPoolExecutor-0", "ThreadPoolExecutor-0"},
        {"asyncio_3", "asyncio"},
        {"asyncio_", "asyncio_"},
        {"asyncio_3x", "asyncio_3x"},
        {"pool_3", "pool_3"},
        {"", ""},
    };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        check_name(MP_PY_ROLE_THREAD, names[i][0], names[i][1]);
    check_name(MP_PY_ROLE_TASK, "Task-517", "");
    check_name(MP_PY_ROLE_TASK, "Task-x", "Task-x");
    check_name(MP_PY_ROLE_TASK, "Thread-1", "Thread-1");
    check_name(MP_PY_ROLE_TASK, "", "");
}

static enum mp_py_role role(const char *name, const char *file) {
    uintptr_t words[64] = {0};
    struct mp_python_code *record = (struct mp_python_code *)words;
    char *text = (char *)(record + 1);
    record->name_bytes = (uint16_t)strlen(name);
    record->qualname_bytes = 3;
    record->file_bytes = (uint16_t)strlen(file);
    memcpy(text, name, record->name_bytes);
    text += (record->name_bytes + 7u) / 8 * 8;
    memcpy(text, "a.b", 3);
    memcpy(text + 8, file, record->file_bytes);
    return mp_py_role_of(record);
}

static void test_roles(void) {
    CHECK_EQ(role("_bootstrap", "/usr/lib/python3.11/threading.py"), MP_PY_ROLE_THREAD);
    CHECK_EQ(role("_bootstrap", "threading.py"), MP_PY_ROLE_THREAD);
    CHECK_EQ(role("_bootstrap", "/app/mythreading.py"), MP_PY_ROLE_NONE);
    CHECK_EQ(role("_bootstrap_inner", "/usr/lib/threading.py"), MP_PY_ROLE_NONE);
    CHECK_EQ(role("_run", "/usr/lib/python3.11/asyncio/events.py"), MP_PY_ROLE_TASK);
    CHECK_EQ(role("_run", "/app/events.py"), MP_PY_ROLE_NONE);
    CHECK_EQ(role("run", "/usr/lib/python3.11/asyncio/events.py"), MP_PY_ROLE_NONE);
    CHECK_EQ(role("", ""), MP_PY_ROLE_NONE);
}

int main(void) {
    CASE("a number is cut from the name of a thread that nobody named");
    test_names();
    CASE("functions of the standard library alone have a role");
    test_roles();
    return check_end();
}
