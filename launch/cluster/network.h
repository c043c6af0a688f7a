/* Addresses of this machine. */
#ifndef HW_LAUNCH_CLUSTER_NETWORK_H
#define HW_LAUNCH_CLUSTER_NETWORK_H

#include <sys/socket.h>

#include "runtime/base/status.h"

/* Local. The address under which `other_host` reaches this machine: that of one of the interfaces (devices or subnets
 * separated by commas, as in cluster.interface); if that is NULL or this machine has none of them, the source address of
 * the route to other_host ("": the default route). The port is 0. Errors: HW_ERR_FAILED. */
hw_status hw_network_own_address(struct sockaddr_storage *out, const char *interfaces, const char *other_host,
                                 hw_error *err);

/* Local. A socket that listens at an address, on a port chosen by the system, which is stored in *at. -1 with a message
 * on failure. */
int hw_network_listen(struct sockaddr_storage *at, hw_error *err);

#endif
