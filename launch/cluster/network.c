#include "launch/cluster/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_in_subnet(struct in_addr a, const char *subnet)
{
    char ip[INET_ADDRSTRLEN] = "";
    int bits = 32;
    struct in_addr net;
    if (sscanf(subnet, "%15[0-9.]/%d", ip, &bits) < 1 || bits < 0 || bits > 32) return false;
    if (inet_pton(AF_INET, ip, &net) != 1) return false;
    const uint32_t mask = bits ? ~(uint32_t)0 << (32 - bits) : 0;
    return (ntohl(a.s_addr) & mask) == (ntohl(net.s_addr) & mask);
}

/* `wanted`: devices or subnets, separated by commas. */
static bool find_interface(struct sockaddr_storage *out, const char *wanted)
{
    struct ifaddrs *all = NULL;
    bool found = false;
    if (getifaddrs(&all)) return false;
    for (const char *p = wanted; *p && !found; p += strcspn(p, ","), p += *p == ',') {
        char one[64] = "";
        snprintf(one, sizeof one, "%.*s", (int)strcspn(p, ","), p);
        for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
            if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
            struct sockaddr_in in;
            memcpy(&in, i->ifa_addr, sizeof in);
            found = !strcmp(i->ifa_name, one) || is_in_subnet(in.sin_addr, one);
            if (found) memcpy(out, &in, sizeof in);
        }
    }
    freeifaddrs(all);
    return found;
}

/* Connecting a datagram socket sends nothing, but selects the route. */
static bool find_way(struct sockaddr_storage *out, const struct addrinfo *to)
{
    socklen_t size = sizeof *out;
    const int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool ok = fd >= 0 && !connect(fd, to->ai_addr, to->ai_addrlen) &&
                    !getsockname(fd, (struct sockaddr *)out, &size);
    if (fd >= 0) close(fd);
    return ok;
}

static void clear_port(struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET) ((struct sockaddr_in *)a)->sin_port = 0;
    else ((struct sockaddr_in6 *)a)->sin6_port = 0;
}

hw_status hw_network_own_address(struct sockaddr_storage *out, const char *interfaces, const char *other_host,
                                 hw_error *err)
{
    struct addrinfo *list = NULL, wanted = {.ai_socktype = SOCK_DGRAM};
    bool found = interfaces && find_interface(out, interfaces);
    int code = 0;
    if (!*other_host) other_host = "192.0.2.1"; /* TEST-NET-1: selects the default route */
    if (!found && !(code = getaddrinfo(other_host, "9", &wanted, &list)))
        for (const struct addrinfo *i = list; i && !found; i = i->ai_next) found = find_way(out, i);
    if (list) freeaddrinfo(list);
    if (!found)
        return hw_fail(err, HW_ERR_FAILED, "launch: no route to %s: %s; set cluster.interface to the network",
                       other_host, code ? gai_strerror(code) : strerror(errno));
    clear_port(out);
    return HW_OK;
}

int hw_network_listen(struct sockaddr_storage *at, hw_error *err)
{
    socklen_t n = at->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6),
              size = sizeof *at;
    const int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && !bind(fd, (struct sockaddr *)at, n) && !listen(fd, SOMAXCONN) &&
        !getsockname(fd, (struct sockaddr *)at, &size))
        return fd;
    hw_fail(err, HW_ERR_FAILED, "launch: cannot listen for the ranks: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}
