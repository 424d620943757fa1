/* lookfar bench decode, verify and sparse: the kinds that run models. The measuring is bench/. */
#include "bench.h"

#include "../bench/report.h"

#include <stdlib.h>

enum {
    OPT_DTYPE = 0x300,
    OPT_TEST,
    OPT_DEPTH,
    OPT_BATCH,
    OPT_ROWS,
    OPT_BUDGET,
    OPT_REPS,
    OPT_KV,
    OPT_CPU_MASK,
    OPT_DIR,
    OPT_PEER,
    OPT_JSON,
};

typedef struct command {
    app_bench_output out; /* first, for hooks */
    bench_report kind;
    bench_options bench;
} command;

/* With `shapes`, the default of --model. */
#define OPTIONS_OF_ALL(shapes)                                                                               \
    {"model",                                                                                                \
     'm',                                                                                                    \
     "LIST",                                                                                                 \
     0,                                                                                                      \
     "110m, 1.1b (shapes with random weights, written once), or paths (default: " shapes ")",                \
     0},                                                                                                     \
        APP_BENCH_OPTION_THREADS,                                                                            \
        {"cache-type", OPT_KV, "TYPE", 0, "type of the KV cache: f32, f16, bf16 (default) or q8_0", 0},      \
        {"kv-type", OPT_KV, NULL, OPTION_ALIAS, NULL, 0},                                                    \
        {"cpu-mask",                                                                                         \
         OPT_CPU_MASK,                                                                                       \
         "LEVEL",                                                                                            \
         0,                                                                                                  \
         "use no instructions above scalar, avx2, avx512 or native (default)",                               \
         0},                                                                                                 \
        {"dir",                                                                                              \
         OPT_DIR,                                                                                            \
         "FOLDER",                                                                                           \
         0,                                                                                                  \
         "where the models of the shapes are (default: $TMPDIR/lookfar-bench or /tmp/lookfar-bench)",        \
         0},                                                                                                 \
        {"json",                                                                                             \
         OPT_JSON,                                                                                           \
         "FILE",                                                                                             \
         0,                                                                                                  \
         "write a JSON object for each cell and engine to FILE (-: standard output)",                        \
         0},                                                                                                 \
        APP_BENCH_OPTION_QUIET,                                                                              \
    {                                                                                                        \
        0                                                                                                    \
    }

#define OPTION_PEER                                                                                          \
    {                                                                                                        \
        "peer", OPT_PEER, "COMMAND", 0,                                                                      \
            "another engine, whose repetitions take turns with ours; see the head of bench/peer.h", 0        \
    }

static const struct argp_option decode_options[] = {
    {"dtype", OPT_DTYPE, "LIST", 0, "weights of the shapes; files stay as they are (default: bf16,q8_0,q4_k)",
     0},
    {"test", OPT_TEST, "LIST", 0,
     "ppN: N prompt tokens; tgN: N decoding steps; tpN: with picks; trN: by rounds (default: pp512,tg128)",
     0},
    {"depth", OPT_DEPTH, "LIST", 0, "positions in the cache before a test (default: 0,4096)", 0},
    {"batch", OPT_BATCH, "LIST", 0, "sequences (default: 1)", 0},
    {"batch-size", 'b', "N", 0, "rows of one pass of a prompt (default: 512)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions after one that is not counted (default: 5)", 0},
    OPTION_PEER,
    OPTIONS_OF_ALL("110m,1.1b"),
};

static const struct argp_option verify_options[] = {
    {"dtype", OPT_DTYPE, "LIST", 0, "weights of the shapes; files stay as they are (default: q8_0)", 0},
    {"rows", OPT_ROWS, "LIST", 0, "rows of a pass (default: 1,2,4,8,16)", 0},
    {"depth", OPT_DEPTH, "LIST", 0, "positions in the cache before the pass (default: 0,4096,16384)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions after one that is not counted (default: 15)", 0},
    OPTION_PEER,
    OPTIONS_OF_ALL("110m,1.1b"),
};

static const struct argp_option sparse_options[] = {
    {"dtype", OPT_DTYPE, "LIST", 0, "weights of the shapes; files stay as they are (default: bf16)", 0},
    {"budget", OPT_BUDGET, "LIST", 0, "positions that a sparse step sees (default: 512)", 0},
    {"depth", OPT_DEPTH, "LIST", 0, "positions in the cache before the step (default: 16384)", 0},
    {"batch", OPT_BATCH, "LIST", 0, "sequences (default: 1,16)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions after one that is not counted (default: 9)", 0},
    OPTIONS_OF_ALL("1.1b"),
};

/* ---- options ---- */

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
    case OPT_TEST:
        app_bench_check_list(state, "--test", bench_parse_tests(&o->tests, arg, &err), &err);
        return 0;
    case OPT_DEPTH:
        app_bench_check_list(state, "--depth", bench_parse_ints(&o->depths, arg, 0, BENCH_DEPTH_MAX, &err),
                             &err);
        return 0;
    case OPT_BATCH:
        app_bench_check_list(state, "--batch", bench_parse_ints(&o->batches, arg, 1, BENCH_BATCH_MAX, &err),
                             &err);
        return 0;
    case OPT_ROWS:
        app_bench_check_list(state, "--rows", bench_parse_ints(&o->rows, arg, 1, BENCH_ROWS_MAX, &err), &err);
        return 0;
    case OPT_BUDGET:
        app_bench_check_list(state, "--budget", bench_parse_ints(&o->budgets, arg, 1, BENCH_DEPTH_MAX, &err),
                             &err);
        return 0;
    case 'b': o->pass_rows = (int)app_parse_int(state, "--batch-size", arg, 1, BENCH_N_MAX); return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case OPT_CPU_MASK: o->cpu_mask = app_parse_cpu_mask(state, "--cpu-mask", arg); return 0;
    case OPT_DIR: o->dir = arg; return 0;
    case OPT_PEER: o->peer_command = arg; return 0;
    case OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* The defaults of a kind, where they are its own. */
static const struct defaults {
    const char *models, *dtypes, *depths, *batches;
    int reps;
} defaults_of[] = {
    [BENCH_DECODE] = {"110m,1.1b", "bf16,q8_0,q4_k", "0,4096", "1", 5},
    [BENCH_VERIFY] = {"110m,1.1b", "q8_0", "0,4096,16384", "1", 15},
    [BENCH_SPARSE] = {"1.1b", "bf16", "16384", "1,16", 9},
};

static void set_defaults(command *c)
{
    bench_options *o = &c->bench;
    const struct defaults *d = &defaults_of[c->kind];
    *o = (bench_options){.pass_rows = 512,
                         .reps = d->reps,
                         .kv_dtype = LF_DTYPE_BF16,
                         .cpu_mask = ~0u,
                         .probe_bytes = BENCH_PROBE_BYTES};
    (void)bench_parse_names(&o->models, d->models, NULL);
    (void)bench_parse_dtypes(&o->dtypes, d->dtypes, NULL);
    (void)bench_parse_tests(&o->tests, "pp512,tg128", NULL);
    (void)bench_parse_ints(&o->depths, d->depths, 0, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_ints(&o->batches, d->batches, 1, BENCH_BATCH_MAX, NULL);
    (void)bench_parse_ints(&o->rows, "1,2,4,8,16", 1, BENCH_ROWS_MAX, NULL);
    (void)bench_parse_ints(&o->budgets, "512", 1, BENCH_DEPTH_MAX, NULL);
}

/* ---- running ---- */

static lf_status on_cell(void *cookie, const bench_result *results, int n, lf_error *err)
{
    (void)err;
    command *c = cookie;
    lf_status status = LF_OK;
    if (app_bench_begin_result(&c->out)) bench_report_head(c->out.table, c->kind, results, n);
    bench_report_row(c->out.table, c->kind, results, n);
    for (int i = 0; i < n && status == LF_OK; i++)
        status = app_bench_write_json(&c->out, bench_report_json(c->kind, &results[i]));
    return status;
}

static int bench(bench_report kind, const struct argp *argp, int argc, char **argv)
{
    typedef lf_status run_fn(const bench_options *o, const bench_hooks *hooks, lf_error *err);
    static run_fn *const run_of[] = {[BENCH_DECODE] = bench_run_decode,
                                     [BENCH_VERIFY] = bench_run_verify,
                                     [BENCH_SPARSE] = bench_run_sparse};
    lf_error err = {0};
    command c = {.kind = kind};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .on_cell = on_cell, .cookie = &c};
    char *dir = app_bench_default_dir();
    if (!dir) return EXIT_FAIL;
    set_defaults(&c);
    c.bench.dir = dir;
    app_parse_args(argp, argc, argv, &c);
    int code = EXIT_FAIL;
    if (app_bench_open(&c.out)) code = app_bench_close(&c.out, run_of[kind](&c.bench, &hooks, &err), &err);
    free(dir);
    return code;
}

int app_bench_decode(int argc, char **argv)
{
    static const struct argp argp = {
        decode_options,
        parse_option,
        NULL,
        "Measures prompts and decoding: tokens per second, median of the repetitions (and the extremes).\v"
        "Lists are separated by commas, and every combination is measured. Up to the depth the cache is filled "
        "with random K and V, not by a prefill. Nothing is sampled. With a batch, every sequence has the depth, and a "
        "test takes its N tokens in each.\n\n"
        "The floor of a decoding test is what memory allows: the bytes of the weights and of the K and V seen, over "
        "the bandwidth (GB/s) that a plain read by the same threads finds after each repetition. c2c is the time that "
        "a cache line takes between two cores. Prompts, which arithmetic bounds, have no floor here.",
        NULL,
        NULL,
        NULL};
    return bench(BENCH_DECODE, &argp, argc, argv);
}

int app_bench_verify(int argc, char **argv)
{
    static const struct argp argp = {
        verify_options,
        parse_option,
        NULL,
        "Measures one pass of n rows of one sequence over a pass of one row: what verifying candidates costs.\v"
        "Lists are separated by commas, and every combination is measured; the numbers of rows take turns, "
        "repetition by repetition. Up to the depth the cache is filled with random K and V. The floor counts the "
        "bytes that a pass must read, not its arithmetic.",
        NULL,
        NULL,
        NULL};
    return bench(BENCH_VERIFY, &argp, argc, argv);
}

int app_bench_sparse(int argc, char **argv)
{
    static const struct argp argp = {
        sparse_options,
        parse_option,
        NULL,
        "Measures a step of one row of each sequence over a sparse view of the cache against the same step over all of "
        "it: what drafting a token costs.\v"
        "Lists are separated by commas, and every combination is measured; the budgets take turns with the full step, "
        "repetition by repetition. A view is the first tile of 16 positions, the recent ones (a quarter of the "
        "budget), and for the rest tiles at random between them, others for each layer and head. Beside the ratio of "
        "the times stands that of the bytes that must be read, weights included: no engine can be below it while memory is "
        "what bounds it.",
        NULL,
        NULL,
        NULL};
    return bench(BENCH_SPARSE, &argp, argc, argv);
}
