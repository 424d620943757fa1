/* lookfar.h's engine: a loaded model with its cache. What is done with it is in request.c. */
#include "engine_int.h"

#include "base/clock.h"
#include "base/cpu.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Rows of one pass that can have logits besides one for each sequence: the buffer is as wide as the vocabulary. */
enum {
    CANDIDATES_MIN = 64,
    CANDIDATES_EACH = 8,
    BATCH_ROWS_MAX = 1 << 16,
    SEQS_MAX = 1 << 12,
    PAGES_MAX = INT_MAX / LF_PAGE_POS
};

_Static_assert((int)LF_PAGE_TOKENS == (int)LF_PAGE_POS, "the header promises this page");

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
    if (p->prefill_rows < 0 || p->prefill_rows > p->batch_rows)
        return lf_fail(err, LF_EINVAL, "rows of prompts: found %d, expected 0 to the batch size, %d",
                       p->prefill_rows, p->batch_rows);
    if (p->queue_max < 0) return lf_fail(err, LF_EINVAL, "queue: found %d, expected 0 or more", p->queue_max);
    if (p->n_pages < 0 || p->n_pages == 1 || p->n_pages > PAGES_MAX)
        return lf_fail(err, LF_EINVAL, "cache: found %d pages, expected 0, or 2 to %d", p->n_pages,
                       PAGES_MAX);
    if (p->n_ctx < 0) return lf_fail(err, LF_EINVAL, "context size: found %d, expected 0 or more", p->n_ctx);
    if (p->draft_window < 0)
        return lf_fail(err, LF_EINVAL, "draft window: found %d, expected 0 or more", p->draft_window);
    if (p->n_threads < 0 || p->n_threads > LF_THREADS_MAX)
        return lf_fail(err, LF_EINVAL, "threads: found %d, expected 0 to %d", p->n_threads, LF_THREADS_MAX);
    if (p->n_candidates < 0 || p->n_candidates > LF_DRAFT_LIMIT)
        return lf_fail(err, LF_EINVAL, "candidates: found %d, expected 0 to %d", p->n_candidates,
                       LF_DRAFT_LIMIT);
    if (p->weight_dtype < -1 || p->weight_dtype >= LF_DTYPE_COUNT)
        return lf_fail(err, LF_EINVAL, "weight dtype: found %d, expected -1 to %d", p->weight_dtype,
                       LF_DTYPE_COUNT - 1);
    return LF_OK;
}

/* How many positions a sequence gets. Past a sliding window, full attention is not what the model computes. A request alone must
 * always fit the cache. */
static lf_status choose_ctx(lf_engine *e, const lf_engine_params *p, const lf_source *source, lf_error *err)
{
    const lf_config *c = &source->config;
    const int window = c->sliding_window > 0 ? c->sliding_window : c->n_ctx_max;
    const int n_ctx_max = window < c->n_ctx_max ? window : c->n_ctx_max;
    if (p->n_ctx > n_ctx_max)
        return lf_fail(err, LF_ELIMIT, "context size: found %d, expected at most %d, the %s of %s", p->n_ctx,
                       n_ctx_max, n_ctx_max == c->n_ctx_max ? "context" : "sliding window", source->path);
    e->info.n_ctx = p->n_ctx ? p->n_ctx : n_ctx_max;
    if (p->n_pages == 0 || lf_pages_for(e->info.n_ctx) <= p->n_pages) return LF_OK;
    if (p->n_ctx)
        return lf_fail(err, LF_ELIMIT, "cache: found %d pages of %d positions, a context of %d needs %d",
                       p->n_pages, LF_PAGE_POS, p->n_ctx, lf_pages_for(p->n_ctx));
    e->info.n_ctx = (p->n_pages - 1) * LF_PAGE_POS;
    return LF_OK;
}

/* Plans all memory before any of it is taken: a model that does not fit is refused with the figures. */
static lf_status plan_memory(lf_engine *e, const lf_engine_params *p, const lf_source *source,
                             const lf_kv_shape *shape, lf_error *err)
{
    size_t page_bytes, total, n_pages = 0;
    if (!lf_model_plan_bytes(source, p->weight_dtype, &e->info.weight_bytes))
        return lf_fail(err, LF_EINVAL,
                       "%s: weight dtype %s: a matrix's rows are not a multiple of its block of %u elements",
                       source->path, lf_dtype_name((lf_dtype)p->weight_dtype),
                       lf_dtype_of((lf_dtype)p->weight_dtype)->block_len);
    const size_t each = (size_t)lf_pages_for(e->info.n_ctx);
    const bool fits = lf_mul_size(p->n_pages ? (size_t)p->n_pages : each, p->n_pages ? 1 : (size_t)e->n_seqs,
                                  &n_pages) &&
                      n_pages <= INT32_MAX && lf_kv_page_bytes(shape, &page_bytes) &&
                      lf_mul_size(page_bytes, n_pages, &e->info.kv_bytes);
    if (fits) e->info.n_pages = (int)n_pages;
    e->info.buffer_bytes = lf_forward_plan_bytes(&source->config, &shape->layout, e->info.n_threads,
                                                 e->batch_rows, e->logits_max);
    const size_t available = lf_memory_available();
    if (!fits || !lf_add_size(e->info.weight_bytes, e->info.kv_bytes, &total) ||
        !lf_add_size(total, e->info.buffer_bytes, &total) ||
        !lf_add_size(total, e->info.draft_bytes, &total) || total > available)
        return lf_fail(
            err, LF_ELIMIT,
            "%s: needs %.2f GiB for weights, %.2f GiB for the cache of %zu pages of %d positions, %.2f GiB for buffers and "
            "%.2f GiB for a draft model; %.2f GiB are available",
            source->path, (double)e->info.weight_bytes / 0x1p30, (double)e->info.kv_bytes / 0x1p30, n_pages,
            LF_PAGE_POS, (double)e->info.buffer_bytes / 0x1p30, (double)e->info.draft_bytes / 0x1p30,
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
    if (e->tokenizer) LF_TRY(lf_chat_open(&e->chat, e->tokenizer, p->chat_template, err));
    LF_TRY(lf_model_load(&e->model, source, e->threads, &load, err));
    LF_TRY(lf_kv_pool_create(&e->pool, &shape, e->info.n_pages, err));
    LF_TRY(lf_prefix_create(&e->prefix, e->pool, err));
    LF_TRY(lf_forward_create(&e->forward, &e->model, &e->kernels, e->threads, &shape.layout, e->batch_rows,
                             e->logits_max, err));
    LF_TRY(lf_round_create(&e->round, e->forward, c, e->n_seqs, e->batch_rows, e->logits_max, err));
    LF_TRY(lf_engine_open_draft(e, p, err));
    const int prefill_rows = p->prefill_rows ? p->prefill_rows : e->batch_rows / 4;
    const lf_sched_params sched = {.pool = e->pool,
                                   .prefix = e->prefix,
                                   .round = e->round,
                                   .n_ctx = e->info.n_ctx,
                                   .n_seqs = e->n_seqs,
                                   .rows = {.rows_max = e->batch_rows,
                                            .logits_max = e->logits_max,
                                            .prefill_rows = prefill_rows > 0 ? prefill_rows : 1},
                                   .queue_max = p->queue_max,
                                   .find_proposer = lf_engine_find_proposer,
                                   .cookie = e,
                                   .stats = &e->stats};
    LF_TRY(lf_sched_create(&e->sched, &sched, err));
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
    const int n_candidates = e->n_seqs * (params->n_candidates ? params->n_candidates : CANDIDATES_EACH);
    e->logits_max = e->n_seqs + (n_candidates > CANDIDATES_MIN ? n_candidates : CANDIDATES_MIN);
    if (e->logits_max > e->batch_rows) e->logits_max = e->batch_rows;
    e->info.n_threads = params->n_threads ? params->n_threads : lf_threads_processors();
    e->step_seqs = calloc((size_t)e->n_seqs, sizeof *e->step_seqs);
    e->path = lf_strndup(params->model_path, strlen(params->model_path));
    if (!e->step_seqs || !e->path) {
        status = lf_fail_memory(err, "an engine", (size_t)e->n_seqs * sizeof *e->step_seqs);
        goto done;
    }
    lf_kernels_init(&e->kernels, lf_cpu_flags() & params->cpu_mask);
    LF_TRY(lf_threads_create(&e->threads, e->info.n_threads, params->pin_threads, err));
    LF_TRY(lf_source_open(&source, params->model_path, err));
    LF_TRY(open_model(e, params, &source, err));
    LF_TRY(lf_engine_make_profile_key(e, err));
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
    if (e->sched) /* the caller still frees the requests */
        while (lf_sched_first(e->sched)) lf_request_cancel(lf_sched_first(e->sched)->seq->cookie);
    lf_sched_free(e->sched);
    for (int i = 0; i < LF_PROPOSER_COUNT; i++) lf_proposer_close(e->proposers[i]);
    lf_engine_close_draft(e);
    lf_round_free(e->round);
    lf_forward_free(e->forward);
    lf_prefix_free(e->prefix);
    lf_kv_pool_free(e->pool);
    lf_model_free(&e->model);
    lf_token_bytes_free(e->token_bytes);
    lf_chat_close(e->chat);
    lf_tokenizer_free(e->tokenizer);
    lf_threads_free(e->threads);
    lf_bytes_free(&e->profile_key);
    free(e->step_seqs);
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
    info->profile_key = e->profile_key.data;
}

void lf_engine_get_stats(const lf_engine *e, lf_engine_stats *stats)
{
    *stats = e->stats;
    stats->size = sizeof *stats;
    stats->n_proposers = LF_PROPOSER_COUNT;
    for (int i = 0; i < LF_PROPOSER_COUNT; i++) stats->proposers[i].name = lf_proposer_name(i);
    stats->queued = lf_sched_n_queued(e->sched);
    stats->active = lf_sched_n_active(e->sched);
    stats->pages = lf_kv_pool_n_pages(e->pool);
    stats->pages_cached = lf_kv_pool_n_idle(e->pool);
    stats->pages_used = stats->pages - lf_kv_pool_n_free(e->pool) - stats->pages_cached;
}

const char *lf_skip_name(lf_skip skip)
{
    static const char *const names[] = {"last", "rows", "pages", "nothing", "controller"};
    return (unsigned)skip < sizeof names / sizeof *names ? names[skip] : "unknown";
}

/* ---- proposers ---- */

/* What measuring the passes of a model may take. */
static const double PROFILE_SECONDS = 1.0;

lf_status lf_engine_find_proposer(void *engine, lf_proposer **out, int index, lf_error *err)
{
    lf_engine *e = engine;
    const lf_proposer_env env = {.forward = e->forward,
                                 .config = &e->model.config,
                                 .threads = e->threads,
                                 .n_ctx = e->info.n_ctx,
                                 .seqs_max = e->n_seqs,
                                 .rows_max = e->logits_max,
                                 .draft = e->draft.forward ? &e->draft.env : NULL,
                                 .pool = e->pool,
                                 .cost = &e->cost,
                                 .profile_seconds = PROFILE_SECONDS};
    if (!e->proposers[index]) {
        const lf_status status = lf_proposer_open(&e->proposers[index], index, &env, err);
        if (status != LF_OK) return status;
        if (index == LF_PROPOSER_AUTO || index == LF_PROPOSER_JACOBI)
            lf_round_correct_cost(e->round, &e->cost);
    }
    *out = e->proposers[index];
    return LF_OK;
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

size_t lf_token_text(const lf_engine *e, int32_t id, char *out)
{
    if (!e->tokenizer || id < 0 || id >= lf_tokenizer_n_vocab(e->tokenizer)) return 0;
    return lf_tokenizer_bytes(e->tokenizer, id, out);
}

void lf_chat_get_info(const lf_engine *e, lf_chat_info *info)
{
    if (e->chat)
        lf_chat_describe(e->chat, info);
    else
        *info = (lf_chat_info){.size = sizeof *info};
}

lf_status lf_chat_render(const lf_engine *e, const char *request, size_t request_len, char **text,
                         size_t *len, lf_error *err)
{
    lf_bytes out = {0};
    lf_status status = LF_OK;
    LF_TRY(require_tokenizer(e, err));
    LF_TRY(lf_chat_write(e->chat, request, request_len, &out, err));
    if (!lf_bytes_append(&out, "", 0)) status = lf_fail_memory(err, "text", 1);
done:
    if (status != LF_OK) lf_bytes_free(&out);
    *text = out.data;
    *len = out.len;
    return status;
}

lf_status lf_chat_tokenize(const lf_engine *e, const char *text, size_t len, int32_t **ids, size_t *n_ids,
                           lf_error *err)
{
    return lf_tokenize(e, text, len, false, true, ids, n_ids, err);
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
    assert(!e->stepping);
    if (n_ids < 1 || n_ids > (size_t)e->info.n_ctx)
        return lf_fail(err, n_ids ? LF_ELIMIT : LF_EINVAL, "score: found %zu tokens, expected 1 to %d", n_ids,
                       e->info.n_ctx);
    LF_TRY(lf_check_ids(e, "score", ids, n_ids, err));
    lf_sched_make_room(e->sched, lf_pages_for((int)n_ids));
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
