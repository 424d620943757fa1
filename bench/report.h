/* Results of the kinds that run models as JSON objects (one for each engine of a cell) and as rows of a Markdown table (one
 * for each cell). */
#ifndef LF_BENCH_REPORT_H
#define LF_BENCH_REPORT_H

#include "bench.h"

#include <jansson.h>
#include <stdio.h>

typedef enum bench_report { BENCH_DECODE, BENCH_VERIFY, BENCH_SPARSE } bench_report;

/* The object of one engine's result, a new reference; NULL without memory. */
json_t *bench_report_json(bench_report kind, const bench_result *result);

/* What all cells have in common, in a line, and the head of the table, for results (n) as of on_cell. */
void bench_report_head(FILE *f, bench_report kind, const bench_result *results, int n);

/* The row of a cell. */
void bench_report_row(FILE *f, bench_report kind, const bench_result *results, int n);

#endif
