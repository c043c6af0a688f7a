/* Judges the state of the ranks of a run from their heartbeats. Pure: no clock, no sockets, so that every case can be
 * tested. */
#ifndef HW_LAUNCH_SUPERVISE_DIAGNOSIS_H
#define HW_LAUNCH_SUPERVISE_DIAGNOSIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parallel/watch_wire.h"

typedef enum hw_diagnosis_kind {
    HW_WELL,
    HW_STOPPED,  /* its process does not run at all */
    HW_CUT_OFF,  /* its host cannot be reached */
    HW_STUCK,    /* alive, but its current piece of work takes far too long */
    HW_LEFT,     /* it ended properly, but others wait for it */
    HW_ALL_WAIT, /* every rank waits for the others */
    HW_ABSENT,   /* it never connected, and others wait for it */
    HW_DIED,     /* its connection ended; reported by hw_heartbeats_diagnose */
} hw_diagnosis_kind;

/* The known state of a rank. Plain. */
typedef struct hw_rank_view {
    bool known, left; /* it has sent hello; it has sent leave */
    bool connected;
    char host[HW_WATCH_HOST_BYTES];
    int32_t pid;
    uint64_t silent_ms;  /* since its last message */
    uint64_t still_ms;   /* since its progress last changed */
    uint64_t slowest_ms; /* of its recent pieces of work */
    double rate;         /* operations per millisecond, measured in this phase; 0: not yet */
    uint64_t asleep_ms;  /* since its main thread last used the processor */
    bool unreached;      /* bytes sent to it are not acknowledged */
    bool stopped;        /* its process is in state T (local ranks only) */
    hw_watch_beat beat;
} hw_rank_view;

typedef struct hw_diagnosis {
    hw_diagnosis_kind kind;
    int rank;
} hw_diagnosis;

/* ranks [n_ranks]. limit_ms: the limit of silence, and the minimum limit of a piece of work. */
hw_diagnosis hw_diagnose(const hw_rank_view *ranks, int n_ranks, uint64_t limit_ms);

/* For a rank `lost` whose connection ended without a leave message: it died, or was killed because a link is down. */
hw_diagnosis hw_diagnose_lost(const hw_rank_view *ranks, int n_ranks, int lost, uint64_t limit_ms);

/* The limit of a rank's current piece of work. */
uint64_t hw_allowed_ms(const hw_rank_view *r, uint64_t limit_ms);

/* The message: "rank 1 on node2 is stopped: ..."; `how` says how a rank died. Returns `text` [size]. */
char *hw_diagnosis_text(char *text, size_t size, hw_diagnosis v, const hw_rank_view *ranks, const char *how);

/* "decoding, in all-reduce mlp layer 3, after 1234 collectives". Returns `text` [size]. */
char *hw_rank_doing(char *text, size_t size, const hw_rank_view *r);

#endif
