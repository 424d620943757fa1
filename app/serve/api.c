/* Routes, and the endpoints that answer at once. */
#include "call.h"
#include "chat.h"
#include "job.h"
#include "json.h"
#include "page.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static lf_engine_info engine_info(const serve_exchange *x)
{
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(serve_runner_engine(x->server->runner), &info);
    return info;
}

/* ---- about the server ---- */

static void handle_health(serve_exchange *x)
{
    if (serve_runner_phase(x->server->runner, NULL) == SERVE_READY) {
        serve_answer_json(x, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    serve_error e;
    (void)serve_fail(&e, 503, "loading", "Loading model");
    serve_answer_error(x, &e);
}

static void handle_version(serve_exchange *x)
{
    serve_answer_json(x, 200, json_pack("{s:s}", "version", lf_version()));
}

static void handle_metrics(serve_exchange *x)
{
    serve_metrics m;
    struct timespec own = {0};
    serve_runner_get_metrics(x->server->runner, &m);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own); /* this is the thread */
    m.http_seconds = (double)own.tv_sec + (double)own.tv_nsec * 1e-9;
    if (!serve_metrics_write(&x->out, &m, x->server->options->metrics_prefix, x->server->options->model_name))
        serve_answer_lost(x);
    serve_answer_text(x, "text/plain; version=0.0.4; charset=utf-8");
}

static void handle_props(serve_exchange *x)
{
    const lf_engine_info info = engine_info(x);
    const lf_request_params *p = x->server->options->defaults;
    lf_chat_info chat = {.size = sizeof chat};
    lf_chat_get_info(serve_runner_engine(x->server->runner), &chat);
    json_t *params = json_pack("{s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:i, s:s, s:i}", "temperature",
                               (double)p->temperature, "top_k", p->top_k, "top_p", (double)p->top_p, "min_p",
                               (double)p->min_p, "repeat_penalty", (double)p->repetition_penalty,
                               "presence_penalty", (double)p->presence_penalty, "frequency_penalty",
                               (double)p->frequency_penalty, "n_predict", p->n_predict, "proposer",
                               p->proposer, "draft_max", p->draft_max);
    serve_answer_json(x, 200,
                      json_pack("{s:{s:i, s:o}, s:i, s:s, s:s, s:s, s:s, s:s?, s:s?, s:b}",
                                "default_generation_settings", "n_ctx", info.n_ctx, "params", params,
                                "total_slots", info.n_seqs, "model_alias", x->server->options->model_name,
                                "arch", info.arch, "kernels", info.kernels, "build_info", lf_version(),
                                "chat_template", chat.template_text, "chat_template_error", chat.error,
                                "chat_template_tools", (int)chat.tools));
}

/* ---- models ---- */

static json_t *model_json(const serve_exchange *x)
{
    const lf_engine_info info = engine_info(x);
    return json_pack("{s:s, s:s, s:I, s:s, s:i, s:i, s:{s:i, s:i, s:i, s:I}}", "id",
                     x->server->options->model_name, "object", "model", "created",
                     (json_int_t)x->server->started, "owned_by", "lookfar", "max_model_len", info.n_ctx,
                     "context_length", info.n_ctx, "meta", "n_ctx_train", info.n_ctx, "n_vocab", info.n_vocab,
                     "n_embd", info.dim, "size", (json_int_t)info.weight_bytes);
}

static void handle_models(serve_exchange *x)
{
    serve_answer_json(x, 200, json_pack("{s:s, s:[o]}", "object", "list", "data", model_json(x)));
}

static void handle_model(serve_exchange *x)
{
    const char *id = x->path + strlen("/v1/models/");
    serve_error e;
    if (strcmp(id, x->server->options->model_name) == 0) {
        serve_answer_json(x, 200, model_json(x));
        return;
    }
    (void)serve_fail(&e, 404, "model_not_found", "found no model \"%.100s\", expected \"%.100s\"", id,
                     x->server->options->model_name);
    serve_answer_error(x, &e);
}

/* ---- tokens ---- */

static bool read_flag(const json_t *body, const char *name, bool absent)
{
    const json_t *value = json_object_get(body, name);
    return json_is_boolean(value) ? json_is_true(value) : absent;
}

/* The text of "content" or "prompt" as llama.cpp and vLLM call it, or of messages. */
static bool tokenize(const serve_exchange *x, const json_t *body, int32_t **ids, size_t *n_ids,
                     serve_error *e)
{
    lf_error err;
    const lf_engine *engine = serve_runner_engine(x->server->runner);
    if (json_object_get(body, "messages"))
        return serve_chat_tokenize(engine, x->body.data, x->body.len, ids, n_ids, e);
    const json_t *content = json_object_get(body, "content"), *prompt = json_object_get(body, "prompt");
    const json_t *text = content ? content : prompt;
    if (!json_is_string(text))
        return serve_refuse(e, content ? "content" : "prompt",
                            "expected text as \"content\" or \"prompt\", or \"messages\"");
    const bool special = prompt ? read_flag(body, "add_special_tokens", true)
                                : read_flag(body, "add_special", false);
    return lf_tokenize(engine, json_string_value(text), json_string_length(text), special,
                       read_flag(body, "parse_special", true), ids, n_ids, &err) == LF_OK ||
           serve_fail_status(e, &err);
}

static json_t *piece_json(const lf_engine *engine, int32_t id)
{
    char bytes[LF_TOKEN_BYTES_LIMIT];
    const size_t n = lf_token_text(engine, id, bytes);
    json_t *piece = json_stringn(bytes, n);
    if (piece) return json_pack("{s:i, s:o}", "id", (int)id, "piece", piece);
    piece = json_array();
    for (size_t i = 0; i < n; i++) serve_json_push(&piece, json_integer((unsigned char)bytes[i]));
    return json_pack("{s:i, s:o}", "id", (int)id, "piece", piece);
}

static void handle_tokenize(serve_exchange *x)
{
    serve_error e;
    const lf_engine *engine = serve_runner_engine(x->server->runner);
    json_t *body = serve_parse_object(x->body.data, x->body.len, &e);
    int32_t *ids = NULL;
    size_t n;
    if (!body || !tokenize(x, body, &ids, &n, &e)) {
        serve_answer_error(x, &e);
    } else {
        const bool pieces = read_flag(body, "with_pieces", false);
        json_t *tokens = json_array();
        for (size_t i = 0; i < n; i++)
            serve_json_push(&tokens, pieces ? piece_json(engine, ids[i]) : json_integer(ids[i]));
        serve_answer_json(x, 200,
                          json_pack("{s:o, s:I, s:i}", "tokens", tokens, "count", (json_int_t)n,
                                    "max_model_len", engine_info(x).n_ctx));
    }
    free(ids);
    json_decref(body);
}

static void handle_detokenize(serve_exchange *x)
{
    serve_error e = {0};
    lf_error err;
    json_t *body = serve_parse_object(x->body.data, x->body.len, &e);
    const json_t *list = json_object_get(body, "tokens");
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n, len;
    if (body && !json_is_array(list))
        (void)serve_refuse(&e, "tokens", "tokens: expected a list of token ids");
    if (!e.status) ids = serve_parse_ids(list, "tokens", &n, &e);
    if (ids &&
        lf_detokenize(serve_runner_engine(x->server->runner), ids, n, true, &text, &len, &err) != LF_OK)
        (void)serve_fail_status(&e, &err);
    if (e.status) {
        serve_answer_error(x, &e);
    } else {
        json_t *content = json_stringn(text, len);
        serve_answer_json(x, 200, json_pack("{s:O, s:o}", "content", content, "prompt", content));
    }
    free(text);
    free(ids);
    json_decref(body);
}

static void handle_apply_template(serve_exchange *x)
{
    serve_error e;
    char *text = NULL;
    size_t len;
    json_t *body = serve_parse_object(x->body.data, x->body.len, &e);
    bool ok = body != NULL;
    if (ok && !json_is_array(json_object_get(body, "messages")))
        ok = serve_refuse(&e, "messages", "messages: expected a list of messages");
    if (ok &&
        serve_chat_render(serve_runner_engine(x->server->runner), x->body.data, x->body.len, &text, &len, &e))
        serve_answer_json(x, 200, json_pack("{s:s%}", "prompt", text, len));
    else
        serve_answer_error(x, &e);
    free(text);
    json_decref(body);
}

/* ---- routes ---- */

static const serve_route routes[] = {
    {"GET", "/", serve_handle_page, .is_public = true},
    {"GET", "/style.css", serve_handle_page, .is_public = true},
    {"GET", "/app.js", serve_handle_page, .is_public = true},
    {"GET", "/health", handle_health, .is_public = true},
    {"GET", "/v1/health", handle_health, .is_public = true},
    {"GET", "/version", handle_version, .is_public = false},
    {"GET", "/metrics", handle_metrics, .is_public = false},
    {"GET", "/props", handle_props, .needs_engine = true},
    {"GET", "/models", handle_models, .needs_engine = true},
    {"GET", "/v1/models", handle_models, .needs_engine = true},
    {"GET", "/v1/models/", handle_model, .needs_engine = true},
    {"POST", "/v1/chat/completions", serve_handle_chat, .needs_engine = true},
    {"POST", "/chat/completions", serve_handle_chat, .needs_engine = true},
    {"POST", "/v1/completions", serve_handle_completion, .needs_engine = true},
    {"POST", "/completions", serve_handle_completion, .needs_engine = true},
    {"POST", "/tokenize", handle_tokenize, .needs_engine = true},
    {"POST", "/detokenize", handle_detokenize, .needs_engine = true},
    {"POST", "/apply-template", handle_apply_template, .needs_engine = true},
};

enum { N_ROUTES = sizeof routes / sizeof *routes };

/* A browser asks what it may do before it does it. */
static void handle_options(serve_exchange *x)
{
    x->status = 204;
    serve_answer_text(x, "text/plain");
}

static bool matches(const serve_route *route, const char *path)
{
    const size_t n = strlen(route->path);
    if (n > 1 && route->path[n - 1] == '/') return strncmp(route->path, path, n) == 0 && path[n] != '\0';
    return strcmp(route->path, path) == 0;
}

const serve_route *serve_find_route(const char *method, const char *path, serve_error *e)
{
    static const serve_route options = {"OPTIONS", "(preflight)", handle_options, .is_public = true};
    bool has_path = false;
    for (int i = 0; i < N_ROUTES; i++) {
        if (!matches(&routes[i], path)) continue;
        has_path = true;
        if (strcmp(method, "OPTIONS") == 0) return &options;
        if (strcmp(method, routes[i].method) == 0) return &routes[i];
    }
    if (has_path)
        (void)serve_fail(e, 405, "method_not_allowed", "%.100s: the method %.20s is not allowed", path,
                         method);
    else
        (void)serve_fail(e, 404, "not_found", "found no %.100s; docs/SERVER.md lists what there is", path);
    return NULL;
}
