/* Mean, spread and fits of measured numbers. All functions are Local and pure. */
#ifndef HW_LAUNCH_REPORT_STATISTICS_H
#define HW_LAUNCH_REPORT_STATISTICS_H

typedef struct hw_summary {
    double mean, deviation; /* of the sample: over n - 1; 0 for one value */
    double median, min, max;
} hw_summary;

/* n > 0. All zero when there is no memory for sorting. */
hw_summary hw_summarise(const double *values, int n);

/* The slope of log y over log x by least squares: the exponent p of y = c x^p. Points that are not positive
 * are left out; 0 with fewer than two of them. */
double hw_fit_exponent(const double *x, const double *y, int n);

#endif
