/* lookfar run --prompts FILE: many requests at once. Each line of the input is a JSON object with "prompt" and, where a request
 * differs from the command line, n_predict, temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty,
 * frequency_penalty, seed, proposer, drafting, draft_max, selection, sparse_budget, ignore_eos, stop and prediction. Each line of the output is the result of the
 * line with the same number, with its "index" and, if it had one, its "id"; results come in the order of the input. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct item {
    size_t n_line; /* in the input, counted from 1 */
    json_t *line;  /* owns the strings that params borrow until submit */
    lf_request_params params;
    const char *stop[LF_STOP_LIMIT];
    lf_request *request;
    app_token_log log;
    bool out_of_memory;
} item;

typedef struct batch {
    const app_batch *options;
    item *items; /* (n) */
    size_t n, n_written;
    bool failed; /* a request ended with an error, which was told */
    app_progress progress;
    FILE *out;
} batch;

/* ---- reading ---- */

typedef enum field_kind {
    FIELD_INT,
    FIELD_FLOAT,
    FIELD_SEED,
    FIELD_BOOL,
    FIELD_STRING, /* offset: where a borrowed pointer goes */
    FIELD_TEXT,   /* a string that is read later */
    FIELD_STOP,
    FIELD_ID, /* anything */
} field_kind;

/* What a line may have, and where in lf_request_params it goes. */
static const struct field {
    const char *key;
    field_kind kind;
    size_t offset;
} fields[] = {
    {"prompt", FIELD_TEXT, 0},
    {"prediction", FIELD_TEXT, 0},
    {"id", FIELD_ID, 0},
    {"stop", FIELD_STOP, 0},
    {"n_predict", FIELD_INT, offsetof(lf_request_params, n_predict)},
    {"temperature", FIELD_FLOAT, offsetof(lf_request_params, temperature)},
    {"top_k", FIELD_INT, offsetof(lf_request_params, top_k)},
    {"top_p", FIELD_FLOAT, offsetof(lf_request_params, top_p)},
    {"min_p", FIELD_FLOAT, offsetof(lf_request_params, min_p)},
    {"repeat_penalty", FIELD_FLOAT, offsetof(lf_request_params, repetition_penalty)},
    {"presence_penalty", FIELD_FLOAT, offsetof(lf_request_params, presence_penalty)},
    {"frequency_penalty", FIELD_FLOAT, offsetof(lf_request_params, frequency_penalty)},
    {"seed", FIELD_SEED, offsetof(lf_request_params, seed)},
    {"proposer", FIELD_STRING, offsetof(lf_request_params, proposer)},
    {"drafting", FIELD_STRING, offsetof(lf_request_params, drafting)},
    {"draft_max", FIELD_INT, offsetof(lf_request_params, draft_max)},
    {"selection", FIELD_STRING, offsetof(lf_request_params, selection)},
    {"sparse_budget", FIELD_INT, offsetof(lf_request_params, sparse_budget)},
    {"ignore_eos", FIELD_BOOL, offsetof(lf_request_params, ignore_eos)},
};

/* A string, or a list of them. */
static bool set_stop(item *it, const json_t *value)
{
    const bool is_list = json_is_array(value);
    const size_t n = is_list ? json_array_size(value) : 1;
    if (n > LF_STOP_LIMIT) return false;
    for (size_t i = 0; i < n; i++) {
        it->stop[i] = json_string_value(is_list ? json_array_get(value, i) : value);
        if (!it->stop[i]) return false;
    }
    it->params.stop = it->stop;
    it->params.n_stop = (int)n;
    return true;
}

/* Stores a value of the right type; returns NULL, or what was expected. Ranges are for lf_request_submit to check. */
static const char *set_field(item *it, const struct field *field, const json_t *value)
{
    void *at = (char *)&it->params + field->offset;
    const json_int_t number = json_integer_value(value);
    switch (field->kind) {
    case FIELD_INT:
        if (!json_is_integer(value) || number < INT32_MIN || number > INT32_MAX) return "a whole number";
        *(int *)at = (int)number;
        return NULL;
    case FIELD_FLOAT:
        if (!json_is_number(value)) return "a number";
        *(float *)at = (float)json_number_value(value);
        return NULL;
    case FIELD_SEED:
        if (!json_is_integer(value) || number < 0) return "a whole number from 0";
        *(uint64_t *)at = (uint64_t)number;
        return NULL;
    case FIELD_BOOL:
        if (!json_is_boolean(value)) return "true or false";
        *(bool *)at = json_is_true(value);
        return NULL;
    case FIELD_STRING:
        if (!json_is_string(value)) return "a string";
        *(const char **)at = json_string_value(value);
        return NULL;
    case FIELD_TEXT: return json_is_string(value) ? NULL : "a string";
    case FIELD_STOP: return set_stop(it, value) ? NULL : "a string, or a list of at most 16";
    case FIELD_ID: return NULL;
    }
    return NULL;
}

/* The params of a line: those of the command line, and what is said otherwise. */
static lf_status read_params(const batch *b, item *it, lf_error *err)
{
    enum { N_FIELDS = sizeof fields / sizeof *fields };
    const char *key, *path = b->options->input_path;
    json_t *value;
    it->params = *b->options->defaults;
    json_object_foreach(it->line, key, value)
    {
        size_t i = 0;
        while (i < N_FIELDS && strcmp(fields[i].key, key) != 0) i++;
        if (i == N_FIELDS)
            return lf_fail(err, LF_EFORMAT,
                           "%s: line %zu: found the key \"%.40s\", expected prompt and options of a request",
                           path, it->n_line, key);
        const char *expected = set_field(it, &fields[i], value);
        if (expected)
            return lf_fail(err, LF_EFORMAT, "%s: line %zu: %s: found another type, expected %s", path,
                           it->n_line, key, expected);
    }
    if (!json_object_get(it->line, "prompt"))
        return lf_fail(err, LF_EFORMAT, "%s: line %zu: found no prompt", path, it->n_line);
    return LF_OK;
}

static bool on_token(void *cookie, const lf_token *token)
{
    item *it = cookie;
    if (it->params.logprobs && !app_log_token(&it->log, token)) it->out_of_memory = true;
    return !it->out_of_memory && !app_interrupted;
}

static lf_status tokenize(const batch *b, const json_t *text, bool is_prompt, bool special, int32_t **ids,
                          size_t *n_ids, lf_error *err)
{
    return lf_tokenize(b->options->engine, json_string_value(text), json_string_length(text),
                       is_prompt && !b->options->no_bos, is_prompt && special, ids, n_ids, err);
}

static lf_status submit_item(batch *b, item *it, lf_error *err)
{
    lf_status status = LF_OK;
    lf_request_params *p = &it->params;
    int32_t *ids = NULL, *prediction = NULL;
    lf_error cause = {0};
    LF_TRY(read_params(b, it, err));
    LF_TRY(tokenize(b, json_object_get(it->line, "prompt"), true, p->special, &ids, &p->n_ids, &cause));
    const json_t *predicted = json_object_get(it->line, "prediction");
    if (predicted) LF_TRY(tokenize(b, predicted, false, false, &prediction, &p->n_prediction, &cause));
    p->ids = ids;
    p->prediction = prediction;
    p->on_token = on_token;
    p->cookie = it;
    LF_TRY(lf_request_submit(&it->request, b->options->engine, p, &cause));
done:
    if (status != LF_OK && cause.text[0])
        status = lf_fail(err, status, "%s: line %zu: %s", b->options->input_path, it->n_line, cause.text);
    free(ids);
    free(prediction);
    return status;
}

static item *add_item(batch *b, size_t *room)
{
    if (b->n == *room) {
        const size_t wanted = *room ? 2 * *room : 64;
        item *items = realloc(b->items, wanted * sizeof *items);
        if (!items) return NULL;
        b->items = items;
        *room = wanted;
    }
    item *it = &b->items[b->n++];
    *it = (item){0};
    return it;
}

static lf_status read_items(batch *b, lf_error *err)
{
    lf_status status = LF_OK;
    const char *path = b->options->input_path;
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "r");
    char *text = NULL;
    size_t cap = 0, room = 0;
    ssize_t len;
    if (!f) return lf_fail(err, LF_EIO, "%s: cannot open: %s", path, strerror(errno));
    for (size_t n_line = 1; (len = getline(&text, &cap, f)) >= 0; n_line++) {
        json_error_t where;
        if (strspn(text, " \t\r\n") == (size_t)len) continue;
        item *it = add_item(b, &room);
        if (!it) LF_TRY(lf_fail_memory(err, "prompts", (b->n + 1) * sizeof *it));
        it->n_line = n_line;
        it->line = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
        if (!json_is_object(it->line))
            LF_TRY(lf_fail(err, LF_EFORMAT, "%s: line %zu: expected a JSON object: %s", path, n_line,
                           it->line ? "found another value" : where.text));
    }
    if (ferror(f)) status = lf_fail(err, LF_EIO, "%s: cannot read: %s", path, strerror(errno));
done:
    free(text);
    if (!is_stdin) (void)fclose(f);
    return status;
}

/* ---- running ---- */

/* A request that failed is told about, and leaves the others alone. */
static void tell_failure(batch *b, const item *it)
{
    lf_error cause = {0}, err;
    lf_status status = lf_request_wait(it->request, &cause);
    if (it->out_of_memory) status = lf_fail_memory(&cause, "log probabilities", it->log.n);
    if (status == LF_OK) return;
    (void)lf_fail(&err, status, "%s: line %zu: %s", b->options->input_path, it->n_line, cause.text);
    (void)app_fail(&err);
    b->failed = true;
}

/* Writes the results that are next in the order of the input. */
static int write_finished(batch *b)
{
    for (; b->n_written < b->n && lf_request_is_finished(b->items[b->n_written].request); b->n_written++) {
        const item *it = &b->items[b->n_written];
        json_t *result = app_result_json(it->request, &it->params, &it->log);
        json_t *id = json_object_get(it->line, "id");
        if (result) (void)json_object_set_new(result, "index", json_integer((json_int_t)b->n_written));
        if (result && id) (void)json_object_set(result, "id", id);
        const int code = app_write_json(b->out, b->options->output_path, result);
        if (code != 0) return code;
        tell_failure(b, it);
        app_progress_draw(&b->progress, (double)(b->n_written + 1) / (double)b->n);
    }
    return 0;
}

static int run_all(batch *b, lf_error *err)
{
    bool busy = true;
    int code = 0;
    for (int i = 0; busy && code == 0; i++) {
        lf_step_info info = {.size = sizeof info};
        if (lf_engine_step(b->options->engine, &busy, &info, err) != LF_OK) return app_fail(err);
        if (busy && b->options->trace) app_write_trace(b->options->trace, i, &info);
        code = write_finished(b);
    }
    return b->failed ? EXIT_FAIL : code;
}

int app_run_batch(const app_batch *options)
{
    batch b = {.options = options};
    lf_error err = {0};
    int code = 0;
    b.out = app_open_json(options->output_path);
    if (!b.out) return EXIT_FAIL;
    if (read_items(&b, &err) != LF_OK) code = app_fail(&err);
    for (size_t i = 0; i < b.n && code == 0; i++)
        if (submit_item(&b, &b.items[i], &err) != LF_OK) code = app_fail(&err);
    app_progress_start(&b.progress, "generating", options->quiet);
    if (code == 0) code = run_all(&b, &err);
    app_progress_clear(&b.progress);
    for (size_t i = 0; i < b.n; i++) {
        lf_request_free(b.items[i].request);
        app_free_token_log(&b.items[i].log);
        json_decref(b.items[i].line);
    }
    free(b.items);
    return app_close_json(b.out, options->output_path, code);
}
