/* Runs the program itself, and looks at what a user would see of it. */
#ifndef HW_TESTS_E2E_HEADWAY_H
#define HW_TESTS_E2E_HEADWAY_H

#include "runtime/base/json.h"
#include "tests/support/process.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define TALES   HW_SOURCE_DIR "/models/tales"
#define VECTORS HW_SOURCE_DIR "/tests/vectors"

enum { HEADWAY_TIMEOUT_S = 240 }; /* nothing here takes seconds; a rank that waits for ever does */

/* headway ARGS..., on one rank without mpirun, or on several with it. The caller frees the result. */
#define RUN(n_ranks, stdin_text, ...)                                                                        \
    run_headway(n_ranks, stdin_text, (const char *const[]){HEADWAY, __VA_ARGS__, NULL})
hw_run_result run_headway(int n_ranks, const char *stdin_text, const char *const argv[]);

/* Runs it, and asserts success with nothing on standard error. Returns standard output, which the caller
 * frees. */
#define OUTPUT(n_ranks, ...) output_of(n_ranks, (const char *const[]){HEADWAY, __VA_ARGS__, NULL})
char *output_of(int n_ranks, const char *const argv[]);

/* Takes what output_of returned, and asserts that it is JSON. The caller owns the result. */
json_t *parse_output(char *text);

/* Runs it with empty standard input, and asserts what every failure has in common: it ends with `exit_code`,
 * standard output is empty, and standard error has one line of ours, "headway: ...", which holds all of the
 * words. Without mpirun, which has notices of its own after a failure, that line is all there is: so no
 * report of a sanitizer either.
 *
 *   REFUSED(1, 3, WORDS("config.json", "silu"), "inspect", "-m", folder); */
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define REFUSED(n_ranks, exit_code, words, ...)                                                              \
    assert_refused(n_ranks, exit_code, words, (const char *const[]){HEADWAY, __VA_ARGS__, NULL})
void assert_refused(int n_ranks, int exit_code, const char *const words[], const char *const argv[]);

/* The same for a mistake in the arguments: exit code 2, and argp's line "headway SUBCOMMAND: ..." with its
 * hint below. */
#define MISUSED(n_ranks, words, ...)                                                                         \
    assert_misused(n_ranks, words, (const char *const[]){HEADWAY, __VA_ARGS__, NULL})
void assert_misused(int n_ranks, const char *const words[], const char *const argv[]);

/* For what has been run already. */
void assert_one_message(const hw_run_result *r, int n_ranks, int exit_code, const char *const words[]);

#endif
