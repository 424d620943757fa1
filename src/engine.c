/* lookfar.h's engine: a loaded model, its cache, and generation over one sequence.
 *
 * The engine keeps the last request's tokens and their K/V. A new request computes only what follows the longest common
 * prefix; by the Row law the reused K/V are the bits that computing them again would give. */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "model/forward.h"
#include "sample/pick.h"
#include "token/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* Rows of one pass that can have logits: the buffer is as wide as the vocabulary. */
enum { LOGITS_MAX = 16, BATCH_ROWS_MAX = 1 << 16 };

struct lf_engine {
    lf_kernels kernels;
    lf_threads *threads;
    lf_model model;
    lf_tokenizer *tokenizer; /* NULL when the model has none */
    lf_kv_pool *pool;
    lf_kv_seq *seq;
    lf_ids cached; /* the tokens whose K/V `seq` holds, by position */
    lf_forward *forward;
    lf_picker *picker;
    lf_row *rows; /* (batch_rows) */
    int batch_rows;
    lf_engine_info info;
    char *path;
};

const char *lf_version(void)
{
    return "0.1.0";
}

const char *lf_dtype_name(lf_dtype dtype)
{
    return lf_dtype_of(dtype)->name;
}

bool lf_dtype_parse(const char *name, lf_dtype *out)
{
    return lf_dtype_from_name(name, out);
}

bool lf_cpu_mask_parse(const char *text, unsigned *out)
{
    static const struct {
        const char *name;
        unsigned mask;
    } levels[] = {
        {"scalar", 0},
        {"avx2", LF_CPU_AVX2},
        {"avx512", LF_CPU_AVX2 | LF_CPU_AVX512},
        {"native", ~0u},
    };
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcmp(text, levels[i].name) != 0) continue;
        *out = levels[i].mask;
        return true;
    }
    return false;
}

/* ---- opening ---- */

void lf_engine_params_init(lf_engine_params *params)
{
    *params = (lf_engine_params){.size = sizeof *params,
                                 .batch_rows = 512,
                                 .kv_dtype = LF_DTYPE_BF16,
                                 .weight_dtype = -1,
                                 .cpu_mask = ~0u};
}

static lf_status check_params(const lf_engine_params *p, lf_error *err)
{
    if (p->size != sizeof *p)
        return lf_fail(err, LF_EINVAL,
                       "engine parameters: found size %zu, expected %zu (lf_engine_params_init sets it)",
                       p->size, sizeof *p);
    if (!p->model_path) return lf_fail(err, LF_EINVAL, "engine parameters: model_path is NULL");
    if (p->batch_rows < 1 || p->batch_rows > BATCH_ROWS_MAX)
        return lf_fail(err, LF_EINVAL, "batch size: found %d, expected 1 to %d", p->batch_rows,
                       BATCH_ROWS_MAX);
    if (p->n_ctx < 0) return lf_fail(err, LF_EINVAL, "context size: found %d, expected 0 or more", p->n_ctx);
    if (p->n_threads < 0 || p->n_threads > LF_THREADS_MAX)
        return lf_fail(err, LF_EINVAL, "threads: found %d, expected 0 to %d", p->n_threads, LF_THREADS_MAX);
    if (p->weight_dtype < -1 || p->weight_dtype >= LF_DTYPE_COUNT)
        return lf_fail(err, LF_EINVAL, "weight dtype: found %d, expected -1 to %d", p->weight_dtype,
                       LF_DTYPE_COUNT - 1);
    return LF_OK;
}

/* How many positions the sequence gets. Past a sliding window, full attention is not what the model computes. */
static lf_status choose_ctx(lf_engine *e, const lf_engine_params *p, const lf_source *source, lf_error *err)
{
    const lf_config *c = &source->config;
    const int window = c->sliding_window > 0 ? c->sliding_window : c->n_ctx_max;
    const int n_ctx_max = window < c->n_ctx_max ? window : c->n_ctx_max;
    if (p->n_ctx > n_ctx_max)
        return lf_fail(err, LF_ELIMIT, "context size: found %d, expected at most %d, the %s of %s", p->n_ctx,
                       n_ctx_max, n_ctx_max == c->n_ctx_max ? "context" : "sliding window", source->path);
    e->info.n_ctx = p->n_ctx ? p->n_ctx : n_ctx_max;
    return LF_OK;
}

/* Plans all memory before any of it is taken: a model that does not fit is refused with the figures. */
static lf_status plan_memory(lf_engine *e, const lf_engine_params *p, const lf_source *source,
                             const lf_kv_shape *shape, lf_error *err)
{
    size_t page_bytes, total;
    const size_t n_pages = (size_t)(e->info.n_ctx + LF_PAGE_POS - 1) / LF_PAGE_POS;
    if (!lf_model_plan_bytes(source, p->weight_dtype, &e->info.weight_bytes))
        return lf_fail(err, LF_EINVAL,
                       "%s: weight dtype %s: a matrix's rows are not a multiple of its block of %u elements",
                       source->path, lf_dtype_name((lf_dtype)p->weight_dtype),
                       lf_dtype_of((lf_dtype)p->weight_dtype)->block_len);
    const bool fits = lf_kv_page_bytes(shape, &page_bytes) &&
                      lf_mul_size(page_bytes, n_pages, &e->info.kv_bytes);
    e->info.buffer_bytes = lf_forward_plan_bytes(&source->config, &shape->layout, e->info.n_threads,
                                                 e->batch_rows,
                                                 e->batch_rows < LOGITS_MAX ? e->batch_rows : LOGITS_MAX);
    const size_t available = lf_memory_available();
    if (!fits || !lf_add_size(e->info.weight_bytes, e->info.kv_bytes, &total) ||
        !lf_add_size(total, e->info.buffer_bytes, &total) || total > available)
        return lf_fail(
            err, LF_ELIMIT,
            "%s: needs %.2f GiB for weights, %.2f GiB for the cache of %d positions and %.2f GiB for buffers; "
            "%.2f GiB are available",
            source->path, (double)e->info.weight_bytes / 0x1p30, (double)e->info.kv_bytes / 0x1p30,
            e->info.n_ctx, (double)e->info.buffer_bytes / 0x1p30, (double)available / 0x1p30);
    return LF_OK;
}

/* "no_vocab" is how a GGUF says that it has none. */
static bool gguf_has_tokenizer(const lf_gguf *g)
{
    static const char none[] = "no_vocab";
    const lf_gguf_value *model = lf_gguf_find(g, "tokenizer.ggml.model");
    return model && !(model->type == LF_GGUF_STRING && model->len == strlen(none) &&
                      memcmp(model->str, none, model->len) == 0);
}

/* A model without a tokenizer still runs on ids; one whose tokenizer does not fit its embedding does not. */
static lf_status open_tokenizer(lf_engine *e, const lf_source *source, lf_error *err)
{
    lf_error tokenizer_err;
    if (source->form == LF_NAMES_GGUF && !gguf_has_tokenizer(source->gguf)) return LF_OK;
    const lf_status status = source->form == LF_NAMES_HF
                                 ? lf_tokenizer_from_dir(&e->tokenizer, source->path, &tokenizer_err)
                                 : lf_tokenizer_from_gguf(&e->tokenizer, source->gguf, &tokenizer_err);
    if (status == LF_EIO) return LF_OK;
    if (status != LF_OK) return lf_fail(err, status, "%s", tokenizer_err.text);
    if (lf_tokenizer_n_vocab(e->tokenizer) > source->config.n_vocab)
        return lf_fail(err, LF_EFORMAT, "%s: the tokenizer has %d tokens, the embedding %d rows",
                       source->path, lf_tokenizer_n_vocab(e->tokenizer), source->config.n_vocab);
    return LF_OK;
}

static lf_status open_model(lf_engine *e, const lf_engine_params *p, const lf_source *source, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_config *c = &source->config;
    lf_kv_shape shape = {.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    const lf_load_params load = {
        .weight_dtype = p->weight_dtype, .progress = p->progress, .cookie = p->progress_cookie};
    if (!lf_kv_layout_init(&shape.layout, p->kv_dtype, c->head_dim))
        return lf_fail(err, LF_EINVAL, "KV dtype: found %s, supported are f32, f16, bf16, q8_0",
                       (unsigned)p->kv_dtype < LF_DTYPE_COUNT ? lf_dtype_name(p->kv_dtype)
                                                              : "an unknown one");
    LF_TRY(choose_ctx(e, p, source, err));
    LF_TRY(plan_memory(e, p, source, &shape, err));
    LF_TRY(open_tokenizer(e, source, err));
    LF_TRY(lf_model_load(&e->model, source, e->threads, &load, err));
    const int n_pages = (e->info.n_ctx + LF_PAGE_POS - 1) / LF_PAGE_POS;
    LF_TRY(lf_kv_pool_create(&e->pool, &shape, n_pages, err));
    LF_TRY(lf_kv_seq_open(&e->seq, e->pool, e->info.n_ctx, err));
    LF_TRY(lf_picker_create(&e->picker, c->n_vocab, err));
    LF_TRY(lf_forward_create(&e->forward, &e->model, &e->kernels, e->threads, &shape.layout, e->batch_rows,
                             e->batch_rows < LOGITS_MAX ? e->batch_rows : LOGITS_MAX, err));
done:
    return status;
}

lf_status lf_engine_open(lf_engine **out, const lf_engine_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    lf_source source = {0};
    const int64_t start = lf_clock_ns();
    *out = NULL;
    lf_engine *e = calloc(1, sizeof *e);
    if (!e) return lf_fail_memory(err, "an engine", sizeof *e);
    LF_TRY(check_params(params, err));
    e->batch_rows = params->batch_rows;
    e->info.n_threads = params->n_threads ? params->n_threads : lf_threads_processors();
    e->rows = calloc((size_t)e->batch_rows, sizeof *e->rows);
    e->path = lf_strndup(params->model_path, strlen(params->model_path));
    if (!e->rows || !e->path) {
        status = lf_fail_memory(err, "rows", (size_t)e->batch_rows * sizeof *e->rows);
        goto done;
    }
    lf_kernels_init(&e->kernels, lf_cpu_flags() & params->cpu_mask);
    LF_TRY(lf_threads_create(&e->threads, e->info.n_threads, params->pin_threads, err));
    LF_TRY(lf_source_open(&source, params->model_path, err));
    LF_TRY(open_model(e, params, &source, err));
    e->info.load_seconds = (double)(lf_clock_ns() - start) * 1e-9;
    *out = e;
done:
    lf_source_close(&source);
    if (status != LF_OK) lf_engine_close(e);
    return status;
}

void lf_engine_close(lf_engine *e)
{
    if (!e) return;
    lf_forward_free(e->forward);
    lf_picker_free(e->picker);
    lf_kv_seq_close(e->seq);
    lf_kv_pool_free(e->pool);
    lf_model_free(&e->model);
    lf_tokenizer_free(e->tokenizer);
    lf_threads_free(e->threads);
    lf_ids_free(&e->cached);
    free(e->rows);
    free(e->path);
    free(e);
}

void lf_engine_get_info(const lf_engine *e, lf_engine_info *info)
{
    const lf_config *c = &e->model.config;
    *info = e->info;
    info->size = sizeof *info;
    info->arch = lf_arch_name(c->arch);
    info->kernels = e->kernels.name;
    info->n_layers = c->n_layers;
    info->dim = c->dim;
    info->n_heads = c->n_heads;
    info->n_kv_heads = c->n_kv_heads;
    info->head_dim = c->head_dim;
    info->ffn_dim = c->ffn_dim;
    info->n_vocab = c->n_vocab;
}

/* ---- text and tokens ---- */

static lf_status require_tokenizer(const lf_engine *e, lf_error *err)
{
    if (e->tokenizer) return LF_OK;
    return lf_fail(err, LF_EUNSUPPORTED,
                   "%s: the model has no tokenizer (tokenizer.json, tokenizer.model or vocab.json)", e->path);
}

lf_status lf_tokenize(const lf_engine *e, const char *text, size_t len, bool add_bos, bool parse_special,
                      int32_t **ids, size_t *n_ids, lf_error *err)
{
    lf_ids out = {0};
    lf_status status = LF_OK;
    LF_TRY(require_tokenizer(e, err));
    if (add_bos && lf_tokenizer_adds_bos(e->tokenizer) &&
        !lf_ids_push(&out, lf_tokenizer_bos(e->tokenizer))) {
        status = lf_fail_memory(err, "token ids", sizeof *out.data);
        goto done;
    }
    LF_TRY(lf_tokenizer_encode(e->tokenizer, text, len, parse_special, &out, err));
done:
    if (status != LF_OK) lf_ids_free(&out);
    *ids = out.data;
    *n_ids = out.len;
    return status;
}

/* The text of an id. A padded embedding has rows that are no token of the tokenizer: they have none. */
static lf_status append_text(const lf_engine *e, lf_detok *state, int32_t id, bool special, lf_bytes *out,
                             lf_error *err)
{
    if (id >= lf_tokenizer_n_vocab(e->tokenizer) && id < e->model.config.n_vocab) return LF_OK;
    return lf_detok_push(state, e->tokenizer, id, special, out, err);
}

lf_status lf_detokenize(const lf_engine *e, const int32_t *ids, size_t n_ids, bool special, char **text,
                        size_t *len, lf_error *err)
{
    lf_bytes out = {0};
    lf_detok state = {0};
    lf_status status = LF_OK;
    LF_TRY(require_tokenizer(e, err));
    for (size_t i = 0; i < n_ids; i++) LF_TRY(append_text(e, &state, ids[i], special, &out, err));
    LF_TRY(lf_detok_finish(&state, &out, err));
    if (!lf_bytes_append(&out, "", 0)) status = lf_fail_memory(err, "text", 1);
done:
    if (status != LF_OK) lf_bytes_free(&out);
    *text = out.data;
    *len = out.len;
    return status;
}

/* ---- generation ---- */

void lf_generate_params_init(lf_generate_params *params)
{
    *params = (lf_generate_params){.size = sizeof *params, .n_predict = -1};
}

const char *lf_finish_name(lf_finish finish)
{
    switch (finish) {
    case LF_FINISH_STOP: return "stop";
    case LF_FINISH_LENGTH: return "length";
    case LF_FINISH_CANCEL: return "cancel";
    }
    return "unknown";
}

static lf_status check_ids(const lf_engine *e, const int32_t *ids, size_t n_ids, lf_error *err)
{
    if (n_ids < 1) return lf_fail(err, LF_EINVAL, "prompt: found no tokens, expected at least 1");
    if (n_ids > (size_t)e->info.n_ctx)
        return lf_fail(err, LF_ELIMIT, "prompt: found %zu tokens, expected at most %d, the context", n_ids,
                       e->info.n_ctx);
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= e->model.config.n_vocab)
            return lf_fail(err, LF_EINVAL, "prompt: token %zu: found id %d, expected 0 to %d", i, (int)ids[i],
                           e->model.config.n_vocab - 1);
    return LF_OK;
}

/* Runs one pass over n tokens after the committed ones and commits them. */
static lf_status extend(lf_engine *e, const int32_t *ids, int n, int n_logits, lf_error *err)
{
    const int len = lf_kv_seq_len(e->seq);
    const lf_status status = lf_kv_seq_reserve(e->seq, n, err);
    if (status != LF_OK) return status;
    for (int i = 0; i < n; i++) {
        if (!lf_ids_push(&e->cached, ids[i])) {
            e->cached.len = (size_t)len;
            return lf_fail_memory(err, "token ids", sizeof *ids);
        }
        e->rows[i] = (lf_row){
            .seq = e->seq, .token = ids[i], .pos = len + i, .wants_logits = i >= n - n_logits};
    }
    lf_forward_run(e->forward, e->rows, n);
    lf_kv_seq_commit(e->seq, n);
    return LF_OK;
}

/* Keeps the longest common prefix of the cache and ids, at most `most` tokens of it; returns its length. */
static int reuse_prefix(lf_engine *e, const int32_t *ids, size_t most)
{
    size_t n = 0;
    while (n < most && n < e->cached.len && e->cached.data[n] == ids[n]) n++;
    lf_kv_seq_truncate(e->seq, (int)n);
    e->cached.len = n;
    return (int)n;
}

/* The state of one lf_generate. */
typedef struct generation {
    lf_engine *engine;
    const lf_generate_params *params;
    lf_generate_result result;
    lf_detok detok;
    lf_bytes text;
    lf_error *err;
    bool finished;
} generation;

static void finish(generation *g, lf_finish reason)
{
    g->result.finish = reason;
    g->finished = true;
}

static lf_status read_prompt(generation *g)
{
    lf_engine *e = g->engine;
    const lf_generate_params *p = g->params;
    const int n = (int)p->n_ids; /* at most n_ctx */
    lf_status status = LF_OK;
    int done = reuse_prefix(e, p->ids, p->n_ids - 1);
    g->result.prompt_tokens = n;
    g->result.cached_tokens = done;
    while (done < n) {
        const int rows = n - done < e->batch_rows ? n - done : e->batch_rows;
        LF_TRY(extend(e, p->ids + done, rows, done + rows == n, g->err));
        done += rows;
        if (p->on_prefill && !p->on_prefill(p->cookie, done, n)) {
            finish(g, LF_FINISH_CANCEL);
            break;
        }
    }
done:
    return status;
}

/* Hands a token to the caller and decides whether it was the last. */
static lf_status emit(generation *g, int32_t id)
{
    lf_engine *e = g->engine;
    const lf_generate_params *p = g->params;
    lf_status status = LF_OK;
    if (e->tokenizer && !p->ignore_eos && lf_tokenizer_is_eos(e->tokenizer, id)) {
        finish(g, LF_FINISH_STOP);
        return LF_OK;
    }
    g->result.output_tokens++;
    g->text.len = 0;
    if (e->tokenizer) LF_TRY(append_text(e, &g->detok, id, p->special, &g->text, g->err));
    if (p->on_token && !p->on_token(p->cookie, id, g->text.data ? g->text.data : "", g->text.len))
        finish(g, LF_FINISH_CANCEL);
    else if (p->n_predict >= 0 && g->result.output_tokens >= p->n_predict)
        finish(g, LF_FINISH_LENGTH);
    else if (lf_kv_seq_len(e->seq) >= e->info.n_ctx)
        finish(g, LF_FINISH_LENGTH);
done:
    return status;
}

static lf_status decode(generation *g)
{
    lf_engine *e = g->engine;
    lf_status status = LF_OK;
    lf_pick_params pick;
    lf_pick_params_init(&pick);
    pick.temperature = g->params->temperature;
    pick.seed = g->params->seed;
    if (g->params->n_predict == 0) finish(g, LF_FINISH_LENGTH);
    while (!g->finished) {
        const int pos = lf_kv_seq_len(e->seq);
        const int32_t id = lf_pick(e->picker, lf_forward_logits(e->forward, 0), e->cached.data, pos, &pick);
        if (id < 0) {
            status = lf_fail(g->err, LF_EFORMAT, "%s: the logits at position %d are not finite", e->path,
                             pos);
            goto done;
        }
        g->result.passes++;
        LF_TRY(emit(g, id));
        if (!g->finished) LF_TRY(extend(e, &id, 1, 1, g->err));
    }
done:
    return status;
}

/* Text that a cut output left incomplete comes with a last call, as U+FFFD. */
static lf_status flush_text(generation *g)
{
    lf_status status = LF_OK;
    const lf_generate_params *p = g->params;
    g->text.len = 0;
    LF_TRY(lf_detok_finish(&g->detok, &g->text, g->err));
    if (g->text.len > 0 && p->on_token && g->result.finish != LF_FINISH_CANCEL)
        (void)p->on_token(p->cookie, -1, g->text.data, g->text.len);
done:
    return status;
}

lf_status lf_generate(lf_engine *e, const lf_generate_params *params, lf_generate_result *result,
                      lf_error *err)
{
    lf_status status = LF_OK;
    generation g = {.engine = e, .params = params, .err = err, .detok.started = true};
    if (params->size != sizeof *params) {
        status = lf_fail(err, LF_EINVAL,
                         "generation parameters: found size %zu, expected %zu (lf_generate_params_init)",
                         params->size, sizeof *params);
        goto done;
    }
    if (!(params->temperature >= 0.0f && params->temperature <= 1e6f)) {
        status = lf_fail(err, LF_EINVAL, "temperature: found %g, expected 0 to 1e6",
                         (double)params->temperature);
        goto done;
    }
    LF_TRY(check_ids(e, params->ids, params->n_ids, err));
    const int64_t start = lf_clock_ns();
    LF_TRY(read_prompt(&g));
    const int64_t prefilled = lf_clock_ns();
    if (!g.finished) LF_TRY(decode(&g));
    LF_TRY(flush_text(&g));
    g.result.prefill_seconds = (double)(prefilled - start) * 1e-9;
    g.result.decode_seconds = (double)(lf_clock_ns() - prefilled) * 1e-9;
    g.result.size = sizeof g.result;
    if (result) *result = g.result;
done:
    lf_bytes_free(&g.text);
    return status;
}

lf_status lf_score(lf_engine *e, const int32_t *ids, size_t n_ids, float *logits, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t n_vocab = (size_t)e->model.config.n_vocab;
    const int most = e->batch_rows < LOGITS_MAX ? e->batch_rows : LOGITS_MAX;
    LF_TRY(check_ids(e, ids, n_ids, err));
    (void)reuse_prefix(e, ids, 0);
    for (size_t done = 0; done < n_ids;) {
        const int rows = n_ids - done < (size_t)most ? (int)(n_ids - done) : most;
        LF_TRY(extend(e, ids + done, rows, rows, err));
        for (int i = 0; i < rows; i++)
            memcpy(logits + (done + (size_t)i) * n_vocab, lf_forward_logits(e->forward, i),
                   n_vocab * sizeof *logits);
        done += (size_t)rows;
    }
done:
    return status;
}
