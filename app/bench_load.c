/* lookfar bench load: how fast a model is loaded, and what memory that takes. The measuring is bench/load.c. */
#include "bench.h"

#include "../bench/load.h"
#include "../bench/table.h"

#include <stdlib.h>

enum { OPT_DTYPE = 0x300, OPT_REPS, OPT_DIR, OPT_JSON };

typedef struct command {
    app_bench_output out; /* first, for hooks */
    bench_options bench;
} command;

static const struct argp_option options[] = {
    {"model", 'm', "LIST", 0,
     "110m, 1.1b (shapes with random weights, written once), or paths (default: 1.1b)", 0},
    {"dtype", OPT_DTYPE, "LIST", 0, "weights of the shapes; files stay as they are (default: bf16)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions after one that is not counted (default: 5)", 0},
    APP_BENCH_OPTION_THREADS,
    {"dir", OPT_DIR, "FOLDER", 0,
     "where the models of the shapes are (default: $TMPDIR/lookfar-bench or /tmp/lookfar-bench)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each model to FILE (-: standard output)", 0},
    APP_BENCH_OPTION_QUIET,
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_options *o = &c->bench;
    lf_error err;
    switch (key) {
    case 'm':
        app_bench_check_list(state, "--model", bench_parse_names(&o->models, arg, &err), &err);
        return 0;
    case OPT_DTYPE:
        app_bench_check_list(state, "--dtype", bench_parse_dtypes(&o->dtypes, arg, &err), &err);
        return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case OPT_DIR: o->dir = arg; return 0;
    case OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg);
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- results ---- */

static const bench_column columns[] = {
    {"model", 6, true, false},         {"dtype", 5, true, false}, {"MB", 6, false, false},
    {"ms", 24, false, false},          {"GB/s", 5, false, false}, {"peak / weights", 14, false, false},
    {"memory GB/s", 11, false, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static void print_row(FILE *f, const bench_load_result *r)
{
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells;
    bench_cell_text(*cell++, r->model);
    bench_cell_text(*cell++, r->dtype);
    bench_cell_number(*cell++, r->bytes * 1e-6);
    bench_cell_spread(*cell++, r->seconds.median * 1e3, r->seconds.min * 1e3, r->seconds.max * 1e3);
    bench_cell_number(*cell++, r->bytes * 1e-9 / r->seconds.median);
    bench_cell_number(*cell++, r->peak_bytes / r->bytes);
    bench_cell_number(*cell, r->gbytes_per_s);
    bench_table_row(f, columns, cells, N_COLUMNS, false);
}

static json_t *result_json(const bench_load_result *r)
{
    return json_pack(
        "{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i}", "model", r->model, "dtype", r->dtype,
        "bytes", r->bytes, "seconds", r->seconds.median, "seconds_min", r->seconds.min, "seconds_max",
        r->seconds.max, "gbs", r->bytes * 1e-9 / r->seconds.median, "peak_bytes", r->peak_bytes, "peak_ratio",
        r->peak_bytes / r->bytes, "bandwidth_gbs", r->gbytes_per_s, "threads", r->threads, "reps", r->reps);
}

static lf_status on_result(void *cookie, const bench_load_result *r, lf_error *err)
{
    (void)err;
    command *c = cookie;
    if (app_bench_begin_result(&c->out)) {
        (void)fprintf(c->out.table, "%d threads; median (min-max) of %d\n\n", r->threads, r->reps);
        bench_table_head(c->out.table, columns, N_COLUMNS, false);
    }
    print_row(c->out.table, r);
    return app_bench_write_json(&c->out, result_json(r));
}

int app_bench_load(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Measures loading a model from the page cache: gigabytes of weights per second, and the most memory that was "
        "resident (the file's pages included) over the bytes of the weights in the file.\v"
        "Each repetition is a process of its own.",
        NULL,
        NULL,
        NULL};
    lf_error err = {0};
    command c = {.bench = {.reps = 5, .probe_bytes = BENCH_PROBE_BYTES}};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .cookie = &c};
    char *dir = app_bench_default_dir();
    if (!dir) return EXIT_FAIL;
    c.bench.dir = dir;
    (void)bench_parse_names(&c.bench.models, "1.1b", NULL);
    (void)bench_parse_dtypes(&c.bench.dtypes, "bf16", NULL);
    app_parse_args(&argp, argc, argv, &c);
    int code = EXIT_FAIL;
    if (app_bench_open(&c.out))
        code = app_bench_close(&c.out, bench_run_load(&c.bench, &hooks, on_result, &err), &err);
    free(dir);
    return code;
}
