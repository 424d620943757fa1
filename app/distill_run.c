/* lookfar distill run: from a model and prompts to a model that decodes several tokens per pass, in
 * rounds: the model's trajectories are collected and it is trained on them, and the next round begins with
 * the model that came out, and perhaps longer blocks.
 *
 *   DIR/round-1.traj   DIR/round-1/model.gguf   DIR/round-2.traj   ...   DIR/model.gguf, the last round's
 *
 * Rounds that are done are not done again, and one that was broken off goes on: the same command continues. */
#include "distill_train.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OPT_PROMPTS = 0x800,
    OPT_TEMPLATE,
    OPT_LIMIT,
    OPT_MAX_TOKENS,
    OPT_PARALLEL,
    OPT_BLOCKS,
};

enum { ROUNDS_MAX = 16, PATH_BYTES = 512 };

typedef struct run_options {
    app_train_run run;
    lf_distill_train_params params;
    lf_distill_collect_params collect;
    int blocks[ROUNDS_MAX]; /* (n_rounds) */
    int n_rounds;
    const char *dir;
    app_progress progress;
} run_options;

static const struct argp_option options[] = {
    {"prompts", OPT_PROMPTS, "FILE", 0, "JSON lines", 3},
    {"template", OPT_TEMPLATE, "TEXT", 0,
     "prompt of a line; {name} is a field's text, \\n a line end (default: {prompt})", 3},
    {"limit", OPT_LIMIT, "N", 0, "only the first N prompts", 3},
    {"max-tokens", OPT_MAX_TOKENS, "N", 0, "of an output, in whole blocks (default: 512)", 3},
    {"parallel", OPT_PARALLEL, "N", 0, "sequences decoded together (default: 8)", 3},
    {"blocks", OPT_BLOCKS, "N,...", 0, "tokens of a block in each round (default: 16, one round)", 3},
    {0},
};

static void parse_blocks(struct argp_state *state, run_options *o, char *text)
{
    char *rest = NULL;
    o->n_rounds = 0;
    for (char *part = strtok_r(text, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        if (o->n_rounds == ROUNDS_MAX)
            app_usage_error(state, "--blocks: found more than %d rounds", ROUNDS_MAX);
        o->blocks[o->n_rounds++] = (int)app_parse_int(state, "--blocks", part, 2, 64);
    }
    if (o->n_rounds == 0) app_usage_error(state, "--blocks: found \"\", expected numbers from 2 to 64");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    run_options *o = state->input;
    lf_distill_collect_params *c = &o->collect;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->run;
        state->child_inputs[1] = &o->params;
        return 0;
    case OPT_PROMPTS: c->prompts_path = arg; return 0;
    case OPT_TEMPLATE:
        arg[app_unescape(arg, strlen(arg))] = '\0';
        c->prompt_template = arg;
        return 0;
    case OPT_LIMIT: c->n_prompts = app_parse_int(state, "--limit", arg, 1, INT32_MAX); return 0;
    case OPT_MAX_TOKENS: c->max_tokens = (int)app_parse_int(state, "--max-tokens", arg, 1, 1 << 20); return 0;
    case OPT_PARALLEL: c->n_parallel = (int)app_parse_int(state, "--parallel", arg, 1, 256); return 0;
    case OPT_BLOCKS: parse_blocks(state, o, arg); return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg);
    case ARGP_KEY_END:
        if (!o->params.train.model_path) app_usage_error(state, "-m PATH: the model is missing");
        if (!c->prompts_path) app_usage_error(state, "--prompts FILE: the prompts are missing");
        if (!o->params.train.out_dir) app_usage_error(state, "-o DIR: the run's folder is missing");
        if (o->params.train.resume || o->params.train.export_only)
            app_usage_error(state, "found --resume or --export: the same command goes on by itself");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static bool on_progress(void *cookie, const lf_distill_progress *p)
{
    run_options *o = cookie;
    app_progress_draw(&o->progress, (double)p->n_done / (double)p->n_prompts);
    return !app_interrupted;
}

static lf_status collect(run_options *o, const char *model, const char *trajectories, int block,
                         lf_error *err)
{
    lf_distill_collect_params c = o->collect;
    c.engine.model_path = model;
    c.engine.n_threads = o->params.train.n_threads;
    c.engine.n_ctx = o->params.train.context;
    c.out_path = trajectories;
    c.block = block;
    c.on_progress = on_progress;
    c.cookie = o;
    app_progress_start(&o->progress, "trajectories", o->run.quiet);
    const lf_status status = lf_distill_collect(&c, err);
    app_progress_clear(&o->progress);
    return status;
}

static bool exists(const char *folder, const char *name)
{
    char path[2 * PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Round i from 0: from `model` to `out`, which becomes the path of what came out. */
static lf_status run_round(run_options *o, int i, const char *model, char *out, lf_error *err)
{
    char trajectories[PATH_BYTES], folder[PATH_BYTES];
    const char *const files[] = {trajectories};
    lf_distill_train_result result = {.size = sizeof result};
    lf_distill_train_params p = o->params;
    (void)snprintf(trajectories, sizeof trajectories, "%.400s/round-%d.traj", o->dir, i + 1);
    (void)snprintf(folder, sizeof folder, "%.400s/round-%d", o->dir, i + 1);
    (void)snprintf(out, PATH_BYTES, "%.400s/round-%d/model.gguf", o->dir, i + 1);
    if (!o->run.quiet)
        (void)fprintf(stderr, "round %d of %d, blocks of %d\n", i + 1, o->n_rounds, o->blocks[i]);
    lf_status status = collect(o, model, trajectories, o->blocks[i], err);
    if (status != LF_OK) return status;
    p.train.model_path = model;
    p.train.out_dir = folder;
    p.train.resume = exists(folder, "checkpoint");
    p.trajectories = files;
    p.n_trajectories = 1;
    p.result = &result;
    status = lf_distill_train(&p, err);
    if (status == LF_OK && !o->run.quiet) app_distill_report(&result);
    return status;
}

/* The last round's model under the name that it is looked for. */
static lf_status link_model(const run_options *o, lf_error *err)
{
    char target[64], path[PATH_BYTES];
    (void)snprintf(target, sizeof target, "round-%d/model.gguf", o->n_rounds);
    (void)snprintf(path, sizeof path, "%.400s/model.gguf", o->dir);
    if ((unlink(path) == 0 || errno == ENOENT) && symlink(target, path) == 0) return LF_OK;
    (void)snprintf(err->text, sizeof err->text, "%.400s: cannot make this link: %.60s", path,
                   strerror(errno));
    return err->status = LF_EIO;
}

static lf_status run_rounds(run_options *o, lf_error *err)
{
    char paths[2][PATH_BYTES];
    const char *model = o->params.train.model_path;
    for (int i = 0; i < o->n_rounds; i++) {
        const lf_status status = run_round(o, i, model, paths[i % 2], err);
        if (status != LF_OK) return status;
        model = paths[i % 2];
    }
    return link_model(o, err);
}

int app_distill_run(int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&app_train_argp, 0, NULL, 0}, {&app_distill_recipe_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Makes a model that decodes several tokens per pass from a model and prompts, in rounds: its "
        "trajectories are collected, and it is trained on them.",
        children,
        NULL,
        NULL};
    run_options o = {.blocks = {16}, .n_rounds = 1};
    lf_error err = {0};
    o.run.params = &o.params.train;
    lf_distill_train_params_init(&o.params);
    o.params.train.hold_out = 0.02;
    lf_distill_collect_params_init(&o.collect);
    app_parse_args(&argp, argc, argv, &o);
    o.dir = o.params.train.out_dir;
    if (mkdir(o.dir, 0777) != 0 && errno != EEXIST) {
        (void)fprintf(stderr, "lookfar: %s: cannot make this folder: %s\n", o.dir, strerror(errno));
        return EXIT_FAIL;
    }
    app_catch_interrupt();
    o.run.on_terminal = isatty(STDERR_FILENO) == 1;
    o.run.saved = true; /* each round's options are this command's */
    o.params.train.on_event = app_train_on_event;
    o.params.train.cookie = &o.run;
    const lf_status status = run_rounds(&o, &err);
    if (status == LF_OK) return 0;
    if (status != LF_ECANCELED) return app_fail(&err);
    (void)fprintf(stderr, "%s\nThe same command goes on.\n", err.text);
    return EXIT_EARLY;
}
