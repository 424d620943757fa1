/* lookfar.h's engine: a loaded model with its cache. What is done with it is in request.c. */
#include "engine_int.h"

#include "base/clock.h"
#include "base/cpu.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Rows of one pass that can have logits besides one for each sequence: the buffer is as wide as the vocabulary. */
enum { CANDIDATES_MIN = 64, CANDIDATES_EACH = 8, BATCH_ROWS_MAX = 1 << 16, SEQS_MAX = 1 << 12 };

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
                                 .n_seqs = 1,
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
    if (p->n_seqs < 1 || p->n_seqs > SEQS_MAX || p->n_seqs > p->batch_rows)
        return lf_fail(err, LF_EINVAL, "sequences: found %d, expected 1 to %d and at most the batch size, %d",
                       p->n_seqs, SEQS_MAX, p->batch_rows);
    if (p->n_ctx < 0) return lf_fail(err, LF_EINVAL, "context size: found %d, expected 0 or more", p->n_ctx);
    if (p->draft_window < 0)
        return lf_fail(err, LF_EINVAL, "draft window: found %d, expected 0 or more", p->draft_window);
    if (p->n_threads < 0 || p->n_threads > LF_THREADS_MAX)
        return lf_fail(err, LF_EINVAL, "threads: found %d, expected 0 to %d", p->n_threads, LF_THREADS_MAX);
    if (p->weight_dtype < -1 || p->weight_dtype >= LF_DTYPE_COUNT)
        return lf_fail(err, LF_EINVAL, "weight dtype: found %d, expected -1 to %d", p->weight_dtype,
                       LF_DTYPE_COUNT - 1);
    return LF_OK;
}

/* How many positions a sequence gets. Past a sliding window, full attention is not what the model computes. */
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
    size_t n_pages;
    if (!lf_model_plan_bytes(source, p->weight_dtype, &e->info.weight_bytes))
        return lf_fail(err, LF_EINVAL,
                       "%s: weight dtype %s: a matrix's rows are not a multiple of its block of %u elements",
                       source->path, lf_dtype_name((lf_dtype)p->weight_dtype),
                       lf_dtype_of((lf_dtype)p->weight_dtype)->block_len);
    const bool fits = lf_mul_size((size_t)lf_pages_for(e->info.n_ctx), (size_t)e->n_seqs, &n_pages) &&
                      n_pages <= INT32_MAX && lf_kv_page_bytes(shape, &page_bytes) &&
                      lf_mul_size(page_bytes, n_pages, &e->info.kv_bytes);
    e->info.buffer_bytes = lf_forward_plan_bytes(&source->config, &shape->layout, e->info.n_threads,
                                                 e->batch_rows, e->logits_max);
    const size_t available = lf_memory_available();
    if (!fits || !lf_add_size(e->info.weight_bytes, e->info.kv_bytes, &total) ||
        !lf_add_size(total, e->info.buffer_bytes, &total) ||
        !lf_add_size(total, e->info.draft_bytes, &total) || total > available)
        return lf_fail(
            err, LF_ELIMIT,
            "%s: needs %.2f GiB for weights, %.2f GiB for the cache of %d x %d positions, %.2f GiB for buffers and "
            "%.2f GiB for a draft model; %.2f GiB are available",
            source->path, (double)e->info.weight_bytes / 0x1p30, (double)e->info.kv_bytes / 0x1p30, e->n_seqs,
            e->info.n_ctx, (double)e->info.buffer_bytes / 0x1p30, (double)e->info.draft_bytes / 0x1p30,
            (double)available / 0x1p30);
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
lf_status lf_engine_read_tokenizer(lf_tokenizer **out, const lf_source *source, lf_error *err)
{
    lf_error tokenizer_err;
    *out = NULL;
    if (source->form == LF_NAMES_GGUF && !gguf_has_tokenizer(source->gguf)) return LF_OK;
    const lf_status status = source->form == LF_NAMES_HF
                                 ? lf_tokenizer_from_dir(out, source->path, &tokenizer_err)
                                 : lf_tokenizer_from_gguf(out, source->gguf, &tokenizer_err);
    if (status == LF_EIO) return LF_OK;
    if (status != LF_OK) return lf_fail(err, status, "%s", tokenizer_err.text);
    const int n_vocab = lf_tokenizer_n_vocab(*out);
    if (n_vocab <= source->config.n_vocab) return LF_OK;
    lf_tokenizer_free(*out);
    *out = NULL;
    return lf_fail(err, LF_EFORMAT, "%s: the tokenizer has %d tokens, the embedding %d rows", source->path,
                   n_vocab, source->config.n_vocab);
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
    LF_TRY(lf_engine_plan_draft(e, p, c, err));
    LF_TRY(plan_memory(e, p, source, &shape, err));
    LF_TRY(lf_engine_read_tokenizer(&e->tokenizer, source, err));
    LF_TRY(lf_model_load(&e->model, source, e->threads, &load, err));
    LF_TRY(lf_kv_pool_create(&e->pool, &shape, e->n_seqs * lf_pages_for(e->info.n_ctx), err));
    LF_TRY(lf_prefix_create(&e->prefix, e->pool, err));
    LF_TRY(lf_forward_create(&e->forward, &e->model, &e->kernels, e->threads, &shape.layout, e->batch_rows,
                             e->logits_max, err));
    LF_TRY(lf_round_create(&e->round, e->forward, c, e->n_seqs, e->batch_rows, e->logits_max, err));
    LF_TRY(lf_engine_open_draft(e, p, err));
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
    e->n_seqs = e->info.n_seqs = params->n_seqs;
    e->logits_max = e->n_seqs + (e->n_seqs * CANDIDATES_EACH > CANDIDATES_MIN ? e->n_seqs * CANDIDATES_EACH
                                                                              : CANDIDATES_MIN);
    if (e->logits_max > e->batch_rows) e->logits_max = e->batch_rows;
    e->info.n_threads = params->n_threads ? params->n_threads : lf_threads_processors();
    e->seqs = calloc((size_t)e->n_seqs, sizeof *e->seqs);
    e->path = lf_strndup(params->model_path, strlen(params->model_path));
    if (!e->seqs || !e->path) {
        status = lf_fail_memory(err, "an engine", (size_t)e->n_seqs * sizeof *e->seqs);
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

int lf_pages_for(int n_positions)
{
    return (n_positions + LF_PAGE_POS - 1) / LF_PAGE_POS + 1;
}

void lf_engine_close(lf_engine *e)
{
    if (!e) return;
    while (e->requests) lf_request_cancel(e->requests); /* the caller still frees them */
    for (int i = 0; i < LF_PROPOSER_COUNT; i++) lf_proposer_close(e->proposers[i]);
    lf_engine_close_draft(e);
    lf_round_free(e->round);
    lf_forward_free(e->forward);
    lf_prefix_free(e->prefix);
    lf_kv_pool_free(e->pool);
    lf_model_free(&e->model);
    lf_tokenizer_free(e->tokenizer);
    lf_threads_free(e->threads);
    free(e->seqs);
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

lf_status lf_append_text(const lf_engine *e, lf_detok *state, int32_t id, bool special, lf_bytes *out,
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
    for (size_t i = 0; i < n_ids; i++) LF_TRY(lf_append_text(e, &state, ids[i], special, &out, err));
    LF_TRY(lf_detok_finish(&state, &out, err));
    if (!lf_bytes_append(&out, "", 0)) status = lf_fail_memory(err, "text", 1);
done:
    if (status != LF_OK) lf_bytes_free(&out);
    *text = out.data;
    *len = out.len;
    return status;
}

/* ---- scoring ---- */

static lf_status score_rows(lf_engine *e, lf_kv_seq *seq, lf_row *rows, const int32_t *ids, int n,
                            float *logits, lf_error *err)
{
    const int len = lf_kv_seq_len(seq);
    const size_t n_vocab = (size_t)e->model.config.n_vocab;
    (void)lf_prefix_evict(e->prefix, n / LF_PAGE_POS + 2);
    const lf_status status = lf_kv_seq_reserve(seq, n, err);
    if (status != LF_OK) return status;
    for (int i = 0; i < n; i++)
        rows[i] = (lf_row){.seq = seq, .token = ids[i], .pos = len + i, .wants_logits = true};
    lf_forward_run(e->forward, rows, n);
    lf_kv_seq_commit(seq, n);
    for (int i = 0; i < n; i++)
        memcpy(logits + (size_t)i * n_vocab, lf_forward_logits(e->forward, i), n_vocab * sizeof *logits);
    return LF_OK;
}

lf_status lf_score(lf_engine *e, const int32_t *ids, size_t n_ids, float *logits, lf_error *err)
{
    lf_status status = LF_OK;
    lf_kv_seq *seq = NULL;
    lf_row *rows = NULL;
    if (n_ids < 1 || n_ids > (size_t)e->info.n_ctx)
        return lf_fail(err, n_ids ? LF_ELIMIT : LF_EINVAL, "score: found %zu tokens, expected 1 to %d", n_ids,
                       e->info.n_ctx);
    LF_TRY(lf_check_ids(e, "score", ids, n_ids, err));
    rows = calloc((size_t)e->logits_max, sizeof *rows);
    if (!rows) {
        status = lf_fail_memory(err, "rows", (size_t)e->logits_max * sizeof *rows);
        goto done;
    }
    LF_TRY(lf_kv_seq_open(&seq, e->pool, e->info.n_ctx, err));
    for (size_t i = 0; i < n_ids;) {
        const int n = n_ids - i < (size_t)e->logits_max ? (int)(n_ids - i) : e->logits_max;
        LF_TRY(score_rows(e, seq, rows, ids + i, n, logits + i * (size_t)e->model.config.n_vocab, err));
        i += (size_t)n;
    }
done:
    lf_kv_seq_close(seq);
    free(rows);
    return status;
}
