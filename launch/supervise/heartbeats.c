#include "launch/supervise/heartbeats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "launch/cluster/network.h"
#include "launch/supervise/processes.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"

enum { MAX_EVENTS = 64, PING_MS = 300, ASLEEP_MS = 1000, HELLO_MS = 5000, MAX_STRANGERS = 256 };

/* A connection; it has no rank before its hello. */
typedef struct line {
    struct line *next;
    int fd, rank; /* -1: not known yet */
    uint64_t since_ns;
    hw_watch_inbox in;
} line;

typedef struct peer {
    line *line; /* NULL: not connected */
    uint64_t heard_ns, moved_ns, ran_ns;
    uint64_t measured_ns, measured_done;    /* start of the measurement of the rate */
    hw_ring_entry ring[HW_WATCH_RING_LAST]; /* those sent with the last beat, or all of them */
    int n_ring;
    bool has_all;
} peer;

struct hw_heartbeats {
    int epoll, listening[2];
    line *lines;
    int n_strangers;
    hw_watch_address address;
    char text[HW_WATCH_ADDRESS_TEXT];
    int limit_ms;
    uint64_t now_ns, pinged_ns;
    hw_rank_view *ranks; /* [n_ranks], with the first hello */
    peer *peers;         /* [n_ranks] */
    int n_ranks, lost, exit_code;
    uint32_t job;
};

static uint64_t ms_between(uint64_t from, uint64_t to) { return to > from ? (to - from) / 1000000 : 0; }

/* ---- connections */

static void close_line(hw_heartbeats *h, line *l)
{
    for (line **p = &h->lines; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    if (l->rank < 0) h->n_strangers--;
    else {
        h->peers[l->rank].line = NULL;
        if (!h->ranks[l->rank].left && h->lost < 0) h->lost = l->rank;
    }
    close(l->fd);
    free(l);
}

static bool make_table(hw_heartbeats *h, int n_ranks)
{
    if (h->ranks) return h->n_ranks == n_ranks;
    h->ranks = calloc((size_t)n_ranks, sizeof *h->ranks);
    h->peers = calloc((size_t)n_ranks, sizeof *h->peers);
    if (h->ranks && h->peers) h->n_ranks = n_ranks;
    return h->n_ranks == n_ranks;
}

static bool is_secret(const hw_heartbeats *h, const uint8_t *secret)
{
    unsigned differs = 0;
    for (int i = 0; i < HW_WATCH_SECRET_BYTES; i++) differs |= (unsigned)(h->address.secret[i] ^ secret[i]);
    return !differs;
}

static bool take_hello(hw_heartbeats *h, line *l, const hw_watch_message *m)
{
    if (l->rank >= 0 || !is_secret(h, m->hello.secret) || !make_table(h, m->hello.n_ranks)) return false;
    hw_rank_view *r = &h->ranks[m->rank];
    if (r->known) return false;
    l->rank = m->rank;
    h->n_strangers--;
    h->peers[m->rank] = (peer){.line = l, .moved_ns = h->now_ns, .ran_ns = h->now_ns};
    *r = (hw_rank_view){.known = true, .pid = m->hello.pid};
    memcpy(r->host, m->hello.host, sizeof r->host);
    if (!h->job) h->job = m->hello.job;
    return true;
}

/* Measures the duration of pieces, and operations per millisecond, while the rank stays in one phase. */
static void measure(hw_heartbeats *h, peer *p, hw_rank_view *r, const hw_watch_beat *b)
{
    const uint64_t took = ms_between(p->moved_ns, h->now_ns);
    r->slowest_ms = r->slowest_ms * 15 / 16; /* decays within some seconds */
    const bool is_work = !r->beat.call && b->phase == r->beat.phase && b->phase != HW_WATCH_IDLE;
    if (is_work && took > r->slowest_ms) r->slowest_ms = took;
    if (b->phase != r->beat.phase) {
        p->measured_ns = h->now_ns;
        p->measured_done = b->done;
        r->rate = 0;
        r->slowest_ms = 0;
    } else if (b->done > p->measured_done && h->now_ns > p->measured_ns)
        r->rate = (double)(b->done - p->measured_done) / ((double)(h->now_ns - p->measured_ns) * 1e-6);
    p->moved_ns = h->now_ns;
}

static void take_beat(hw_heartbeats *h, int rank, const hw_watch_beat *b)
{
    hw_rank_view *r = &h->ranks[rank];
    if (b->cpu_us != r->beat.cpu_us) h->peers[rank].ran_ns = h->now_ns;
    if (b->progress != r->beat.progress) measure(h, &h->peers[rank], r, b);
    r->beat = *b;
}

static void take_ring(peer *p, const hw_watch_message *m)
{
    const bool all = m->type == HW_WATCH_RING;
    if (!all && p->has_all) return;
    if (!all || !p->has_all) p->n_ring = 0;
    p->has_all = all;
    for (int i = 0; i < m->value && p->n_ring < HW_WATCH_RING_LAST; i++) p->ring[p->n_ring++] = m->ring[i];
}

static bool take(hw_heartbeats *h, line *l, const hw_watch_message *m)
{
    if (hw_watch_check(m, true)) return false;
    if (m->type == HW_WATCH_HELLO && !take_hello(h, l, m)) return false;
    if (l->rank < 0) return false;
    h->peers[l->rank].heard_ns = h->now_ns;
    switch (m->type) {
    case HW_WATCH_BEAT: take_beat(h, l->rank, &m->beat); break;
    case HW_WATCH_RECENT:
    case HW_WATCH_RING: take_ring(&h->peers[l->rank], m); break;
    case HW_WATCH_LEAVE:
        h->ranks[l->rank].left = true;
        if (!h->exit_code) h->exit_code = m->value;
        break;
    default: break;
    }
    return true;
}

static void read_line(hw_heartbeats *h, line *l)
{
    int n;
    while ((n = hw_watch_receive(l->fd, &l->in)) == 1)
        if (!take(h, l, &l->in.message)) break;
    if (n) close_line(h, l);
}

static void accept_line(hw_heartbeats *h, int listening)
{
    const int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
    if (fd < 0) return;
    line *l = h->n_strangers < MAX_STRANGERS ? calloc(1, sizeof *l) : NULL;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (!l || epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e)) {
        free(l);
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *l = (line){.next = h->lines, .fd = fd, .rank = -1, .since_ns = h->now_ns};
    h->lines = l;
    h->n_strangers++;
}

/* ---- time */

/* A pause of this process does not count as silence of the ranks. */
static void start_anew(hw_heartbeats *h)
{
    for (int i = 0; i < h->n_ranks; i++)
        h->peers[i].heard_ns = h->peers[i].moved_ns = h->peers[i].ran_ns = h->now_ns;
    for (line *l = h->lines; l; l = l->next) l->since_ns = h->now_ns;
}

static void send_pings(hw_heartbeats *h)
{
    const hw_watch_message m = hw_watch_message_of(HW_WATCH_PING, h->limit_ms);
    if (ms_between(h->pinged_ns, h->now_ns) < PING_MS) return;
    h->pinged_ns = h->now_ns;
    for (line *l = h->lines, *next; l; l = next) {
        next = l->next;
        if (l->rank >= 0) hw_watch_send(l->fd, &m);
        else if (ms_between(l->since_ns, h->now_ns) > HELLO_MS) close_line(h, l);
    }
}

static void update_views(hw_heartbeats *h)
{
    for (int i = 0; i < h->n_ranks; i++) {
        hw_rank_view *r = &h->ranks[i];
        const peer *p = &h->peers[i];
        int waiting = 0;
        r->connected = p->line != NULL;
        if (!p->line) continue;
        r->silent_ms = ms_between(p->heard_ns, h->now_ns);
        r->still_ms = ms_between(p->moved_ns, h->now_ns);
        r->asleep_ms = ms_between(p->ran_ns, h->now_ns);
        r->unreached = !ioctl(p->line->fd, SIOCOUTQ, &waiting) && waiting > 0;
        r->stopped = r->silent_ms > (uint64_t)h->limit_ms / 2 && !strcmp(r->host, h->address.host) &&
                     hw_process_is_stopped(r->pid, h->text);
    }
}

void hw_heartbeats_serve(hw_heartbeats *h, uint64_t now_ns)
{
    struct epoll_event events[MAX_EVENTS];
    const bool slept = ms_between(h->now_ns, now_ns) > ASLEEP_MS;
    h->now_ns = now_ns;
    if (slept) start_anew(h);
    /* One event at a time, so that a connection closed by it cannot be in the list. */
    const int n = epoll_wait(h->epoll, events, MAX_EVENTS, 0);
    for (int i = 0; i < n; i++) {
        void *const who = events[i].data.ptr;
        if (who == &h->listening[0] || who == &h->listening[1]) accept_line(h, *(int *)who);
        else read_line(h, who);
    }
    send_pings(h);
    update_views(h);
}

/* ---- results */

const hw_rank_view *hw_heartbeats_ranks(const hw_heartbeats *h, int *n_ranks)
{
    *n_ranks = h->n_ranks;
    return h->ranks;
}

hw_diagnosis hw_heartbeats_diagnose(const hw_heartbeats *h)
{
    const uint64_t limit_ms = (uint64_t)h->limit_ms;
    return h->lost >= 0 ? hw_diagnose_lost(h->ranks, h->n_ranks, h->lost, limit_ms)
                        : hw_diagnose(h->ranks, h->n_ranks, limit_ms);
}

int hw_heartbeats_exit_code(const hw_heartbeats *h) { return h->exit_code; }
uint32_t hw_heartbeats_job(const hw_heartbeats *h) { return h->job; }
const char *hw_heartbeats_address(const hw_heartbeats *h) { return h->text; }
int hw_heartbeats_fd(const hw_heartbeats *h) { return h->epoll; }

bool hw_heartbeats_is_empty(const hw_heartbeats *h)
{
    for (int i = 0; i < h->n_ranks; i++)
        if (h->peers[i].line) return false;
    return true;
}

void hw_heartbeats_end_ranks(hw_heartbeats *h)
{
    const hw_watch_message m = hw_watch_message_of(HW_WATCH_END, 0);
    for (line *l = h->lines; l; l = l->next)
        if (l->rank >= 0) hw_watch_send(l->fd, &m);
}

void hw_heartbeats_kill_local(const hw_heartbeats *h)
{
    for (int i = 0; i < h->n_ranks; i++)
        if (h->ranks[i].known && !strcmp(h->ranks[i].host, h->address.host))
            hw_process_kill(h->ranks[i].pid, h->text);
}

bool hw_heartbeats_write_report(const hw_heartbeats *h, FILE *f)
{
    char doing[160];
    for (int i = 0; i < h->n_ranks; i++) {
        const hw_rank_view *r = &h->ranks[i];
        if (r->known)
            fprintf(f, "rank %d on %s, process %d: %s%s; heard %.1f s ago, moved %.1f s ago\n", i, r->host,
                    r->pid, r->left ? "has ended; was " : "", hw_rank_doing(doing, sizeof doing, r),
                    (double)r->silent_ms * 1e-3, (double)r->still_ms * 1e-3);
        else fprintf(f, "rank %d: was never heard of\n", i);
    }
    fprintf(f, "\n%-6s %-12s %-8s %-8s %-6s %s\n", "rank", "collective", "phase", "site", "layer", "bytes");
    for (int i = 0; i < h->n_ranks; i++)
        for (int k = h->peers[i].n_ring - 1; k >= 0; k--) {
            const hw_ring_entry *e = &h->peers[i].ring[k];
            fprintf(f, "%-6d %-12llu %-8s %-8s %-6d %llu\n", i, (unsigned long long)e->number,
                    hw_phase_name((hw_phase)e->phase), hw_site_name((hw_site)e->site), e->layer,
                    (unsigned long long)e->payload_bytes);
        }
    return !ferror(f);
}

/* ---- open and close */

static hw_status start_listening(hw_heartbeats *h, int i, hw_error *err)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &h->listening[i]};
    h->listening[i] = hw_network_listen(&h->address.at[i], err);
    if (h->listening[i] < 0) return HW_ERR_FAILED;
    if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->listening[i], &e))
        return hw_fail(err, HW_ERR_FAILED, "launch: cannot watch the ranks: %s", strerror(errno));
    return HW_OK;
}

hw_status hw_heartbeats_open(hw_heartbeats **out, const char *interface, const char *other_host, int limit_ms,
                             hw_error *err)
{
    hw_heartbeats *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h) return hw_fail(err, HW_ERR_NO_MEMORY, "launch: no memory");
    *h = (hw_heartbeats){
        .epoll = epoll_create1(EPOLL_CLOEXEC), .listening = {-1, -1}, .limit_ms = limit_ms, .lost = -1};
    h->now_ns = hw_clock_ns();
    h->address.limit_ms = limit_ms;
    hw_host_name(h->address.host, sizeof h->address.host);
    hw_status st = HW_OK;
    if (getrandom(h->address.secret, sizeof h->address.secret, 0) != sizeof h->address.secret || h->epoll < 0)
        st = hw_fail(err, HW_ERR_FAILED, "launch: cannot watch the ranks: %s", strerror(errno));
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(&h->address.at[0], &loopback, sizeof loopback);
    if (!st) st = start_listening(h, 0, err);
    if (!st && other_host) st = hw_network_own_address(&h->address.at[1], interface, other_host, err);
    if (!st && other_host) st = start_listening(h, 1, err);
    if (st) {
        hw_heartbeats_close(h);
        return st;
    }
    hw_watch_address_print(&h->address, h->text);
    *out = h;
    return HW_OK;
}

void hw_heartbeats_close(hw_heartbeats *h)
{
    if (!h) return;
    h->lost = 0;
    while (h->lines) close_line(h, h->lines);
    for (int i = 0; i < 2; i++)
        if (h->listening[i] >= 0) close(h->listening[i]);
    if (h->epoll >= 0) close(h->epoll);
    free(h->ranks);
    free(h->peers);
    free(h);
}
