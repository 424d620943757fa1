#include "report.h"

#include "table.h"

#include <math.h>

static double tokens_per_second(const bench_result *r, double seconds)
{
    return r->n_tokens / seconds;
}

/* ---- JSON ---- */

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *decode_json(const bench_result *r)
{
    char test[BENCH_TEST_NAME_MAX];
    bench_test_name(test, &r->test);
    return json_pack("{s:s, s:i, s:f, s:f, s:f, s:o}", "test", test, "batch", r->batch, "tps",
                     tokens_per_second(r, r->seconds.median), "tps_min", tokens_per_second(r, r->seconds.max),
                     "tps_max", tokens_per_second(r, r->seconds.min), "floor_tps",
                     number_or_null(tokens_per_second(r, r->floor_seconds)));
}

static json_t *verify_json(const bench_result *r)
{
    return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "rows", r->test.n, "seconds", r->seconds.median,
                     "seconds_min", r->seconds.min, "seconds_max", r->seconds.max, "ratio", r->ratio,
                     "floor_ratio", r->floor_ratio, "floor_seconds", r->floor_seconds);
}

static json_t *sparse_json(const bench_result *r)
{
    return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "batch", r->batch, "budget",
                     r->test.n, "seconds", r->seconds.median, "seconds_min", r->seconds.min, "seconds_max",
                     r->seconds.max, "full_seconds", r->base_seconds.median, "full_seconds_min",
                     r->base_seconds.min, "full_seconds_max", r->base_seconds.max, "ratio", r->ratio,
                     "bytes_ratio", r->floor_ratio, "floor_seconds", r->floor_seconds);
}

/* ---- table ---- */

static const bench_column decode_columns[] = {
    {"model", 6, true, false},       {"dtype", 5, true, false},  {"test", 6, true, false},
    {"depth", 6, false, false},      {"batch", 5, false, false}, {"lookfar tok/s", 24, false, false},
    {"peer tok/s", 24, false, true}, {"ratio", 5, false, true},  {"floor", 8, false, false},
    {"of floor", 8, false, false},   {"GB/s", 5, false, false},  {"c2c ns", 6, false, false},
};

static const bench_column verify_columns[] = {
    {"model", 6, true, false},           {"dtype", 5, true, false},        {"depth", 6, false, false},
    {"rows", 4, false, false},           {"lookfar ms", 24, false, false}, {"x 1 row", 7, false, false},
    {"floor x", 7, false, false},        {"peer ms", 24, false, true},     {"peer x", 7, false, true},
    {"peer / lookfar", 14, false, true}, {"floor ms", 8, false, false},    {"GB/s", 5, false, false},
    {"c2c ns", 6, false, false},
};

static const bench_column sparse_columns[] = {
    {"model", 6, true, false},     {"dtype", 5, true, false},   {"depth", 6, false, false},
    {"batch", 5, false, false},    {"budget", 6, false, false}, {"sparse ms", 24, false, false},
    {"full ms", 24, false, false}, {"x full", 6, false, false}, {"bytes x full", 12, false, false},
    {"floor ms", 8, false, false}, {"GB/s", 5, false, false},   {"c2c ns", 6, false, false},
};

static void print_tps(char *out, const bench_result *r)
{
    bench_cell_spread(out, tokens_per_second(r, r->seconds.median), tokens_per_second(r, r->seconds.max),
                      tokens_per_second(r, r->seconds.min));
}

static void print_ms(char *out, bench_spread seconds)
{
    bench_cell_spread(out, seconds.median * 1e3, seconds.min * 1e3, seconds.max * 1e3);
}

/* The cells of a row, in the order of decode_columns. */
static void decode_row(char (*cell)[BENCH_CELL_MAX], const bench_result *r, const bench_result *peer)
{
    bench_cell_text(*cell++, r->model);
    bench_cell_text(*cell++, r->dtype);
    bench_test_name(*cell++, &r->test);
    bench_cell_count(*cell++, r->depth);
    bench_cell_count(*cell++, r->batch);
    print_tps(*cell++, r);
    print_tps(*cell++, peer);
    bench_cell_number(*cell++, peer->seconds.median / r->seconds.median);
    bench_cell_number(*cell++, tokens_per_second(r, r->floor_seconds));
    bench_cell_number(*cell++, r->floor_seconds / r->seconds.median);
    bench_cell_number(*cell++, r->gbytes_per_s);
    bench_cell_number(*cell++, r->core_to_core_ns);
}

/* In the order of verify_columns. */
static void verify_row(char (*cell)[BENCH_CELL_MAX], const bench_result *r, const bench_result *peer)
{
    bench_cell_text(*cell++, r->model);
    bench_cell_text(*cell++, r->dtype);
    bench_cell_count(*cell++, r->depth);
    bench_cell_count(*cell++, r->test.n);
    print_ms(*cell++, r->seconds);
    bench_cell_number(*cell++, r->ratio);
    bench_cell_number(*cell++, r->floor_ratio);
    print_ms(*cell++, peer->seconds);
    bench_cell_number(*cell++, peer->ratio);
    bench_cell_number(*cell++, peer->seconds.median / r->seconds.median);
    bench_cell_number(*cell++, r->floor_seconds * 1e3);
    bench_cell_number(*cell++, r->gbytes_per_s);
    bench_cell_number(*cell++, r->core_to_core_ns);
}

/* In the order of sparse_columns; there is no peer. */
static void sparse_row(char (*cell)[BENCH_CELL_MAX], const bench_result *r, const bench_result *peer)
{
    (void)peer;
    bench_cell_text(*cell++, r->model);
    bench_cell_text(*cell++, r->dtype);
    bench_cell_count(*cell++, r->depth);
    bench_cell_count(*cell++, r->batch);
    bench_cell_count(*cell++, r->test.n);
    print_ms(*cell++, r->seconds);
    print_ms(*cell++, r->base_seconds);
    bench_cell_number(*cell++, r->ratio);
    bench_cell_number(*cell++, r->floor_ratio);
    bench_cell_number(*cell++, r->floor_seconds * 1e3);
    bench_cell_number(*cell++, r->gbytes_per_s);
    bench_cell_number(*cell++, r->core_to_core_ns);
}

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static const struct {
    json_t *(*own_json)(const bench_result *r); /* the keys of this kind */
    const bench_column *columns;
    int n_columns;
    void (*fill_row)(char (*cell)[BENCH_CELL_MAX], const bench_result *r, const bench_result *peer);
} reports[] = {
    [BENCH_DECODE] = {decode_json, decode_columns, COUNT(decode_columns), decode_row},
    [BENCH_VERIFY] = {verify_json, verify_columns, COUNT(verify_columns), verify_row},
    [BENCH_SPARSE] = {sparse_json, sparse_columns, COUNT(sparse_columns), sparse_row},
};

/* ---- reports ---- */

json_t *bench_report_json(bench_report kind, const bench_result *r)
{
    json_t *own = reports[kind].own_json(r);
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:s, s:s?, s:i, s:f, s:o}", "model", r->model, "dtype", r->dtype, "engine",
        r->engine, "depth", r->depth, "threads", r->threads, "kv_type", r->kv_type, "kernels", r->kernels,
        "reps", r->reps, "bandwidth_gbs", r->gbytes_per_s, "c2c_ns", number_or_null(r->core_to_core_ns));
    const bool ok = own && object && json_object_update(object, own) == 0;
    json_decref(own);
    if (ok) return object;
    json_decref(object);
    return NULL;
}

void bench_report_head(FILE *f, bench_report kind, const bench_result *results, int n)
{
    (void)fprintf(f, "lookfar: %d threads, %s kernels, %s cache", results[0].threads, results[0].kernels,
                  results[0].kv_type);
    if (n > 1) (void)fprintf(f, "; peer: %s, %s cache", results[1].engine, results[1].kv_type);
    (void)fprintf(f, "; median (min-max) of %d\n\n", results[0].reps);
    bench_table_head(f, reports[kind].columns, reports[kind].n_columns, n > 1);
}

void bench_report_row(FILE *f, bench_report kind, const bench_result *results, int n)
{
    char cells[BENCH_COLUMNS_MAX][BENCH_CELL_MAX];
    reports[kind].fill_row(cells, &results[0], &results[n - 1]);
    bench_table_row(f, reports[kind].columns, cells, reports[kind].n_columns, n > 1);
}
