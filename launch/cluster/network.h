/* Addresses of this machine. */
#ifndef HW_LAUNCH_CLUSTER_NETWORK_H
#define HW_LAUNCH_CLUSTER_NETWORK_H

#include <sys/socket.h>

#include "runtime/base/status.h"

/* Local. The address under which `other_host` reaches this machine: that of one of the interfaces (names
 * or subnets with commas, as cluster.interface has them), or where NULL is given or this machine has none
 * of them, the one from which messages to other_host leave ("": to anywhere). The port is 0. Errors:
 * HW_ERR_FAILED. */
hw_status hw_network_own_address(struct sockaddr_storage *out, const char *interfaces, const char *other_host,
                                 hw_error *err);

/* Local. A socket that listens at an address, on a port of the system's choice, which *at then has. -1
 * with a message on failure. */
int hw_network_listen(struct sockaddr_storage *at, hw_error *err);

#endif
