#include "launch/cores.h"

#include "runtime/device/cores.h"

int hw_count_cores(void)
{
    int cpus[CPU_SETSIZE];
    const cpu_set_t allowed = hw_cores_allowed();
    const int n = hw_cores_list(cpus, &allowed);
    return n ? n : 1;
}
