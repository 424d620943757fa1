#include "bench.h"

#include <assert.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_spread bench_spread_of(double *values, int n)
{
    assert(n >= 1);
    qsort(values, (size_t)n, sizeof *values, compare);
    return (bench_spread){
        .median = (values[(n - 1) / 2] + values[n / 2]) / 2, .min = values[0], .max = values[n - 1]};
}
