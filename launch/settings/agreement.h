/* Checks that all ranks were started alike: a host with another version, model or options would compute wrong text or
 * hang. */
#ifndef HW_LAUNCH_SETTINGS_AGREEMENT_H
#define HW_LAUNCH_SETTINGS_AGREEMENT_H

#include "launch/settings/args.h"
#include "parallel/comm.h"

/* Collective, before weights are read. Compares version, model files (their sizes; the content of config.json,
 * generation_config.json and the index) and the settings that must be the same with those of rank 0. `o` has a model
 * and an engine. A missing file is reported later, when it is opened. Errors: HW_ERR_INVALID naming the first rank that
 * differs, its host and the difference; HW_ERR_DEVICE, HW_ERR_NO_MEMORY. */
hw_status hw_agreement_check(hw_comm *comm, const hw_options *o, hw_error *err);

#endif
