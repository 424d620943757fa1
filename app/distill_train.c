/* lookfar distill train: trajectories in, a model that decodes several tokens per pass out. */
#include "distill_train.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPT_TRAJECTORIES = 0x700,
    OPT_VALID,
    OPT_LABELS,
    OPT_TEMPLATE,
    OPT_RESPONSE,
    OPT_RECIPE,
    OPT_WEIGHT_AR,
    OPT_LOCAL,
    OPT_WINDOW,
    OPT_SYNTHETIC,
    OPT_TEACHER,
    OPT_MEASURE,
    OPT_LOSS_BOUND,
    OPT_REPEAT_BOUND,
};

/* ---- what is learnt ---- */

static const struct argp_option recipe_options[] = {
    {NULL, 0, NULL, 0, "What is learnt:", 6},
    {"recipe", OPT_RECIPE, "NAME", 0, "cllm (default), progressive, ar or rkl", 6},
    {"weight-ar", OPT_WEIGHT_AR, "W", 0, "weight of the autoregressive loss (default: 1)", 6},
    {"local", OPT_LOCAL, NULL, 0, "cllm: adjacent states, instead of a state and the fixed point", 6},
    {"window", OPT_WINDOW, "N", 0, "progressive: levels of noise in a cycle (default: 16)", 6},
    {"synthetic", OPT_SYNTHETIC, "SHARE", 0,
     "of the blocks, whose noise is drawn from the text and not from a state (default: 0)", 6},
    {"teacher", OPT_TEACHER, "PATH", 0, "rkl: the model to follow", 6},
    {"measure", OPT_MEASURE, "N", 0, "validation prompts that are decoded (default: 16; 0: none)", 6},
    {"loss-bound", OPT_LOSS_BOUND, "X", 0,
     "nats that the autoregressive loss of the model that is kept may have risen (default: 0.1)", 6},
    {"repeat-bound", OPT_REPEAT_BOUND, "SHARE", 0, "that its repeated tokens may have risen (default: 0.1)",
     6},
    {0},
};

static lf_distill_recipe parse_recipe(struct argp_state *state, const char *text)
{
    static const char *const names[] = {[LF_DISTILL_CLLM] = "cllm",
                                        [LF_DISTILL_PROGRESSIVE] = "progressive",
                                        [LF_DISTILL_AR] = "ar",
                                        [LF_DISTILL_RKL] = "rkl"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) return (lf_distill_recipe)i;
    app_usage_error(state, "--recipe: found \"%s\", expected cllm, progressive, ar or rkl", text);
}

static error_t parse_recipe_option(int key, char *arg, struct argp_state *state)
{
    lf_distill_train_params *p = state->input;
    switch (key) {
    case OPT_RECIPE: p->recipe = parse_recipe(state, arg); return 0;
    case OPT_WEIGHT_AR: p->weight_ar = app_parse_float(state, "--weight-ar", arg, 0.0, 1e6); return 0;
    case OPT_LOCAL: p->local = true; return 0;
    case OPT_WINDOW: p->window = (int)app_parse_int(state, "--window", arg, 2, 1024); return 0;
    case OPT_SYNTHETIC: p->synthetic = app_parse_float(state, "--synthetic", arg, 0.0, 1.0); return 0;
    case OPT_TEACHER: p->teacher_path = arg; return 0;
    case OPT_MEASURE: p->measure_prompts = (int)app_parse_int(state, "--measure", arg, 0, 4096); return 0;
    case OPT_LOSS_BOUND: p->loss_bound = app_parse_float(state, "--loss-bound", arg, 0.0, 1e6); return 0;
    case OPT_REPEAT_BOUND:
        p->repeat_bound = app_parse_float(state, "--repeat-bound", arg, 0.0, 1.0);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp app_distill_recipe_argp = {
    recipe_options, parse_recipe_option, NULL, NULL, NULL, NULL, NULL};

/* ---- the command ---- */

typedef struct distill_options {
    app_train_run run;
    lf_distill_train_params params;
    const char *trajectories[APP_TRAIN_INPUTS_MAX], *valid[APP_TRAIN_INPUTS_MAX];
    lf_train_input labels[APP_TRAIN_INPUTS_MAX];
} distill_options;

static const struct argp_option options[] = {
    {"trajectories", OPT_TRAJECTORIES, "FILE", 0, "made by distill collect; may be repeated", 3},
    {"valid", OPT_VALID, "FILE", 0, "the same for validation; may be repeated", 3},
    {"labels", OPT_LABELS, "FILE[:WEIGHT]", 0,
     "ground truth for the autoregressive loss, in place of the trajectories' outputs: text, .jsonl or token "
     "file; may be repeated",
     3},
    {"template", OPT_TEMPLATE, "TEXT", 0,
     "prompt of a JSON line of the labels; {name} is a field's text, \\n a line end (default: {prompt})", 3},
    {"response", OPT_RESPONSE, "NAME", 0, "field of such a line that answers the prompt (default: response)",
     3},
    {0},
};

static void add_file(struct argp_state *state, const char **list, int *n, const char *arg)
{
    if (*n == APP_TRAIN_INPUTS_MAX) app_usage_error(state, "found more than %d inputs", APP_TRAIN_INPUTS_MAX);
    list[(*n)++] = arg;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    distill_options *o = state->input;
    lf_distill_train_params *p = &o->params;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->run;
        state->child_inputs[1] = p;
        return 0;
    case OPT_TRAJECTORIES: add_file(state, o->trajectories, &p->n_trajectories, arg); return 0;
    case OPT_VALID: add_file(state, o->valid, &p->n_valid, arg); return 0;
    case OPT_LABELS: app_train_add_input(state, &o->run, o->labels, &p->train.n_data, arg, true); return 0;
    case OPT_TEMPLATE: p->train.prompt_template = app_train_unescape(state, &o->run, arg); return 0;
    case OPT_RESPONSE: p->train.response_field = arg; return 0;
    case ARGP_KEY_ARG:
        app_usage_error(state, "found argument \"%s\", expected options only (files go after --trajectories)",
                        arg);
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void parse(distill_options *o, int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&app_train_argp, 0, NULL, 0}, {&app_distill_recipe_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {options,
                                     parse_option,
                                     NULL,
                                     "Trains a model on Jacobi trajectories, so that it decodes several "
                                     "tokens per pass.",
                                     children,
                                     NULL,
                                     NULL};
    *o = (distill_options){.run = {.params = &o->params.train, .args = argv + 1, .n_args = argc - 1}};
    lf_distill_train_params_init(&o->params);
    app_parse_args(&argp, argc, argv, o);
    o->params.trajectories = o->trajectories;
    o->params.valid = o->valid;
    o->params.train.data = o->labels;
}

static int fail_usage(const char *text)
{
    (void)fprintf(stderr, "lookfar: distill train: %s\n", text);
    return EXIT_USAGE;
}

/* Parses the options that the run's folder has and then those given; their strings are the caller's. */
static int parse_with_saved(distill_options *o, json_t **list, char ***all, int argc, char **argv)
{
    int n;
    const int code = app_train_load_options(all, &n, list, o->params.train.out_dir, argc, argv);
    if (code != 0) return code;
    app_train_free_options(&o->run);
    parse(o, n, *all);
    return 0;
}

void app_distill_report(const lf_distill_train_result *r)
{
    if (r->start_ar_loss == 0.0) return; /* nothing was judged */
    (void)fprintf(stderr,
                  "tokens per pass %.3f, at the start %.3f; autoregressive loss %.4f, at the start %.4f; "
                  "kept: step %lld of %lld%s\n",
                  r->tokens_per_pass, r->start_tokens_per_pass, r->ar_loss, r->start_ar_loss,
                  (long long)r->best_step, (long long)r->step,
                  r->collapsed ? ", where the run collapsed" : "");
}

int app_distill_train(int argc, char **argv)
{
    distill_options o;
    lf_error err = {0};
    lf_distill_train_result result = {.size = sizeof result};
    json_t *saved = NULL;
    char **all = NULL;
    int code = 0;
    parse(&o, argc, argv);
    const lf_train_params *train = &o.params.train;
    if (!train->out_dir) return fail_usage("-o DIR: the run's folder is missing");
    if (train->resume && o.params.n_trajectories == 0) code = parse_with_saved(&o, &saved, &all, argc, argv);
    if (code == 0 && o.params.n_trajectories == 0)
        code = fail_usage("--trajectories FILE: the trajectories are missing");
    if (code == 0 && !train->model_path) code = fail_usage("-m PATH: the model is missing");
    if (code == 0) {
        app_catch_interrupt();
        o.run.on_terminal = isatty(STDERR_FILENO) == 1;
        o.params.train.on_event = app_train_on_event;
        o.params.train.cookie = &o.run;
        o.params.result = &result;
        const lf_status status = lf_distill_train(&o.params, &err);
        code = app_train_end(&o.run, status, &err, "distill train");
        if (status == LF_OK && !o.run.quiet) app_distill_report(&result);
        if (status == LF_OK && result.collapsed) code = EXIT_EARLY;
    }
    app_train_free_options(&o.run);
    free(all);
    json_decref(saved);
    return code;
}
