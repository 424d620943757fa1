/* lookfar bench train: how fast the trainer is. The measuring is bench/train.c. */
#include "bench.h"

#include "../bench/train.h"

enum { OPT_DTYPE = 0x300, OPT_CONTEXT, OPT_BATCH, OPT_RECOMPUTE, OPT_REPS, OPT_PEER, OPT_JSON };

enum { ROWS_MAX = 1 << 17 };

typedef struct command {
    app_bench_output out; /* first: see app_bench_progress */
    bench_train_options bench;
} command;

static const struct argp_option options[] = {
    {"dtype", OPT_DTYPE, "LIST", 0, "types of products: f32, bf16 (default: both)", 0},
    {"context", OPT_CONTEXT, "N", 0, "tokens of a sequence (default: 512)", 0},
    {"batch", OPT_BATCH, "N", 0, "sequences of a step (default: 4)", 0},
    {"recompute", OPT_RECOMPUTE, NULL, 0, "compute activations again in the backward instead of keeping them",
     0},
    APP_BENCH_OPTION_THREADS,
    {"reps", OPT_REPS, "N", 0, "steps after one that is not counted (default: 10)", 0},
    {"peer", OPT_PEER, "COMMAND", 0,
     "another trainer, whose steps take turns with ours; see bench/peer_torch.py", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each type to FILE (-: standard output)", 0},
    APP_BENCH_OPTION_QUIET,
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_train_options *o = &c->bench;
    lf_error err;
    switch (key) {
    case OPT_DTYPE:
        app_bench_check_list(state, "--dtype", bench_parse_dtypes(&o->dtypes, arg, &err), &err);
        for (int i = 0; i < o->dtypes.n; i++)
            if (o->dtypes.v[i] != LF_DTYPE_F32 && o->dtypes.v[i] != LF_DTYPE_BF16)
                app_usage_error(state, "--dtype: found \"%s\", expected f32 or bf16", arg);
        return 0;
    case OPT_CONTEXT: o->context = (int)app_parse_int(state, "--context", arg, 1, ROWS_MAX); return 0;
    case OPT_BATCH: o->batch = (int)app_parse_int(state, "--batch", arg, 1, ROWS_MAX); return 0;
    case OPT_RECOMPUTE: o->recompute = true; return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case OPT_PEER: o->peer_command = arg; return 0;
    case OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END:
        if ((long long)o->context * o->batch > ROWS_MAX)
            app_usage_error(state, "found %d sequences of %d tokens, expected at most %d tokens in all",
                            o->batch, o->context, (int)ROWS_MAX);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static json_t *result_json(const bench_train_result *r)
{
    const double n = (double)r->context * r->batch, flops = r->flops / r->seconds.median;
    json_t *o = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "model",
                          "15m", "dtype", r->dtype, "engine", "lookfar", "context", r->context, "batch",
                          r->batch, "threads", r->threads, "reps", r->reps, "tps", n / r->seconds.median,
                          "tps_min", n / r->seconds.max, "tps_max", n / r->seconds.min, "gflops",
                          flops * 1e-9, "peak_gflops", r->peak_flops * 1e-9, "utilisation",
                          flops / r->peak_flops, "net_bytes", (json_int_t)r->net_bytes);
    if (!o || !r->peer) return o;
    json_t *peer = json_pack("{s:s, s:f, s:f, s:f, s:f}", "peer", r->peer, "peer_tps",
                             n / r->peer_seconds.median, "peer_tps_min", n / r->peer_seconds.max,
                             "peer_tps_max", n / r->peer_seconds.min, "ratio",
                             r->peer_seconds.median / r->seconds.median);
    const bool ok = peer && json_object_update(o, peer) == 0;
    json_decref(peer);
    if (ok) return o;
    json_decref(o);
    return NULL;
}

static void print_head(FILE *f, const bench_train_result *r)
{
    (void)fprintf(f, "15m: 8 layers, dim 384, vocabulary 4096; %d threads, %d steps\n\n", r->threads,
                  r->reps);
    (void)fprintf(f, "| type | context | batch | tokens/s | GFLOP/s | peak | share |%s\n",
                  r->peer ? " peer tokens/s | ratio |" : "");
    (void)fprintf(f, "|---|---|---|---|---|---|---|%s\n", r->peer ? "---|---|" : "");
}

static lf_status on_result(void *cookie, const bench_train_result *r, lf_error *err)
{
    (void)err;
    command *c = cookie;
    FILE *f = c->out.table;
    const double n = (double)r->context * r->batch, flops = r->flops / r->seconds.median;
    if (app_bench_begin_result(&c->out)) print_head(f, r);
    (void)fprintf(f, "| %s | %d | %d | %.0f (%.0f-%.0f) | %.0f | %.0f | %.0f %% |", r->dtype, r->context,
                  r->batch, n / r->seconds.median, n / r->seconds.max, n / r->seconds.min, flops * 1e-9,
                  r->peak_flops * 1e-9, 100.0 * flops / r->peak_flops);
    if (r->peer)
        (void)fprintf(f, " %.0f (%.0f-%.0f) %s | %.2f |", n / r->peer_seconds.median, n / r->peer_seconds.max,
                      n / r->peer_seconds.min, r->peer, r->peer_seconds.median / r->seconds.median);
    (void)fprintf(f, "\n");
    return app_bench_write_json(&c->out, result_json(r));
}

int app_bench_train(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Measures training at the 15M shape: tokens per second of whole steps (forward, backward, AdamW), median of the "
        "repetitions (and the extremes).\v"
        "GFLOP/s counts what the mathematics needs. The peak is that of 2048-cubed products of the same type, measured "
        "after every step. Tokens and weights are random: speed does not depend on them.",
        NULL,
        NULL,
        NULL};
    command c = {.bench = {.context = 512, .batch = 4, .reps = 10}};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .cookie = &c};
    lf_error err = {0};
    (void)bench_parse_dtypes(&c.bench.dtypes, "f32,bf16", NULL);
    app_parse_args(&argp, argc, argv, &c);
    if (!app_bench_open(&c.out)) return EXIT_FAIL;
    return app_bench_close(&c.out, bench_run_train(&c.bench, &hooks, on_result, &err), &err);
}
