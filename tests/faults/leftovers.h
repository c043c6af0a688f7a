/* What a run leaves behind on this machine, found without the help of the program under test: processes, and files of
 * Open MPI and of launch. */
#ifndef HW_TESTS_FAULTS_LEFTOVERS_H
#define HW_TESTS_FAULTS_LEFTOVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "tests/faults/processes.h"

/* Writes what is left of a trial with these processes into `text` [size], "" when nothing is. Files older than
 * `since`, when the trial began, bear the number of a process of another time. */
void list_leftovers(const char *mark, const processes *p, time_t since, char *text, size_t size);

int count_segments(void); /* of Open MPI in /dev/shm, whoever's */

/* A segment of a job that is nobody's, which nobody may remove. */
typedef struct decoy {
    char path[256];
} decoy;

decoy place_decoy(void);
bool is_decoy_there(const decoy *d); /* and removes it */

#endif
