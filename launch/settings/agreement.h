/* Whether all ranks were started with the same: a host with another version, another model or other options
 * would give wrong text or wait for ever. */
#ifndef HW_LAUNCH_SETTINGS_AGREEMENT_H
#define HW_LAUNCH_SETTINGS_AGREEMENT_H

#include "launch/settings/args.h"
#include "parallel/comm.h"

/* Collective, before weights are read. Compares version, model files (their size; what is in config.json,
 * generation_config.json and the index) and the settings that all ranks must have the same with rank 0's. `o` has a
 * model and an engine. A file that a rank does not have is left to whoever opens it. Errors: HW_ERR_INVALID naming
 * the first rank that differs, its host and in what; HW_ERR_DEVICE, HW_ERR_NO_MEMORY. */
hw_status hw_agreement_check(hw_comm *comm, const hw_options *o, hw_error *err);

#endif
