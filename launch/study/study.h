/* headway study: experiments that explain the KV cache and the communication between ranks with measurements, and their
 * report.
 *
 * Each experiment is one file. It runs on all ranks, then rank 0 writes its section of the report: text, tables (each
 * also as a CSV file) and pictures. */
#ifndef HW_LAUNCH_STUDY_STUDY_H
#define HW_LAUNCH_STUDY_STUDY_H

#include "launch/report/devices.h"
#include "launch/report/plot.h"
#include "launch/report/table.h"
#include "launch/study/machine.h"
#include "launch/study/trial.h"
#include "runtime/model.h"
#include "runtime/weights/source.h"

/* Results of the first experiment, which later ones use: the same generation with the cache on and off. */
typedef struct hw_on_off {
    hw_trial on, off;                   /* of the first repeat; counts are those of every repeat */
    double *on_seconds, *off_seconds;   /* [repeats] of a generation */
    double *on_step, *off_step;         /* [n_new] median over the repeats */
    double on_predicted, off_predicted; /* seconds, by the roofline */
} hw_on_off;

typedef struct hw_study {
    hw_comm *comm;
    int rank, n_ranks;
    const char *model_folder, *folder;
    hw_engine_options engine; /* as given; experiments change their copy */
    int n_new, repeats;
    const char *command; /* the command line that wrote the report */
    hw_model model;
    hw_dtype dtype;   /* of the weights; known after the first engine */
    char device[192]; /* its description; likewise */
    bool verbose;
    hw_machine machine;
    hw_on_off on_off;
    /* rank 0 */
    FILE *report;
    bool can_draw;
    int n_sections;
} hw_study;

typedef struct hw_experiment {
    const char *title;
    hw_status (*run)(hw_study *s, void **data, hw_error *err);        /* Collective; may be NULL */
    hw_status (*write)(hw_study *s, const void *data, hw_error *err); /* rank 0, Local */
    void (*free)(void *data);                                         /* may be NULL; data may be NULL */
} hw_experiment;

extern const hw_experiment hw_experiment_on_off, hw_experiment_length, hw_experiment_phases,
    hw_experiment_heads, hw_experiment_policies, hw_experiment_ranks, hw_experiment_questions;

/* ---- for experiments (study.c) */

/* Collective. An engine for sequences of at most max_seq_len tokens, max_seqs at once, and steps of `rows`
 * rows. NULL comm and model: the study's. */
hw_status hw_study_engine(hw_engine **out, const hw_study *s, hw_comm *comm, const char *model,
                          hw_engine_options options, int max_seq_len, int max_seqs, int rows, hw_error *err);

/* Writes arbitrary ids of the vocabulary to out [n]; the same for the same `first`. */
void hw_study_tokens(const hw_study *s, int32_t *out, int n, int first);

/* The source of payload figures, for the report: counted, or with one rank the plan for two. */
const char *hw_study_payload_source(const hw_study *s);

/* Prints a line of progress on standard error of rank 0. */
void hw_study_progress(const hw_study *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Bytes of keys and values of one token in all layers, every head counted once. */
double hw_study_kv_row(const hw_study *s);

/* ---- for writing, rank 0 (report.c) */

void hw_study_text(hw_study *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes a table to the report and to FOLDER/<name>.csv, and frees it. `in_report` false: the report only names the
 * file. */
hw_status hw_study_table(hw_study *s, hw_table *t, const char *name, bool in_report, hw_error *err);

/* A picture FOLDER/<name>.svg: begin, then hw_plot_line or hw_plot_bars, then hw_study_plot_lines or
 * _bars. */
typedef struct hw_study_plot {
    hw_plot plot;
    char path[4096];
    const char *name, *title;
} hw_study_plot;
hw_status hw_study_plot_begin(hw_study *s, hw_study_plot *p, const char *name, const char *title,
                              const char *x_label, const char *y_label, hw_error *err);
hw_status hw_study_plot_lines(hw_study *s, hw_study_plot *p, hw_error *err);
hw_status hw_study_plot_bars(hw_study *s, hw_study_plot *p, const char *const *groups, int n, hw_error *err);

#endif
