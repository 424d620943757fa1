/* lookfar eval: a model and its teacher on held-out questions: scores, losses, passes and seconds, plainly and by Jacobi. */
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
    size_t n_samples;  /* 0: all */
    size_t n_too_long; /* questions that do not fit the context */
    app_progress progress;
} eval_options;

static const struct argp_option options[] = {
    {"teacher", OPT_TEACHER, "PATH", 0, "the model that this one was made from, to compare with", 0},
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

static json_t *arm_json(const eval_options *o, const eval_result *r, const eval_arm *arm)
{
    const eval_arm *plain = &r->arms[0];
    const bool taught = r->has_teacher;
    return json_pack(
        "{s:s, s:s?, s:s, s:s, s:i, s:I, s:f, s:s, s:o, s:f, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:b, s:I, "
        "s:I, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:I, s:i}",
        "model", o->engine.params.model_path, "teacher", o->teacher_path, "domain",
        eval_domain_name(o->params.domain), "split", o->params.split, "n", arm->size, "samples",
        (json_int_t)r->n, "temperature", (double)o->params.temperature, "metric", arm->scores.names[0],
        "scores", scores_json(&arm->scores), "score", arm->scores.values[0], "score_plain",
        json_real(plain->scores.values[0]), "score_teacher", real_json(r->scores_teacher.values[0], taught),
        "scores_teacher", taught ? scores_json(&r->scores_teacher) : json_null(), "tokens_per_pass",
        per((double)arm->output_tokens, (double)arm->passes), "speedup", per(seconds(plain), seconds(arm)),
        "decode_speedup", per(plain->decode_seconds, arm->decode_seconds), "fast_forwarded",
        arm->fast_forwarded, "stationary", stationary_per_block(arm), "identical", (int)arm->identical,
        "output_tokens", (json_int_t)arm->output_tokens, "passes", (json_int_t)arm->passes, "seconds",
        seconds(arm), "seconds_plain", seconds(plain), "loss", real_json(r->loss, true), "loss_teacher",
        real_json(r->loss_teacher, taught), "agreement", real_json(r->agreement, taught), "first_difference",
        real_json(r->first_difference, taught), "same_outputs", real_json(r->same_outputs, taught),
        "too_long", (json_int_t)o->n_too_long, "max_tokens", o->params.max_tokens);
}

static void print_row(FILE *f, const eval_arm *arm, const eval_arm *plain)
{
    char name[16] = "plain";
    if (arm->size > 0) (void)snprintf(name, sizeof name, "n = %d", arm->size);
    (void)fprintf(f, "| %s |", name);
    for (int i = 0; i < arm->scores.n; i++) (void)fprintf(f, " %.1f %% |", 100 * arm->scores.values[i]);
    (void)fprintf(f, " %.2f |", per((double)arm->output_tokens, (double)arm->passes));
    if (arm->size > 0)
        (void)fprintf(f, " %.2f | %.2f | %.2fx | %.2fx | %s |\n", arm->fast_forwarded,
                      stationary_per_block(arm), per(seconds(plain), seconds(arm)),
                      per(plain->decode_seconds, arm->decode_seconds), arm->identical ? "yes" : "NO");
    else
        (void)fprintf(f, " | | 1x | 1x | |\n");
}

/* A Markdown table. */
static void print_table(FILE *f, const eval_options *o, const eval_result *r)
{
    const eval_scores *s = &r->arms[0].scores;
    (void)fprintf(f, "%s, %s, %s: %zu questions, temperature %g\n\n| decoding |", o->engine.params.model_path,
                  eval_domain_name(o->params.domain), o->params.split, r->n, (double)o->params.temperature);
    for (int i = 0; i < s->n; i++) (void)fprintf(f, " %s |", s->names[i]);
    (void)fprintf(
        f, " tokens per pass | fast-forwarded | stationary | speed-up | decoding only | identical |\n|");
    for (int i = 0; i < s->n + 7; i++) (void)fprintf(f, "---|");
    (void)fprintf(f, "\n");
    for (int k = 0; k <= o->params.n_sizes; k++) print_row(f, &r->arms[k], &r->arms[0]);
    if (o->n_too_long > 0) (void)fprintf(f, "\n%zu more questions do not fit the context.", o->n_too_long);
    (void)fprintf(f, "\nloss %.4f nats a token", r->loss);
    if (r->has_teacher) {
        (void)fprintf(f, "; of the teacher %.4f\nteacher:", r->loss_teacher);
        for (int i = 0; i < r->scores_teacher.n; i++)
            (void)fprintf(f, " %s %.1f %%,", r->scores_teacher.names[i], 100 * r->scores_teacher.values[i]);
        (void)fprintf(f, " %.1f %% of its tokens, %.1f %% of its outputs, the first %.1f tokens of an output",
                      100 * r->agreement, 100 * r->same_outputs, r->first_difference);
    }
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
    for (int k = 1; json && k <= o->params.n_sizes && code == 0; k++)
        code = app_write_json(json, o->json_path, arm_json(o, r, &r->arms[k]));
    print_table(json == stdout ? stderr : stdout, o, r);
    return app_close_json(json, o->json_path, code);
}

/* ---- running ---- */

static bool on_progress(void *cookie, size_t done, size_t total)
{
    eval_options *o = cookie;
    app_progress_draw(&o->progress, (double)done / (double)total);
    return !app_interrupted;
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
    status = app_open_engine(&model, &o->engine, err);
    teacher_options.params.model_path = o->teacher_path;
    if (status == LF_OK && o->teacher_path) status = app_open_engine(&teacher, &teacher_options, err);
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
        options,  parse_option, NULL, "Scores a model on held-out questions, decoded plainly and by Jacobi.",
        children, NULL,         NULL};
    eval_options o = {.params = {.split = "valid",
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
