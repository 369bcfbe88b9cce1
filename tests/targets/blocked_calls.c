/*
 * blocked_calls.c - waits for signals and descriptors: see blocked.h.
 */
#include "blocked.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#define PIPE_BYTES 4096

static int ends[2];      /* of a pipe or a pair of sockets */
static int fd, other_fd; /* of what else a kind needs */
static char byte;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

/* --- signals --- */

static void on_signal(int number) {
    (void)number;
}

static void take_signal(void) {
    struct sigaction action = {.sa_handler = on_signal};
    EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
}

static void block_signal(void) {
    sigset_t set;
    take_signal();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    EXPECT(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

static void send_signal(void) {
    pthread_kill(main_thread, SIGUSR1);
}

static sigset_t only_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return set;
}

static sigset_t all_but_signal(void) {
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGUSR1);
    return set;
}

static long nanosleep_far(void) {
    struct timespec t = {FAR_S, 0};
    return nanosleep(&t, NULL);
}

static long clock_far(void) {
    struct timespec end = far(CLOCK_MONOTONIC);
    int rc = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
    errno = rc;
    return rc == 0 ? 0 : -1;
}

static long sleep_far(void) {
    long left = (long)sleep(FAR_S);
    errno = 0;
    return left > 0 ? 1 : 0;
}

static long sigwait_one(void) {
    sigset_t set = only_signal();
    int number = 0;
    errno = sigwait(&set, &number);
    return number == SIGUSR1 ? 1 : 0;
}

static long sigwaitinfo_one(void) {
    sigset_t set = only_signal();
    return sigwaitinfo(&set, NULL) == SIGUSR1 ? 1 : 0;
}

static long sigtimedwait_one(void) {
    sigset_t set = only_signal();
    struct timespec t = {FAR_S, 0};
    return sigtimedwait(&set, NULL, &t) == SIGUSR1 ? 1 : 0;
}

static long sigsuspend_one(void) {
    sigset_t set = all_but_signal();
    return sigsuspend(&set);
}

static long pause_one(void) {
    return pause();
}

/* --- descriptors --- */

static void make_pipe(void) {
    EXPECT(pipe(ends) == 0);
}

static void make_sockets(void) {
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
}

static void send_byte(void) {
    EXPECT(write(ends[1], "x", 1) == 1);
}

static void fill(int to) {
    static char many[PIPE_BYTES];
    EXPECT(fcntl(to, F_SETFL, O_NONBLOCK) == 0);
    while (write(to, many, sizeof many) > 0)
        continue;
    EXPECT(fcntl(to, F_SETFL, 0) == 0);
}

static void make_full_pipe(void) {
    make_pipe();
    fill(ends[1]);
}

static void make_full_sockets(void) {
    make_sockets();
    fill(ends[1]);
}

static void drain(void) {
    static char many[PIPE_BYTES];
    EXPECT(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    while (read(ends[0], many, sizeof many) > 0)
        continue;
}

static long poll_one(void) {
    struct pollfd one = {ends[0], POLLIN, 0};
    return poll(&one, 1, -1);
}

static long ppoll_one(void) {
    struct pollfd one = {ends[0], POLLIN, 0};
    sigset_t set = all_but_signal();
    return ppoll(&one, 1, NULL, &set);
}

static long ppoll_signal(void) {
    sigset_t set = all_but_signal();
    return ppoll(NULL, 0, NULL, &set);
}

static long select_one(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return select(ends[0] + 1, &set, NULL, NULL, NULL);
}

static long pselect_one(void) {
    fd_set set;
    sigset_t mask = all_but_signal();
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    return pselect(ends[0] + 1, &set, NULL, NULL, NULL, &mask);
}

static void make_epoll(void) {
    make_pipe();
    struct epoll_event event = {.events = EPOLLIN};
    fd = epoll_create1(0);
    EXPECT(epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &event) == 0);
}

static long epoll_one(void) {
    struct epoll_event event;
    return epoll_wait(fd, &event, 1, -1);
}

static long epoll_masked(void) {
    struct epoll_event event;
    sigset_t set = all_but_signal();
    return epoll_pwait(fd, &event, 1, -1, &set);
}

static long epoll_fine(void) {
    struct epoll_event event;
    return syscall(441 /* epoll_pwait2 */, fd, &event, 1, NULL, NULL, 0);
}

static long read_one(void) {
    return read(ends[0], &byte, 1);
}

static long readv_one(void) {
    struct iovec part = {&byte, 1};
    return readv(ends[0], &part, 1);
}

static long write_one(void) {
    return write(ends[1], "x", 1);
}

static long writev_one(void) {
    struct iovec part = {"x", 1};
    return writev(ends[1], &part, 1);
}

static long fgets_one(void) {
    char line[8];
    FILE *file = fdopen(ends[0], "r");
    return fgets(line, 2, file) == line ? 1 : 0;
}

static long recv_one(void) {
    return recv(ends[0], &byte, 1, 0);
}

static long recvfrom_one(void) {
    return recvfrom(ends[0], &byte, 1, 0, NULL, NULL);
}

static long recvmsg_one(void) {
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return recvmsg(ends[0], &message, 0);
}

static long recvmmsg_one(void) {
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    return recvmmsg(ends[0], &message, 1, 0, NULL);
}

static long send_one(void) {
    return send(ends[1], "x", 1, 0);
}

static long sendmsg_one(void) {
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return sendmsg(ends[1], &message, 0);
}

static void make_listener(void) {
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "mem-blocked-%d", getpid());
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 0) == 0);
    other_fd = socket(AF_UNIX, SOCK_STREAM, 0);
}

static void call_listener(void) {
    EXPECT(connect(other_fd, (struct sockaddr *)&address, sizeof address) == 0);
}

static long accept_one(void) {
    return accept(fd, NULL, NULL) >= 0 ? 1 : -1;
}

static long accept4_one(void) {
    return accept4(fd, NULL, NULL, SOCK_CLOEXEC) >= 0 ? 1 : -1;
}

/* Another one waits already, and there is room for no more. */
static void make_busy_listener(void) {
    make_listener();
    call_listener();
    other_fd = socket(AF_UNIX, SOCK_STREAM, 0);
}

static long connect_one(void) {
    return connect(other_fd, (struct sockaddr *)&address, sizeof address);
}

static void take_call(void) {
    EXPECT(accept(fd, NULL, NULL) >= 0);
}

static const struct blocked kinds[] = {
    {"nanosleep", take_signal, nanosleep_far, send_signal},
    {"clock_nanosleep", take_signal, clock_far, send_signal},
    {"sleep", take_signal, sleep_far, send_signal},
    {"sigwait", block_signal, sigwait_one, send_signal},
    {"sigwaitinfo", block_signal, sigwaitinfo_one, send_signal},
    {"sigtimedwait", block_signal, sigtimedwait_one, send_signal},
    {"sigsuspend", block_signal, sigsuspend_one, send_signal},
    {"pause", take_signal, pause_one, send_signal},
    {"poll", make_pipe, poll_one, send_byte},
    {"ppoll", make_pipe, ppoll_one, send_byte},
    {"ppoll_signal", block_signal, ppoll_signal, send_signal},
    {"select", make_pipe, select_one, send_byte},
    {"pselect", make_pipe, pselect_one, send_byte},
    {"epoll_wait", make_epoll, epoll_one, send_byte},
    {"epoll_pwait", make_epoll, epoll_masked, send_byte},
    {"epoll_pwait2", make_epoll, epoll_fine, send_byte},
    {"read", make_pipe, read_one, send_byte},
    {"readv", make_pipe, readv_one, send_byte},
    {"write", make_full_pipe, write_one, drain},
    {"writev", make_full_pipe, writev_one, drain},
    {"fgets", make_pipe, fgets_one, send_byte},
    {"recv", make_sockets, recv_one, send_byte},
    {"recvfrom", make_sockets, recvfrom_one, send_byte},
    {"recvmsg", make_sockets, recvmsg_one, send_byte},
    {"recvmmsg", make_sockets, recvmmsg_one, send_byte},
    {"send", make_full_sockets, send_one, drain},
    {"sendmsg", make_full_sockets, sendmsg_one, drain},
    {"accept", make_listener, accept_one, call_listener},
    {"accept4", make_listener, accept4_one, call_listener},
    {"connect", make_busy_listener, connect_one, take_call},
};

int main(int argc, char **argv) {
    return blocked_main(argc, argv, kinds, sizeof kinds / sizeof *kinds);
}
