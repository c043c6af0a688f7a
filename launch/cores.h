/* How many cores there are for this process. */
#ifndef HW_LAUNCH_CORES_H
#define HW_LAUNCH_CORES_H

/* Local. Cores that it may use, at least 1; hardware threads of a core are one. */
int hw_count_cores(void);

#endif
