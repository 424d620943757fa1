/* lookfar bench magicdec: speculation against plain decoding in batches of long contexts. The measuring is bench/magicdec.c. */
#include "bench.h"

#include "../bench/magicdec.h"
#include "../bench/table.h"

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
    app_bench_output out; /* first: see app_bench_progress */
    bench_magicdec_options bench;
    bench_names proposers, selections;
    bench_ints budgets, gs;
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
    APP_BENCH_OPTION_THREADS,
    {"cache-type", OPT_KV, "TYPE", 0, "type of the KV cache: f32, f16, bf16 (default) or q8_0", 0},
    {"cpu-mask", OPT_CPU_MASK, "LEVEL", 0,
     "use no instructions above scalar, avx2, avx512 or native (default)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each setting to FILE (-: standard output)", 0},
    APP_BENCH_OPTION_QUIET,
    {0},
};

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
        app_bench_check_list(state, "--batch", bench_parse_ints(&o->batches, arg, 1, BENCH_BATCH_MAX, &err),
                             &err);
        return 0;
    case OPT_CONTEXT:
        app_bench_check_list(state, "--context",
                             bench_parse_ints(&o->contexts, arg, 33, BENCH_DEPTH_MAX, &err), &err);
        return 0;
    case OPT_PROPOSER:
        app_bench_check_list(state, "--proposer", bench_parse_names(&c->proposers, arg, &err), &err);
        return 0;
    case OPT_SELECTION:
        app_bench_check_list(state, "--selection", bench_parse_names(&c->selections, arg, &err), &err);
        return 0;
    case OPT_BUDGET:
        app_bench_check_list(state, "--budget", bench_parse_ints(&c->budgets, arg, 0, BENCH_DEPTH_MAX, &err),
                             &err);
        return 0;
    case OPT_G:
        app_bench_check_list(state, "--g", bench_parse_ints(&c->gs, arg, 0, LF_DRAFT_LIMIT, &err), &err);
        return 0;
    case 'n': o->n_tokens = (int)app_parse_int(state, "--predict", arg, 2, BENCH_N_MAX); return 0;
    case OPT_TEMP: o->temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case OPT_CPU_MASK: o->cpu_mask = app_parse_cpu_mask(state, "--cpu-mask", arg); return 0;
    case OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END:
        if (!o->model_path || !o->text_path) app_usage_error(state, "expected --model PATH and --file FILE");
        make_settings(c, state);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- results ---- */

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

static const bench_column columns[] = {
    {"context", 7, false, false},     {"batch", 5, false, false},        {"proposer", 8, true, false},
    {"selection", 9, true, false},    {"budget", 6, false, false},       {"g", 2, false, false},
    {"tok/s", 24, false, false},      {"speedup", 7, false, false},      {"latency x", 9, false, false},
    {"acceptance", 10, false, false}, {"tokens/pass", 11, false, false}, {"identical", 9, true, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static lf_status on_result(void *cookie, const bench_magicdec_result *r, lf_error *err)
{
    static const char *const selections[] = {"window", "snap", "verify"};
    (void)err;
    command *c = cookie;
    const char *selection = r->setting.proposer == LF_PROPOSER_SPARSE ? selections[r->setting.selection]
                                                                      : NULL;
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells;
    if (app_bench_begin_result(&c->out)) bench_table_head(c->out.table, columns, N_COLUMNS, false);
    bench_cell_count(*cell++, r->context);
    bench_cell_count(*cell++, r->batch);
    bench_cell_text(*cell++, r->proposer);
    bench_cell_text(*cell++, selection ? selection : "");
    bench_cell_count(*cell++, r->setting.budget);
    bench_cell_count(*cell++, r->setting.g);
    bench_cell_spread(*cell++, r->tps.median, r->tps.min, r->tps.max);
    bench_cell_number(*cell++, r->speedup);
    bench_cell_number(*cell++, r->latency_ratio);
    bench_cell_number(*cell++, r->acceptance);
    bench_cell_number(*cell++, r->tokens_per_pass);
    bench_cell_text(*cell, r->identical ? "yes" : "NO");
    bench_table_row(c->out.table, columns, cells, N_COLUMNS, false);
    return app_bench_write_json(&c->out, result_json(r, selection));
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
    command c = {.bench = {.n_tokens = 64, .reps = 3, .kv_dtype = LF_DTYPE_BF16, .cpu_mask = ~0u}};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .cookie = &c};
    lf_error err = {0};
    (void)bench_parse_ints(&c.bench.batches, "1,4,16", 1, BENCH_BATCH_MAX, NULL);
    (void)bench_parse_ints(&c.bench.contexts, "1024,4096", 33, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_names(&c.proposers, "sparse,auto", NULL);
    (void)bench_parse_names(&c.selections, "verify", NULL);
    (void)bench_parse_ints(&c.budgets, "0", 0, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_ints(&c.gs, "6", 0, LF_DRAFT_LIMIT, NULL);
    app_parse_args(&argp, argc, argv, &c);
    if (!app_bench_open(&c.out)) return EXIT_FAIL;
    return app_bench_close(&c.out, bench_run_magicdec(&c.bench, &hooks, on_result, &err), &err);
}
