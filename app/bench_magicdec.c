/* lookfar bench magicdec: speculation against plain decoding in batches of long contexts. The measuring is bench/magicdec.c. */
#include "bench.h"

#include "../bench/magicdec.h"
#include "../bench/table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPT_BATCH = 0x300,
    OPT_CONTEXT,
    OPT_PROPOSER,
    OPT_SELECTION,
    OPT_BUDGET,
    OPT_G,
    OPT_DRAFTING,
    OPT_DRAFT_MODEL,
    OPT_DRAFT_WINDOW,
    OPT_SWEEP,
    OPT_PEER,
    OPT_RESUME,
    OPT_REPS,
    OPT_TEMP,
};

static const char *const selections[] = {"window", "snap", "verify", NULL};
static const char *const draftings[] = {"single", "jacobi", NULL};

/* Names and numbers that make the settings. */
typedef struct command {
    app_bench_output out; /* first: see app_bench_progress */
    bench_magicdec_options bench;
    bench_names proposers;
    bench_ints selections, draftings, budgets, gs;
    bool sweep, resume;
    json_t *done; /* the results that the file of --json has: an array; NULL without --resume */
} command;

static const struct argp_option options[] = {
    APP_BENCH_OPTIONS_OF_TEXT,
    {"batch", OPT_BATCH, "LIST", 0, "sequences (default: 1,4,16)", 0},
    {"context", OPT_CONTEXT, "LIST", 0, "tokens of each prompt (default: 1024,4096)", 0},
    {"proposer", OPT_PROPOSER, "LIST", 0,
     "beside plain decoding: ngram, jacobi, sparse, draft, auto, and magicdec, which is what the published code does (default: sparse,auto)",
     0},
    {"selection", OPT_SELECTION, "LIST", 0,
     "of sparse: window, snap, verify (default: verify); of auto: the first of them; of magicdec: window, snap",
     0},
    {"budget", OPT_BUDGET, "LIST", 0, "of sparse and magicdec: positions; 0: its own choice (default: 0)", 0},
    {"drafting", OPT_DRAFTING, "LIST", 0, "of sparse and draft: single, jacobi (default: single)", 0},
    {"draft-model", OPT_DRAFT_MODEL, "PATH", 0,
     "a smaller model with the same vocabulary, for draft; auto may use it, too", 0},
    {"draft-window", OPT_DRAFT_WINDOW, "N", 0,
     "how many of the last positions it sees; 0 (default): 512, or what it was made for", 0},
    {"g", OPT_G, "LIST", 0, "candidates of a round at most; auto chooses its own (default: 6)", 0},
    {"sweep", OPT_SWEEP, NULL, 0,
     "other defaults: ngram, sparse with every selection, budgets of 64 to 2048, 1 to 12 candidates; and auto",
     0},
    {"temp", OPT_TEMP, "T", 0, "temperature (default: 0)", 0},
    {"reps", OPT_REPS, "N", 0, "repetitions (default: 3)", 0},
    {"peer", OPT_PEER, "COMMAND", 0, "decode plainly by this engine, too, in turns: see bench/peer_llama.py",
     0},
    {"resume", OPT_RESUME, NULL, 0, "leave out the cells that FILE of --json has, and add to it", 0},
    {0},
};

/* ---- settings ---- */

static void add_setting(command *c, struct argp_state *state, const bench_setting *setting)
{
    if (c->bench.n_settings == BENCH_SETTINGS_MAX)
        app_usage_error(state, "found more than %d settings", BENCH_SETTINGS_MAX);
    c->bench.settings[c->bench.n_settings++] = *setting;
}

static int find_proposer(struct argp_state *state, const char *name)
{
    const int proposer = lf_proposer_find(name);
    if (strcmp(name, bench_proposer_name(BENCH_FAITHFUL)) == 0) return BENCH_FAITHFUL;
    if (proposer < 0)
        app_usage_error(
            state, "--proposer: found \"%s\", expected ngram, jacobi, sparse, draft, auto or magicdec", name);
    return proposer;
}

/* The selections of a proposer's settings: the published code has two of those asked for, or the better of its own; auto drafts over
 * the first one. */
static bench_ints selections_of(const command *c, int proposer)
{
    bench_ints list = {0};
    if (proposer == LF_PROPOSER_SPARSE) return c->selections;
    if (proposer == LF_PROPOSER_AUTO) return (bench_ints){.n = 1, .v = {c->selections.v[0]}};
    for (int i = 0; proposer == BENCH_FAITHFUL && i < c->selections.n; i++)
        if (c->selections.v[i] != LF_SELECT_VERIFY) list.v[list.n++] = c->selections.v[i];
    if (list.n == 0)
        list = (bench_ints){.n = 1, .v = {proposer == BENCH_FAITHFUL ? LF_SELECT_SNAP : LF_SELECT_VERIFY}};
    return list;
}

static bool has_budget(int proposer)
{
    return proposer == LF_PROPOSER_SPARSE || proposer == BENCH_FAITHFUL;
}

static bool has_drafting(int proposer)
{
    return proposer == LF_PROPOSER_SPARSE || proposer == LF_PROPOSER_DRAFT;
}

/* Every selection, budget and drafting of a proposer with g candidates. */
static void add_settings(command *c, struct argp_state *state, int proposer, int g)
{
    static const bench_ints none = {.n = 1};
    const bench_ints kinds = selections_of(c, proposer), budgets = has_budget(proposer) ? c->budgets : none,
                     ways = has_drafting(proposer) ? c->draftings : none;
    for (int s = 0; s < kinds.n; s++)
        for (int b = 0; b < budgets.n; b++)
            for (int w = 0; w < ways.n; w++)
                add_setting(c, state,
                            &(bench_setting){.proposer = proposer,
                                             .selection = (lf_selection)kinds.v[s],
                                             .drafting = (lf_drafting)ways.v[w],
                                             .budget = budgets.v[b],
                                             .g = g});
}

/* Every combination that makes a difference: no candidates at all is plain decoding, and auto chooses its own. */
static void make_settings(command *c, struct argp_state *state)
{
    for (int p = 0; p < c->proposers.n; p++) {
        const int proposer = find_proposer(state, c->proposers.v[p]);
        if (proposer == LF_PROPOSER_DRAFT && !c->bench.draft_path)
            app_usage_error(state, "--proposer draft: expected --draft-model PATH, too");
        if (proposer == LF_PROPOSER_AUTO) add_settings(c, state, proposer, LF_DRAFT_LIMIT);
        for (int g = 0; g < c->gs.n; g++)
            if (c->gs.v[g] > 0 && proposer != LF_PROPOSER_AUTO) add_settings(c, state, proposer, c->gs.v[g]);
    }
}

/* What was not given. */
static void set_defaults(command *c)
{
    const bool sweep = c->sweep;
    if (!c->proposers.n)
        (void)bench_parse_names(&c->proposers, sweep ? "ngram,sparse,auto" : "sparse,auto", NULL);
    if (!c->selections.n)
        (void)bench_parse_choices(&c->selections, sweep ? "verify,snap,window" : "verify", selections, NULL);
    if (!c->draftings.n) (void)bench_parse_choices(&c->draftings, "single", draftings, NULL);
    if (!c->budgets.n)
        (void)bench_parse_ints(&c->budgets, sweep ? "64,128,256,512,1024,2048" : "0", 0, BENCH_DEPTH_MAX,
                               NULL);
    if (!c->gs.n) (void)bench_parse_ints(&c->gs, sweep ? "1,2,3,4,6,8,10,12" : "6", 0, LF_DRAFT_LIMIT, NULL);
    if (!c->bench.batches.n) (void)bench_parse_ints(&c->bench.batches, "1,4,16", 1, BENCH_BATCH_MAX, NULL);
    if (!c->bench.contexts.n)
        (void)bench_parse_ints(&c->bench.contexts, "1024,4096", 33, BENCH_DEPTH_MAX, NULL);
}

static void check_options(command *c, struct argp_state *state)
{
    const bench_magicdec_options *o = &c->bench;
    if (!o->model_path || !o->text_path == !o->prompts_path)
        app_usage_error(state, "expected --model PATH and --file FILE or --prompts FILE");
    if (c->resume && (!c->out.json_path || strcmp(c->out.json_path, "-") == 0))
        app_usage_error(state, "--resume: found no --json FILE to go on from");
    set_defaults(c);
    make_settings(c, state);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_magicdec_options *o = &c->bench;
    lf_error err;
#define LIST(option, expr) app_bench_check_list(state, option, expr, &err)
    switch (key) {
    case 'm': o->model_path = arg; return 0;
    case 'f': o->text_path = arg; return 0;
    case APP_BENCH_OPT_PROMPTS: o->prompts_path = arg; return 0;
    case APP_BENCH_OPT_TASK: o->task = arg; return 0;
    case OPT_BATCH: LIST("--batch", bench_parse_ints(&o->batches, arg, 1, BENCH_BATCH_MAX, &err)); return 0;
    case OPT_CONTEXT:
        LIST("--context", bench_parse_ints(&o->contexts, arg, 33, BENCH_DEPTH_MAX, &err));
        return 0;
    case OPT_PROPOSER: LIST("--proposer", bench_parse_names(&c->proposers, arg, &err)); return 0;
    case OPT_SELECTION:
        LIST("--selection", bench_parse_choices(&c->selections, arg, selections, &err));
        return 0;
    case OPT_DRAFTING: LIST("--drafting", bench_parse_choices(&c->draftings, arg, draftings, &err)); return 0;
    case OPT_DRAFT_MODEL: o->draft_path = arg; return 0;
    case OPT_DRAFT_WINDOW:
        o->draft_window = (int)app_parse_int(state, "--draft-window", arg, 0, BENCH_DEPTH_MAX);
        return 0;
    case OPT_BUDGET: LIST("--budget", bench_parse_ints(&c->budgets, arg, 0, BENCH_DEPTH_MAX, &err)); return 0;
    case OPT_G: LIST("--g", bench_parse_ints(&c->gs, arg, 0, LF_DRAFT_LIMIT, &err)); return 0;
    case OPT_SWEEP: c->sweep = true; return 0;
    case 'n': o->n_tokens = (int)app_parse_int(state, "--predict", arg, 2, BENCH_N_MAX); return 0;
    case OPT_TEMP: o->temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case OPT_REPS: o->reps = (int)app_parse_int(state, "--reps", arg, 1, BENCH_REPS_MAX); return 0;
    case OPT_PEER: o->peer_command = arg; return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case APP_BENCH_OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case APP_BENCH_OPT_CPU_MASK: o->cpu_mask = app_parse_cpu_mask(state, "--cpu-mask", arg); return 0;
    case APP_BENCH_OPT_JSON: c->out.json_path = arg; return 0;
    case OPT_RESUME: c->resume = true; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END: check_options(c, state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
#undef LIST
}

/* ---- going on from what was measured ---- */

/* Reads the results that the file has; a last line that a killed run left in parts is cut off. False, with a message, when the file is
 * not one of results. */
static bool read_done(command *c)
{
    const char *path = c->out.json_path;
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    off_t whole = 0;
    bool ok = true;
    FILE *f = fopen(path, "r");
    c->done = json_array();
    if (!f) return c->done != NULL; /* there is none yet; what else is wrong shows when it is written */
    while (ok && (len = getline(&line, &cap, f)) > 0) {
        json_error_t error;
        json_t *object = line[len - 1] == '\n' ? json_loadb(line, (size_t)len, 0, &error) : NULL;
        if (object)
            whole += len;
        else if (line[len - 1] == '\n')
            ok = false;
        (void)json_array_append_new(c->done, object);
    }
    if (!ok)
        (void)fprintf(stderr, "lookfar: %s: found a line that is no JSON, expected results\n", path);
    else if (truncate(path, whole) != 0) {
        (void)fprintf(stderr, "lookfar: %s: cannot write: %s\n", path, strerror(errno));
        ok = false;
    }
    free(line);
    (void)fclose(f);
    return ok;
}

static bool has_string(const json_t *object, const char *key, const char *value)
{
    const char *found = json_string_value(json_object_get(object, key));
    return value ? found && strcmp(found, value) == 0 : !found;
}

static bool has_int(const json_t *object, const char *key, int value)
{
    return json_integer_value(json_object_get(object, key)) == value;
}

static const char *selection_of(const bench_setting *s)
{
    return has_budget(s->proposer) ? selections[s->selection] : NULL;
}

static const char *drafting_of(const bench_setting *s)
{
    return has_drafting(s->proposer) ? draftings[s->drafting] : NULL;
}

static bool is_done(const command *c, const bench_setting *s, int batch, int context)
{
    size_t i;
    const json_t *object;
    json_array_foreach(c->done, i, object)
    {
        const double temperature = json_number_value(json_object_get(object, "temperature"));
        if (has_string(object, "model", c->bench.model_path) &&
            has_string(object, "draft_model", c->bench.draft_path) &&
            has_string(object, "task", c->bench.task) && has_string(object, "engine", "lookfar") &&
            has_int(object, "batch", batch) && has_int(object, "context", context) &&
            has_int(object, "n_tokens", c->bench.n_tokens) &&
            has_string(object, "proposer", bench_proposer_name(s->proposer)) &&
            has_string(object, "selection", selection_of(s)) &&
            has_string(object, "drafting", drafting_of(s)) && has_int(object, "budget", s->budget) &&
            has_int(object, "g", s->g) && (float)temperature == c->bench.temperature)
            return true;
    }
    return false;
}

static bool skips_cell(void *cookie, int batch, int context)
{
    const command *c = cookie;
    bool done = c->done != NULL;
    for (int i = 0; done && i < c->bench.n_settings; i++)
        done = is_done(c, &c->bench.settings[i], batch, context);
    return done;
}

/* ---- results ---- */

/* JSON has no NaN: what there is not is null. */
static json_t *number_json(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *result_json(const bench_magicdec_result *r)
{
    json_t *at = json_array();
    for (int i = 0; i < r->n_places; i++) (void)json_array_append_new(at, json_real(r->acceptance_at[i]));
    json_t *o = json_pack(
        "{s:s, s:s?, s:s, s:s?, s:i, s:s, s:f, s:i, s:i, s:i, s:i, s:s, s:s?, s:s?, s:i, s:i}", "model",
        r->model, "draft_model", r->draft_model, "engine", r->engine, "kernels", r->kernels, "threads",
        r->threads, "task", r->task, "temperature", (double)r->temperature, "n_tokens", r->n_tokens, "reps",
        r->reps, "batch", r->batch, "context", r->context, "proposer", r->proposer, "selection",
        selection_of(&r->setting), "drafting", drafting_of(&r->setting), "budget", r->setting.budget, "g",
        r->setting.g);
    json_t *measured = json_pack(
        "{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:I, s:I, s:I, s:o, s:o, s:f, s:o, s:o, s:o, s:f, s:o, s:o, s:b}",
        "tps", r->tps.median, "tps_min", r->tps.min, "tps_max", r->tps.max, "speedup", r->speedup.median,
        "speedup_min", r->speedup.min, "speedup_max", r->speedup.max, "latency_ms", r->latency_ms,
        "latency_ratio", r->latency_ratio, "of_best", number_json(r->of_best), "passes",
        (json_int_t)r->passes, "proposed", (json_int_t)r->proposed, "accepted", (json_int_t)r->accepted,
        "acceptance", number_json(r->acceptance), "acceptance_at", at, "tokens_per_pass", r->tokens_per_pass,
        "draft_share", number_json(r->draft_share), "verify_share", number_json(r->verify_share),
        "pick_share", number_json(r->pick_share), "draft_bytes", r->draft_bytes, "gbs",
        number_json(r->gbytes_per_s), "core_to_core_ns", number_json(r->core_to_core_ns), "identical",
        r->identical);
    if (o && measured) (void)json_object_update(o, measured);
    json_decref(measured);
    return o;
}

static const bench_column columns[] = {
    {"context", 7, false, false},
    {"batch", 5, false, false},
    {"proposer", 9, true, false},
    {"selection", 9, true, false},
    {"drafting", 8, true, false},
    {"budget", 6, false, false},
    {"g", 2, false, false},
    {"tok/s", 24, false, false},
    {"speedup", 17, false, false},
    {"ms/token", 8, false, false},
    {"latency x", 9, false, false},
    {"acceptance", 10, false, false},
    {"tokens/pass", 11, false, false},
    {"draft+verify+pick", 17, true, false},
    {"of best", 7, false, false},
    {"GB/s", 5, false, false},
    {"identical", 9, true, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static lf_status on_result(void *cookie, const bench_magicdec_result *r, lf_error *err)
{
    (void)err;
    command *c = cookie;
    const bool is_ours = strcmp(r->engine, "lookfar") == 0;
    const char *selection = selection_of(&r->setting), *drafting = drafting_of(&r->setting);
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells, shares[40] = "";
    if (app_bench_begin_result(&c->out)) bench_table_head(c->out.table, columns, N_COLUMNS, false);
    if (is_ours)
        (void)snprintf(shares, sizeof shares, "%.2f+%.2f+%.2f", r->draft_share, r->verify_share,
                       r->pick_share);
    bench_cell_count(*cell++, r->context);
    bench_cell_count(*cell++, r->batch);
    bench_cell_text(*cell++, is_ours ? r->proposer : r->engine);
    bench_cell_text(*cell++, selection ? selection : "");
    bench_cell_text(*cell++, drafting ? drafting : "");
    bench_cell_count(*cell++, r->setting.budget);
    bench_cell_count(*cell++, r->setting.g);
    bench_cell_spread(*cell++, r->tps.median, r->tps.min, r->tps.max);
    bench_cell_spread(*cell++, r->speedup.median, r->speedup.min, r->speedup.max);
    bench_cell_number(*cell++, r->latency_ms);
    bench_cell_number(*cell++, r->latency_ratio);
    bench_cell_number(*cell++, r->acceptance);
    bench_cell_number(*cell++, r->tokens_per_pass);
    bench_cell_text(*cell++, shares);
    bench_cell_number(*cell++, r->of_best);
    bench_cell_number(*cell++, r->gbytes_per_s);
    bench_cell_text(*cell, is_ours ? (r->identical ? "yes" : "NO") : "");
    bench_table_row(c->out.table, columns, cells, N_COLUMNS, false);
    return app_bench_write_json(&c->out, result_json(r));
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
        "Lists are separated by commas. Reading the prompts is not timed; sequences that are done leave the batch to the others. A speed-up is the median over repetitions, each "
        "against plain decoding of the same one; \"of best\" is auto's speed over that of the best other setting of the cell.",
        NULL,
        NULL,
        NULL};
    command c = {.bench = {.task = "prose",
                           .n_tokens = 64,
                           .reps = 3,
                           .kv_dtype = LF_DTYPE_BF16,
                           .cpu_mask = ~0u,
                           .probe_bytes = BENCH_PROBE_BYTES}};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .cookie = &c};
    lf_error err = {0};
    int code = EXIT_FAIL;
    app_parse_args(&argp, argc, argv, &c);
    c.bench.skips = skips_cell;
    c.out.append = c.resume;
    if ((!c.resume || read_done(&c)) && app_bench_open(&c.out))
        code = app_bench_close(&c.out, bench_run_magicdec(&c.bench, &hooks, on_result, &err), &err);
    json_decref(c.done);
    return code;
}
