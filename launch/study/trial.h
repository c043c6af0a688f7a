/* One run of an engine over some sequences, with time, rows, FLOPs, payload and cache of every step. */
#ifndef HW_LAUNCH_STUDY_TRIAL_H
#define HW_LAUNCH_STUDY_TRIAL_H

#include "runtime/engine.h"
#include "runtime/plan.h"
#include "runtime/tokenizer/tokenizer.h"

/* One sequence of a trial: it joins at a step, with its prompt, and leaves when it has n_new tokens. */
typedef struct hw_trial_sequence {
    int first_step;
    const int32_t *prompt; /* [n_prompt] */
    int n_prompt, n_new;
} hw_trial_sequence;

typedef struct hw_trial_step {
    int rows;      /* run through the layers */
    int n_sampled; /* new tokens */
    int length;    /* of the longest sequence, including the rows of this step */
    bool decode;   /* no sequence joined */
    double seconds;
    uint64_t payload_bytes;          /* of embed, attn, mlp and sample */
    uint64_t flops[HW_N_WORK_SITES]; /* all ranks together, replicated KV heads once */
    hw_kv_usage kv;                  /* of rank 0 */
} hw_trial_step;

/* Plain; hw_trial_free. The same on all ranks, except for times. */
typedef struct hw_trial {
    hw_engine_info info;  /* device is NULL: a trial outlives its engine */
    hw_trial_step *steps; /* [n_steps] */
    int n_steps;
    hw_work work[HW_N_WORK_SITES][HW_N_PHASES];         /* sums over all ranks, replicated FLOPs taken out */
    uint64_t payload_bytes[HW_N_SITES];                 /* per site */
    uint64_t sent_bytes;                                /* by all ranks */
    uint64_t weight_bytes, step_weight_bytes, kv_bytes; /* of all ranks together */
    hw_tokens *tokens;                                  /* [n_seqs]: the new ones of each sequence */
    int n_seqs;
} hw_trial;

/* Collective. Runs all sequences to their ends, greedily. With several ranks, every step's payload is compared with
 * hw_plan_step_traffic. With one rank nothing is sent, and payload is that of the plan for two.
 * Errors: HW_ERR_FAILED when the payload differs from the plan; HW_ERR_NO_MEMORY before the first step. With several
 * ranks, running out of memory later, or a device or rank that fails, ends the job. */
hw_status hw_trial_run(hw_trial *out, hw_engine *e, const hw_trial_sequence *sequences, int n_seqs,
                       hw_error *err);
void hw_trial_free(hw_trial *t); /* {0} is fine */

/* Sums over steps or sites. */
uint64_t hw_trial_step_flops(const hw_trial_step *s);
uint64_t hw_trial_flops(const hw_trial *t);
uint64_t hw_trial_rows(const hw_trial *t);
uint64_t hw_trial_layer_payload(const hw_trial *t); /* embed, attn, mlp */
uint64_t hw_trial_payload(const hw_trial *t);       /* and sample */
double hw_trial_seconds(const hw_trial *t);
bool hw_trial_same_tokens(const hw_trial *a, const hw_trial *b);

#endif
