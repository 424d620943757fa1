#include "call.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that parsing takes at once for each byte of a token: the old buffer, one of twice its size, a copy. */
enum { PARSE_FACTOR = 4 };

typedef enum field_kind { KIND_INT, KIND_FLOAT, KIND_BOOL } field_kind;

/* A field that goes as it is to the place of its value. */
typedef struct field {
    const char *name;
    field_kind kind;
    size_t offset; /* in serve_call */
    double min, max;
} field;

#define PARAM(member) offsetof(serve_call, params.member)

static const field common_fields[] = {
    {"temperature", KIND_FLOAT, PARAM(temperature), 0, 1000},
    {"top_p", KIND_FLOAT, PARAM(top_p), 0, 1},
    {"min_p", KIND_FLOAT, PARAM(min_p), 0, 1},
    {"top_k", KIND_INT, PARAM(top_k), -1, INT32_MAX},
    {"repetition_penalty", KIND_FLOAT, PARAM(repetition_penalty), 0.001, 1000},
    {"repeat_penalty", KIND_FLOAT, PARAM(repetition_penalty), 0.001, 1000},
    {"presence_penalty", KIND_FLOAT, PARAM(presence_penalty), -1000, 1000},
    {"frequency_penalty", KIND_FLOAT, PARAM(frequency_penalty), -1000, 1000},
    {"repeat_last_n", KIND_INT, PARAM(repeat_last_n), -1, INT32_MAX},
    {"n_predict", KIND_INT, PARAM(n_predict), -1, INT32_MAX},
    {"max_tokens", KIND_INT, PARAM(n_predict), 0, INT32_MAX},
    {"max_completion_tokens", KIND_INT, PARAM(n_predict), 0, INT32_MAX},
    {"n", KIND_INT, offsetof(serve_call, n), 1, SERVE_CHOICES_MAX},
    {"ignore_eos", KIND_BOOL, PARAM(ignore_eos), 0, 0},
    {"stream", KIND_BOOL, offsetof(serve_call, stream), 0, 0},
    {"return_progress", KIND_BOOL, offsetof(serve_call, wants_progress), 0, 0},
    {"timings_per_token", KIND_BOOL, offsetof(serve_call, wants_timings), 0, 0},
    {"return_metrics", KIND_BOOL, offsetof(serve_call, wants_metrics), 0, 0},
    {"return_provenance", KIND_BOOL, offsetof(serve_call, wants_provenance), 0, 0},
    {"return_token_ids", KIND_BOOL, offsetof(serve_call, wants_ids), 0, 0},
};

/* What would change the output, and lookfar cannot do, with the number that asks for nothing. Other empty values do, too. */
static const struct {
    const char *name;
    double neutral;
} unsupported[] = {
    {"functions", 0},          {"function_call", 0},  {"audio", 0},
    {"web_search_options", 0}, {"suffix", 0},         {"min_tokens", 0},
    {"stop_token_ids", 0},     {"bad_words", 0},      {"use_beam_search", 0},
    {"prompt_embeds", 0},      {"grammar", 0},        {"guided_grammar", 0},
    {"logits_processors", 0},  {"mirostat", 0},       {"typical_p", 1},
    {"xtc_probability", 0},    {"dry_multiplier", 0}, {"truncate_prompt_tokens", 0},
};

/* A member that is there and not null. */
static const json_t *member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static const char *kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    default: return "null";
    }
}

static bool refuse_kind(serve_error *e, const char *name, const json_t *found, const char *expected)
{
    return serve_refuse(e, name, "%s: found %s, expected %s", name, kind_of(found), expected);
}

static bool refuse_memory(serve_error *e)
{
    return serve_fail(e, 503, "out_of_memory", "out of memory: the request");
}

/* ---- simple fields ---- */

static bool set_field(serve_call *call, const field *f, const json_t *value, serve_error *e)
{
    void *at = (char *)call + f->offset;
    const double number = json_number_value(value);
    if (f->kind == KIND_BOOL) {
        if (!json_is_boolean(value)) return refuse_kind(e, f->name, value, "true or false");
        *(bool *)at = json_is_true(value);
        return true;
    }
    if (f->kind == KIND_INT && !json_is_integer(value))
        return refuse_kind(e, f->name, value, "a whole number");
    if (!json_is_number(value)) return refuse_kind(e, f->name, value, "a number");
    if (!(number >= f->min && number <= f->max))
        return serve_refuse(e, f->name, "%s: found %g, expected %g to %g", f->name, number, f->min, f->max);
    if (f->kind == KIND_INT)
        *(int *)at = (int)number;
    else
        *(float *)at = (float)number;
    return true;
}

static bool read_fields(serve_call *call, serve_error *e)
{
    for (size_t i = 0; i < sizeof common_fields / sizeof *common_fields; i++) {
        const json_t *value = member(call->body, common_fields[i].name);
        if (value && !set_field(call, &common_fields[i], value, e)) return false;
    }
    if (call->params.top_k < 0) call->params.top_k = 0; /* vLLM's way to say all */
    return true;
}

/* Whether a value asks for nothing: false, the neutral number, "", [], {}. */
static bool is_empty(const json_t *value, double neutral)
{
    return json_is_false(value) || (json_is_number(value) && json_number_value(value) == neutral) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static bool check_unsupported(const serve_call *call, serve_error *e)
{
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const char *name = unsupported[i].name;
        const json_t *value = member(call->body, name);
        if (value && !is_empty(value, unsupported[i].neutral))
            return serve_refuse(e, name, "%s is not supported", name);
    }
    const json_t *best_of = member(call->body, "best_of");
    if (best_of && (!json_is_integer(best_of) || json_integer_value(best_of) > call->n))
        return serve_refuse(e, "best_of", "best_of: more than n is not supported");
    const json_t *modalities = member(call->body, "modalities");
    for (size_t i = 0; i < json_array_size(modalities); i++) {
        const char *name = json_string_value(json_array_get(modalities, i));
        if (!name || strcmp(name, "text") != 0)
            return serve_refuse(e, "modalities", "modalities: only \"text\" is supported");
    }
    return true;
}

/* ---- seed, stop, bias ---- */

static bool read_seed(serve_call *call, serve_error *e)
{
    const json_t *value = member(call->body, "seed");
    if (!value) return true;
    if (!json_is_integer(value)) return refuse_kind(e, "seed", value, "a whole number");
    call->params.seed = (uint64_t)json_integer_value(value);
    call->has_seed = true;
    return true;
}

static bool read_stop(serve_call *call, serve_error *e)
{
    const json_t *value = member(call->body, "stop");
    if (!value) return true;
    const bool is_list = json_is_array(value);
    const size_t n = is_list ? json_array_size(value) : 1;
    if (n > LF_STOP_LIMIT)
        return serve_refuse(e, "stop", "stop: found %zu strings, expected at most %d", n, LF_STOP_LIMIT);
    call->params.n_stop = 0;
    call->params.stop = call->stop;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = is_list ? json_array_get(value, i) : value;
        const char *text = json_string_value(item);
        if (!text) return refuse_kind(e, "stop", item, "a string, or a list of strings");
        if (strlen(text) != json_string_length(item))
            return serve_refuse(e, "stop", "stop: found a NUL character, expected text without");
        if (*text) call->stop[call->params.n_stop++] = text;
    }
    return true;
}

static bool read_bias(serve_call *call, serve_error *e)
{
    const json_t *object = member(call->body, "logit_bias"), *value;
    const char *key;
    int n = 0;
    if (!object) return true;
    if (!json_is_object(object)) return refuse_kind(e, "logit_bias", object, "an object of ids and numbers");
    const size_t size = json_object_size(object);
    if (size > SERVE_BIAS_MAX)
        return serve_refuse(e, "logit_bias", "logit_bias: found %zu ids, expected at most %d", size,
                            SERVE_BIAS_MAX);
    call->bias = calloc(size + 1, sizeof *call->bias);
    if (!call->bias) return refuse_memory(e);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char *end;
        const long id = strtol(key, &end, 10);
        if (end == key || *end || id < 0 || id > INT32_MAX)
            return serve_refuse(e, "logit_bias", "logit_bias: found the key \"%.40s\", expected a token id",
                                key);
        if (!json_is_number(value)) return refuse_kind(e, "logit_bias", value, "a number");
        const double bias = json_number_value(value);
        if (!(fabs(bias) <= 100))
            return serve_refuse(e, "logit_bias", "logit_bias: found %g, expected -100 to 100", bias);
        call->bias[n++] = (lf_bias){(int32_t)id, bias <= -100 ? -INFINITY : (float)bias};
    }
    call->params.bias = call->bias;
    call->params.n_bias = n;
    return true;
}

/* ---- log probabilities ---- */

/* An absent or null count leaves *out alone. */
static bool read_count(int *out, const json_t *body, const char *name, serve_error *e)
{
    const json_t *value = member(body, name);
    if (!value) return true;
    if (!json_is_integer(value)) return refuse_kind(e, name, value, "a whole number");
    const json_int_t n = json_integer_value(value);
    if (n < 0 || n > LF_TOP_LIMIT)
        return serve_refuse(e, name, "%s: found %lld, expected 0 to %d", name, (long long)n, LF_TOP_LIMIT);
    *out = (int)n;
    return true;
}

static bool read_logprobs(serve_call *call, serve_error *e)
{
    const json_t *value = member(call->body, "logprobs");
    if (!call->is_chat) { /* a completion's is the number of the likeliest tokens to tell */
        call->params.logprobs = value && !json_is_false(value);
        return json_is_boolean(value) || read_count(&call->params.n_top, call->body, "logprobs", e);
    }
    if (value && !json_is_boolean(value)) return refuse_kind(e, "logprobs", value, "true or false");
    call->params.logprobs = json_is_true(value);
    if (!read_count(&call->params.n_top, call->body, "top_logprobs", e)) return false;
    if (call->params.n_top > 0 && !call->params.logprobs)
        return serve_refuse(e, "top_logprobs", "top_logprobs needs \"logprobs\": true");
    return true;
}

/* ---- objects ---- */

static bool read_stream_options(serve_call *call, serve_error *e)
{
    const json_t *object = member(call->body, "stream_options");
    if (!object) return true;
    if (!json_is_object(object)) return refuse_kind(e, "stream_options", object, "an object");
    call->include_usage = json_is_true(json_object_get(object, "include_usage"));
    return true;
}

/* {"type": "content", "content": text, or parts of text}: what the output is expected to be like. */
static bool read_prediction(serve_call *call, serve_error *e)
{
    const json_t *object = member(call->body, "prediction");
    if (!object) return true;
    const json_t *content = json_is_string(object) ? object : member(object, "content");
    if (json_is_array(content) && json_array_size(content) == 1)
        content = member(json_array_get(content, 0), "text");
    if (!json_is_string(content))
        return serve_refuse(
            e, "prediction",
            "prediction: expected {\"type\": \"content\", \"content\": text}, the text a string "
            "or a list of one text part");
    call->prediction = json_string_value(content);
    call->prediction_len = json_string_length(content);
    return true;
}

static bool read_speculative_member(serve_call *call, const char *key, const json_t *value, serve_error *e)
{
    static const struct {
        const char *key;
        size_t offset;
        bool is_name;
    } members[] = {{"proposer", PARAM(proposer), true},   {"drafting", PARAM(drafting), true},
                   {"selection", PARAM(selection), true}, {"draft_max", PARAM(draft_max), false},
                   {"n_max", PARAM(draft_max), false},    {"budget", PARAM(sparse_budget), false}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (strcmp(key, members[i].key) != 0) continue;
        void *at = (char *)call + members[i].offset;
        if (members[i].is_name) {
            if (!json_is_string(value)) return refuse_kind(e, "speculative", value, "a name");
            *(const char **)at = json_string_value(value);
            return true;
        }
        const json_int_t n = json_integer_value(value);
        if (!json_is_integer(value) || n < 0 || n > INT32_MAX)
            return serve_refuse(e, "speculative", "speculative: %s: expected a whole number from 0", key);
        *(int *)at = (int)n;
        return true;
    }
    return serve_refuse(
        e, "speculative",
        "speculative: found \"%.40s\", expected proposer, drafting, draft_max, selection or budget", key);
}

/* false: plain decoding. An object: how. What comes out is the same. */
static bool read_speculative(serve_call *call, serve_error *e)
{
    const json_t *value = member(call->body, "speculative"), *item;
    const char *key;
    if (!value || json_is_true(value)) return true;
    if (json_is_false(value)) {
        call->params.proposer = "none";
        return true;
    }
    if (!json_is_object(value)) return refuse_kind(e, "speculative", value, "true, false or an object");
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (!json_is_null(item) && !read_speculative_member(call, key, item, e)) return false;
    }
    return true;
}

/* response_format of OpenAI, and the fields of vLLM and llama.cpp that say the same. */
static bool read_format(serve_call *call, serve_error *e)
{
    static const struct {
        const char *name;
        serve_format_kind kind;
    } others[] = {{"guided_json", SERVE_FORMAT_SCHEMA},
                  {"json_schema", SERVE_FORMAT_SCHEMA},
                  {"guided_regex", SERVE_FORMAT_REGEX},
                  {"guided_choice", SERVE_FORMAT_CHOICE}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const json_t *value = member(call->body, others[i].name);
        if (!value) continue;
        call->format = others[i].kind;
        call->format_spec = value;
    }
    const json_t *object = member(call->body, "response_format");
    if (!object) return true;
    const char *type = json_string_value(json_object_get(object, "type"));
    if (type && strcmp(type, "text") == 0) return true;
    if (type && strcmp(type, "json_object") == 0) {
        call->format = SERVE_FORMAT_JSON;
        return true;
    }
    if (!type || strcmp(type, "json_schema") != 0)
        return serve_refuse(e, "response_format",
                            "response_format: expected the type text, json_object or json_schema");
    call->format = SERVE_FORMAT_SCHEMA;
    call->format_spec = member(json_object_get(object, "json_schema"), "schema");
    if (!call->format_spec)
        return serve_refuse(e, "response_format", "response_format: json_schema.schema is missing");
    return true;
}

/* ---- prompts and messages ---- */

static bool is_list_of(const json_t *list, json_type type)
{
    const size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++)
        if (json_typeof(json_array_get(list, i)) != type) return false;
    return n > 0;
}

/* A string or a list of ids is one prompt; a list of those is several. */
static bool read_prompts(serve_call *call, serve_error *e)
{
    const json_t *value = member(call->body, "prompt");
    if (!value) return serve_refuse(e, "prompt", "prompt is missing");
    if (json_is_string(value) || is_list_of(value, JSON_INTEGER)) {
        call->prompts[0] = value;
        call->n_prompts = 1;
        return true;
    }
    if (!is_list_of(value, JSON_STRING) && !is_list_of(value, JSON_ARRAY))
        return serve_refuse(
            e, "prompt",
            "prompt: expected a string, a list of strings, a list of token ids, or a list of those");
    const size_t n = json_array_size(value);
    if (n * (size_t)call->n > SERVE_CHOICES_MAX)
        return serve_refuse(e, "prompt",
                            "prompt: found %zu prompts of %d choices, expected at most %d choices", n,
                            call->n, SERVE_CHOICES_MAX);
    for (size_t i = 0; i < n; i++) call->prompts[i] = json_array_get(value, i);
    call->n_prompts = (int)n;
    return true;
}

static bool check_message(const json_t *message, size_t i, serve_error *e)
{
    const json_t *content = member(message, "content");
    if (!json_is_object(message))
        return serve_refuse(e, "messages", "messages[%zu]: found %s, expected an object", i,
                            kind_of(message));
    if (!json_is_string(json_object_get(message, "role")))
        return serve_refuse(e, "messages", "messages[%zu].role: expected a string", i);
    if (!content || json_is_string(content)) return true;
    if (!json_is_array(content))
        return serve_refuse(e, "messages", "messages[%zu].content: expected a string or a list of parts", i);
    for (size_t k = 0; k < json_array_size(content); k++) {
        const json_t *part = json_array_get(content, k);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0 || !json_is_string(json_object_get(part, "text")))
            return serve_refuse(
                e, "messages", "messages[%zu].content[%zu]: only parts of {\"type\": \"text\"} are supported",
                i, k);
    }
    return true;
}

/* Tools are the template's to render; that the output calls one cannot be enforced. */
static bool check_tools(const serve_call *call, serve_error *e)
{
    const json_t *tools = member(call->body, "tools"), *choice = member(call->body, "tool_choice");
    if (tools && !json_is_array(tools)) return refuse_kind(e, "tools", tools, "a list");
    const char *name = json_string_value(choice);
    if (choice && (!name || (strcmp(name, "auto") != 0 && strcmp(name, "none") != 0)))
        return serve_refuse(e, "tool_choice", "tool_choice: only \"auto\" and \"none\" are supported");
    return true;
}

static bool read_chat(serve_call *call, serve_error *e)
{
    const json_t *messages = member(call->body, "messages");
    if (!messages) return serve_refuse(e, "messages", "messages is missing");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return serve_refuse(e, "messages", "messages: expected a list of at least one message");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!check_message(json_array_get(messages, i), i, e)) return false;
    call->n_prompts = 1;
    return check_tools(call, e);
}

static bool read_completion(serve_call *call, serve_error *e)
{
    const json_t *echo = member(call->body, "echo");
    if (echo && !json_is_boolean(echo)) return refuse_kind(e, "echo", echo, "true or false");
    call->echo = json_is_true(echo);
    if (call->echo && call->params.logprobs && call->stream)
        return serve_refuse(e, "stream", "stream: echo with logprobs is not supported in a stream");
    return read_prompts(call, e);
}

/* ---- the whole ---- */

/* Whether there is memory to parse a body. Jansson's lexer goes on when a token of it cannot grow, asks again at its every byte, and
 * has lost the one before. */
static bool can_parse(size_t len)
{
    size_t bytes;
    if (!lf_mul_size(len, PARSE_FACTOR, &bytes)) return false;
    void *volatile probe = malloc(bytes + 1); /* volatile: or compilers take it for granted */
    const bool ok = probe != NULL;
    free(probe);
    return ok;
}

json_t *serve_parse_object(const char *body, size_t len, serve_error *e)
{
    json_error_t where;
    if (!can_parse(len)) {
        (void)refuse_memory(e);
        return NULL;
    }
    json_t *root = json_loadb(body ? body : "", len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root && where.text[0] == '\0') { /* every mistake has a text */
        (void)refuse_memory(e);
        return NULL;
    }
    if (!root) {
        (void)serve_refuse(e, NULL, "the body is not JSON: line %d, column %d: %s", where.line, where.column,
                           where.text);
        return NULL;
    }
    if (json_is_object(root)) return root;
    (void)serve_refuse(e, NULL, "the body: found %s, expected a JSON object", kind_of(root));
    json_decref(root);
    return NULL;
}

bool serve_call_parse(serve_call *call, bool is_chat, const char *body, size_t len,
                      const lf_request_params *defaults, serve_error *e)
{
    *call = (serve_call){.is_chat = is_chat, .params = *defaults, .n = 1};
    if (!is_chat && call->params.n_predict < 0) call->params.n_predict = SERVE_N_PREDICT_DEFAULT;
    call->body = serve_parse_object(body, len, e);
    if (call->body && read_fields(call, e) && check_unsupported(call, e) && read_seed(call, e) &&
        read_stop(call, e) && read_bias(call, e) && read_logprobs(call, e) && read_stream_options(call, e) &&
        read_prediction(call, e) && read_speculative(call, e) && read_format(call, e) &&
        (is_chat ? read_chat(call, e) : read_completion(call, e)))
        return true;
    serve_call_free(call);
    return false;
}

void serve_call_free(serve_call *call)
{
    free(call->bias);
    json_decref(call->body);
    *call = (serve_call){0};
}

int32_t *serve_parse_ids(const json_t *list, const char *param, size_t *n, serve_error *e)
{
    *n = json_array_size(list);
    int32_t *ids = malloc(*n * sizeof *ids + 1);
    if (!ids) {
        (void)refuse_memory(e);
        return NULL;
    }
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_integer_value(item);
        if (json_is_integer(item) && id >= 0 && id <= INT32_MAX) {
            ids[i] = (int32_t)id;
            continue;
        }
        (void)serve_refuse(e, param, "%s: item %zu: expected a token id", param, i);
        free(ids);
        return NULL;
    }
    return ids;
}
