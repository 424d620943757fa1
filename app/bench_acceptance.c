/* lookfar bench acceptance: how often drafts over a part of the cache are right. The measuring is bench/acceptance.c. */
#include "bench.h"

#include "../bench/acceptance.h"
#include "../bench/table.h"

#include <stdlib.h>
#include <string.h>

enum {
    OPT_SEQUENCES = 0x300,
    OPT_CONTEXT,
    OPT_SELECTION,
    OPT_BUDGET,
    OPT_G,
    OPT_TEMP,
};

static const char *const selections[] = {"window", "snap", "verify", NULL};

typedef struct command {
    app_bench_output out; /* first: see app_bench_progress */
    bench_acceptance_options bench;
} command;

static const struct argp_option options[] = {
    APP_BENCH_OPTIONS_OF_TEXT,
    {"sequences", OPT_SEQUENCES, "N", 0, "how many (default: 16)", 0},
    {"context", OPT_CONTEXT, "LIST", 0, "tokens of each prompt (default: 4096)", 0},
    {"selection", OPT_SELECTION, "LIST", 0, "window, snap, verify (default: all)", 0},
    {"budget", OPT_BUDGET, "LIST", 0,
     "positions; 0: the proposer's own choice (default: 64,128,256,512,1024,2048)", 0},
    {"g", OPT_G, "LIST", 0, "candidates of a round at most (default: 1,2,4,8,12)", 0},
    {"temp", OPT_TEMP, "LIST", 0, "temperatures (default: 0,0.8)", 0},
    {0},
};

static void parse_temperatures(bench_acceptance_options *o, struct argp_state *state, const char *list)
{
    bench_names names;
    lf_error err;
    app_bench_check_list(state, "--temp", bench_parse_names(&names, list, &err), &err);
    for (o->n_temperatures = 0; o->n_temperatures < names.n; o->n_temperatures++)
        o->temperatures[o->n_temperatures] = (float)app_parse_float(state, "--temp",
                                                                    names.v[o->n_temperatures], 0.0, 1e6);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    bench_acceptance_options *o = &c->bench;
    lf_error err;
#define LIST(option, expr) app_bench_check_list(state, option, expr, &err)
    switch (key) {
    case 'm': o->model_path = arg; return 0;
    case 'f': o->text_path = arg; return 0;
    case APP_BENCH_OPT_PROMPTS: o->prompts_path = arg; return 0;
    case APP_BENCH_OPT_TASK: o->task = arg; return 0;
    case OPT_SEQUENCES:
        o->n_sequences = (int)app_parse_int(state, "--sequences", arg, 1, BENCH_BATCH_MAX);
        return 0;
    case OPT_CONTEXT:
        LIST("--context", bench_parse_ints(&o->contexts, arg, 33, BENCH_DEPTH_MAX, &err));
        return 0;
    case OPT_SELECTION:
        LIST("--selection", bench_parse_choices(&o->selections, arg, selections, &err));
        return 0;
    case OPT_BUDGET: LIST("--budget", bench_parse_ints(&o->budgets, arg, 0, BENCH_DEPTH_MAX, &err)); return 0;
    case OPT_G: LIST("--g", bench_parse_ints(&o->gs, arg, 1, LF_DRAFT_LIMIT, &err)); return 0;
    case 'n': o->n_tokens = (int)app_parse_int(state, "--predict", arg, 2, BENCH_N_MAX); return 0;
    case OPT_TEMP: parse_temperatures(o, state, arg); return 0;
    case 't': o->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case APP_BENCH_OPT_KV: o->kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case APP_BENCH_OPT_CPU_MASK: o->cpu_mask = app_parse_cpu_mask(state, "--cpu-mask", arg); return 0;
    case APP_BENCH_OPT_JSON: c->out.json_path = arg; return 0;
    case 'q': c->out.quiet = true; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    case ARGP_KEY_END:
        if (!o->model_path || !o->text_path == !o->prompts_path)
            app_usage_error(state, "expected --model PATH and --file FILE or --prompts FILE");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
#undef LIST
}

/* ---- results ---- */

static json_t *result_json(const bench_acceptance_result *r)
{
    json_t *at = json_array();
    for (int i = 0; i < r->n_places; i++) (void)json_array_append_new(at, json_real(r->acceptance_at[i]));
    return json_pack("{s:s, s:s, s:f, s:i, s:i, s:i, s:s, s:i, s:i, s:I, s:I, s:I, s:f, s:o, s:f, s:f}",
                     "model", r->model, "task", r->task, "temperature", (double)r->temperature, "context",
                     r->context, "sequences", r->n_sequences, "n_tokens", r->n_tokens, "selection",
                     selections[r->selection], "budget", r->budget, "g", r->g, "rounds",
                     (json_int_t)r->rounds, "proposed", (json_int_t)r->proposed, "accepted",
                     (json_int_t)r->accepted, "acceptance", r->acceptance, "acceptance_at", at,
                     "tokens_per_round", r->tokens_per_round, "attention", r->attention);
}

static const bench_column columns[] = {
    {"task", 8, true, false},
    {"context", 7, false, false},
    {"T", 4, false, false},
    {"selection", 9, true, false},
    {"budget", 6, false, false},
    {"attention", 9, false, false},
    {"g", 2, false, false},
    {"acceptance", 10, false, false},
    {"tokens/round", 12, false, false},
    {"acceptance by place", 19, true, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static lf_status on_result(void *cookie, const bench_acceptance_result *r, lf_error *err)
{
    (void)err;
    command *c = cookie;
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells, places[BENCH_CELL_MAX] = "";
    size_t len = 0;
    if (app_bench_begin_result(&c->out)) bench_table_head(c->out.table, columns, N_COLUMNS, false);
    for (int i = 0; i < r->n_places && len < sizeof places; i++)
        len += (size_t)snprintf(places + len, sizeof places - len, "%s%.2f", i ? " " : "",
                                r->acceptance_at[i]);
    bench_cell_text(*cell++, r->task);
    bench_cell_count(*cell++, r->context);
    bench_cell_number(*cell++, (double)r->temperature);
    bench_cell_text(*cell++, selections[r->selection]);
    bench_cell_count(*cell++, r->budget);
    bench_cell_number(*cell++, r->attention);
    bench_cell_count(*cell++, r->g);
    bench_cell_number(*cell++, r->acceptance);
    bench_cell_number(*cell++, r->tokens_per_round);
    bench_cell_text(*cell, places);
    bench_table_row(c->out.table, columns, cells, N_COLUMNS, false);
    return app_bench_write_json(&c->out, result_json(r));
}

static void set_defaults(bench_acceptance_options *o)
{
    *o = (bench_acceptance_options){.task = "prose",
                                    .n_sequences = 16,
                                    .n_tokens = 64,
                                    .n_temperatures = 2,
                                    .temperatures = {0.0f, 0.8f},
                                    .kv_dtype = LF_DTYPE_BF16,
                                    .cpu_mask = ~0u};
    (void)bench_parse_ints(&o->contexts, "4096", 33, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_choices(&o->selections, "window,snap,verify", selections, NULL);
    (void)bench_parse_ints(&o->budgets, "64,128,256,512,1024,2048", 0, BENCH_DEPTH_MAX, NULL);
    (void)bench_parse_ints(&o->gs, "1,2,4,8,12", 1, LF_DRAFT_LIMIT, NULL);
}

int app_bench_acceptance(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Measures how often drafts over a part of the cache are right: every sequence goes on from its own part of a text, plainly, and "
        "drafts of all settings are compared with that.\v"
        "Lists are separated by commas. Nothing is timed. \"attention\" is the share of the target's attention that goes to what the draft "
        "sees, in the row that a round begins with.",
        NULL,
        NULL,
        NULL};
    command c = {0};
    const bench_hooks hooks = {
        .canceled = app_bench_canceled, .on_progress = app_bench_progress, .cookie = &c};
    lf_error err = {0};
    set_defaults(&c.bench);
    app_parse_args(&argp, argc, argv, &c);
    if (!app_bench_open(&c.out)) return EXIT_FAIL;
    return app_bench_close(&c.out, bench_run_acceptance(&c.bench, &hooks, on_result, &err), &err);
}
