/* lookfar bench magicdec: speculation against plain decoding in batches of long contexts. The measuring is bench/magicdec.c. */
#include "app.h"

#include "../bench/magicdec.h"

#include <math.h>
#include <string.h>

enum {
    OPT_BATCH = 0x300,
    OPT_CONTEXT,
    OPT_PROPOSER,
    OPT_SELECTION,
    OPT_BUDGET,
    OPT_G,
    OPT_REPS,
    OPT_TEMP,
    OPT_KV,
    OPT_CPU_MASK,
    OPT_JSON,
};

/* Names and numbers that make the settings. */
typedef struct command {
    bench_magicdec_options bench;
    bench_names proposers, selections;
    bench_ints budgets, gs;
    const char *json_path;
    FILE *json, *table;
    bool quiet, has_head, failed; /* failed: a result could not be written, which was told */
    app_progress progress;
    char progress_text[80];
} command;

static const struct argp_option options[] = {
    {"model", 'm', "PATH", 0, "the model, with its tokenizer", 0},
    {"file", 'f', "FILE", 0, "the text that the sequences begin with: a novel", 0},
    {"batch", OPT_BATCH, "LIST", 0, "sequences (default: 1,4,16)", 0},
    {"context", OPT_CONTEXT, "LIST", 0, "tokens of each prompt (default: 1024,4096)", 0},
    {"proposer", OPT_PROPOSER, "LIST", 0,
     "beside plain decoding: ngram, jacobi, sparse, auto (default: sparse,auto)", 0},
    {"selection", OPT_SELECTION, "LIST", 0, "of sparse: window, snap, verify (default: verify)", 0},
    {"budget", OPT_BUDGET, "LIST", 0, "of sparse: positions; 0: its own choice (default: 0)", 0},
    {"g", OPT_G, "LIST", 0, "candidates of a round at most (default: 6)", 0},
    {"predict", 'n', "N", 0, "tokens of each sequence (default: 64)", 0},
    {"temp", OPT_TEMP, "T", 0, "temperature (default: 0)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions (default: 3)", 0},
    {"threads", 't', "N", 0, "threads (default: one for each processor)", 0},
    {"cache-type", OPT_KV, "TYPE", 0, "type of the KV cache: f32, f16, bf16 (default) or q8_0", 0},
    {"cpu-mask", OPT_CPU_MASK, "LEVEL", 0,
     "use no instructions above scalar, avx2, avx512 or native (default)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each setting to FILE (-: standard output)", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {0},
};

static void check_list(struct argp_state *state, const char *option, lf_status status, const lf_error *err)
{
    if (status != LF_OK) app_usage_error(state, "%s: %s", option, err->text);
}

static void add_setting(command *c, struct argp_state *state, const bench_setting *setting)
{
    if (c->bench.n_settings == BENCH_SETTINGS_MAX)
        app_usage_error(state, "found more than %d settings", BENCH_SETTINGS_MAX);
    c->bench.settings[c->bench.n_settings++] = *setting;
}

static lf_selection parse_selection(struct argp_state *state, const char *name)
{
    static const char *const names[] = {"window", "snap", "verify"};
    for (int i = 0; i < LF_SELECT_COUNT; i++)
        if (strcmp(name, names[i]) == 0) return (lf_selection)i;
    app_usage_error(state, "--selection: found \"%s\", expected window, snap or verify", name);
}

/* Every combination that makes a difference: selections and budgets are those of `sparse`. */
static void make_settings(command *c, struct argp_state *state)
{
    for (int p = 0; p < c->proposers.n; p++) {
        const int proposer = lf_proposer_find(c->proposers.v[p]);
        if (proposer < 0)
            app_usage_error(state, "--proposer: found \"%s\", expected ngram, jacobi, sparse or auto",
                            c->proposers.v[p]);
        const bool sparse = proposer == LF_PROPOSER_SPARSE;
        for (int g = 0; g < c->gs.n; g++)
            for (int s = 0; s < (sparse ? c->selections.n : 1); s++)
                for (int b = 0; b < (sparse ? c->budgets.n : 1); b++)
                    add_setting(c, state,
                                &(bench_setting){.proposer = proposer,
                                                 .selection = sparse
                                                                  ? parse_selection(state, c->selections.v[s])
                                                                  : LF_SELECT_VERIFY,
                                                 .budget = sparse ? c->budgets.v[b] : 0,
                                                 .g = c->gs.v[g]});
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_magicdec_options *o = &c->bench;
    lf_error err;
    switch (key) {
    case 'm': o->model_path = arg; return 0;
    case 'f': o->text_path = arg; return 0;
    case OPT_BATCH:
        check_list(state, "--batch", bench_parse_ints(&o->batches, arg, 1, BENCH_BATCH_MAX, &err), &err);
        return 0;
    case OPT_CONTEXT:
        check_list(state, "--context", bench_parse_ints(&o->contexts, arg, 33, BENCH_DEPTH_MAX, &err), &err);
        return 0;
    case OPT_PROPOSER:
        check_list(state, "--proposer", bench_parse_names(&c->proposers, arg, &err), &err);
        return 0;
    case OPT_SELECTION:
        check_list(state, "--selection", bench_parse_names(&c->selections, arg, &err), &err);
        return 0;
    case OPT_BUDGET:
        check_list(state, "--budget", bench_parse_ints(&c->budgets, arg, 0, BENCH_DEPTH_MAX, &err), &err);
        return 0;
    case OPT_G:
        check_list(state, "--g", bench_parse_ints(&c->gs, arg, 0, LF_DRAFT_LIMIT, &err), &err);
        return 0;
    case 'n': o->n_tokens = (int)app_parse_int(state, "--predict", arg, 2, BENCH_N_MAX); return 0;
    case OPT_TEMP: o->temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case OPT_CPU_MASK:
        if (!lf_cpu_mask_parse(arg, &o->cpu_mask))
            app_usage_error(state, "--cpu-mask: found \"%s\", expected scalar, avx2, avx512 or native", arg);
        return 0;
    case OPT_JSON: c->json_path = arg; return 0;
    case 'q': c->quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END:
        if (!o->model_path || !o->text_path) app_usage_error(state, "expected --model PATH and --file FILE");
        make_settings(c, state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

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

static json_t *result_json(const bench_magicdec_result *r, const char *selection)
{
    return json_pack("{s:s, s:i, s:i, s:s, s:s?, s:i, s:i, s:f, s:f, s:f, s:o, s:f, s:f, s:f, s:b}", "model",
                     r->model, "batch", r->batch, "context", r->context, "proposer", r->proposer, "selection",
                     selection, "budget", r->setting.budget, "g", r->setting.g, "tps", r->tps.median,
                     "tps_min", r->tps.min, "tps_max", r->tps.max, "acceptance",
                     isnan(r->acceptance) ? json_null() : json_real(r->acceptance), "tokens_per_pass",
                     r->tokens_per_pass, "speedup", r->speedup, "latency_ratio", r->latency_ratio,
                     "identical", r->identical);
}

static void on_result(void *cookie, const bench_magicdec_result *r)
{
    static const char *const selections[] = {"window", "snap", "verify"};
    command *c = cookie;
    const bool sparse = strcmp(r->proposer, "sparse") == 0;
    const char *selection = sparse ? selections[r->setting.selection] : NULL;
    app_progress_clear(&c->progress);
    if (!c->has_head)
        (void)fprintf(
            c->table,
            "| context | batch | proposer | selection | budget |  g | tok/s (min-max) | speedup | latency x | "
            "acceptance | tokens/pass | identical |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    c->has_head = true;
    char acceptance[16] = "";
    if (!isnan(r->acceptance)) (void)snprintf(acceptance, sizeof acceptance, "%.3f", r->acceptance);
    (void)fprintf(c->table,
                  "| %d | %d | %s | %s | %d | %d | %.1f (%.1f-%.1f) | %.2f | %.2f | %s | %.2f | %s |\n",
                  r->context, r->batch, r->proposer, selection ? selection : "", r->setting.budget,
                  r->setting.g, r->tps.median, r->tps.min, r->tps.max, r->speedup, r->latency_ratio,
                  acceptance, r->tokens_per_pass, r->identical ? "yes" : "NO");
    (void)fflush(c->table);
    if (c->json && !c->failed)
        c->failed = app_write_json(c->json, c->json_path, result_json(r, selection)) != 0;
}

int app_bench_magicdec(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Measures speculation over plain decoding: every sequence of a batch goes on from its own part of a text; all "
        "settings go on from the same prompts and take turns, and their outputs are compared with plain "
        "decoding's.\v"
        "Lists are separated by commas. Reading the prompts is not timed.",
        NULL,
        NULL,
        NULL};
    command c = {.bench = {.n_tokens = 64, .reps = 3, .kv_dtype = LF_DTYPE_BF16, .cpu_mask = ~0u},
                 .table = stdout};
    lf_error err = {0};
    (void)bench_parse_ints(&c.bench.batches, "1,4,16", 1, BENCH_BATCH_MAX, NULL);
    (void)bench_parse_ints(&c.bench.contexts, "1024,4096", 33, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_names(&c.proposers, "sparse,auto", NULL);
    (void)bench_parse_names(&c.selections, "verify", NULL);
    (void)bench_parse_ints(&c.budgets, "0", 0, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_ints(&c.gs, "6", 0, LF_DRAFT_LIMIT, NULL);
    app_parse_args(&argp, argc, argv, &c);
    if (c.json_path) {
        c.json = app_open_json(c.json_path);
        if (!c.json) return EXIT_FAIL;
        if (c.json == stdout) c.table = stderr;
    }
    const bench_magicdec_hooks hooks = {is_canceled, on_progress, on_result, &c};
    app_catch_interrupt();
    const lf_status status = bench_run_magicdec(&c.bench, &hooks, &err);
    app_progress_clear(&c.progress);
    const int code = status != LF_OK ? app_fail(&err) : c.failed ? EXIT_FAIL : 0;
    return app_close_json(c.json, c.json_path, code);
}
