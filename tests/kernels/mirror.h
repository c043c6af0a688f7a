/* A device for tests whose ops take host memory where kernels.h says D: it copies everything to a device
 * with memory of its own, runs the op there, and copies it back. So the same tests run on the host's
 * devices and on others. Memory that an op does not say the size of (cache, scratch) is worked out from the
 * other arguments. */
#ifndef HW_TESTS_KERNELS_MIRROR_H
#define HW_TESTS_KERNELS_MIRROR_H

#include "kernels/kernels.h"

/* Takes over `inner`, which hw_device_destroy(*out) destroys as well, also when this fails. */
hw_status hw_mirror_device_create(hw_device **out, hw_device *inner, hw_error *err);

#endif
