/* lookfar model-cost: what speculation over a sparse cache gains in theory, by batch and context. */
#include "app.h"

#include "../bench/table.h"

#include <string.h>

enum {
    OPT_BANDWIDTH = 0x200,
    OPT_GFLOPS,
    OPT_OVERHEAD,
    OPT_ROW_OVERHEAD,
    OPT_ROUND_OVERHEAD,
    OPT_DRAFT_MODEL,
    OPT_WEIGHT_BITS,
    OPT_CACHE_BITS,
    OPT_BATCH,
    OPT_CONTEXT,
    OPT_BUDGET,
    OPT_ACCEPTANCE,
    OPT_G,
    OPT_G_MAX,
    OPT_JSON,
};

typedef struct command {
    lf_model_cost_params cost;
    bench_ints batches, contexts;
    const char *json_path;
    FILE *json, *table;
} command;

static const struct argp_option options[] = {
    {"bandwidth", OPT_BANDWIDTH, "GB/S", 0, "what memory gives", 0},
    {"gflops", OPT_GFLOPS, "N", 0, "what products reach, in 10^9 operations per second", 0},
    {"overhead", OPT_OVERHEAD, "MS", 0, "of each pass, in milliseconds (default: 0)", 0},
    {"row-overhead", OPT_ROW_OVERHEAD, "MS", 0, "of each row of a pass (default: 0)", 0},
    {"round-overhead", OPT_ROUND_OVERHEAD, "MS", 0, "of each round (default: 0)", 0},
    {"weight-bits", OPT_WEIGHT_BITS, "N", 0, "of a weight (default: 16)", 0},
    {"cache-bits", OPT_CACHE_BITS, "N", 0, "of an element of K or V (default: 16)", 0},
    {"batch", OPT_BATCH, "LIST", 0, "sequences (default: 1,4,16,64,256)", 0},
    {"context", OPT_CONTEXT, "LIST", 0, "positions of each (default: 1024,4096,16384,65536)", 0},
    {"budget", OPT_BUDGET, "N", 0, "positions that a draft pass sees (default: 512)", 0},
    {"draft-model", OPT_DRAFT_MODEL, "MODEL", 0, "a smaller model that drafts (default: the model itself)",
     0},
    {"acceptance", OPT_ACCEPTANCE, "A", 0, "chance that a candidate is right (default: 0.8)", 0},
    {"g", OPT_G, "N", 0, "candidates of a round; 0 (default): the best", 0},
    {"g-max", OPT_G_MAX, "N", 0, "the most that are tried for the best (default: 16)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each cell to FILE (-: standard output)", 0},
    {0},
};

static void check_list(struct argp_state *state, const char *option, lf_status status, const lf_error *err)
{
    if (status != LF_OK) app_usage_error(state, "%s: %s", option, err->text);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    lf_model_cost_params *p = &c->cost;
    lf_error err;
    switch (key) {
    case OPT_BANDWIDTH: p->bandwidth = 1e9 * app_parse_float(state, "--bandwidth", arg, 1e-3, 1e9); return 0;
    case OPT_GFLOPS: p->flops = 1e9 * app_parse_float(state, "--gflops", arg, 1e-3, 1e12); return 0;
    case OPT_OVERHEAD: p->overhead = 1e-3 * app_parse_float(state, "--overhead", arg, 0, 1e6); return 0;
    case OPT_ROW_OVERHEAD:
        p->row_overhead = 1e-3 * app_parse_float(state, "--row-overhead", arg, 0, 1e6);
        return 0;
    case OPT_DRAFT_MODEL: p->draft_path = arg; return 0;
    case OPT_ROUND_OVERHEAD:
        p->round_overhead = 1e-3 * app_parse_float(state, "--round-overhead", arg, 0, 1e6);
        return 0;
    case OPT_WEIGHT_BITS: p->weight_bytes = app_parse_float(state, "--weight-bits", arg, 1, 64) / 8; return 0;
    case OPT_CACHE_BITS: p->cache_bytes = app_parse_float(state, "--cache-bits", arg, 1, 64) / 8; return 0;
    case OPT_BATCH:
        check_list(state, "--batch", bench_parse_ints(&c->batches, arg, 1, 1 << 20, &err), &err);
        return 0;
    case OPT_CONTEXT:
        check_list(state, "--context", bench_parse_ints(&c->contexts, arg, 1, 1 << 26, &err), &err);
        return 0;
    case OPT_BUDGET: p->budget = (int)app_parse_int(state, "--budget", arg, 1, 1 << 26); return 0;
    case OPT_ACCEPTANCE: p->acceptance = app_parse_float(state, "--acceptance", arg, 0, 1); return 0;
    case OPT_G: p->g = (int)app_parse_int(state, "--g", arg, 0, 1000); return 0;
    case OPT_G_MAX: p->g_max = (int)app_parse_int(state, "--g-max", arg, 1, 1000); return 0;
    case OPT_JSON: c->json_path = arg; return 0;
    case ARGP_KEY_ARG:
        if (p->model_path) app_usage_error(state, "found argument \"%s\", expected one model", arg);
        p->model_path = arg;
        return 0;
    case ARGP_KEY_END:
        if (!p->model_path)
            app_usage_error(state, "expected a model: a config.json, a folder or a .gguf file");
        if (p->bandwidth == 0 || p->flops == 0) app_usage_error(state, "expected --bandwidth and --gflops");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const bench_column columns[] = {
    {"context", 7, false, false},       {"batch", 5, false, false},          {"step ms", 8, false, false},
    {"draft / step", 12, false, false}, {"verify / step", 13, false, false}, {"g", 3, false, false},
    {"tokens/round", 12, false, false}, {"speedup", 7, false, false},
};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static int print_cell(const command *c, const lf_model_cost_result *r)
{
    char cells[N_COLUMNS][BENCH_CELL_MAX], (*cell)[BENCH_CELL_MAX] = cells;
    const double draft = r->draft_seconds / r->target_seconds, verify = r->verify_seconds / r->target_seconds;
    bench_cell_count(*cell++, c->cost.context);
    bench_cell_count(*cell++, c->cost.batch);
    bench_cell_number(*cell++, r->target_seconds * 1e3);
    bench_cell_number(*cell++, draft);
    bench_cell_number(*cell++, verify);
    bench_cell_count(*cell++, r->g);
    bench_cell_number(*cell++, r->tokens_per_round);
    bench_cell_number(*cell, r->speedup);
    bench_table_row(c->table, columns, cells, N_COLUMNS, false);
    if (!c->json) return 0;
    return app_write_json(c->json, c->json_path,
                          json_pack("{s:s, s:s?, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:i, s:f, s:f}", "model",
                                    c->cost.model_path, "draft_model", c->cost.draft_path, "batch",
                                    c->cost.batch, "context", c->cost.context, "budget", c->cost.budget,
                                    "acceptance", c->cost.acceptance, "step_s", r->target_seconds,
                                    "draft_ratio", draft, "verify_ratio", verify, "g", r->g,
                                    "tokens_per_round", r->tokens_per_round, "speedup", r->speedup));
}

/* The shortest of the contexts from which on the largest batch gains at least as much as the smallest; last[i]: the gain of the
 * smallest and of the largest batch at context i. */
static void print_inflection(const command *c, const double (*gain)[2])
{
    int from = c->contexts.n;
    while (from > 0 && gain[from - 1][1] >= gain[from - 1][0]) from--;
    if (c->batches.n < 2) return;
    if (from == c->contexts.n)
        (void)fprintf(c->table, "\nAt none of these contexts does a larger batch gain more.\n");
    else
        (void)fprintf(c->table, "\nFrom %d positions on a larger batch gains more.\n", c->contexts.v[from]);
}

static int run(command *c)
{
    lf_error err;
    double gain[BENCH_LIST_MAX][2];
    int code = 0;
    for (int i = 0; i < c->contexts.n; i++)
        for (int j = 0; j < c->batches.n && code == 0; j++) {
            lf_model_cost_result r = {.size = sizeof r};
            c->cost.context = c->contexts.v[i];
            c->cost.batch = c->batches.v[j];
            if (lf_model_cost(&c->cost, &r, &err) != LF_OK) return app_fail(&err);
            if (i == 0 && j == 0) bench_table_head(c->table, columns, N_COLUMNS, false);
            if (j == 0) gain[i][0] = r.speedup;
            gain[i][1] = r.speedup;
            code = print_cell(c, &r);
        }
    if (code == 0) print_inflection(c, (const double(*)[2])gain);
    return code;
}

int app_model_cost(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        parse_option,
        "MODEL",
        "Predicts what speculation over a sparse cache gains (MagicDec, arXiv 2408.11049): a pass takes the longer of reading the "
        "weights and computing its products, and for attention the longer of reading K and V and computing with them.\v"
        "MODEL is a config.json, a folder with one, or a .gguf file. Lists are separated by commas.",
        NULL,
        NULL,
        NULL};
    command c = {.table = stdout};
    lf_model_cost_params_init(&c.cost);
    c.cost.acceptance = 0.8;
    (void)bench_parse_ints(&c.batches, "1,4,16,64,256", 1, 1 << 20, NULL);
    (void)bench_parse_ints(&c.contexts, "1024,4096,16384,65536", 1, 1 << 26, NULL);
    app_parse_args(&argp, argc, argv, &c);
    if (c.json_path) {
        c.json = app_open_json(c.json_path);
        if (!c.json) return EXIT_FAIL;
        if (c.json == stdout) c.table = stderr;
    }
    return app_close_json(c.json, c.json_path, run(&c));
}
