#include "launch/report/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

hw_summary hw_summarise(const double *values, int n)
{
    hw_summary s = {0};
    double *sorted = malloc((size_t)n * sizeof *sorted);
    if (!sorted) return s;
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    s.min = sorted[0];
    s.max = sorted[n - 1];
    s.median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    for (int i = 0; i < n; i++) s.mean += values[i] / n;
    for (int i = 0; i < n; i++)
        s.deviation += (values[i] - s.mean) * (values[i] - s.mean) / (n > 1 ? n - 1 : 1);
    s.deviation = sqrt(s.deviation);
    free(sorted);
    return s;
}

double hw_fit_exponent(const double *x, const double *y, int n)
{
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (!(x[i] > 0) || !(y[i] > 0)) continue;
        double u = log(x[i]), v = log(y[i]);
        sx += u, sy += v, sxx += u * u, sxy += u * v;
        used++;
    }
    double spread = used * sxx - sx * sx;
    return used > 1 && spread > 0 ? (used * sxy - sx * sy) / spread : 0;
}
