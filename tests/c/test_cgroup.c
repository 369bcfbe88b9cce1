/*
 * test_cgroup.c - the limit of memory in trees that look like /proc and /sys/fs/cgroup of several machines.
 */
#include "check.h"
#include "process/cgroup.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NONE UINT64_MAX
#define MIB (1ULL << 20)

static char base[] = "/tmp/mp-cgroup-XXXXXX";
static char groups[64], root[64];

/* Write a file below the tree, with the folders that lead to it. */
static void put(const char *name, const char *text) {
    char file[8192];
    snprintf(file, sizeof file, "%s/%s", base, name);
    for (char *slash = file + sizeof base; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(file, 0700);
        *slash = '/';
    }
    FILE *out = fopen(file, "w");
    CHECK(out != NULL);
    if (out == NULL)
        return;
    fputs(text, out);
    fclose(out);
}

static uint64_t limit_where(bool fatal) {
    struct mp_cgroup_places places = {.groups = groups, .root = root, .fatal = fatal};
    uint64_t found = mp_cgroup_limit_bytes(&places);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/*", base);
    CHECK_EQ(system(command), 0);
    return found;
}

static uint64_t limit(void) {
    return limit_where(false);
}

static void test_unified(void) {
    CASE("unified: the group's own limit");
    put("groups", "0::/a/b\n");
    put("cg/a/b/memory.max", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("unified: that of a group above, at any distance");
    put("groups", "0::/a/b/c/d\n");
    put("cg/a/b/c/d/memory.max", "max\n");
    put("cg/a/b/c/memory.max", "536870912\n");
    put("cg/a/memory.max", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("unified: memory.high counts as well");
    put("groups", "0::/a\n");
    put("cg/a/memory.max", "67108864\n");
    put("cg/a/memory.high", "33554432\n");
    CHECK_EQ(limit(), 32 * MIB);
    CASE("unified: memory.high ends no process");
    put("groups", "0::/a\n");
    put("cg/a/memory.max", "67108864\n");
    put("cg/a/memory.high", "33554432\n");
    CHECK_EQ(limit_where(true), 64 * MIB);
    CASE("unified: no limit, no files, a group of another mount");
    put("groups", "0::/a\n");
    put("cg/a/memory.max", "max\n");
    CHECK_EQ(limit(), NONE);
    put("groups", "0::/\n");
    CHECK_EQ(limit(), NONE);
    CHECK_EQ(limit(), NONE);
    CASE("unified: inside a container the mount is the group");
    put("groups", "0::/system.slice/docker-1.scope\n");
    put("cg/memory.max", "16777216\n");
    CHECK_EQ(limit(), 16 * MIB);
    put("groups", "0::/\n");
    put("cg/memory.max", "16777216\n");
    CHECK_EQ(limit(), 16 * MIB);
    CASE("unified: a process outside of its namespace's root looks at no neighbour");
    put("groups", "0::/../other\n");
    put("other/memory.max", "1048576\n");
    put("cg/memory.max", "16777216\n");
    CHECK_EQ(limit(), 16 * MIB);
}

static void test_older(void) {
    CASE("older: a hierarchy of memory alone, and one shared with other controllers");
    put("groups", "5:devices:/x\n4:memory:/x/y\n1:name=systemd:/x\n");
    put("cg/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put("cg/memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    put("groups", "4:cpu,memory:/x\n");
    put("cg/memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    put("groups", "4:cpu,memory:/x\n");
    put("cg/cpu,memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("older: a controller whose name only contains the word is none");
    put("groups", "4:memory2,xmemory:/x\n");
    put("cg/memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), NONE);
    CASE("older: inside a container that shows the host's paths");
    put("groups", "9:memory:/docker/0123\n0::/docker/0123\n");
    put("cg/memory/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
}

static void test_hybrid(void) {
    CASE("hybrid: the unified line does not hide the older one, in either order");
    put("groups", "4:memory:/x\n0::/\n");
    put("cg/memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    put("groups", "0::/\n4:memory:/x\n");
    put("cg/memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("hybrid: the unified hierarchy lies in a folder of its own");
    put("groups", "1:name=systemd:/u\n0::/u/v\n");
    put("cg/unified/u/memory.max", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
}

static void test_odd_texts(void) {
    char text[12000];
    CASE("more lines than any buffer holds");
    size_t n = 0;
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d:name=%d:/some/long/path\n", i + 20, i);
    snprintf(text + n, sizeof text - n, "4:memory:/x\n");
    put("groups", text);
    put("cg/memory/x/memory.limit_in_bytes", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("a path too long to be opened still leads to the groups above");
    snprintf(text, sizeof text, "0::/%05000d\n", 0);
    put("groups", text);
    put("cg/memory.max", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("a deep path is walked up to its end");
    n = (size_t)snprintf(text, sizeof text, "0::");
    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "/d");
    snprintf(text + n, sizeof text - n, "\n");
    put("groups", text);
    put("cg/d/memory.max", "67108864\n");
    CHECK_EQ(limit(), 64 * MIB);
    CASE("nonsense is no limit");
    const char *const senseless[] = {
        "", "\n", ":", "::", "0::\n", "0:memory\n", "4:memory:\n", "no newline"};
    for (unsigned i = 0; i < sizeof senseless / sizeof senseless[0]; i++) {
        put("groups", senseless[i]);
        CHECK_EQ(limit(), NONE);
    }
    put("groups", "0::/a\n");
    put("cg/a/memory.max", "-5\n");
    CHECK_EQ(limit(), NONE);
    put("groups", "0::/a\n");
    put("cg/a/memory.max", "99999999999999999999999999\n");
    CHECK_EQ(limit(), NONE);
}

int main(void) {
    CHECK(mkdtemp(base) != NULL);
    snprintf(groups, sizeof groups, "%s/groups", base);
    snprintf(root, sizeof root, "%s/cg", base);
    test_unified();
    test_older();
    test_hybrid();
    test_odd_texts();
    rmdir(base);
    return check_end();
}
