/* The engine's draft model: a smaller model with the target's vocabulary and a bounded cache of its own, for the proposer `draft`
 * (decode/draft.c). */
#include "engine_int.h"

lf_status lf_engine_plan_draft(lf_engine *e, const lf_engine_params *p, const lf_config *target,
                               lf_error *err)
{
    lf_status status = LF_OK;
    lf_engine_draft *d = &e->draft;
    size_t weights, cache;
    if (!p->draft_path) return LF_OK;
    LF_TRY(lf_source_open(&d->source, p->draft_path, err));
    const lf_config *c = &d->source.config;
    if (c->n_vocab != target->n_vocab) {
        status = lf_fail(err, LF_EINVAL, "%s: found an embedding of %d rows, expected the %d of %s",
                         p->draft_path, c->n_vocab, target->n_vocab, e->path);
        goto done;
    }
    LF_TRY(
        lf_draft_choose_window(&e->info.draft_window, p->draft_window, c, e->info.n_ctx, p->draft_path, err));
    d->shape = (lf_kv_shape){.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    d->n_pages = e->n_seqs * lf_draft_pages(e->info.draft_window, e->info.n_ctx);
    const size_t n_pages = (size_t)d->n_pages;
    bool fits = lf_kv_layout_init(&d->shape.layout, p->kv_dtype, c->head_dim) &&
                lf_model_plan_bytes(&d->source, -1, &weights) && lf_kv_page_bytes(&d->shape, &cache) &&
                lf_mul_size(cache, n_pages, &cache);
    const size_t buffers = lf_forward_plan_bytes(c, &d->shape.layout, e->info.n_threads, e->batch_rows,
                                                 e->logits_max);
    fits = fits && lf_add_size(weights, cache, &e->info.draft_bytes) &&
           lf_add_size(e->info.draft_bytes, buffers, &e->info.draft_bytes);
    if (!fits) status = lf_fail(err, LF_ELIMIT, "%s: the memory of the draft model overflows", p->draft_path);
done:
    return status;
}

/* Models without tokenizers may be of one vocabulary: whoever gives ids must know. */
static lf_status check_vocabulary(const lf_engine *e, const char *path, lf_error *err)
{
    lf_tokenizer *tokenizer;
    lf_status status = lf_engine_read_tokenizer(&tokenizer, &e->draft.source, err);
    if (status != LF_OK) return status;
    if (!tokenizer != !e->tokenizer)
        status = lf_fail(err, LF_EINVAL, "%s has a tokenizer and %s has none: expected the same in both",
                         tokenizer ? path : e->path, tokenizer ? e->path : path);
    else if (tokenizer)
        status = lf_tokenizer_check_same(e->tokenizer, e->path, tokenizer, path, err);
    lf_tokenizer_free(tokenizer);
    return status;
}

lf_status lf_engine_open_draft(lf_engine *e, const lf_engine_params *p, lf_error *err)
{
    lf_status status = LF_OK;
    lf_engine_draft *d = &e->draft;
    const lf_load_params load = {.weight_dtype = -1, .progress = p->progress, .cookie = p->progress_cookie};
    if (!p->draft_path) return LF_OK;
    LF_TRY(check_vocabulary(e, p->draft_path, err));
    LF_TRY(lf_model_load(&d->model, &d->source, e->threads, &load, err));
    LF_TRY(lf_kv_pool_create(&d->pool, &d->shape, d->n_pages, err));
    LF_TRY(lf_forward_create(&d->forward, &d->model, &e->kernels, e->threads, &d->shape.layout, e->batch_rows,
                             e->logits_max, err));
    d->env = (lf_draft_env){.forward = d->forward,
                            .pool = d->pool,
                            .rows_max = e->batch_rows,
                            .window = e->info.draft_window,
                            .cost = &d->cost};
done:
    lf_source_close(&d->source);
    return status;
}

void lf_engine_close_draft(lf_engine *e)
{
    lf_forward_free(e->draft.forward);
    lf_kv_pool_free(e->draft.pool);
    lf_model_free(&e->draft.model);
    lf_source_close(&e->draft.source);
}
