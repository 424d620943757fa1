/* Options of a request: which tokens are picked, when the output ends, and what proposes candidates. Names are llama.cpp's. */
#include "app.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_TEMP = 0x400,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPEAT_PENALTY,
    OPT_REPEAT_LAST_N,
    OPT_PRESENCE,
    OPT_FREQUENCY,
    OPT_IGNORE_EOS,
    OPT_PROPOSER,
    OPT_DRAFT_MAX,
    OPT_DRAFTING,
    OPT_SELECTION,
    OPT_BUDGET,
    OPT_LOGPROBS,
    OPT_NO_CACHE,
    OPT_JSON_OBJECT,
    OPT_JSON_SCHEMA,
    OPT_REGEX,
    OPT_CHOICE,
};

static const struct argp_option options[] = {
    {"predict", 'n', "N", 0, "tokens to generate at most (default: until the context is full)", 0},
    {"temp", OPT_TEMP, "T", 0, "temperature; 0 (default) always takes the likeliest token", 0},
    {"top-k", OPT_TOP_K, "N", 0, "only the N likeliest tokens; 0 (default): all", 0},
    {"top-p", OPT_TOP_P, "P", 0, "only the likeliest tokens whose probabilities reach P; 1 (default): all",
     0},
    {"min-p", OPT_MIN_P, "P", 0,
     "only tokens with at least P times the highest probability; 0 (default): all", 0},
    {"repeat-penalty", OPT_REPEAT_PENALTY, "X", 0,
     "divide the logits of recent tokens by X; 1 (default): do not", 0},
    {"presence-penalty", OPT_PRESENCE, "X", 0, "subtract X from the logits of recent tokens (default: 0)", 0},
    {"frequency-penalty", OPT_FREQUENCY, "X", 0,
     "subtract X for each occurrence of a recent token (default: 0)", 0},
    {"repeat-last-n", OPT_REPEAT_LAST_N, "N", 0, "tokens that count as recent; -1: all (default: 64)", 0},
    {"logit-bias", 'l', "ID(+|-)X", 0, "add X to the logit of a token, -inf forbids it; may be given again",
     0},
    {"seed", 's', "N", 0,
     "seed of the noise at a temperature above 0 (default: 0); the same seed gives the same text", 0},
    {"ignore-eos", OPT_IGNORE_EOS, NULL, 0, "do not stop at an end-of-sequence token", 0},
    {"json-object", OPT_JSON_OBJECT, NULL, 0, "the output is a JSON object", 0},
    {"json-schema", OPT_JSON_SCHEMA, "FILE|TEXT", 0, "the output is JSON that satisfies a schema", 0},
    {"regex", OPT_REGEX, "PATTERN", 0, "the output is what a regular expression matches as a whole", 0},
    {"choice", OPT_CHOICE, "TEXT", 0, "the output is this text; given again: one of these texts", 0},
    {"reverse-prompt", 'r', "TEXT", 0, "stop before this text; may be given again", 0},
    {"proposer", OPT_PROPOSER, "NAME", 0,
     "what guesses tokens ahead: none, ngram, jacobi, sparse, draft or auto (default), which chooses; the output is the same with each",
     0},
    {"draft-max", OPT_DRAFT_MAX, "N", 0,
     "tokens guessed ahead in a pass at most (default: 8; with --proposer jacobi or auto: as many as pay)",
     0},
    {"drafting", OPT_DRAFTING, "NAME", 0,
     "with --proposer sparse or draft: single (default), a pass for each guess, or jacobi, iterations over all",
     0},
    {"selection", OPT_SELECTION, "NAME", 0,
     "with --proposer sparse: what to draft over: window, snap or verify (default)", 0},
    {"budget", OPT_BUDGET, "N", 0,
     "with --proposer sparse: positions to draft over; 0 (default): 256, or a sixteenth of a long text", 0},
    {"logprobs", OPT_LOGPROBS, "N", 0, "with --json: log probabilities of each token and of the N likeliest",
     0},
    {"no-prefix-cache", OPT_NO_CACHE, NULL, 0, "compute every prompt from its beginning", 0},
    {0},
};

static void add_bias(app_request_options *o, const char *arg, struct argp_state *state)
{
    char *end;
    const long id = strtol(arg, &end, 10);
    const double bias = *end == '+' || *end == '-' ? strtod(end, &end) : NAN;
    if (isnan(bias) || bias == INFINITY || *end != '\0' || id < 0 || id > INT32_MAX)
        app_usage_error(state,
                        "--logit-bias: found \"%s\", expected a token id, + or -, and a number, as 15043-1.5",
                        arg);
    if (o->params.n_bias == APP_BIAS_MAX)
        app_usage_error(state, "--logit-bias: found more than %d", APP_BIAS_MAX);
    o->bias[o->params.n_bias++] = (lf_bias){(int32_t)id, (float)bias};
    o->params.bias = o->bias;
}

static void add_stop(app_request_options *o, const char *arg, struct argp_state *state)
{
    if (o->params.n_stop == LF_STOP_LIMIT)
        app_usage_error(state, "--reverse-prompt: found more than %d", LF_STOP_LIMIT);
    if (arg[0] == '\0') app_usage_error(state, "--reverse-prompt: found an empty text");
    o->stop[o->params.n_stop++] = arg;
    o->params.stop = o->stop;
}

/* What the output may say is said once; only choices add up. */
static void set_grammar(app_request_options *o, lf_grammar_kind kind, const char *arg,
                        struct argp_state *state)
{
    app_grammar_options *g = &o->grammar;
    if (g->is_set && (g->kind != kind || kind != LF_GRAMMAR_CHOICE))
        app_usage_error(state, "--json-object, --json-schema, --regex and --choice: found two, expected one");
    if (g->n_choices == APP_CHOICE_MAX)
        app_usage_error(state, "--choice: found more than %d", APP_CHOICE_MAX);
    g->is_set = true;
    g->kind = kind;
    g->text = arg;
    if (kind == LF_GRAMMAR_CHOICE) g->choices[g->n_choices++] = arg;
}

/* arg, which is one of the names (n). */
static const char *parse_name(const char *option, const char *arg, const char *const *names, int n,
                              const char *expected, struct argp_state *state)
{
    for (int i = 0; i < n; i++)
        if (strcmp(arg, names[i]) == 0) return arg;
    app_usage_error(state, "%s: found \"%s\", expected %s", option, arg, expected);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    static const char *const proposers[] = {"none", "ngram", "jacobi", "sparse", "draft", "auto"},
                             *const draftings[] = {"single", "jacobi"},
                             *const selections[] = {"window", "snap", "verify"};
    app_request_options *o = state->input;
    lf_request_params *p = &o->params;
    switch (key) {
    case 'n': p->n_predict = (int)app_parse_int(state, "--predict", arg, -1, 1 << 30); return 0;
    case OPT_TEMP: p->temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case OPT_TOP_K: p->top_k = (int)app_parse_int(state, "--top-k", arg, 0, INT32_MAX); return 0;
    case OPT_TOP_P: p->top_p = (float)app_parse_float(state, "--top-p", arg, 0.0, 1.0); return 0;
    case OPT_MIN_P: p->min_p = (float)app_parse_float(state, "--min-p", arg, 0.0, 1.0); return 0;
    case OPT_REPEAT_PENALTY:
        p->repetition_penalty = (float)app_parse_float(state, "--repeat-penalty", arg, 1e-3, 1e3);
        return 0;
    case OPT_PRESENCE:
        p->presence_penalty = (float)app_parse_float(state, "--presence-penalty", arg, -1e3, 1e3);
        return 0;
    case OPT_FREQUENCY:
        p->frequency_penalty = (float)app_parse_float(state, "--frequency-penalty", arg, -1e3, 1e3);
        return 0;
    case OPT_REPEAT_LAST_N:
        p->repeat_last_n = (int)app_parse_int(state, "--repeat-last-n", arg, -1, INT32_MAX);
        return 0;
    case 'l': add_bias(o, arg, state); return 0;
    case 's': p->seed = (uint64_t)app_parse_int(state, "--seed", arg, 0, INT64_MAX); return 0;
    case OPT_IGNORE_EOS: p->ignore_eos = true; return 0;
    case OPT_JSON_OBJECT: set_grammar(o, LF_GRAMMAR_JSON_OBJECT, "", state); return 0;
    case OPT_JSON_SCHEMA: set_grammar(o, LF_GRAMMAR_JSON_SCHEMA, arg, state); return 0;
    case OPT_REGEX: set_grammar(o, LF_GRAMMAR_REGEX, arg, state); return 0;
    case OPT_CHOICE: set_grammar(o, LF_GRAMMAR_CHOICE, arg, state); return 0;
    case 'r': add_stop(o, arg, state); return 0;
    case OPT_PROPOSER:
        p->proposer = parse_name("--proposer", arg, proposers, 6,
                                 "none, ngram, jacobi, sparse, draft or auto", state);
        return 0;
    case OPT_DRAFTING:
        p->drafting = parse_name("--drafting", arg, draftings, 2, "single or jacobi", state);
        return 0;
    case OPT_SELECTION:
        p->selection = parse_name("--selection", arg, selections, 3, "window, snap or verify", state);
        return 0;
    case OPT_BUDGET: p->sparse_budget = (int)app_parse_int(state, "--budget", arg, 0, INT32_MAX); return 0;
    case OPT_DRAFT_MAX:
        p->draft_max = (int)app_parse_int(state, "--draft-max", arg, 0, LF_DRAFT_LIMIT);
        return 0;
    case OPT_LOGPROBS:
        p->logprobs = true;
        p->n_top = (int)app_parse_int(state, "--logprobs", arg, 0, LF_TOP_LIMIT);
        return 0;
    case OPT_NO_CACHE: p->no_prefix_cache = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp app_request_argp = {.options = options, .parser = parse_option};

/* ---- results ---- */

/* Bytes as a JSON string; what is not UTF-8 (a token's text never is cut, but a model's text need not be text) as U+FFFD. */
json_t *app_text_json(const char *text, size_t len)
{
    json_t *whole = json_stringn(text, len);
    return whole ? whole : json_string("\xEF\xBF\xBD");
}

static json_t *logprobs_json(const app_token_log *log)
{
    json_t *all = json_array();
    for (size_t i = 0; i < log->n; i++) {
        json_t *top = json_array();
        for (int k = 0; k < log->n_top; k++) {
            const lf_logprob *t = &log->top[i * (size_t)log->n_top + (size_t)k];
            (void)json_array_append_new(top, json_pack("[i, f]", (int)t->id, (double)t->logprob));
        }
        (void)json_array_append_new(all,
                                    json_pack("{s:f, s:o}", "logprob", (double)log->logprob[i], "top", top));
    }
    return all;
}

json_t *app_result_json(const lf_request *request, const lf_request_params *params, const app_token_log *log)
{
    lf_request_result r = {.size = sizeof r};
    size_t n_ids, len;
    lf_request_get_result(request, &r);
    const int32_t *ids = lf_request_ids(request, &n_ids);
    const char *text = lf_request_text(request, &len);
    json_t *tokens = json_array();
    for (size_t i = 0; i < n_ids; i++) (void)json_array_append_new(tokens, json_integer(ids[i]));
    json_t *o = json_pack(
        "{s:o, s:o, s:i, s:i, s:s, s:i, s:i, s:i, s:i, s:f, s:i, s:f, s:f, s:f, s:s}", "text",
        app_text_json(text, len), "tokens", tokens, "prompt_tokens", r.prompt_tokens, "cached_tokens",
        r.cached_tokens, "proposer", params->proposer, "passes", r.passes, "draft_passes", r.draft_passes,
        "proposed", r.proposed, "accepted", r.accepted, "fast_forwarded", r.fast_forwarded, "stationary",
        r.stationary, "tokens_per_pass", r.passes > 0 ? (double)r.output_tokens / r.passes : 0.0, "prefill_s",
        r.prefill_seconds, "decode_s", r.decode_seconds, "finish_reason", lf_finish_name(r.finish));
    if (o && params->logprobs) (void)json_object_set_new(o, "logprobs", logprobs_json(log));
    return o;
}

bool app_log_token(app_token_log *log, const lf_token *token)
{
    if (token->id < 0) return true;
    if (log->n == log->cap) {
        const size_t cap = log->cap ? 2 * log->cap : 64, n_top = (size_t)token->n_top;
        float *logprob = realloc(log->logprob, cap * sizeof *logprob);
        if (!logprob) return false;
        log->logprob = logprob;
        lf_logprob *top = realloc(log->top, cap * n_top * sizeof *top + 1);
        if (!top) return false;
        log->top = top;
        log->cap = cap;
    }
    log->n_top = token->n_top;
    log->logprob[log->n] = token->logprob;
    for (int k = 0; k < token->n_top; k++)
        log->top[log->n * (size_t)token->n_top + (size_t)k] = token->top[k];
    log->n++;
    return true;
}

void app_free_token_log(app_token_log *log)
{
    free(log->logprob);
    free(log->top);
    *log = (app_token_log){0};
}
