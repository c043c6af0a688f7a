/* A table of figures, written as CSV for programs, or without its empty columns as Markdown or text. All functions are
 * Local. */
#ifndef HW_LAUNCH_REPORT_TABLE_H
#define HW_LAUNCH_REPORT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/status.h"

enum { HW_TABLE_MAX_COLUMNS = 64 };

/* `name` is the heading in the CSV file (a word with its unit: step_us), `label` in the report; a NULL label omits the
 * column from the report. */
typedef struct hw_column {
    const char *name, *label;
} hw_column;

typedef struct hw_cell {
    enum { HW_CELL_TEXT, HW_CELL_COUNT, HW_CELL_REAL } kind;
    char text[64];
    uint64_t count;
    double real;
} hw_cell;

/* Filled in cell by cell, row by row. Plain, but private to the functions below; hw_table_free. */
typedef struct hw_table {
    const hw_column *columns; /* borrowed */
    int n_columns;
    size_t n_cells, capacity;
    hw_cell *cells;
    bool failed; /* out of memory: reported when the table is written */
} hw_table;

hw_table hw_table_begin(const hw_column *columns, int n_columns);
void hw_table_free(hw_table *t);

void hw_table_text(hw_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void hw_table_count(hw_table *t, uint64_t n);
void hw_table_real(hw_table *t, double x); /* not a number or infinite: an empty cell */

/* Errors: HW_ERR_NO_MEMORY, HW_ERR_FAILED. */
hw_status hw_table_write_csv(const hw_table *t, const char *path, hw_error *err);
void hw_table_print_csv(const hw_table *t, FILE *f);
void hw_table_write_markdown(const hw_table *t, FILE *f);
void hw_table_write_text(const hw_table *t, FILE *f);

#endif
