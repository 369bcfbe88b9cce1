/*
 * forks.c - a child by every route, allocating on its own; the parent allocates before and after.
 *
 * forks ROUTE [PROGRAM]: fork, vfork, _Fork, clone, atfork (fork with handlers that allocate), nested,
 * threads (fork while other threads allocate), silent (children that allocate nothing), limits (a child that may open
 * no file before it allocates). vfork executes PROGRAM. Prints the pid of each child.
 */
#include "target.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

pid_t _Fork(void);

static atomic_bool done;

static void alloc_parent(void) {
    for (int i = 0; i < 100; i++)
        keep(malloc(10));
}

static void alloc_child(void) {
    for (int i = 0; i < 50; i++)
        keep(malloc(20));
    free(keep(malloc(20)));
}

static void alloc_grandchild(void) {
    for (int i = 0; i < 25; i++)
        keep(malloc(30));
}

static void alloc_in_handler(void) {
    keep(malloc(40));
}

static pid_t raw_clone(void) {
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static int wait_for(pid_t pid) {
    int status = -1;
    EXPECT(waitpid(pid, &status, 0) == pid);
    return status;
}

static void child(pid_t (*fork_here)(void)) {
    void *before = keep(malloc(77));
    pid_t pid = fork_here();
    EXPECT(pid >= 0);
    if (pid == 0) {
        free(before); /* a block that the parent sampled */
        alloc_child();
        say("child %d", (int)getpid());
        exit(0);
    }
    EXPECT(wait_for(pid) == 0);
    free(before);
}

static void grandchild(void) {
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        alloc_child();
        say("child %d", (int)getpid());
        pid_t inner = fork();
        if (inner == 0) {
            alloc_grandchild();
            say("child %d", (int)getpid());
            exit(0);
        }
        exit(wait_for(inner));
    }
    EXPECT(wait_for(pid) == 0);
}

static void spawn(const char *program) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl(program, program, "vfork-child", (char *)NULL);
        _exit(99);
    }
    say("child %d", (int)pid);
    EXPECT(wait_for(pid) == 0);
}

static void *allocate_on(void *unused) {
    while (!atomic_load(&done))
        free(keep(malloc(64)));
    return unused;
}

static void fork_beside_threads(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        EXPECT(pthread_create(&threads[i], NULL, allocate_on, NULL) == 0);
    for (int i = 0; i < 40; i++)
        child(fork);
    atomic_store(&done, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void fork_silent(void) {
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        say("child %d", (int)pid);
        EXPECT(wait_for(pid) == 0);
    }
}

static pid_t fork_without_files(void) {
    pid_t pid = fork();
    struct rlimit none = {0, 0};
    EXPECT(pid != 0 || setrlimit(RLIMIT_NOFILE, &none) == 0);
    return pid;
}

/* Its child, which has its memory, is the first to allocate. */
static pid_t fork_that_vforks(void) {
    pid_t pid = fork();
    if (pid == 0) {
        pid_t inner = vfork();
        if (inner == 0) {
            free(keep(malloc(64)));
            _exit(0);
        }
        EXPECT(wait_for(inner) == 0);
    }
    return pid;
}

int main(int argc, char **argv) {
    const char *route = argc > 1 ? argv[1] : "";
    if (strcmp(route, "vfork-child") == 0) {
        alloc_child();
        return 0;
    }
    alloc_parent();
    if (strcmp(route, "fork") == 0)
        child(fork);
    else if (strcmp(route, "_Fork") == 0)
        child(_Fork);
    else if (strcmp(route, "clone") == 0)
        child(raw_clone);
    else if (strcmp(route, "atfork") == 0) {
        pthread_atfork(alloc_in_handler, alloc_in_handler, alloc_in_handler);
        child(fork);
    } else if (strcmp(route, "nested") == 0)
        grandchild();
    else if (strcmp(route, "vfork") == 0)
        spawn(argv[2]);
    else if (strcmp(route, "threads") == 0)
        fork_beside_threads();
    else if (strcmp(route, "silent") == 0)
        fork_silent();
    else if (strcmp(route, "limits") == 0)
        child(fork_without_files);
    else if (strcmp(route, "vforks") == 0)
        child(fork_that_vforks);
    alloc_parent();
    step("done");
    return 0;
}
