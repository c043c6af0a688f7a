/* The subcommands. Each takes its argv (argv[0] is its name), and returns a status with a message; main.c prints it once
 * and turns it into the exit code. Collective: every rank runs the same one. */
#ifndef HW_LAUNCH_COMMANDS_COMMANDS_H
#define HW_LAUNCH_COMMANDS_COMMANDS_H

#include <stdbool.h>

#include "runtime/base/status.h"

typedef hw_status hw_command(int argc, char **argv, hw_error *err);

hw_command hw_cmd_generate, hw_cmd_logits, hw_cmd_perplexity, hw_cmd_tokenize, hw_cmd_detokenize,
    hw_cmd_inspect, hw_cmd_plan, hw_cmd_traffic, hw_cmd_check, hw_cmd_bench, hw_cmd_launch, hw_cmd_probe,
    hw_cmd_selftest, hw_cmd_study;

/* Local. Whether there is a subcommand of this name (main.c). */
bool hw_is_command(const char *name);

/* Local. Returns HW_ERR_INVALID, with a message that suggests the subcommand closest to `name`. */
hw_status hw_no_such_command(const char *name, hw_error *err);

#endif
