#include "sched/sched.h"

#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>

struct lf_sched {
    lf_sched_params params;
    lf_job *jobs;     /* every one, oldest first */
    lf_job **stepped; /* (n_seqs) those of the last step, n_stepped */
    lf_seq **seqs;    /* (n_seqs) their sequences, for the round */
    int n_stepped;
    int n_active, n_jobs, pages_promised;
};

lf_status lf_sched_create(lf_sched **out, const lf_sched_params *params, lf_error *err)
{
    lf_sched *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return lf_fail_memory(err, "a scheduler", sizeof *s);
    s->params = *params;
    s->stepped = calloc((size_t)params->n_seqs, sizeof *s->stepped);
    s->seqs = calloc((size_t)params->n_seqs, sizeof *s->seqs);
    if (!s->stepped || !s->seqs) {
        lf_sched_free(s);
        return lf_fail_memory(err, "a scheduler", (size_t)params->n_seqs * sizeof *s->seqs);
    }
    *out = s;
    return LF_OK;
}

void lf_sched_free(lf_sched *s)
{
    if (!s) return;
    assert(!s->jobs);
    free(s->stepped);
    free(s->seqs);
    free(s);
}

/* ---- the queue ---- */

void lf_sched_submit(lf_sched *s, lf_job *job)
{
    lf_job **link = &s->jobs;
    while (*link) link = &(*link)->next;
    *link = job;
    s->n_jobs++;
}

void lf_sched_remove(lf_sched *s, lf_job *job)
{
    lf_job **link = &s->jobs;
    while (*link && *link != job) link = &(*link)->next;
    assert(*link);
    *link = job->next;
    job->next = NULL;
    s->n_jobs--;
    if (!job->active) return;
    lf_seq *seq = job->seq;
    if (!job->no_prefix_cache) lf_prefix_insert(s->params.prefix, seq->kv, seq->tokens.data);
    if (job->proposer) job->proposer->ops->detach(job->proposer, seq);
    lf_kv_seq_close(seq->kv);
    seq->kv = NULL;
    job->active = false;
    s->n_active--;
    s->pages_promised -= job->pages_max;
}

/* ---- admission ---- */

static lf_status admit(lf_sched *s, lf_job *job, lf_error *err)
{
    lf_seq *seq = job->seq;
    lf_status status = lf_kv_seq_open(&seq->kv, s->params.pool, s->params.n_ctx, err);
    if (status != LF_OK) return status;
    if (job->proposer) {
        status = job->proposer->ops->attach(job->proposer, seq, err);
        if (status != LF_OK) {
            lf_kv_seq_close(seq->kv);
            seq->kv = NULL;
            return status;
        }
        seq->proposer = job->proposer;
    }
    /* the last prompt token is always computed: its logits are needed */
    if (!job->no_prefix_cache)
        job->cached_tokens = lf_prefix_attach(s->params.prefix, seq->kv, seq->tokens.data, seq->n_prompt - 1);
    job->active = true;
    job->admitted_ns = lf_clock_ns();
    s->n_active++;
    s->pages_promised += job->pages_max;
    return LF_OK;
}

/* First come, first served: one that does not fit holds back those behind it, so that it is not starved. One that fails has the
 * place of this step. */
static void admit_waiting(lf_sched *s)
{
    int n_failed = 0;
    for (lf_job *job = s->jobs; job; job = job->next) {
        if (job->active) continue;
        if (s->n_active + n_failed >= s->params.n_seqs ||
            s->pages_promised + job->pages_max > lf_kv_pool_n_pages(s->params.pool))
            break;
        job->failed = admit(s, job, job->err) != LF_OK;
        n_failed += job->failed;
    }
}

/* ---- stepping ---- */

/* Fills in the jobs of the step: first those that are active, for the round, then those that have failed. */
static int collect_jobs(lf_sched *s)
{
    int n = 0;
    for (lf_job *job = s->jobs; job; job = job->next) {
        if (!job->active) continue;
        s->seqs[n] = job->seq;
        s->stepped[n++] = job;
    }
    s->n_stepped = n;
    for (lf_job *job = s->jobs; job; job = job->next)
        if (job->failed) s->stepped[s->n_stepped++] = job;
    return n;
}

/* Shares the pages of a prompt as soon as it is whole. */
static void feed_prefix(lf_sched *s, lf_job *job)
{
    if (job->prefix_fed || job->no_prefix_cache || lf_kv_seq_len(job->seq->kv) < job->seq->n_prompt) return;
    lf_prefix_insert(s->params.prefix, job->seq->kv, job->seq->tokens.data);
    job->prefix_fed = true;
}

lf_status lf_sched_step(lf_sched *s, lf_step *step, lf_error *err)
{
    *step = (lf_step){0};
    admit_waiting(s);
    const int n = collect_jobs(s);
    if (n == 0) return LF_OK;
    /* what the pass may take: whole pages of its rows, one begun page and one copy for each sequence */
    (void)lf_prefix_evict(s->params.prefix, s->params.batch_rows / LF_PAGE_POS + 2 * n);
    const lf_status status = lf_round_step(s->params.round, s->seqs, n, step, err);
    for (int i = 0; i < n; i++) feed_prefix(s, s->stepped[i]);
    return status;
}

lf_job *const *lf_sched_stepped(const lf_sched *s, int *n)
{
    *n = s->n_stepped;
    return s->stepped;
}

lf_job *lf_sched_first(const lf_sched *s)
{
    return s->jobs;
}

int lf_sched_n_active(const lf_sched *s)
{
    return s->n_active;
}

int lf_sched_n_queued(const lf_sched *s)
{
    return s->n_jobs - s->n_active;
}
