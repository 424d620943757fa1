/* lookfar eval: a model and its teacher on held-out questions: scores, losses, passes and seconds, plainly, by Jacobi and by what `auto`
 * chooses. */
#include "eval.h"

#include "app.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_TEACHER = 0x500,
    OPT_DOMAIN,
    OPT_DATA,
    OPT_SPLIT,
    OPT_SAMPLES,
    OPT_TEMP,
    OPT_MAX_TOKENS,
    OPT_JSON,
};

typedef struct eval_options {
    eval_params params;
    app_engine_options engine;
    const char *teacher_path, *json_path;
    bool has_domain;
    size_t n_samples;      /* 0: all */
    size_t n_too_long;     /* questions that do not fit the context */
    char shipped[2][1200]; /* paths of the pair that is the domain's, when none is given */
    app_progress progress;
} eval_options;

static const struct argp_option options[] = {
    {"teacher", OPT_TEACHER, "PATH", 0,
     "the model that this one was made from, to compare with (without -m: the domain's own pair of models/)",
     0},
    {"domain", OPT_DOMAIN, "NAME", 0, "spider, python, gsm8k or stories", 0},
    {"data", OPT_DATA, "DIR", 0, "the folder of the raw data (default: ../shared/data)", 0},
    {"split", OPT_SPLIT, "NAME", 0,
     "valid (default): questions held out of training; spider also: dev, gsm8k also: test", 0},
    {"samples", OPT_SAMPLES, "N", 0, "questions, evenly spread (default: all)", 0},
    {"n", 'n', "LIST", 0, "rows of a Jacobi pass (default: 8,16,32)", 0},
    {"temp", OPT_TEMP, "T", 0, "temperature; 0 (default) always takes the likeliest token", 0},
    {"seed", 's', "N", 0, "seed of the noise at a temperature above 0 (default: 0)", 0},
    {"max-tokens", OPT_MAX_TOKENS, "N", 0, "of an output (default: by the domain, 128 to 384)", 0},
    {"json", OPT_JSON, "FILE", 0, "write a JSON object for each n to FILE (-: standard output)", 0},
    {0},
};

static void parse_sizes(struct argp_state *state, eval_params *p, const char *text)
{
    p->n_sizes = 0;
    for (const char *at = text; *at;) {
        char part[16];
        const size_t len = strcspn(at, ",");
        (void)snprintf(part, sizeof part, "%.*s", (int)(len < 15 ? len : 15), at);
        if (p->n_sizes == EVAL_SIZES_MAX)
            app_usage_error(state, "-n: found more than %d sizes", EVAL_SIZES_MAX);
        p->sizes[p->n_sizes++] = (int)app_parse_int(state, "-n", part, 2, LF_DRAFT_LIMIT);
        at += len + (at[len] == ',');
    }
    if (p->n_sizes == 0) app_usage_error(state, "-n: found \"\", expected a list of numbers");
}

static eval_domain parse_domain(struct argp_state *state, const char *text)
{
    for (int i = 0; i < EVAL_DOMAINS; i++)
        if (strcmp(text, eval_domain_name((eval_domain)i)) == 0) return (eval_domain)i;
    app_usage_error(state, "--domain: found \"%s\", expected spider, python, gsm8k or stories", text);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    eval_options *o = state->input;
    eval_params *p = &o->params;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->engine; return 0;
    case OPT_TEACHER: o->teacher_path = arg; return 0;
    case OPT_DOMAIN:
        p->domain = parse_domain(state, arg);
        o->has_domain = true;
        return 0;
    case OPT_DATA: p->data_dir = arg; return 0;
    case OPT_SPLIT: p->split = arg; return 0;
    case OPT_SAMPLES: o->n_samples = (size_t)app_parse_int(state, "--samples", arg, 1, INT32_MAX); return 0;
    case 'n': parse_sizes(state, p, arg); return 0;
    case OPT_TEMP: p->temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case 's': p->seed = (uint64_t)app_parse_int(state, "--seed", arg, 0, INT64_MAX); return 0;
    case OPT_MAX_TOKENS:
        p->max_tokens = (int)app_parse_int(state, "--max-tokens", arg, 1, INT32_MAX);
        return 0;
    case OPT_JSON: o->json_path = arg; return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg);
    case ARGP_KEY_END:
        if (!o->has_domain) app_usage_error(state, "--domain NAME: the domain is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- results ---- */

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static double seconds(const eval_arm *arm)
{
    return arm->prefill_seconds + arm->decode_seconds;
}

static double tokens_per_pass(const eval_arm *arm)
{
    return per((double)arm->output_tokens, (double)arm->passes);
}

/* Of Jacobi's n tokens, those that were right before their turn. */
static double stationary_per_block(const eval_arm *arm)
{
    return per((double)arm->stationary * arm->size, (double)arm->output_tokens);
}

static json_t *scores_json(const eval_scores *s)
{
    json_t *object = json_object();
    for (int i = 0; i < s->n; i++) (void)json_object_set_new(object, s->names[i], json_real(s->values[i]));
    return object;
}

/* A number, or null for one that there is none of. */
static json_t *real_json(double value, bool known)
{
    return known && isfinite(value) ? json_real(value) : json_null();
}

/* What was decoded, and how fast. */
static json_t *arm_json(const eval_arm *arm, const eval_arm *plain)
{
    const bool is_jacobi = arm->size > 0;
    return json_pack(
        "{s:s, s:o, s:s, s:o, s:f, s:o, s:f, s:f, s:f, s:o, s:o, s:b, s:I, s:I, s:f, s:f}", "proposer",
        is_jacobi ? "jacobi" : "auto", "n", is_jacobi ? json_integer(arm->size) : json_null(), "metric",
        arm->scores.names[0], "scores", scores_json(&arm->scores), "score", arm->scores.values[0],
        "score_plain", json_real(plain->scores.values[0]), "tokens_per_pass", tokens_per_pass(arm), "speedup",
        per(seconds(plain), seconds(arm)), "decode_speedup", per(plain->decode_seconds, arm->decode_seconds),
        "fast_forwarded", real_json(arm->fast_forwarded, is_jacobi), "stationary",
        real_json(stationary_per_block(arm), is_jacobi), "identical", (int)arm->identical, "output_tokens",
        (json_int_t)arm->output_tokens, "passes", (json_int_t)arm->passes, "seconds", seconds(arm),
        "seconds_plain", seconds(plain));
}

/* The teacher, decoded in the same way, beside it. */
static json_t *teacher_json(const eval_result *r, int k)
{
    const eval_arm *arm = &r->teacher_arms[k], *plain = &r->teacher_arms[0];
    const bool known = r->has_teacher, is_jacobi = known && arm->size > 0;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "score_teacher",
                     real_json(plain->scores.values[0], known), "scores_teacher",
                     known ? scores_json(&plain->scores) : json_null(), "tokens_per_pass_teacher",
                     real_json(tokens_per_pass(arm), known), "speedup_teacher",
                     real_json(per(seconds(plain), seconds(arm)), known), "fast_forwarded_teacher",
                     real_json(arm->fast_forwarded, is_jacobi), "stationary_teacher",
                     real_json(stationary_per_block(arm), is_jacobi), "identical_teacher",
                     known ? json_boolean(arm->identical) : json_null(), "loss_teacher",
                     real_json(r->loss_teacher, known), "agreement", real_json(r->agreement, known),
                     "first_difference", real_json(r->first_difference, known), "same_outputs",
                     real_json(r->same_outputs, known));
}

/* A line of the results: of the model's arm k. */
static json_t *line_json(const eval_options *o, const eval_result *r, int k)
{
    json_t *line = json_pack(
        "{s:s, s:s?, s:s, s:s, s:I, s:f, s:o, s:I, s:i}", "model", o->engine.params.model_path, "teacher",
        o->teacher_path, "domain", eval_domain_name(o->params.domain), "split", o->params.split, "samples",
        (json_int_t)r->n, "temperature", (double)o->params.temperature, "loss", real_json(r->loss, true),
        "too_long", (json_int_t)o->n_too_long, "max_tokens", o->params.max_tokens);
    json_t *parts[] = {arm_json(&r->arms[k], &r->arms[0]), teacher_json(r, k)};
    for (int i = 0; i < 2; i++) {
        if (line && parts[i]) (void)json_object_update(line, parts[i]);
        json_decref(parts[i]);
    }
    return line;
}

static void print_head(FILE *f, const eval_scores *s)
{
    (void)fprintf(f, "| decoding |");
    for (int i = 0; i < s->n; i++) (void)fprintf(f, " %s |", s->names[i]);
    (void)fprintf(
        f, " tokens per pass | fast-forwarded | stationary | speed-up | decoding only | identical |\n|");
    for (int i = 0; i < s->n + 7; i++) (void)fprintf(f, "---|");
    (void)fprintf(f, "\n");
}

static void print_row(FILE *f, const eval_arm *arm, const eval_arm *plain)
{
    if (arm->size > 0)
        (void)fprintf(f, "| n = %d |", arm->size);
    else
        (void)fprintf(f, "| %s |", arm->size == EVAL_AUTO ? "auto" : "plain");
    for (int i = 0; i < arm->scores.n; i++) (void)fprintf(f, " %.1f %% |", 100 * arm->scores.values[i]);
    (void)fprintf(f, " %.2f |", tokens_per_pass(arm));
    if (arm->size > 0)
        (void)fprintf(f, " %.2f | %.2f |", arm->fast_forwarded, stationary_per_block(arm));
    else
        (void)fprintf(f, " | |");
    if (arm->size == EVAL_PLAIN)
        (void)fprintf(f, " 1x | 1x | |\n");
    else
        (void)fprintf(f, " %.2fx | %.2fx | %s |\n", per(seconds(plain), seconds(arm)),
                      per(plain->decode_seconds, arm->decode_seconds), arm->identical ? "yes" : "NO");
}

static void print_table(FILE *f, const char *title, const eval_arm *arms, int n_arms)
{
    (void)fprintf(f, "\n%s\n\n", title);
    print_head(f, &arms[0].scores);
    for (int k = 0; k < n_arms; k++) print_row(f, &arms[k], &arms[0]);
}

/* What the paper's table 3 has: how many more tokens become right before their turn. */
static void print_gains(FILE *f, const eval_result *r)
{
    (void)fprintf(
        f, "\n| of the teacher's | tokens per pass | fast-forwarded | stationary |\n|---|---|---|---|\n");
    for (int k = 0; k < r->n_arms; k++) {
        const eval_arm *a = &r->arms[k], *b = &r->teacher_arms[k];
        if (a->size <= 0) continue;
        (void)fprintf(f, "| n = %d | %.2fx | %.2fx | %.1fx |\n", a->size,
                      per(tokens_per_pass(a), tokens_per_pass(b)), per(a->fast_forwarded, b->fast_forwarded),
                      per(stationary_per_block(a), stationary_per_block(b)));
    }
}

/* Markdown. */
static void print_report(FILE *f, const eval_options *o, const eval_result *r)
{
    (void)fprintf(f, "%s, %s: %zu questions, temperature %g, at most %d tokens each",
                  eval_domain_name(o->params.domain), o->params.split, r->n, (double)o->params.temperature,
                  o->params.max_tokens);
    if (o->n_too_long > 0) (void)fprintf(f, "; %zu more do not fit the context", o->n_too_long);
    (void)fprintf(f, "\n");
    print_table(f, o->engine.params.model_path, r->arms, r->n_arms);
    if (r->has_teacher) {
        print_table(f, o->teacher_path, r->teacher_arms, r->n_arms);
        print_gains(f, r);
    }
    (void)fprintf(
        f,
        "\n* tokens per pass: every pass that gave a token counts, the one that read the prompt and those that "
        "only confirm, too.\n"
        "* fast-forwarded: the same as CLLM's paper counts it, without a last pass that only confirms. stationary: "
        "tokens of n that were right before their turn.\n"
        "* speed-up: of wall-clock time over plain decoding, with and without the reading of prompts.\n"
        "* loss of the data's answers: %.4f nats a token",
        r->loss);
    if (r->has_teacher)
        (void)fprintf(
            f,
            "; of the teacher %.4f\n"
            "* plain outputs agree with the teacher's in %.1f %% of the tokens, and in their first %.1f tokens; "
            "%.1f %% are the same",
            r->loss_teacher, 100 * r->agreement, r->first_difference, 100 * r->same_outputs);
    (void)fprintf(f, "\n");
}

static int report(const eval_options *o, const eval_result *r)
{
    FILE *json = NULL;
    int code = 0;
    if (o->json_path) {
        json = app_open_json(o->json_path);
        if (!json) return EXIT_FAIL;
    }
    for (int k = 1; json && k < r->n_arms && code == 0; k++)
        code = app_write_json(json, o->json_path, line_json(o, r, k));
    print_report(json == stdout ? stderr : stdout, o, r);
    return app_close_json(json, o->json_path, code);
}

/* ---- running ---- */

static bool on_progress(void *cookie, size_t done, size_t total)
{
    eval_options *o = cookie;
    app_progress_draw(&o->progress, (double)done / (double)total);
    return !app_interrupted;
}

/* Looks for the domain's models, the CLLM and the one that it was made from. */
static lf_status use_shipped(eval_options *o, lf_error *err)
{
    static const char *const names[EVAL_DOMAINS] = {"sql", "python", "gsm8k", "stories"};
    static const char *const ends[] = {"-cllm", ""};
    char name[64];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "scribe-%s%s.gguf", names[o->params.domain], ends[i]);
        if (!app_find_shipped(o->shipped[i], sizeof o->shipped[i], name))
            return lf_fail(err, LF_EIO, "models/%s: not found; expected here, or -m PATH", name);
    }
    o->engine.params.model_path = o->shipped[0];
    if (!o->teacher_path) o->teacher_path = o->shipped[1];
    return LF_OK;
}

/* With all that `auto` knows: its measurements are no part of the first question's time. */
static lf_status open_model(lf_engine **out, app_engine_options *o, lf_error *err)
{
    const lf_status status = app_open_engine(out, o, err);
    return status == LF_OK ? app_prepare_profile(*out, o->quiet, err) : status;
}

static lf_status evaluate(eval_options *o, eval_result *result, lf_error *err)
{
    static const int max_tokens[EVAL_DOMAINS] = {128, 384, 256, 256};
    lf_engine *model = NULL, *teacher = NULL;
    app_engine_options teacher_options = o->engine;
    eval_set set = {0};
    lf_status status = eval_load(&set, o->params.domain, o->params.split, o->params.data_dir, err);
    if (status != LF_OK) goto done;
    if (o->n_samples > 0) eval_thin_out(&set, o->n_samples);
    if (o->params.max_tokens == 0) o->params.max_tokens = max_tokens[o->params.domain];
    o->engine.params.n_candidates = LF_DRAFT_LIMIT;
    if (!o->engine.params.model_path) status = use_shipped(o, err);
    if (status == LF_OK) status = open_model(&model, &o->engine, err);
    teacher_options.params.model_path = o->teacher_path;
    if (status == LF_OK && o->teacher_path) status = open_model(&teacher, &teacher_options, err);
    if (status == LF_OK) status = eval_drop_long(&set, &o->n_too_long, model, err);
    if (status == LF_OK && teacher) status = eval_drop_long(&set, &o->n_too_long, teacher, err);
    if (status == LF_OK && set.n == 0)
        status = lf_fail(err, LF_ELIMIT, "%s: none of the %zu questions fits the context",
                         o->engine.params.model_path, o->n_too_long);
    if (status != LF_OK) goto done;
    app_progress_start(&o->progress, "evaluating", o->engine.quiet);
    status = eval_run(result, model, teacher, &set, &o->params, err);
    app_progress_clear(&o->progress);
done:
    lf_engine_close(teacher);
    lf_engine_close(model);
    eval_free_set(&set);
    return status;
}

int app_eval(int argc, char **argv)
{
    static const struct argp_child children[] = {{&app_engine_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,  parse_option,
        NULL,     "Scores a model on held-out questions, decoded plainly, by Jacobi and as auto likes.",
        children, NULL,
        NULL};
    eval_options o = {.engine.needs_no_model = true,
                      .params = {.split = "valid",
                                 .data_dir = "../shared/data",
                                 .sizes = {8, 16, 32},
                                 .n_sizes = 3,
                                 .on_progress = on_progress,
                                 .cookie = &o}};
    eval_result result;
    lf_error err = {0};
    lf_engine_params_init(&o.engine.params);
    app_parse_args(&argp, argc, argv, &o);
    app_catch_interrupt();
    if (evaluate(&o, &result, &err) != LF_OK) return app_fail(&err);
    return report(&o, &result);
}
