#include "sched_fixture.h"

#include "tiny_model.h"

#include "../bench/random_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *temp_dir;
static char model_path[512];

const char *const proposers[N_PROPOSERS] = {"none", "ngram", "jacobi", "sparse", "draft", "auto"};

/* ---- what is asked and what must come out ---- */

ask asks[N_CASES];

lf_engine_params engine_params(int n_seqs, int n_pages)
{
    lf_engine_params p;
    lf_engine_params_init(&p);
    p.model_path = model_path;
    p.n_ctx = N_CTX;
    p.n_seqs = n_seqs;
    p.n_pages = n_pages;
    p.n_threads = 1;
    p.batch_rows = 64;
    p.draft_path = model_path; /* drafts for itself, over a window */
    p.draft_window = 70;
    return p;
}

lf_engine *open_engine(const lf_engine_params *p)
{
    lf_error err;
    lf_engine *e;
    assert_ok(lf_engine_open(&e, p, &err), &err);
    return e;
}

lf_request_params request_params(const ask *a, const char *proposer)
{
    lf_request_params p;
    lf_request_params_init(&p);
    p.ids = a->prompt;
    p.n_ids = (size_t)a->n_prompt;
    p.n_predict = a->n_predict;
    p.temperature = a->temperature;
    p.seed = a->seed;
    p.proposer = proposer;
    p.sparse_budget = 64;
    p.logprobs = true;
    return p;
}

void submit(lf_request **out, lf_engine *e, const lf_request_params *p)
{
    lf_error err;
    assert_ok(lf_request_submit(out, e, p, &err), &err);
}

lf_step_info step(lf_engine *e)
{
    lf_error err;
    bool busy;
    lf_step_info info = {.size = sizeof info};
    assert_ok(lf_engine_step(e, &busy, &info, &err), &err);
    return info;
}

void wait_for(lf_request *r)
{
    lf_error err;
    assert_ok(lf_request_wait(r, &err), &err);
}

lf_request_result result_of(const lf_request *r)
{
    lf_request_result result = {.size = sizeof result};
    lf_request_get_result(r, &result);
    return result;
}

lf_engine_stats stats_of(const lf_engine *e)
{
    lf_engine_stats stats;
    lf_engine_get_stats(e, &stats);
    return stats;
}

void check_output(const lf_request *r, const ask *a, bool whole)
{
    size_t n;
    const int32_t *ids = lf_request_ids(r, &n);
    assert_true(whole ? (int)n == a->n_ids : (int)n <= a->n_ids);
    assert_memory_equal(ids, a->ids, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) assert_memory_equal(&r->tokens[i].logprob, &a->logprobs[i], sizeof(float));
}

/* Prompts in families that begin alike, of all lengths. */
static void make_asks(void)
{
    const lf_engine_params ep = engine_params(1, 0);
    lf_engine *e = open_engine(&ep);
    uint64_t rng = 1;
    for (int i = 0; i < N_CASES; i++) {
        ask *a = &asks[i];
        const bool is_long = rng_next(&rng) % 3 == 0;
        a->n_prompt = 1 + (int)(rng_next(&rng) % (is_long ? PROMPT_MAX : 90));
        a->n_predict = 1 + (int)(rng_next(&rng) % OUTPUT_MAX);
        a->temperature = i % 2 ? 1.0f : 0.0f;
        a->seed = rng_next(&rng);
        for (int j = 0; j < a->n_prompt; j++) a->prompt[j] = (int32_t)(rng_next(&rng) % N_VOCAB);
        if (i % 4 == 0) continue;
        const ask *before = &asks[i - 1];
        const int shared = a->n_prompt < before->n_prompt ? a->n_prompt : before->n_prompt;
        memcpy(a->prompt, before->prompt, (size_t)(i % 4 == 1 ? shared / 2 : shared) * sizeof *a->prompt);
    }
    for (int i = 0; i < N_CASES; i++) {
        lf_request *r;
        size_t n;
        lf_request_params p = request_params(&asks[i], "none");
        p.no_prefix_cache = true;
        submit(&r, e, &p);
        wait_for(r);
        const int32_t *ids = lf_request_ids(r, &n);
        memcpy(asks[i].ids, ids, n * sizeof *ids);
        asks[i].n_ids = (int)n;
        assert_int_equal(n, asks[i].n_predict);
        for (size_t j = 0; j < n; j++) asks[i].logprobs[j] = r->tokens[j].logprob;
        lf_request_free(r);
    }
    lf_engine_close(e);
}

int begin_sched(void **state)
{
    (void)state;
    lf_error err;
    const lf_config config = tiny_config(1, N_VOCAB, N_CTX);
    const lf_random_model m = {.config = config, .dtype = LF_DTYPE_F32, .seed = 2};
    temp_dir = make_temp_dir();
    (void)snprintf(model_path, sizeof model_path, "%s/model.gguf", temp_dir);
    assert_ok(lf_random_model_write(model_path, &m, &err), &err);
    make_asks();
    return 0;
}

int end_sched(void **state)
{
    (void)state;
    remove_tree(temp_dir);
    free(temp_dir);
    return 0;
}

/* ---- what every step keeps ---- */

void check_pages(const lf_engine *e)
{
    const lf_kv_seq *seqs[256], *drafts[256];
    int n = 0, n_drafts = 0, n_jobs = 0;
    int32_t *refs = calloc((size_t)lf_kv_pool_n_pages(e->pool), sizeof *refs);
    for (const lf_job *job = lf_sched_first(e->sched); job; job = job->next, n_jobs++) {
        assert_true(job->active == (job->seq->kv != NULL));
        assert_true(!job->reader || (job->reader->active && !job->active));
        assert_true(job->active || !job->seq->draft_kv);
        if (job->active) seqs[n++] = job->seq->kv;
        if (job->seq->draft_kv) drafts[n_drafts++] = job->seq->draft_kv;
    }
    lf_prefix_count_refs(e->prefix, refs);
    assert_true(lf_kv_pool_check(e->pool, seqs, n, refs));
    assert_true(lf_kv_pool_check(e->draft.pool, drafts, n_drafts, NULL));
    const lf_engine_stats stats = stats_of(e);
    assert_int_equal(stats.active, n);
    assert_int_equal(stats.queued, n_jobs - n);
    assert_true(stats.pages_used >= 0 && stats.pages_used + stats.pages_cached <= stats.pages);
    assert_true(n > 0 || stats.pages_used == 0);
    free(refs);
}

const ask *find_growing(void)
{
    const ask *a = asks;
    while (a->n_prompt > 100 || a->n_prompt + a->n_predict < 170) a++;
    assert_true(a < asks + N_CASES);
    return a;
}

lf_engine_params scarce_params(int n_seqs)
{
    lf_engine_params p = engine_params(n_seqs, 4);
    p.n_ctx = 3 * LF_PAGE_POS;
    return p;
}

const ask *find_long(void)
{
    for (int i = 0; i < N_CASES; i++)
        if (asks[i].n_prompt > 300 && asks[i].n_prompt % LF_PAGE_POS > 20) return &asks[i];
    fail();
    return NULL;
}
