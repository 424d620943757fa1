#include "report.h"

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

json_t *bench_report_json(bench_report kind, const bench_result *r)
{
    json_t *own = kind == BENCH_DECODE ? decode_json(r) : verify_json(r);
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

/* ---- table ---- */

/* One column: its title and its width; text is aligned to the left, numbers to the right. */
typedef struct column {
    const char *title;
    int width;
    bool is_text, of_peer;
} column;

static const column decode_columns[] = {
    {"model", 6, true, false},       {"dtype", 5, true, false},  {"test", 6, true, false},
    {"depth", 6, false, false},      {"batch", 5, false, false}, {"lookfar tok/s", 24, false, false},
    {"peer tok/s", 24, false, true}, {"ratio", 5, false, true},  {"floor", 8, false, false},
    {"of floor", 8, false, false},   {"GB/s", 5, false, false},  {"c2c ns", 6, false, false},
};

static const column verify_columns[] = {
    {"model", 6, true, false},           {"dtype", 5, true, false},        {"depth", 6, false, false},
    {"rows", 4, false, false},           {"lookfar ms", 24, false, false}, {"x 1 row", 7, false, false},
    {"floor x", 7, false, false},        {"peer ms", 24, false, true},     {"peer x", 7, false, true},
    {"peer / lookfar", 14, false, true}, {"floor ms", 8, false, false},    {"GB/s", 5, false, false},
    {"c2c ns", 6, false, false},
};

enum {
    N_DECODE = sizeof decode_columns / sizeof *decode_columns,
    N_VERIFY = sizeof verify_columns / sizeof *verify_columns,
    N_COLUMNS_MAX = N_VERIFY,
    CELL_TEXT_MAX = BENCH_NAME_MAX,
};

static const column *columns_of(bench_report kind, int *n)
{
    *n = kind == BENCH_DECODE ? N_DECODE : N_VERIFY;
    return kind == BENCH_DECODE ? decode_columns : verify_columns;
}

void bench_report_head(FILE *f, bench_report kind, const bench_result *results, int n)
{
    int n_columns;
    const bool has_peer = n > 1;
    const column *columns = columns_of(kind, &n_columns);
    (void)fprintf(f, "lookfar: %d threads, %s kernels, %s cache", results[0].threads, results[0].kernels,
                  results[0].kv_type);
    if (has_peer) (void)fprintf(f, "; peer: %s, %s cache", results[1].engine, results[1].kv_type);
    (void)fprintf(f, "; median (min-max) of %d\n\n", results[0].reps);
    for (int i = 0; i < n_columns; i++)
        if (has_peer || !columns[i].of_peer)
            (void)fprintf(f, "| %*s ", columns[i].is_text ? -columns[i].width : columns[i].width,
                          columns[i].title);
    (void)fprintf(f, "|\n");
    for (int i = 0; i < n_columns; i++)
        if (has_peer || !columns[i].of_peer)
            (void)fprintf(f, "|%s%.*s%s", columns[i].is_text ? ":" : "-", columns[i].width,
                          "----------------------------------------", columns[i].is_text ? "-" : ":");
    (void)fprintf(f, "|\n");
}

/* Three or four digits that mean something. */
static void print_number(char *out, double value)
{
    if (isfinite(value))
        (void)snprintf(out, CELL_TEXT_MAX, "%.*f", value < 10 ? 2 : value < 1000 ? 1 : 0, value);
    else
        (void)snprintf(out, CELL_TEXT_MAX, "-");
}

/* "median (min-max)" */
static void print_spread(char *out, double median, double min, double max)
{
    char m[CELL_TEXT_MAX], lo[CELL_TEXT_MAX], hi[CELL_TEXT_MAX];
    print_number(m, median);
    print_number(lo, min);
    print_number(hi, max);
    (void)snprintf(out, CELL_TEXT_MAX, "%.20s (%.20s-%.20s)", m, lo, hi);
}

static void print_tps(char *out, const bench_result *r)
{
    print_spread(out, tokens_per_second(r, r->seconds.median), tokens_per_second(r, r->seconds.max),
                 tokens_per_second(r, r->seconds.min));
}

static void print_ms(char *out, const bench_result *r)
{
    print_spread(out, r->seconds.median * 1e3, r->seconds.min * 1e3, r->seconds.max * 1e3);
}

/* The cells of a row, in the order of decode_columns. */
static void decode_row(char (*cell)[CELL_TEXT_MAX], const bench_result *r, const bench_result *peer)
{
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%s", r->model);
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%s", r->dtype);
    bench_test_name(*cell++, &r->test);
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%d", r->depth);
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%d", r->batch);
    print_tps(*cell++, r);
    print_tps(*cell++, peer);
    print_number(*cell++, peer->seconds.median / r->seconds.median);
    print_number(*cell++, tokens_per_second(r, r->floor_seconds));
    print_number(*cell++, r->floor_seconds / r->seconds.median);
    print_number(*cell++, r->gbytes_per_s);
    print_number(*cell++, r->core_to_core_ns);
}

/* In the order of verify_columns. */
static void verify_row(char (*cell)[CELL_TEXT_MAX], const bench_result *r, const bench_result *peer)
{
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%s", r->model);
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%s", r->dtype);
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%d", r->depth);
    (void)snprintf(*cell++, CELL_TEXT_MAX, "%d", r->test.n);
    print_ms(*cell++, r);
    print_number(*cell++, r->ratio);
    print_number(*cell++, r->floor_ratio);
    print_ms(*cell++, peer);
    print_number(*cell++, peer->ratio);
    print_number(*cell++, peer->seconds.median / r->seconds.median);
    print_number(*cell++, r->floor_seconds * 1e3);
    print_number(*cell++, r->gbytes_per_s);
    print_number(*cell++, r->core_to_core_ns);
}

void bench_report_row(FILE *f, bench_report kind, const bench_result *results, int n)
{
    char cells[N_COLUMNS_MAX][CELL_TEXT_MAX];
    int n_columns;
    const column *columns = columns_of(kind, &n_columns);
    (kind == BENCH_DECODE ? decode_row : verify_row)(cells, &results[0], &results[n - 1]);
    for (int i = 0; i < n_columns; i++)
        if (n > 1 || !columns[i].of_peer)
            (void)fprintf(f, "| %*s ", columns[i].is_text ? -columns[i].width : columns[i].width, cells[i]);
    (void)fprintf(f, "|\n");
    (void)fflush(f);
}
