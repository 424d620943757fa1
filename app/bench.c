/* lookfar bench: speed, measured side by side. The measuring is bench/; here are the options, and where results go. */
#include "app.h"

#include "../bench/report.h"

#include <stdlib.h>
#include <string.h>

enum {
    OPT_DTYPE = 0x300,
    OPT_TEST,
    OPT_DEPTH,
    OPT_BATCH,
    OPT_ROWS,
    OPT_REPS,
    OPT_KV,
    OPT_CPU_MASK,
    OPT_DIR,
    OPT_PEER,
    OPT_JSON,
};

typedef struct command {
    bench_report kind;
    bench_options bench;
    bool quiet;
    const char *json_path;
    FILE *json, *table;  /* standard output, unless JSON has that */
    bool has_head, told; /* told: standard error has the reason of a failure already */
    app_progress progress;
    char progress_text[2 * BENCH_NAME_MAX];
} command;

#define OPTIONS_OF_BOTH                                                                                      \
    {"model",                                                                                                \
     'm',                                                                                                    \
     "LIST",                                                                                                 \
     0,                                                                                                      \
     "110m, 1.1b (shapes with random weights, written once), or paths (default: 110m,1.1b)",                 \
     0},                                                                                                     \
        {"threads", 't', "N", 0, "threads, bound to processors (default: one for each)", 0},                 \
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
        {"peer",                                                                                             \
         OPT_PEER,                                                                                           \
         "COMMAND",                                                                                          \
         0,                                                                                                  \
         "another engine, whose repetitions take turns with ours; see the head of bench/peer.h",             \
         0},                                                                                                 \
        {"json",                                                                                             \
         OPT_JSON,                                                                                           \
         "FILE",                                                                                             \
         0,                                                                                                  \
         "write a JSON object for each cell and engine to FILE (-: standard output)",                        \
         0},                                                                                                 \
        {"quiet", 'q', NULL, 0, "no progress", 0},                                                           \
    {                                                                                                        \
        0                                                                                                    \
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
    OPTIONS_OF_BOTH,
};

static const struct argp_option verify_options[] = {
    {"dtype", OPT_DTYPE, "LIST", 0, "weights of the shapes; files stay as they are (default: q8_0)", 0},
    {"rows", OPT_ROWS, "LIST", 0, "rows of a pass (default: 1,2,4,8,16)", 0},
    {"depth", OPT_DEPTH, "LIST", 0, "positions in the cache before the pass (default: 0,4096,16384)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions after one that is not counted (default: 15)", 0},
    OPTIONS_OF_BOTH,
};

/* ---- options ---- */

static void check_list(struct argp_state *state, const char *option, lf_status status, const lf_error *err)
{
    if (status != LF_OK) app_usage_error(state, "%s: %s", option, err->text);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_options *o = &c->bench;
    lf_error err;
    switch (key) {
    case 'm': check_list(state, "--model", bench_parse_names(&o->models, arg, &err), &err); return 0;
    case OPT_DTYPE: check_list(state, "--dtype", bench_parse_dtypes(&o->dtypes, arg, &err), &err); return 0;
    case OPT_TEST: check_list(state, "--test", bench_parse_tests(&o->tests, arg, &err), &err); return 0;
    case OPT_DEPTH:
        check_list(state, "--depth", bench_parse_ints(&o->depths, arg, 0, BENCH_DEPTH_MAX, &err), &err);
        return 0;
    case OPT_BATCH:
        check_list(state, "--batch", bench_parse_ints(&o->batches, arg, 1, BENCH_BATCH_MAX, &err), &err);
        return 0;
    case OPT_ROWS:
        check_list(state, "--rows", bench_parse_ints(&o->rows, arg, 1, BENCH_ROWS_MAX, &err), &err);
        return 0;
    case 'b': o->pass_rows = (int)app_parse_int(state, "--batch-size", arg, 1, BENCH_N_MAX); return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case OPT_CPU_MASK:
        if (!lf_cpu_mask_parse(arg, &o->cpu_mask))
            app_usage_error(state, "--cpu-mask: found \"%s\", expected scalar, avx2, avx512 or native", arg);
        return 0;
    case OPT_DIR: o->dir = arg; return 0;
    case OPT_PEER: o->peer_command = arg; return 0;
    case OPT_JSON: c->json_path = arg; return 0;
    case 'q': c->quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void set_defaults(command *c)
{
    bench_options *o = &c->bench;
    const bool decode = c->kind == BENCH_DECODE;
    *o = (bench_options){.pass_rows = 512,
                         .reps = decode ? 5 : 15,
                         .kv_dtype = LF_DTYPE_BF16,
                         .cpu_mask = ~0u,
                         .probe_bytes = BENCH_PROBE_BYTES};
    (void)bench_parse_names(&o->models, "110m,1.1b", NULL);
    (void)bench_parse_dtypes(&o->dtypes, decode ? "bf16,q8_0,q4_k" : "q8_0", NULL);
    (void)bench_parse_tests(&o->tests, "pp512,tg128", NULL);
    (void)bench_parse_ints(&o->depths, decode ? "0,4096" : "0,4096,16384", 0, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_ints(&o->batches, "1", 1, BENCH_BATCH_MAX, NULL);
    (void)bench_parse_ints(&o->rows, "1,2,4,8,16", 1, BENCH_ROWS_MAX, NULL);
}

/* ---- results ---- */

static bool is_canceled(void *cookie)
{
    (void)cookie;
    return app_interrupted;
}

static void on_progress(void *cookie, const char *what, double share)
{
    command *c = cookie;
    if (strcmp(c->progress_text, what) != 0) {
        app_progress_clear(&c->progress);
        (void)snprintf(c->progress_text, sizeof c->progress_text, "%s", what);
        app_progress_start(&c->progress, c->progress_text, c->quiet);
    }
    app_progress_draw(&c->progress, share);
}

static lf_status on_cell(void *cookie, const bench_result *results, int n, lf_error *err)
{
    (void)err;
    command *c = cookie;
    app_progress_clear(&c->progress);
    if (!c->has_head) bench_report_head(c->table, c->kind, results, n);
    c->has_head = true;
    bench_report_row(c->table, c->kind, results, n);
    c->told = ferror(c->table) != 0; /* by main, at the end */
    for (int i = 0; c->json && i < n && !c->told; i++)
        c->told = app_write_json(c->json, c->json_path, bench_report_json(c->kind, &results[i])) != 0;
    return c->told ? LF_EIO : LF_OK;
}

/* ---- running ---- */

static int run(command *c)
{
    lf_error err = {0};
    const bench_hooks hooks = {
        .canceled = is_canceled, .on_progress = on_progress, .on_cell = on_cell, .cookie = c};
    app_catch_interrupt();
    app_progress_start(&c->progress, c->progress_text, c->quiet);
    c->table = stdout;
    if (c->json_path) {
        c->json = app_open_json(c->json_path);
        if (!c->json) return EXIT_FAIL;
        if (c->json == stdout) c->table = stderr;
    }
    const lf_status status = (c->kind == BENCH_DECODE ? bench_run_decode : bench_run_verify)(&c->bench,
                                                                                             &hooks, &err);
    app_progress_clear(&c->progress);
    int code = status == LF_OK ? 0 : EXIT_FAIL;
    if (status != LF_OK && !c->told) (void)app_fail(&err);
    return app_close_json(c->json, c->json_path, code);
}

/* The folder for models when the user named none; NULL and a message without memory. */
static char *default_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = NULL;
    if (asprintf(&dir, "%s/lookfar-bench", base && *base ? base : "/tmp") >= 0) return dir;
    (void)fprintf(stderr, "lookfar: out of memory\n");
    return NULL;
}

static int bench(bench_report kind, const struct argp *argp, int argc, char **argv)
{
    command c = {.kind = kind};
    set_defaults(&c);
    char *dir = default_dir();
    if (!dir) return EXIT_FAIL;
    c.bench.dir = dir;
    app_parse_args(argp, argc, argv, &c);
    const int code = run(&c);
    free(dir);
    return code;
}

static int bench_decode(int argc, char **argv)
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

static int bench_verify(int argc, char **argv)
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

int app_bench(int argc, char **argv)
{
    static const struct {
        const char *name;
        app_command_fn *run;
        const char *summary;
    } kinds[] = {
        {"decode", bench_decode, "tokens per second of prompts and of decoding"},
        {"verify", bench_verify, "a pass of several rows of one sequence over a pass of one"},
        {"tokenize", app_bench_tokenize, "megabytes of text per second into tokens"},
        {"train", app_bench_train, "tokens per second of training"},
        {"magicdec", app_bench_magicdec, "speculation over plain decoding, by batch and context"},
    };
    enum { N_KINDS = sizeof kinds / sizeof *kinds };
    const bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    for (int i = 0; argc > 1 && i < N_KINDS; i++) {
        if (strcmp(argv[1], kinds[i].name) != 0) continue;
        char name[64];
        (void)snprintf(name, sizeof name, "%s %s", argv[0], kinds[i].name);
        argv[1] = name;
        return kinds[i].run(argc - 1, argv + 1);
    }
    if (argc > 1 && !help) {
        (void)fprintf(stderr,
                      "lookfar: bench: found \"%s\", expected decode, verify, tokenize, train or magicdec\n",
                      argv[1]);
        return EXIT_USAGE;
    }
    FILE *f = help ? stdout : stderr;
    (void)fprintf(f, "Usage: %s KIND [OPTION...]\nMeasures speed.\n\n", argv[0]);
    for (int i = 0; i < N_KINDS; i++) (void)fprintf(f, "  %-10s %s\n", kinds[i].name, kinds[i].summary);
    (void)fprintf(f, "\n`%s KIND --help` lists the options of a kind.\n", argv[0]);
    return help ? 0 : EXIT_USAGE;
}
