/* lookfar bench kernels: products and attention against the machine's limits. The measuring is bench/kernels.c. */
#include "bench.h"

#include "../bench/kernels.h"
#include "../bench/table.h"

enum {
    OPT_KERNEL = 0x300,
    OPT_DTYPE,
    OPT_ROWS,
    OPT_QUERIES,
    OPT_HEAD_DIM,
    OPT_WHERE,
    OPT_REPS,
    OPT_CPU_MASK,
    OPT_JSON
};

typedef struct command {
    app_bench_output out; /* first, for hooks */
    bench_kernel_options bench;
} command;

static const struct argp_option options[] = {
    {"kernel", OPT_KERNEL, "LIST", 0, "matmul, attend (default: both)", 0},
    {"dtype", OPT_DTYPE, "LIST", 0,
     "types of weights, and of K and V where a cache can have them (default: f32,f16,bf16,q8_0,q4_0,q4_k,q5_k,q6_k)",
     0},
    {"rows", OPT_ROWS, "LIST", 0, "rows of a product (default: 1,2,4,8,16,64,512)", 0},
    {"queries", OPT_QUERIES, "LIST", 0, "queries of attention (default: 1,2,4,8,16,32,64)", 0},
    {"head-dim", OPT_HEAD_DIM, "LIST", 0, "dimensions of a head (default: 64,128)", 0},
    {"where", OPT_WHERE, "LIST", 0, "where weights, K and V are: memory, cache (default: both)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions of 5 ms or more (default: 9)", 0},
    APP_BENCH_OPTION_THREADS,
    {"cpu-mask", OPT_CPU_MASK, "LEVEL", 0,
     "use no instructions above scalar, avx2, avx512 or native (default)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each cell to FILE (-: standard output)", 0},
    APP_BENCH_OPTION_QUIET,
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_kernel_options *o = &c->bench;
    lf_error err;
    lf_status status = LF_OK;
    const char *list = NULL; /* the option, when it is one */
    switch (key) {
    case OPT_KERNEL:
        list = "--kernel", status = bench_parse_choices(&o->kernels, arg, bench_kernel_names, &err);
        break;
    case OPT_DTYPE: list = "--dtype", status = bench_parse_dtypes(&o->dtypes, arg, &err); break;
    case OPT_ROWS: list = "--rows", status = bench_parse_ints(&o->rows, arg, 1, BENCH_ROWS_MAX, &err); break;
    case OPT_QUERIES:
        list = "--queries", status = bench_parse_ints(&o->queries, arg, 1, BENCH_ROWS_MAX, &err);
        break;
    case OPT_HEAD_DIM:
        list = "--head-dim", status = bench_parse_ints(&o->head_dims, arg, 1, LF_HEAD_DIM_MAX, &err);
        break;
    case OPT_WHERE:
        list = "--where", status = bench_parse_choices(&o->places, arg, bench_place_names, &err);
        break;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); break;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); break;
    case OPT_CPU_MASK: o->cpu_mask = app_parse_cpu_mask(state, "--cpu-mask", arg); break;
    case OPT_JSON: c->out.json_path = arg; break;
    case 'q': c->out.quiet = true; break;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg);
    default: return ARGP_ERR_UNKNOWN;
    }
    app_bench_check_list(state, list, status, &err);
    return 0;
}

static void set_defaults(bench_kernel_options *o)
{
    *o = (bench_kernel_options){.kernels = {2, {BENCH_MATMUL, BENCH_ATTEND}},
                                .places = {2, {BENCH_MEMORY, BENCH_CACHE}},
                                .reps = 9,
                                .cpu_mask = ~0u,
                                .seconds = 0.005,
                                .probe_bytes = BENCH_PROBE_BYTES};
    (void)bench_parse_dtypes(&o->dtypes, "f32,f16,bf16,q8_0,q4_0,q4_k,q5_k,q6_k", NULL);
    (void)bench_parse_ints(&o->rows, "1,2,4,8,16,64,512", 1, BENCH_ROWS_MAX, NULL);
    (void)bench_parse_ints(&o->queries, "1,2,4,8,16,32,64", 1, BENCH_ROWS_MAX, NULL);
    (void)bench_parse_ints(&o->head_dims, "64,128", 1, LF_HEAD_DIM_MAX, NULL);
}

/* ---- results ---- */

static const bench_column columns[] = {
    {"kernel", 6, true, false},       {"dtype", 5, true, false},    {"head", 4, false, false},
    {"rows", 4, false, false},        {"in", 6, true, false},       {"GB/s", 24, false, false},
    {"of GB/s", 7, false, false},     {"GFLOP/s", 7, false, false}, {"of GFLOP/s", 10, false, false},
    {"instruction", 28, true, false}, {"of roof", 7, false, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static void print_row(FILE *f, const bench_kernel_result *r)
{
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells;
    bench_cell_text(*cell++, bench_kernel_names[r->kernel]);
    bench_cell_text(*cell++, r->dtype);
    if (r->head_dim)
        bench_cell_count(*cell++, r->head_dim);
    else
        bench_cell_text(*cell++, "-");
    bench_cell_count(*cell++, r->rows);
    bench_cell_text(*cell++, bench_place_names[r->place]);
    bench_cell_spread(*cell++, r->gbytes_per_s.median, r->gbytes_per_s.min, r->gbytes_per_s.max);
    bench_cell_number(*cell++, r->limit_gbytes_per_s);
    bench_cell_number(*cell++, r->gflops);
    bench_cell_number(*cell++, r->limit_gflops);
    bench_cell_text(*cell++, r->instruction);
    bench_cell_number(*cell, r->share);
    bench_table_row(f, columns, cells, N_COLUMNS, false);
}

static json_t *result_json(const bench_kernel_result *r)
{
    return json_pack("{s:s, s:s, s:i, s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:f, s:f, s:i, s:s, s:i}",
                     "kernel", bench_kernel_names[r->kernel], "dtype", r->dtype, "rows", r->rows, "head_dim",
                     r->head_dim ? json_integer(r->head_dim) : json_null(), "where",
                     bench_place_names[r->place], "gbs", r->gbytes_per_s.median, "gbs_min",
                     r->gbytes_per_s.min, "gbs_max", r->gbytes_per_s.max, "gflops", r->gflops,
                     "bandwidth_gbs", r->limit_gbytes_per_s, "peak_gflops", r->limit_gflops, "instruction",
                     r->instruction, "roof_gflops", r->roof_gflops, "share", r->share, "threads", r->threads,
                     "kernels", r->kernels, "reps", r->reps);
}

static lf_status on_result(void *cookie, const bench_kernel_result *r, lf_error *err)
{
    (void)err;
    command *c = cookie;
    if (app_bench_begin_result(&c->out)) {
        (void)fprintf(c->out.table, "%d threads, %s kernels; median (min-max) of %d\n\n", r->threads,
                      r->kernels, r->reps);
        bench_table_head(c->out.table, columns, N_COLUMNS, false);
    }
    print_row(c->out.table, r);
    return app_bench_write_json(&c->out, result_json(r));
}

int app_bench_kernels(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Measures the kernels alone: GB/s of weights, or of K and V, and GFLOP/s (2 for each multiply-add).\v"
        "Lists are separated by commas, and every combination is measured. Operands are in memory, more of them than "
        "the last-level cache holds, or a part for each thread in its second-level cache; rows, queries and results are "
        "those of a pass and stay where they fit.\n\n"
        "\"of GB/s\" is the bandwidth of where the operands are, by plain reads, \"of GFLOP/s\" the peak of the "
        "instruction that multiplies, in registers only; both on the same threads, after the cell. \"of roof\" is the "
        "share of the lesser of that peak and that bandwidth times the flops for each byte.",
        NULL,
        NULL,
        NULL};
    lf_error err = {0};
    command c = {0};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .cookie = &c};
    set_defaults(&c.bench);
    app_parse_args(&argp, argc, argv, &c);
    if (!app_bench_open(&c.out)) return EXIT_FAIL;
    return app_bench_close(&c.out, bench_run_kernels(&c.bench, &hooks, on_result, &err), &err);
}
