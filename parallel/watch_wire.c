#include "parallel/watch_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x48775731 }; /* with the version of the messages */

_Static_assert(sizeof(hw_watch_message) == 112, "messages have one size in every build");

hw_watch_message hw_watch_message_of(hw_watch_type type, int value)
{
    hw_watch_message m;
    memset(&m, 0, sizeof m);
    m.magic = MAGIC;
    m.type = type;
    m.value = value;
    return m;
}

static bool is_plain_text(const char *text, size_t size)
{
    const size_t n = strnlen(text, size);
    if (!n || n == size) return false;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~') return false;
    return true;
}

static const char *check_hello(const hw_watch_message *m)
{
    const hw_watch_hello *h = &m->hello;
    if (h->n_ranks < 1 || h->n_ranks > HW_WATCH_MAX_RANKS) return "a number of ranks that cannot be";
    if (m->rank < 0 || m->rank >= h->n_ranks) return "a rank that cannot be";
    if (h->pid <= 1) return "a process that cannot be";
    return is_plain_text(h->host, sizeof h->host) ? NULL : "a host without a name";
}

static const char *check_beat(const hw_watch_beat *b)
{
    const bool ok = b->phase < HW_N_WATCH_PHASES && b->call < HW_N_CALLS && b->site < HW_N_SITES;
    return ok && b->layer >= 0 ? NULL : "a state that cannot be";
}

static const char *check_ring(const hw_watch_message *m)
{
    if (m->value < 1 || m->value > HW_WATCH_RING_PART) return "a number of collectives that cannot be";
    for (int i = 0; i < m->value; i++)
        if (m->ring[i].site >= HW_N_SITES || m->ring[i].phase >= HW_N_PHASES || m->ring[i].layer < 0)
            return "a collective that cannot be";
    return NULL;
}

const char *hw_watch_check(const hw_watch_message *m, bool from_rank)
{
    if (m->magic != MAGIC) return "something else than a message";
    const bool rank_says = m->type >= HW_WATCH_HELLO && m->type <= HW_WATCH_LEAVE;
    const bool launcher_says = m->type == HW_WATCH_PING || m->type == HW_WATCH_END;
    if (from_rank ? !rank_says : !launcher_says) return "a message of no known type";
    switch (m->type) {
    case HW_WATCH_HELLO: return check_hello(m);
    case HW_WATCH_BEAT: return check_beat(&m->beat);
    case HW_WATCH_RECENT:
    case HW_WATCH_RING: return check_ring(m);
    case HW_WATCH_LEAVE: return m->value >= 0 && m->value < 256 ? NULL : "an exit code that cannot be";
    case HW_WATCH_PING: return m->value > 0 ? NULL : "a limit that cannot be";
    default: return NULL;
    }
}

int hw_watch_receive(int fd, hw_watch_inbox *in)
{
    if (in->n_bytes >= sizeof in->message) in->n_bytes = 0; /* the last one was whole */
    char *to = (char *)&in->message + in->n_bytes;
    const ssize_t n = recv(fd, to, sizeof in->message - in->n_bytes, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (n == 0) return -1;
    in->n_bytes += (uint32_t)n;
    return in->n_bytes == sizeof in->message;
}

/* If the kernel accepts only part of a hundred bytes, its buffer is full: the connection is given up. */
bool hw_watch_send(int fd, const hw_watch_message *m)
{
    const ssize_t n = send(fd, m, sizeof *m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && (size_t)n < sizeof *m) shutdown(fd, SHUT_RDWR);
    return n == sizeof *m;
}

/* ---- addresses: "SECRET,HOST,[127.0.0.1]:4711,[10.0.0.1]:4712" */

static void print_at(const struct sockaddr_storage *at, char *text, size_t size)
{
    char ip[INET6_ADDRSTRLEN] = "";
    *text = '\0';
    if (at->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)at;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(text, size, ",[%s]:%d", ip, ntohs(in->sin_port));
    } else if (at->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)at;
        inet_ntop(AF_INET6, &in->sin6_addr, ip, sizeof ip);
        snprintf(text, size, ",[%s]:%d", ip, ntohs(in->sin6_port));
    }
}

void hw_watch_address_print(const hw_watch_address *a, char text[HW_WATCH_ADDRESS_TEXT])
{
    char at[2][64];
    for (int i = 0; i < 2; i++) print_at(&a->at[i], at[i], sizeof at[i]);
    for (int i = 0; i < HW_WATCH_SECRET_BYTES; i++) sprintf(text + 2 * i, "%02x", a->secret[i]);
    snprintf(text + 2 * HW_WATCH_SECRET_BYTES, HW_WATCH_ADDRESS_TEXT - 2 * HW_WATCH_SECRET_BYTES,
             ",%s,%d%s%s", a->host, a->limit_ms, at[0], at[1]);
}

static bool parse_at(struct sockaddr_storage *at, const char *text, size_t n)
{
    char ip[INET6_ADDRSTRLEN + 2] = "", end;
    unsigned port;
    char copy[80] = "";
    if (n >= sizeof copy) return false;
    memcpy(copy, text, n);
    if (sscanf(copy, "[%46[0-9a-fA-F.:]]:%5u%c", ip, &port, &end) != 2 || port > 65535) return false;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, ip, &in.sin_addr) == 1) memcpy(at, &in, sizeof in);
    else if (inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1) memcpy(at, &in6, sizeof in6);
    else return false;
    return true;
}

bool hw_watch_address_parse(hw_watch_address *a, const char *text)
{
    memset(a, 0, sizeof *a);
    for (int i = 0; i < HW_WATCH_SECRET_BYTES; i++, text += 2)
        if (strspn(text, "0123456789abcdef") < 2 || sscanf(text, "%2hhx", &a->secret[i]) != 1) return false;
    if (*text++ != ',') return false;
    const size_t n_host = strcspn(text, ",");
    if (n_host >= sizeof a->host) return false;
    memcpy(a->host, text, n_host);
    text += n_host;
    int n_limit = 0;
    if (sscanf(text, ",%9" SCNd32 "%n", &a->limit_ms, &n_limit) != 1 || a->limit_ms < 1) return false;
    text += n_limit;
    for (int i = 0; *text == ','; i++) {
        const size_t n = strcspn(++text, ",");
        if (i == 2 || !parse_at(&a->at[i], text, n)) return false;
        text += n;
    }
    return !*text && a->at[0].ss_family;
}

const char *hw_watch_phase_name(uint32_t phase)
{
    static const char *const names[HW_N_WATCH_PHASES] = {"starting",   "idle",     "loading",
                                                         "prefilling", "decoding", "ending"};
    return names[phase];
}

const char *hw_watch_call_name(uint32_t call)
{
    static const char *const names[HW_N_CALLS] = {"nothing", "all-reduce", "all-gather",   "broadcast",
                                                  "send",    "receive",    "wait for work"};
    return names[call];
}
