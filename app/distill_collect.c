/* lookfar distill collect: prompts in, trajectories out. One library call; this file is its options and
 * what it says. */
#include "app.h"

#include <stdlib.h>
#include <string.h>

enum {
    OPT_PROMPTS = 0x500,
    OPT_TEMPLATE,
    OPT_LIMIT,
    OPT_PARALLEL,
    OPT_BLOCK,
    OPT_MAX_TOKENS,
    OPT_FILL,
    OPT_TEMP,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_AUGMENT,
    OPT_REPEAT_TOKENS,
    OPT_REPEAT_SENTENCES,
    OPT_JSON,
};

typedef struct collect_options {
    lf_distill_collect_params params;
    app_engine_options engine;
    const char *json_path;
    app_progress progress;
    double seconds;
} collect_options;

static const struct argp_option options[] = {
    {"prompts", OPT_PROMPTS, "FILE", 0, "JSON lines", 0},
    {"template", OPT_TEMPLATE, "TEXT", 0,
     "prompt of a line; {name} is a field's text, \\n a line end (default: {prompt})", 0},
    {"limit", OPT_LIMIT, "N", 0, "only the first N prompts", 0},
    {"output", 'o', "FILE", 0, "the trajectories; a file that is not finished is continued", 0},
    {"parallel", OPT_PARALLEL, "N", 0, "sequences decoded together (default: 8)", 0},
    {"block", OPT_BLOCK, "N", 0, "tokens of a block, 2 to 64 (default: 16)", 0},
    {"max-tokens", OPT_MAX_TOKENS, "N", 0, "of an output, in whole blocks (default: 512)", 0},
    {"fill", OPT_FILL, "NAME", 0,
     "first guess of a block: prompt (default), tokens of the text so far at random, or ngram", 0},
    {"temp", OPT_TEMP, "T", 0, "temperature; 0 (default) always takes the likeliest token", 0},
    {"top-k", OPT_TOP_K, "N", 0, "only the N likeliest tokens; 0 (default): all", 0},
    {"top-p", OPT_TOP_P, "P", 0, "only the likeliest tokens whose probabilities reach P; 1 (default): all",
     0},
    {"min-p", OPT_MIN_P, "P", 0,
     "only tokens with at least P times the highest probability; 0 (default): all", 0},
    {"seed", 's', "N", 0, "prompt I is decoded with seed N + I (default: 0)", 0},
    {"augment", OPT_AUGMENT, "SHARE", 0, "of a state's wrong tokens, set right (default: 0.5; 0: none)", 0},
    {"repeat-tokens", OPT_REPEAT_TOKENS, "N", 0,
     "drop outputs that say a token N times in a row (default: 10; 0: none)", 0},
    {"repeat-sentences", OPT_REPEAT_SENTENCES, "N", 0,
     "drop outputs that say a sentence N times in a row (default: 3; 0: none)", 0},
    {"json", OPT_JSON, "FILE", 0, "write the counts as a JSON object (-: standard output)", 0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    collect_options *o = state->input;
    lf_distill_collect_params *p = &o->params;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->engine; return 0;
    case OPT_PROMPTS: p->prompts_path = arg; return 0;
    case OPT_TEMPLATE:
        arg[app_unescape(arg, strlen(arg))] = '\0';
        p->prompt_template = arg;
        return 0;
    case OPT_LIMIT: p->n_prompts = app_parse_int(state, "--limit", arg, 1, INT32_MAX); return 0;
    case 'o': p->out_path = arg; return 0;
    case OPT_PARALLEL: p->n_parallel = (int)app_parse_int(state, "--parallel", arg, 1, 256); return 0;
    case OPT_BLOCK: p->block = (int)app_parse_int(state, "--block", arg, 2, 64); return 0;
    case OPT_MAX_TOKENS: p->max_tokens = (int)app_parse_int(state, "--max-tokens", arg, 1, 1 << 20); return 0;
    case OPT_FILL: p->fill = arg; return 0;
    case OPT_TEMP: p->temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case OPT_TOP_K: p->top_k = (int)app_parse_int(state, "--top-k", arg, 0, INT32_MAX); return 0;
    case OPT_TOP_P: p->top_p = (float)app_parse_float(state, "--top-p", arg, 0.0, 1.0); return 0;
    case OPT_MIN_P: p->min_p = (float)app_parse_float(state, "--min-p", arg, 0.0, 1.0); return 0;
    case 's': p->seed = (uint64_t)app_parse_int(state, "--seed", arg, 0, INT64_MAX); return 0;
    case OPT_AUGMENT: p->augment = (float)app_parse_float(state, "--augment", arg, 0.0, 1.0); return 0;
    case OPT_REPEAT_TOKENS:
        p->repeat_tokens = (int)app_parse_int(state, "--repeat-tokens", arg, 0, INT32_MAX);
        return 0;
    case OPT_REPEAT_SENTENCES:
        p->repeat_sentences = (int)app_parse_int(state, "--repeat-sentences", arg, 0, INT32_MAX);
        return 0;
    case OPT_JSON: o->json_path = arg; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg);
    case ARGP_KEY_END:
        if (!p->prompts_path) app_usage_error(state, "--prompts FILE: the prompts are missing");
        if (!p->out_path) app_usage_error(state, "-o FILE: the trajectories' file is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static bool on_progress(void *cookie, const lf_distill_progress *p)
{
    collect_options *o = cookie;
    o->seconds = p->seconds;
    app_progress_draw(&o->progress, (double)p->n_done / (double)p->n_prompts);
    return !app_interrupted;
}

static bool on_load(void *cookie, size_t done, size_t total)
{
    (void)cookie, (void)done, (void)total;
    return !app_interrupted;
}

/* The counts of the whole file, on standard output, or as JSON. */
static int report(const collect_options *o)
{
    lf_error err;
    char *text;
    if (lf_distill_inspect(o->params.out_path, -1, &text, &err) != LF_OK) return app_fail(&err);
    json_t *counts = json_loads(text, 0, NULL);
    free(text);
    if (counts) (void)json_object_set_new(counts, "seconds", json_real(o->seconds));
    int code = 0;
    FILE *json = NULL;
    if (o->json_path) {
        json = app_open_json(o->json_path);
        code = json ? app_write_json(json, o->json_path, json_incref(counts)) : EXIT_FAIL;
    }
    if (!o->engine.quiet) app_print_trajectories(json == stdout ? stderr : stdout, counts);
    json_decref(counts);
    return app_close_json(json, o->json_path, code);
}

int app_distill_collect(int argc, char **argv)
{
    static const struct argp_child children[] = {{&app_engine_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,  parse_option,
        NULL,     "Decodes prompts by Jacobi iterations, block by block, and records the states.",
        children, NULL,
        NULL};
    collect_options o = {0};
    lf_error err = {0};
    lf_distill_collect_params_init(&o.params);
    lf_engine_params_init(&o.engine.params);
    app_parse_args(&argp, argc, argv, &o);
    o.params.engine = o.engine.params;
    o.params.engine.progress = on_load;
    o.params.on_progress = on_progress;
    o.params.cookie = &o;
    app_catch_interrupt();
    app_progress_start(&o.progress, "collecting", o.engine.quiet);
    const lf_status status = lf_distill_collect(&o.params, &err);
    app_progress_clear(&o.progress);
    if (status == LF_OK) return report(&o);
    (void)app_fail(&err);
    if (status == LF_ECANCELED) (void)fprintf(stderr, "The same command goes on from there.\n");
    return EXIT_FAIL;
}
