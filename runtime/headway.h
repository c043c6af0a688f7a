/* libheadway: the public interface in one header.
 *
 *     #include <headway/headway.h>
 *
 * Build with find_package(headway) and headway::headway, or with `pkg-config --cflags --libs headway`. The
 * headers included here are the public ones; each documents its part. */
#ifndef HW_RUNTIME_HEADWAY_H
#define HW_RUNTIME_HEADWAY_H

#include "parallel/comm.h"
#include "parallel/meter.h"
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/device/device_loop.h"
#include "runtime/engine.h"
#include "runtime/generate.h"
#include "runtime/models/generation_config.h"
#include "runtime/request.h"
#include "runtime/scheduler.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/work.h"

#endif
