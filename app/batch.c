/* lookfar run --prompts FILE: many requests at once. Each line of the input is a JSON object with "prompt" and, where a request
 * differs from the command line, n_predict, temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty,
 * frequency_penalty, seed, proposer, draft_max, ignore_eos, stop and prediction. Each line of the output is the result of the
 * line with the same number, with its "index" and, if it had one, its "id"; results come in the order of the input. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct item {
    json_t *line; /* owns the strings that params borrow until submit */
    lf_request_params params;
    lf_request *request;
    app_token_log log;
    bool out_of_memory, written;
} item;

typedef struct batch {
    const app_batch *options;
    item *items; /* (n) */
    size_t n, n_written;
    app_progress progress;
    FILE *out;
} batch;

/* ---- reading ---- */

static lf_status read_number(const json_t *line, size_t i, const char *key, double *out, lf_error *err)
{
    const json_t *v = json_object_get(line, key);
    if (!v) return LF_OK;
    if (!json_is_number(v))
        return lf_fail(err, LF_EFORMAT, "prompts: line %zu: %s: expected a number", i + 1, key);
    *out = json_number_value(v);
    return LF_OK;
}

static lf_status read_int(const json_t *line, size_t i, const char *key, int *out, lf_error *err)
{
    const json_t *v = json_object_get(line, key);
    if (!v) return LF_OK;
    if (!json_is_integer(v) || json_integer_value(v) < INT32_MIN || json_integer_value(v) > INT32_MAX)
        return lf_fail(err, LF_EFORMAT, "prompts: line %zu: %s: expected a whole number", i + 1, key);
    *out = (int)json_integer_value(v);
    return LF_OK;
}

static lf_status read_float(const json_t *line, size_t i, const char *key, float *out, lf_error *err)
{
    double value = (double)*out;
    const lf_status status = read_number(line, i, key, &value, err);
    *out = (float)value;
    return status;
}

/* The values of one line that differ from the command line. `stop` is filled with borrowed strings. */
static lf_status read_params(item *it, size_t i, const char *stop[LF_STOP_LIMIT], lf_error *err)
{
    lf_status status = LF_OK;
    lf_request_params *p = &it->params;
    double seed = -1;
    LF_TRY(read_int(it->line, i, "n_predict", &p->n_predict, err));
    LF_TRY(read_float(it->line, i, "temperature", &p->temperature, err));
    LF_TRY(read_int(it->line, i, "top_k", &p->top_k, err));
    LF_TRY(read_float(it->line, i, "top_p", &p->top_p, err));
    LF_TRY(read_float(it->line, i, "min_p", &p->min_p, err));
    LF_TRY(read_float(it->line, i, "repeat_penalty", &p->repetition_penalty, err));
    LF_TRY(read_float(it->line, i, "presence_penalty", &p->presence_penalty, err));
    LF_TRY(read_float(it->line, i, "frequency_penalty", &p->frequency_penalty, err));
    LF_TRY(read_int(it->line, i, "draft_max", &p->draft_max, err));
    LF_TRY(read_number(it->line, i, "seed", &seed, err));
    if (seed >= 0 && seed < 0x1p63) p->seed = (uint64_t)seed;
    const json_t *proposer = json_object_get(it->line, "proposer"),
                 *eos = json_object_get(it->line, "ignore_eos");
    const json_t *list = json_object_get(it->line, "stop");
    if (proposer) p->proposer = json_string_value(proposer) ? json_string_value(proposer) : "";
    if (eos) p->ignore_eos = json_is_true(eos);
    if (!list) goto done;
    const size_t n_stop = json_is_array(list) ? json_array_size(list) : 1;
    for (size_t k = 0; k < n_stop && k < LF_STOP_LIMIT; k++)
        stop[k] = json_string_value(json_is_array(list) ? json_array_get(list, k) : list);
    p->stop = stop;
    p->n_stop = (int)n_stop;
done:
    return status;
}

static bool on_token(void *cookie, const lf_token *token)
{
    item *it = cookie;
    if (it->params.logprobs && !app_log_token(&it->log, token)) it->out_of_memory = true;
    return !it->out_of_memory && !app_interrupted;
}

static lf_status submit_item(batch *b, size_t i, lf_error *err)
{
    lf_status status = LF_OK;
    item *it = &b->items[i];
    const app_batch *o = b->options;
    const char *stop[LF_STOP_LIMIT] = {NULL};
    int32_t *ids = NULL, *prediction = NULL;
    lf_error cause = {0};
    const json_t *prompt = json_object_get(it->line, "prompt"),
                 *predicted = json_object_get(it->line, "prediction");
    it->params = *o->defaults;
    if (!json_is_string(prompt))
        return lf_fail(err, LF_EFORMAT, "prompts: line %zu: prompt: expected a string", i + 1);
    LF_TRY(read_params(it, i, stop, err));
    LF_TRY(lf_tokenize(o->engine, json_string_value(prompt), json_string_length(prompt), !o->no_bos,
                       it->params.special, &ids, &it->params.n_ids, &cause));
    if (json_is_string(predicted))
        LF_TRY(lf_tokenize(o->engine, json_string_value(predicted), json_string_length(predicted), false,
                           false, &prediction, &it->params.n_prediction, &cause));
    it->params.ids = ids;
    it->params.prediction = prediction;
    it->params.on_token = on_token;
    it->params.cookie = it;
    LF_TRY(lf_request_submit(&it->request, o->engine, &it->params, &cause));
done:
    if (status != LF_OK && cause.text[0])
        status = lf_fail(err, status, "prompts: line %zu: %s", i + 1, cause.text);
    free(ids);
    free(prediction);
    return status;
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
    while ((len = getline(&text, &cap, f)) >= 0) {
        json_error_t where;
        if (strspn(text, " \t\r\n") == (size_t)len) continue;
        if (b->n == room) {
            room = room ? 2 * room : 64;
            item *items = realloc(b->items, room * sizeof *items);
            if (!items) {
                status = lf_fail_memory(err, "prompts", room * sizeof *items);
                goto done;
            }
            b->items = items;
        }
        json_t *line = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
        b->items[b->n++] = (item){.line = line};
        if (!json_is_object(line)) {
            status = lf_fail(err, LF_EFORMAT, "%s: line %zu: expected a JSON object: %s", path, b->n,
                             where.text);
            goto done;
        }
    }
    if (ferror(f)) status = lf_fail(err, LF_EIO, "%s: cannot read: %s", path, strerror(errno));
done:
    free(text);
    if (!is_stdin) (void)fclose(f);
    return status;
}

/* ---- running ---- */

/* Writes the results that are next in the order of the input. */
static int write_finished(batch *b)
{
    for (; b->n_written < b->n && lf_request_is_finished(b->items[b->n_written].request); b->n_written++) {
        item *it = &b->items[b->n_written];
        json_t *result = app_result_json(it->request, &it->params, &it->log);
        const json_t *id = json_object_get(it->line, "id");
        if (result) (void)json_object_set_new(result, "index", json_integer((json_int_t)b->n_written));
        if (result && id) (void)json_object_set(result, "id", (json_t *)(uintptr_t)id);
        const int code = app_write_json(b->out, b->options->output_path, result);
        if (code != 0) return code;
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
    return code == 0 && app_interrupted ? EXIT_FAIL : code;
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
        if (submit_item(&b, i, &err) != LF_OK) code = app_fail(&err);
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

void app_write_trace(FILE *trace, int i_step, const lf_step_info *s)
{
    (void)fprintf(
        trace,
        "{\"step\":%d,\"requests\":%d,\"queued\":%d,\"prefill_rows\":%d,\"decode_rows\":%d,\"proposed\":%d,"
        "\"accepted\":%d,\"emitted\":%d,\"propose_ms\":%.4f,\"forward_ms\":%.4f,\"pick_ms\":%.4f}\n",
        i_step, s->n_requests, s->queued, s->prefill_rows, s->decode_rows, s->proposed, s->accepted,
        s->emitted, s->propose_seconds * 1e3, s->forward_seconds * 1e3, s->pick_seconds * 1e3);
}
