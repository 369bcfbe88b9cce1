/*
 * waits.c - a process whose main thread waits in one kind of system call, again and again, and says each
 * time what the call returned and how long it took. Another thread allocates meanwhile.
 *
 * waits KIND MILLISECONDS     prints "ready", then "KIND RESULT ERRNO MILLISECONDS" for each round;
 *                             a line on stdin ends it with "blocks ALLOCATED FREED WRONG"
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long wait_ms;
static atomic_long allocated, freed, wrong;
static atomic_int over;

static struct timespec span(void) {
    return (struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000};
}

static struct timespec until(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += wait_ms % 1000 * 1000000;
    t.tv_sec += wait_ms / 1000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void *work(void *unused) {
    (void)unused;
    while (!atomic_load(&over)) {
        unsigned char *block = malloc(1000);
        memset(block, 0x5a, 1000);
        struct timespec nap = {0, 100000};
        nanosleep(&nap, NULL);
        atomic_fetch_add(&allocated, 1);
        for (int i = 0; i < 1000; i++)
            if (block[i] != 0x5a)
                atomic_fetch_add(&wrong, 1);
        free(block);
        atomic_fetch_add(&freed, 1);
    }
    return NULL;
}

static long wait_epoll(void) {
    struct epoll_event event;
    static int fd = -1;
    if (fd < 0)
        fd = epoll_create1(0);
    return epoll_wait(fd, &event, 1, (int)wait_ms);
}

static long wait_select(void) {
    struct timeval t = {wait_ms / 1000, wait_ms % 1000 * 1000};
    return select(0, NULL, NULL, NULL, &t);
}

static long wait_cond(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec end = until(CLOCK_REALTIME);
    pthread_mutex_lock(&mutex);
    int rc = pthread_cond_timedwait(&cond, &mutex, &end);
    pthread_mutex_unlock(&mutex);
    errno = rc;
    return rc == 0 ? 0 : -1;
}

static long wait_sem(void) {
    static sem_t sem;
    struct timespec end = until(CLOCK_REALTIME);
    return sem_timedwait(&sem, &end);
}

static long wait_semop(void) {
    static int id = -1;
    if (id < 0)
        id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = {0, -1, 0};
    struct timespec t = span();
    long rc = semtimedop(id, &down, 1, &t);
    int error = errno;
    if (atomic_load(&over))
        semctl(id, 0, IPC_RMID);
    errno = error;
    return rc;
}

static long wait_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct timespec t = span();
    return sigtimedwait(&set, NULL, &t);
}

static long wait_socket(void) {
    static int pair[2] = {-1, -1};
    char byte;
    if (pair[0] < 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        struct timeval t = {wait_ms / 1000, wait_ms % 1000 * 1000};
        setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    }
    return recv(pair[0], &byte, 1, 0);
}

static long wait_once(const char *kind) {
    struct timespec t = span(), end = until(CLOCK_MONOTONIC);
    if (strcmp(kind, "epoll") == 0)
        return wait_epoll();
    if (strcmp(kind, "nanosleep") == 0)
        return nanosleep(&t, NULL);
    if (strcmp(kind, "until") == 0)
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
    if (strcmp(kind, "poll") == 0)
        return poll(NULL, 0, (int)wait_ms);
    if (strcmp(kind, "select") == 0)
        return wait_select();
    if (strcmp(kind, "cond") == 0)
        return wait_cond();
    if (strcmp(kind, "sem") == 0)
        return wait_sem();
    if (strcmp(kind, "semop") == 0)
        return wait_semop();
    if (strcmp(kind, "signal") == 0)
        return wait_signal();
    if (strcmp(kind, "socket") == 0)
        return wait_socket();
    abort();
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    wait_ms = atol(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 1 << 12);
    pthread_t worker;
    pthread_create(&worker, NULL, work, NULL);
    puts("ready");
    struct pollfd input = {0, POLLIN, 0};
    while (poll(&input, 1, 0) == 0) {
        double start = now_ms();
        errno = 0;
        long rc = wait_once(argv[1]);
        int error = errno;
        printf("%s %ld %d %.0f\n", argv[1], rc, error, now_ms() - start);
    }
    atomic_store(&over, 1);
    pthread_join(worker, NULL);
    printf("blocks %ld %ld %ld\n", atomic_load(&allocated), atomic_load(&freed),
           atomic_load(&wrong));
    return 0;
}
