/*
 * daemon.c - becomes a daemon the old way: closes every descriptor and uses their numbers for its own file.
 *
 * daemon FILE: stays in the foreground, so that a test can wait for it. Writes 64 times "line\n" through
 * 32 descriptors to FILE.
 */
#include "target.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FIRST 3
#define LAST 64

static void alloc_daemon(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        keep(malloc(50));
}

int main(int argc, char **argv) {
    EXPECT(argc == 2);
    alloc_daemon(100);
    for (int fd = FIRST; fd < 1024; fd++)
        close(fd);
    umask(0);
    setsid();
    if (chdir("/") != 0)
        return 1;
    for (int fd = FIRST; fd < LAST; fd++)
        EXPECT(open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600) == fd);
    alloc_daemon(40000); /* the tables grow */
    for (int fd = FIRST; fd < LAST; fd++)
        EXPECT(write(fd, "line\n", 5) == 5);
    struct stat st;
    for (int fd = FIRST; fd < LAST; fd++)
        EXPECT(fstat(fd, &st) == 0 && st.st_size == 5 * (LAST - FIRST));
    step("written");
    return 0;
}
