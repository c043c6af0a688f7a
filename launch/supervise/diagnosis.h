/* Whether the ranks of a run are well, from what they told of themselves. Pure: no clock, no sockets, so
 * that every case can be tested. */
#ifndef HW_LAUNCH_SUPERVISE_DIAGNOSIS_H
#define HW_LAUNCH_SUPERVISE_DIAGNOSIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parallel/watch_wire.h"

typedef enum hw_diagnosis_kind {
    HW_WELL,
    HW_STOPPED,  /* a process that does nothing at all */
    HW_CUT_OFF,  /* nothing comes through to its host */
    HW_STUCK,    /* alive, but the piece of work that it is at takes far too long */
    HW_LEFT,     /* it ended properly, and others wait for it */
    HW_ALL_WAIT, /* every rank waits for the others */
    HW_ABSENT,   /* it was never heard of, and others wait for it */
    HW_DIED,     /* found out by who sees its connection end */
} hw_diagnosis_kind;

/* What is known of a rank. Plain. */
typedef struct hw_rank_view {
    bool known, left; /* it has said hello; it has said good-bye */
    bool connected;
    char host[HW_WATCH_HOST_BYTES];
    int32_t pid;
    uint64_t silent_ms;  /* since it was last heard */
    uint64_t still_ms;   /* since its progress last changed */
    uint64_t slowest_ms; /* of its recent pieces of work */
    double rate;         /* operations in a millisecond, as measured in this phase; 0: not yet */
    uint64_t asleep_ms;  /* since its thread last had the processor */
    bool unreached;      /* what was sent to it has not arrived */
    bool stopped;        /* the system says that its process is stopped */
    hw_watch_beat beat;
} hw_rank_view;

typedef struct hw_diagnosis {
    hw_diagnosis_kind kind;
    int rank;
} hw_diagnosis;

/* ranks [n_ranks]. limit_ms: silence that is too long, and the least time that a piece of work is given. */
hw_diagnosis hw_diagnose(const hw_rank_view *ranks, int n_ranks, uint64_t limit_ms);

/* The connection of rank `lost` ended without a farewell: it died, or was killed because of a link that is down. */
hw_diagnosis hw_diagnose_lost(const hw_rank_view *ranks, int n_ranks, int lost, uint64_t limit_ms);

/* What a piece of work may take. */
uint64_t hw_allowed_ms(const hw_rank_view *r, uint64_t limit_ms);

/* "rank 1 on node2 is stopped: ...", as far as it is known; `how` is what became of a rank that died.
 * Returns `text` [size]. */
char *hw_diagnosis_text(char *text, size_t size, hw_diagnosis v, const hw_rank_view *ranks, const char *how);

/* "decoding, in all-reduce mlp layer 3, after 1234 collectives". Returns `text` [size]. */
char *hw_rank_doing(char *text, size_t size, const hw_rank_view *r);

#endif
