#include "draft_fixture.h"

#include "tiny_model.h"

#include "../bench/random_model.h"

#include <stdio.h>
#include <stdlib.h>

char draft_models[N_MODELS][256];

int begin_drafts(void **state)
{
    lf_error err;
    const lf_config config = tiny_config(2, N_VOCAB, N_CTX);
    if (enter_temp(state) != 0) return 1;
    for (int i = 0; i < N_MODELS; i++) {
        lf_random_model m = {.config = config, .dtype = LF_DTYPE_F32, .seed = 2 + (uint64_t)i};
        char name[16];
        (void)snprintf(name, sizeof name, "%d.gguf", i);
        (void)snprintf(draft_models[i], sizeof draft_models[i], "%s", in_temp(name));
        if (i == OTHER) m.config.n_layers = 1;
        if (i == SHORT) m.config.n_ctx_max = 256;
        if (i == STRANGE) m.config.n_vocab = N_VOCAB + 1;
        assert_ok(lf_random_model_write(draft_models[i], &m, &err), &err);
    }
    return 0;
}

lf_engine_params draft_engine_params(const char *target, const char *draft, int n_seqs)
{
    lf_engine_params p;
    lf_engine_params_init(&p);
    p.model_path = target;
    p.draft_path = draft;
    p.draft_window = WINDOW;
    p.n_seqs = n_seqs;
    p.n_threads = 1;
    p.batch_rows = 96;
    p.kv_dtype = LF_DTYPE_F32;
    return p;
}

lf_engine *open_drafting_engine(const char *target, const char *draft, int n_seqs)
{
    lf_error err;
    lf_engine *e;
    const lf_engine_params p = draft_engine_params(target, draft, n_seqs);
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    return e;
}

lf_request_params draft_request_params(int32_t *ids, size_t n_ids, uint64_t seed)
{
    lf_request_params p;
    lf_request_params_init(&p);
    for (size_t i = 0; i < n_ids; i++) ids[i] = (int32_t)(rng_next(&seed) % N_VOCAB);
    p.ids = ids;
    p.n_ids = n_ids;
    p.n_predict = 40;
    p.seed = seed;
    p.proposer = "draft";
    return p;
}

void check_draft_pages(const lf_engine *e)
{
    const lf_kv_seq *seqs[64], *drafts[64];
    int n = 0, n_drafts = 0;
    int32_t *refs = calloc((size_t)lf_kv_pool_n_pages(e->pool), sizeof *refs);
    for (const lf_job *job = lf_sched_first(e->sched); job; job = job->next) {
        if (job->active) seqs[n++] = job->seq->kv;
        if (job->seq->draft_kv) drafts[n_drafts++] = job->seq->draft_kv;
    }
    assert_true(n_drafts <= n);
    lf_prefix_count_refs(e->prefix, refs);
    assert_true(lf_kv_pool_check(e->pool, seqs, n, refs));
    assert_true(lf_kv_pool_check(e->draft.pool, drafts, n_drafts, NULL));
    free(refs);
}

lf_seq *step_until(lf_engine *e, lf_request *r, size_t n)
{
    lf_error err;
    bool busy;
    while (r->seq.tokens.len <= n) assert_ok(lf_engine_step(e, &busy, NULL, &err), &err);
    assert_false(lf_request_is_finished(r));
    return &r->seq;
}

void propose_alone(lf_seq *const *seqs, int n, const int *n_wanted)
{
    lf_error err;
    for (int i = 0; i < n; i++) {
        seqs[i]->n_wanted = n_wanted[i];
        seqs[i]->n_candidates = 0;
        assert_ok(lf_kv_seq_reserve(seqs[i]->kv, 1 + n_wanted[i], &err), &err);
    }
    seqs[0]->proposer->ops->propose(seqs[0]->proposer, seqs, n);
}
