#include "parallel/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "parallel/comm.h"
#include "parallel/ompi_cleanup.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"

enum {
    CONNECT_MS = 2000,
    QUIET_MS =
        1000, /* a launcher silent for this long may be stopped: send nothing, so that nothing queues up */
    STACK_BYTES = 128 << 10,
    RING_SEND_MS = 300,
    GUARD_US = 50000,
};

struct hw_watch {
    /* Progress, written by the main thread alone. The fields need no order among each other. */
    _Alignas(64) atomic_ullong progress, work, done, n_bytes, n_calls;
    atomic_ullong call; /* call | site << 8 | layer << 32 */
    atomic_uint phase;

    _Alignas(64) int fd;
    int wake[2]; /* closing the second ends the thread */
    int rank;
    uint64_t limit_ns; /* initial limit of silence */
    pid_t daemon;      /* Open MPI's daemon above this rank; not a daemon if mpirun is its parent */
    pthread_t thread;
    clockid_t cpu; /* CPU clock of the main thread */
    pthread_mutex_t meter_lock;
    const hw_meter *meter; /* guarded by the lock */
};

static void set(atomic_ullong *mark, unsigned long long value)
{
    atomic_store_explicit(mark, value, memory_order_relaxed);
}

static unsigned long long get(const atomic_ullong *mark)
{
    return atomic_load_explicit((atomic_ullong *)mark, memory_order_relaxed);
}

/* ---- progress */

hw_watch_phase hw_watch_enter(hw_watch *w, hw_watch_phase phase)
{
    if (!w) return HW_WATCH_IDLE;
    const hw_watch_phase before = atomic_load_explicit(&w->phase, memory_order_relaxed);
    atomic_store_explicit(&w->phase, phase, memory_order_relaxed);
    hw_watch_progress(w, 0);
    return before;
}

void hw_watch_progress(hw_watch *w, uint64_t work)
{
    if (!w) return;
    set(&w->done, get(&w->done) + get(&w->work));
    set(&w->work, work);
    set(&w->progress, get(&w->progress) + 1);
}

void hw_watch_call_begin(hw_watch *w, hw_watch_call call, hw_tag tag, uint64_t n_bytes)
{
    if (!w) return;
    set(&w->call, (uint64_t)call | (uint64_t)tag.site << 8 | (uint64_t)(uint32_t)tag.layer << 32);
    set(&w->n_bytes, n_bytes);
    hw_watch_progress(w, 0);
}

void hw_watch_call_end(hw_watch *w)
{
    if (!w) return;
    set(&w->n_calls, get(&w->n_calls) + 1);
    set(&w->call, 0);
    hw_watch_progress(w, 0);
}

void hw_watch_set_meter(hw_watch *w, const hw_meter *meter)
{
    if (!w) return;
    pthread_mutex_lock(&w->meter_lock);
    w->meter = meter;
    pthread_mutex_unlock(&w->meter_lock);
}

/* ---- the thread */

static uint64_t cpu_us(const hw_watch *w)
{
    struct timespec t;
    return clock_gettime(w->cpu, &t) ? 0 : (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void send_beat(const hw_watch *w)
{
    hw_watch_message m = hw_watch_message_of(HW_WATCH_BEAT, 0);
    const uint64_t call = get(&w->call);
    m.beat = (hw_watch_beat){.progress = get(&w->progress),
                             .work = get(&w->work),
                             .done = get(&w->done),
                             .n_bytes = get(&w->n_bytes),
                             .n_calls = get(&w->n_calls),
                             .cpu_us = cpu_us(w),
                             .phase = atomic_load_explicit((atomic_uint *)&w->phase, memory_order_relaxed),
                             .call = call & 255,
                             .site = call >> 8 & 255,
                             .layer = (int32_t)(call >> 32)};
    hw_watch_send(w->fd, &m);
}

static void send_recent(hw_watch *w)
{
    hw_watch_message m = hw_watch_message_of(HW_WATCH_RECENT, 0);
    pthread_mutex_lock(&w->meter_lock);
    while (w->meter && m.value < HW_WATCH_RING_PART &&
           hw_meter_last(w->meter, (uint64_t)m.value, &m.ring[m.value]))
        m.value++;
    pthread_mutex_unlock(&w->meter_lock);
    if (m.value) hw_watch_send(w->fd, &m);
}

/* Takes at most RING_SEND_MS, in case the launcher does not read. */
static void send_patiently(int fd, const hw_watch_message *m, uint64_t start_ns)
{
    while (!hw_watch_send(fd, m) && errno == EAGAIN && hw_seconds_since(start_ns) * 1000 < RING_SEND_MS)
        usleep(1000);
}

/* The main thread may record collectives meanwhile, but the ring is long enough that the last few are not overwritten. */
static void send_ring(hw_watch *w)
{
    const uint64_t start_ns = hw_clock_ns();
    hw_watch_message m = hw_watch_message_of(HW_WATCH_RING, 0);
    pthread_mutex_lock(&w->meter_lock);
    for (uint64_t back = 0; w->meter && back < HW_WATCH_RING_LAST; back++) {
        if (!hw_meter_last(w->meter, back, &m.ring[m.value])) break;
        if (++m.value < HW_WATCH_RING_PART) continue;
        send_patiently(w->fd, &m, start_ns);
        m.value = 0;
    }
    pthread_mutex_unlock(&w->meter_lock);
    if (m.value) send_patiently(w->fd, &m, start_ns);
}

/* Cleans up, since no other process may be left to do it, and skips destructors, which could wait for the main thread. */
static _Noreturn void end_process(void)
{
    hw_ompi_cleanup_remove_own();
    _exit(hw_exit_code(HW_ERR_RANK));
}

/* When the launcher was last heard, and when bytes were last acknowledged, on this thread's own clock: time while this
 * process is stopped does not count as the launcher's silence. */
typedef struct hearing {
    uint64_t now, heard, through; /* ns */
    uint64_t limit_ns;
} hearing;

static void listen_to_launcher(hw_watch *w, hw_watch_inbox *in, hearing *h)
{
    int n;
    while ((n = hw_watch_receive(w->fd, in)) == 1) {
        if (hw_watch_check(&in->message, false)) end_process();
        if (in->message.type == HW_WATCH_END) {
            send_ring(w);
            end_process();
        }
        h->limit_ns = (uint64_t)in->message.value * 1000000;
        h->heard = h->now;
    }
    if (n < 0) end_process(); /* the launcher is gone */
}

/* Bytes acknowledged by the other machine's kernel show that the link is up, even if the launcher is stopped. */
static void check_link(const hw_watch *w, hearing *h, bool open)
{
    int waiting = 0;
    if (open && (ioctl(w->fd, SIOCOUTQ, &waiting) || waiting == 0)) h->through = h->now;
    if (h->now - h->through <= h->limit_ns) return;
    hw_ompi_cleanup_end_daemon(w->daemon); /* mpirun cannot */
    end_process();
}

static void *watch(void *user)
{
    hw_watch *w = user;
    const uint64_t start = hw_clock_ns(), nap = (uint64_t)QUIET_MS * 1000000;
    hearing h = {start, start, start, w->limit_ns};
    hw_watch_inbox in = {.n_bytes = 0};
    struct pollfd ends[2] = {{w->fd, POLLIN, 0}, {w->wake[0], POLLIN, 0}};
    uint64_t next = start;
    for (;;) {
        const uint64_t before = hw_clock_ns();
        poll(ends, 2, next > before ? (int)((next - before) / 1000000) + 1 : 0);
        if (ends[1].revents) return NULL;
        const uint64_t slept = hw_clock_ns() - h.now;
        h.now += slept;
        if (slept > nap) h.heard = h.through = h.now; /* this process was stopped */
        if (ends[0].revents) listen_to_launcher(w, &in, &h);
        check_link(w, &h, true);
        if (h.now < next) continue;
        if (h.now - h.heard < nap) {
            send_beat(w);
            send_recent(w);
        }
        next = h.now + (uint64_t)HW_WATCH_BEAT_MS * 1000000;
    }
}

/* ---- the guard, after the rank has ended */

/* Runs in a separate process. */
static _Noreturn void guard_daemon(const hw_watch *w)
{
    hw_watch_inbox in = {.n_bytes = 0};
    uint64_t before = hw_clock_ns();
    hearing h = {before, before, before, w->limit_ns};
    bool open = true;
    setsid();
    if (w->fd > 0) close_range(0, (unsigned)w->fd - 1, 0);
    close_range((unsigned)w->fd + 1, ~0u, 0);
    while (hw_ompi_cleanup_is_daemon(w->daemon)) {
        int n = 0;
        usleep(GUARD_US);
        h.now = hw_clock_ns();
        if (h.now - before > (uint64_t)QUIET_MS * 1000000) h.through = h.now; /* this process was stopped */
        before = h.now;
        while (open && (n = hw_watch_receive(w->fd, &in)) == 1) continue;
        open = open && n == 0;
        check_link(w, &h, open); /* what is sent now may take a moment to be acknowledged */
        if (open) send_beat(w);
    }
    _exit(0);
}

/* If the link goes down just after the ranks of a host have ended, no rank is left to kill the daemon. So a guard process
 * waits until it has ended. True if there is one: the connection is then the guard's. */
static bool leave_guard(const hw_watch *w)
{
    if (!hw_ompi_cleanup_is_daemon(w->daemon)) return false;
    const pid_t pid = fork();
    if (pid == 0) guard_daemon(w);
    return pid > 0;
}

/* ---- start and stop */

static int connect_to(const struct sockaddr_storage *at)
{
    const int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    const socklen_t n = at->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int code = connect(fd, (const struct sockaddr *)at, n) ? errno : 0;
    if (code == EINPROGRESS) {
        struct pollfd end = {fd, POLLOUT, 0};
        socklen_t size = sizeof code;
        if (poll(&end, 1, CONNECT_MS) != 1) code = ETIMEDOUT;
        else getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    }
    if (!code) return fd;
    close(fd);
    errno = code;
    return -1;
}

/* Compares host names, because every host has a loopback address. */
static bool is_here(const hw_watch_address *a, const char *host) { return !strcmp(a->host, host); }

static int connect_to_launcher(const hw_watch_address *a, const char *host)
{
    int fd = is_here(a, host) ? connect_to(&a->at[0]) : -1;
    if (fd < 0 && a->at[1].ss_family) fd = connect_to(&a->at[1]);
    return fd;
}

static bool say_hello(const hw_watch *w, const hw_watch_address *a, const char *host)
{
    const char *job = getenv("OMPI_MCA_ess_base_jobid");
    hw_watch_message m = hw_watch_message_of(HW_WATCH_HELLO, 0);
    m.rank = w->rank;
    m.hello.pid = getpid();
    m.hello.n_ranks = hw_comm_launched_ranks();
    m.hello.job = job ? (uint32_t)strtoul(job, NULL, 10) : 0;
    memcpy(m.hello.secret, a->secret, sizeof m.hello.secret);
    snprintf(m.hello.host, sizeof m.hello.host, "%s", host);
    return hw_watch_send(w->fd, &m);
}

/* Blocks signals, which are for the rank's other threads. A small stack matters if address space is limited. */
static bool start_thread(hw_watch *w)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    if (pthread_attr_init(&attributes)) return false;
    pthread_attr_setstacksize(&attributes, STACK_BYTES > PTHREAD_STACK_MIN ? STACK_BYTES : PTHREAD_STACK_MIN);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&w->thread, &attributes, watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return code == 0;
}

static void destroy(hw_watch *w)
{
    if (w->fd >= 0) close(w->fd);
    for (int i = 0; i < 2; i++)
        if (w->wake[i] >= 0) close(w->wake[i]);
    pthread_mutex_destroy(&w->meter_lock);
    free(w);
}

hw_status hw_watch_start(hw_watch **out, hw_error *err)
{
    const char *text = getenv(HW_WATCH_VARIABLE);
    hw_watch_address address;
    char host[HW_WATCH_HOST_BYTES] = "";
    *out = NULL;
    if (!text || hw_comm_launched_ranks() < 2) return HW_OK;
    if (!hw_watch_address_parse(&address, text))
        return hw_fail(err, HW_ERR_RANK, "%s is not what headway launch sets", HW_WATCH_VARIABLE);
    hw_host_name(host, sizeof host);
    if (!is_here(&address, host) && !address.at[1].ss_family)
        return HW_OK; /* the launcher has already printed that */
    hw_watch *w = aligned_alloc(_Alignof(hw_watch), sizeof *w);
    if (!w) return hw_fail(err, HW_ERR_NO_MEMORY, "watch: no memory");
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->meter_lock, NULL);
    w->wake[0] = w->wake[1] = -1;
    w->rank = hw_comm_launched_rank();
    w->limit_ns = (uint64_t)address.limit_ms * 1000000;
    w->daemon = getppid();
    pthread_getcpuclockid(pthread_self(), &w->cpu);
    w->fd = connect_to_launcher(&address, host);
    hw_status st = HW_OK;
    if (w->fd < 0 || !say_hello(w, &address, host))
        st = hw_fail(err, HW_ERR_RANK, "the launcher on %s cannot be reached: %s", address.host,
                     strerror(errno));
    else if (pipe2(w->wake, O_CLOEXEC) || !start_thread(w))
        st = hw_fail(err, HW_ERR_NO_MEMORY, "watch: no memory for a thread");
    if (st) destroy(w);
    else *out = w;
    return st;
}

double hw_watch_stuck_after(const hw_watch *w) { return w ? (double)w->limit_ns * 1e-9 : 0; }

void hw_watch_leave(hw_watch *w, int exit_code)
{
    if (!w) return;
    const hw_watch_message m = hw_watch_message_of(HW_WATCH_LEAVE, exit_code & 255);
    hw_watch_send(w->fd, &m);
}

void hw_watch_stop(hw_watch *w, int exit_code)
{
    if (!w) return;
    hw_watch_leave(w, exit_code);
    close(w->wake[1]);
    w->wake[1] = -1;
    pthread_join(w->thread, NULL);
    if (leave_guard(w)) {
        destroy(w);
        return;
    }
    /* Closing with unread data would reset the connection, and could lose the leave message. */
    hw_watch_inbox rest = {.n_bytes = 0};
    shutdown(w->fd, SHUT_WR);
    while (hw_watch_receive(w->fd, &rest) == 1) continue;
    destroy(w);
}
