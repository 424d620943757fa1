#include "train_run.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_LORA = 0x600,
    OPT_DTYPE,
    OPT_HOLD_OUT,
    OPT_TRAIN_PROMPT,
    OPT_RESUME,
    OPT_EXPORT,
    OPT_STEPS,
    OPT_TOKENS,
    OPT_BATCH,
    OPT_MICRO,
    OPT_SCHEDULE,
    OPT_LR,
    OPT_LR_END,
    OPT_DECAY,
    OPT_WARMUP,
    OPT_BETA1,
    OPT_BETA2,
    OPT_EPS,
    OPT_WEIGHT_DECAY,
    OPT_CLIP,
    OPT_SEED,
    OPT_VALID_EVERY,
    OPT_VALID_TOKENS,
    OPT_SAMPLE_EVERY,
    OPT_SAMPLE_PROMPT,
    OPT_SAMPLE_TOKENS,
    OPT_CHECKPOINT,
    OPT_F32,
    OPT_RECOMPUTE,
};

enum { PATH_BYTES = 512, LINE_SECONDS = 60 };

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "The run:", 1},
    {"out", 'o', "DIR", 0, "the run's folder: log, checkpoint, and model.gguf at the end", 1},
    {"resume", OPT_RESUME, NULL, 0,
     "go on from the checkpoint; without data, with the options that the run began with and those given here",
     1},
    {"export", OPT_EXPORT, NULL, 0, "with --resume: write model.gguf from the checkpoint and stop", 1},
    {"checkpoint-every", OPT_CHECKPOINT, "MINUTES", 0, "(default: 10; 0: after each step)", 1},
    {"threads", 't', "N", 0, "threads (default: one for each processor)", 1},
    {"quiet", 'q', NULL, 0, "print nothing but errors", 1},

    {NULL, 0, NULL, 0, "The model:", 2},
    {"model", 'm', "PATH", 0, "go on from this model: a .gguf file, or a Hugging Face folder", 2},
    {"lora", OPT_LORA, "RANK[:ALPHA]", 0, "train adapters, merged into the output (default ALPHA: 2 RANK)",
     2},
    {"dtype", OPT_DTYPE, "TYPE", 0, "type of the output's matrices: bf16 (default), f32, f16 or q8_0", 2},

    {NULL, 0, NULL, 0, "Data:", 3},
    {"hold-out", OPT_HOLD_OUT, "SHARE", 0, "without --valid: this share of the data is for validation", 3},
    {"train-prompt", OPT_TRAIN_PROMPT, NULL, 0, "let prompts count in the loss, too", 3},
    {"context", 'c', "N", 0, "tokens of a sequence at most (default: 1024)", 3},
    {"seed", OPT_SEED, "N", 0, "of random weights and of the order of the data (default: 0)", 3},

    {NULL, 0, NULL, 0, "Steps:", 4},
    {"steps", OPT_STEPS, "N", 0, "steps to take; K and M are understood", 4},
    {"tokens", OPT_TOKENS, "N", 0, "or tokens to see; K and M are understood", 4},
    {"batch", OPT_BATCH, "N", 0, "tokens of a step (default: 16384)", 4},
    {"micro", OPT_MICRO, "N", 0, "tokens in the network at a time (default: 4096, or the context)", 4},
    {"schedule", OPT_SCHEDULE, "NAME", 0, "of the learning rate: cosine (default), wsd or constant", 4},
    {"lr", OPT_LR, "X", 0, "learning rate (default: 0.001; distill: 0.0001)", 4},
    {"lr-end", OPT_LR_END, "X", 0, "its end as a share of it (default: 0.1)", 4},
    {"decay", OPT_DECAY, "SHARE", 0, "wsd: the last steps, over which it falls (default: 0.2)", 4},
    {"warmup", OPT_WARMUP, "N", 0, "steps over which it rises (default: 100; distill: 50)", 4},
    {"beta1", OPT_BETA1, "X", 0, "of AdamW (default: 0.9)", 4},
    {"beta2", OPT_BETA2, "X", 0, "of AdamW (default: 0.95)", 4},
    {"eps", OPT_EPS, "X", 0, "of AdamW (default: 1e-8)", 4},
    {"weight-decay", OPT_WEIGHT_DECAY, "X", 0, "of matrices (default: 0.1; distill: 0)", 4},
    {"clip", OPT_CLIP, "X", 0, "largest norm of a gradient (default: 1; 0: any)", 4},
    {"f32", OPT_F32, NULL, 0, "products of floats (default: of bf16 numbers, with float sums)", 4},
    {"recompute", OPT_RECOMPUTE, NULL, 0, "take less memory and more time, for long contexts", 4},

    {NULL, 0, NULL, 0, "What it shows:", 5},
    {"valid-every", OPT_VALID_EVERY, "STEPS", 0, "(default: 250; distill: 100; 0: at the end only)", 5},
    {"valid-tokens", OPT_VALID_TOKENS, "N", 0, "of a validation (default: 131072)", 5},
    {"sample-every", OPT_SAMPLE_EVERY, "STEPS", 0, "(default: 0: never)", 5},
    {"sample-prompt", OPT_SAMPLE_PROMPT, "TEXT", 0, "what samples begin with", 5},
    {"sample-tokens", OPT_SAMPLE_TOKENS, "N", 0, "(default: 100)", 5},
    {0},
};

/* ---- option values ---- */

int64_t app_parse_count(struct argp_state *state, const char *option, const char *text, int64_t max)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    const double unit = *end == 'K' ? 1e3 : *end == 'M' ? 1e6 : 1.0;
    const double count = value * unit;
    if (errno != 0 || end == text || end[unit > 1.0] != '\0' || !(count >= 0.0 && count <= (double)max) ||
        count != (double)(int64_t)count)
        app_usage_error(state, "%s: found \"%s\", expected a whole number from 0 to %lld", option, text,
                        (long long)max);
    return (int64_t)count;
}

/* The first len bytes of text. */
static char *own_copy(struct argp_state *state, app_train_run *run, const char *text, size_t len)
{
    if (run->n_owned == 2 * APP_TRAIN_INPUTS_MAX) app_usage_error(state, "found too many options");
    char *copy = strndup(text, len);
    if (!copy) app_usage_error(state, "out of memory");
    return run->owned[run->n_owned++] = copy;
}

void app_train_add_input(struct argp_state *state, app_train_run *run, lf_train_input *list, int *n,
                         const char *arg, bool weighted)
{
    char *end = NULL;
    const char *colon = weighted ? strrchr(arg, ':') : NULL;
    lf_train_input input = {arg, 1.0};
    if (*n == APP_TRAIN_INPUTS_MAX) app_usage_error(state, "found more than %d inputs", APP_TRAIN_INPUTS_MAX);
    if (colon) {
        const double weight = strtod(colon + 1, &end);
        if (end != colon + 1 && *end == '\0')
            input = (lf_train_input){own_copy(state, run, arg, (size_t)(colon - arg)), weight};
    }
    list[(*n)++] = input;
}

const char *app_train_unescape(struct argp_state *state, app_train_run *run, const char *text)
{
    char *copy = own_copy(state, run, text, strlen(text));
    copy[app_unescape(copy, strlen(copy))] = '\0';
    return copy;
}

void app_train_free_options(app_train_run *run)
{
    for (int i = 0; i < run->n_owned; i++) free(run->owned[i]);
    run->n_owned = 0;
}

static void parse_lora(struct argp_state *state, lf_train_params *p, const char *text)
{
    char rank[32];
    const char *colon = strchr(text, ':');
    (void)snprintf(rank, sizeof rank, "%.*s", (int)(colon ? colon - text : 31), text);
    p->lora_rank = (int)app_parse_int(state, "--lora", rank, 1, 1 << 14);
    if (colon) p->lora_alpha = app_parse_float(state, "--lora", colon + 1, 0.0, 1e6);
}

static lf_train_schedule parse_schedule(struct argp_state *state, const char *text)
{
    static const char *const names[] = {
        [LF_TRAIN_COSINE] = "cosine", [LF_TRAIN_WSD] = "wsd", [LF_TRAIN_CONSTANT] = "constant"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) return (lf_train_schedule)i;
    app_usage_error(state, "--schedule: found \"%s\", expected cosine, wsd or constant", text);
}

static error_t parse_run_option(int key, char *arg, struct argp_state *state)
{
    app_train_run *r = state->input;
    lf_train_params *p = r->params;
    switch (key) {
    case 'o': p->out_dir = arg; return 0;
    case OPT_RESUME: p->resume = true; return 0;
    case OPT_EXPORT: p->export_only = true; return 0;
    case OPT_CHECKPOINT:
        p->checkpoint_minutes = app_parse_float(state, "--checkpoint-every", arg, 0, 1e6);
        return 0;
    case 't': p->n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case 'q': r->quiet = true; return 0;
    case 'm': p->model_path = arg; return 0;
    case OPT_LORA: parse_lora(state, p, arg); return 0;
    case OPT_DTYPE: p->dtype = app_parse_dtype(state, "--dtype", arg); return 0;
    case OPT_VALID_EVERY:
        p->valid_every = app_parse_count(state, "--valid-every", arg, INT64_C(1) << 40);
        return 0;
    case OPT_VALID_TOKENS:
        p->valid_tokens = app_parse_count(state, "--valid-tokens", arg, INT64_C(1) << 40);
        return 0;
    case OPT_SAMPLE_EVERY:
        p->sample_every = app_parse_count(state, "--sample-every", arg, INT64_C(1) << 40);
        return 0;
    case OPT_SAMPLE_PROMPT: p->sample_prompt = arg; return 0;
    case OPT_SAMPLE_TOKENS:
        p->sample_tokens = (int)app_parse_int(state, "--sample-tokens", arg, 1, 1 << 17);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_data_option(int key, char *arg, struct argp_state *state)
{
    lf_train_params *p = ((app_train_run *)state->input)->params;
    switch (key) {
    case OPT_HOLD_OUT: p->hold_out = app_parse_float(state, "--hold-out", arg, 0.0, 0.9); return 0;
    case OPT_TRAIN_PROMPT: p->train_prompt = true; return 0;
    case 'c': p->context = (int)app_parse_int(state, "--context", arg, 2, 1 << 17); return 0;
    case OPT_SEED: p->seed = (uint64_t)app_parse_int(state, "--seed", arg, 0, INT64_MAX); return 0;
    case OPT_STEPS: p->n_steps = app_parse_count(state, "--steps", arg, INT64_C(1) << 40); return 0;
    case OPT_TOKENS: p->n_tokens = app_parse_count(state, "--tokens", arg, INT64_C(1) << 50); return 0;
    case OPT_BATCH: p->batch_tokens = (int)app_parse_int(state, "--batch", arg, 2, 1 << 24); return 0;
    case OPT_MICRO: p->micro_rows = (int)app_parse_int(state, "--micro", arg, 2, 1 << 24); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_step_option(int key, char *arg, struct argp_state *state)
{
    lf_train_params *p = ((app_train_run *)state->input)->params;
    switch (key) {
    case OPT_SCHEDULE: p->schedule = parse_schedule(state, arg); return 0;
    case OPT_LR: p->lr = app_parse_float(state, "--lr", arg, 0.0, 1e30); return 0;
    case OPT_LR_END: p->lr_end = app_parse_float(state, "--lr-end", arg, 0.0, 1.0); return 0;
    case OPT_DECAY: p->decay_share = app_parse_float(state, "--decay", arg, 0.0, 1.0); return 0;
    case OPT_WARMUP: p->warmup_steps = app_parse_count(state, "--warmup", arg, INT64_C(1) << 40); return 0;
    case OPT_BETA1: p->beta1 = app_parse_float(state, "--beta1", arg, 0.0, 1.0); return 0;
    case OPT_BETA2: p->beta2 = app_parse_float(state, "--beta2", arg, 0.0, 1.0); return 0;
    case OPT_EPS: p->eps = app_parse_float(state, "--eps", arg, 0.0, 1.0); return 0;
    case OPT_WEIGHT_DECAY:
        p->weight_decay = app_parse_float(state, "--weight-decay", arg, 0.0, 1e6);
        return 0;
    case OPT_CLIP: p->clip = app_parse_float(state, "--clip", arg, 0.0, 1e30); return 0;
    case OPT_F32: p->f32 = true; return 0;
    case OPT_RECOMPUTE: p->recompute = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* One list of options, for argp's help, and three functions that each know some of them. */
static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    error_t result = parse_run_option(key, arg, state);
    if (result == ARGP_ERR_UNKNOWN) result = parse_data_option(key, arg, state);
    return result == ARGP_ERR_UNKNOWN ? parse_step_option(key, arg, state) : result;
}

const struct argp app_train_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

/* ---- options.json ---- */

static void save_options(const app_train_run *r)
{
    char path[PATH_BYTES];
    json_t *list = json_array();
    for (int i = 0; list && i < r->n_args; i++) (void)json_array_append_new(list, json_string(r->args[i]));
    (void)snprintf(path, sizeof path, "%s/options.json", r->params->out_dir);
    if (!list || json_dump_file(list, path, JSON_INDENT(2)) != 0)
        (void)fprintf(stderr, "lookfar: %s: cannot write: --resume will need all options\n", path);
    json_decref(list);
}

int app_train_load_options(char ***all, int *n, json_t **list, const char *out_dir, int argc, char **argv)
{
    char path[PATH_BYTES];
    json_error_t error;
    (void)snprintf(path, sizeof path, "%s/options.json", out_dir);
    *list = json_load_file(path, 0, &error);
    const size_t n_saved = json_array_size(*list);
    if (n_saved == 0) {
        (void)fprintf(stderr, "lookfar: %s: cannot read the run's options: %s; give them all\n", path,
                      error.text);
        return EXIT_FAIL;
    }
    *all = calloc(n_saved + (size_t)argc + 1, sizeof **all);
    if (!*all) return app_fail(&(lf_error){.text = "out of memory"});
    (*all)[0] = argv[0];
    for (size_t i = 0; i < n_saved; i++) {
        const char *text = json_string_value(json_array_get(*list, i));
        (*all)[1 + i] = (char *)(uintptr_t)(text ? text : "");
    }
    for (int i = 1; i < argc; i++) (*all)[n_saved + (size_t)i] = argv[i];
    *n = (int)n_saved + argc;
    return 0;
}

/* ---- what it says ---- */

static void print_time(double seconds)
{
    const long long s = seconds > 0.0 ? (long long)seconds : 0;
    (void)fprintf(stderr, "%lld:%02lld:%02lld left", s / 3600, s / 60 % 60, s % 60);
}

/* Drawn over itself on a terminal; elsewhere a line now and then. */
static void show_step(app_train_run *r, const lf_train_event *e)
{
    const int64_t now = lf_clock_ns();
    const bool first_or_last = e->step == 1 || e->step == e->n_steps;
    if (!r->on_terminal && !first_or_last && now - r->line_ns < LINE_SECONDS * INT64_C(1000000000)) return;
    r->line_ns = now;
    (void)fprintf(stderr, "%sstep %lld of %lld  loss %.4f  lr %.3g  %.0f tokens/s  ",
                  r->on_terminal ? "\r\033[K" : "", (long long)e->step, (long long)e->n_steps, e->loss, e->lr,
                  e->tokens_per_second);
    print_time(e->seconds_left);
    if (!r->on_terminal) (void)fputc('\n', stderr);
}

static void show_validation(const lf_train_event *e)
{
    (void)fprintf(stderr, "step %lld  validation loss %.4f", (long long)e->step, e->loss);
    if (e->n_buckets > 0) (void)fprintf(stderr, "  by position:");
    for (int i = 0; i < e->n_buckets; i++)
        if (e->bucket_targets[i] > 0)
            (void)fprintf(stderr, " %d:%.3f", i == 0 ? 0 : 1 << i, e->bucket_loss[i]);
    if (e->ar_loss > 0.0)
        (void)fprintf(stderr, " = consistency %.4f and autoregressive %.4f", e->consistency_loss, e->ar_loss);
    if (e->tokens_per_pass > 0.0)
        (void)fprintf(stderr, "  tokens per pass %.3f  repeated %.1f %%", e->tokens_per_pass,
                      100.0 * e->repeated);
    (void)fputc('\n', stderr);
}

bool app_train_on_event(void *cookie, const lf_train_event *e)
{
    app_train_run *r = cookie;
    if (!r->saved && !r->params->resume && !r->params->prepare_only) save_options(r);
    r->saved = true;
    if (e->kind == LF_TRAIN_CHECKPOINT) r->has_checkpoint = true;
    if (r->quiet) return !app_interrupted;
    if (r->on_terminal && e->kind != LF_TRAIN_STEP) (void)fprintf(stderr, "\r\033[K");
    switch (e->kind) {
    case LF_TRAIN_PREPARING:
        if (r->on_terminal) (void)fprintf(stderr, "%s: %3.0f %%", e->path, 100.0 * e->share);
        break;
    case LF_TRAIN_STEP: show_step(r, e); break;
    case LF_TRAIN_VALIDATION: show_validation(e); break;
    case LF_TRAIN_SAMPLE:
        (void)fprintf(stderr, "step %lld  at temperature %g:\n%s\n", (long long)e->step,
                      (double)e->temperature, e->text);
        break;
    case LF_TRAIN_CHECKPOINT: break; /* often, and of no interest while all is well */
    case LF_TRAIN_EXPORT: (void)fprintf(stderr, "%s is written\n", e->path); break;
    }
    return !app_interrupted;
}

int app_train_end(const app_train_run *r, lf_status status, const lf_error *err, const char *command)
{
    if (r->on_terminal && !r->quiet) (void)fputc('\n', stderr);
    if (status == LF_OK) return 0;
    if (status != LF_ECANCELED || !r->has_checkpoint) return app_fail(err);
    (void)fprintf(stderr, "%s\nGo on with: lookfar %s -o %s --resume\n", err->text, command,
                  r->params->out_dir);
    return EXIT_EARLY;
}
