#include "sched/sched_int.h"

#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>

lf_status lf_sched_create(lf_sched **out, const lf_sched_params *params, lf_error *err)
{
    lf_sched *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return lf_fail_memory(err, "a scheduler", sizeof *s);
    s->p = *params;
    s->stepped = calloc((size_t)params->n_seqs, sizeof *s->stepped);
    s->seqs = calloc((size_t)params->n_seqs, sizeof *s->seqs);
    s->preempted = calloc((size_t)params->n_seqs, sizeof *s->preempted);
    if (!s->stepped || !s->seqs || !s->preempted) {
        lf_sched_free(s);
        return lf_fail_memory(err, "a scheduler", (size_t)params->n_seqs * sizeof *s->seqs);
    }
    *out = s;
    return LF_OK;
}

void lf_sched_free(lf_sched *s)
{
    if (!s) return;
    assert(!s->first);
    free(s->stepped);
    free(s->seqs);
    free(s->preempted);
    free(s);
}

/* ---- the queue ---- */

lf_status lf_sched_submit(lf_sched *s, lf_job *job, lf_error *err)
{
    if (s->p.queue_max > 0 && s->n_jobs - s->p.n_seqs >= s->p.queue_max)
        return lf_fail(err, LF_ELIMIT, "queue: %d requests are decoded and %d wait, which is all that may",
                       s->n_active, s->n_jobs - s->n_active);
    job->prev = s->last;
    job->next = NULL;
    if (s->last)
        s->last->next = job;
    else
        s->first = job;
    s->last = job;
    s->n_jobs++;
    return LF_OK;
}

void lf_sched_remove(lf_sched *s, lf_job *job)
{
    if (job->active) lf_sched_deactivate(s, job);
    for (int i = 0; i < s->n_stepped; i++)
        if (s->stepped[i] == job) s->stepped[i] = NULL;
    if (s->blocked == job) s->blocked = NULL;
    if (job->prev)
        job->prev->next = job->next;
    else
        s->first = job->next;
    if (job->next)
        job->next->prev = job->prev;
    else
        s->last = job->prev;
    job->prev = job->next = NULL;
    s->n_jobs--;
}

/* ---- stepping ---- */

/* The active jobs, for the pass. */
static int collect_active(lf_sched *s)
{
    int n = 0;
    for (lf_job *job = s->first; n < s->n_active; job = job->next) {
        if (!job->active) continue;
        s->seqs[n] = job->seq;
        s->stepped[n++] = job;
    }
    return n;
}

/* Makes slots for n rows of a sequence, at the cost of the prefix cache. */
static bool reserve_rows(lf_sched *s, lf_seq *seq, int n)
{
    return lf_prefix_evict(s->p.prefix, lf_kv_seq_missing(seq->kv, n)) &&
           lf_kv_seq_reserve(seq->kv, n, NULL) == LF_OK;
}

static void preempt(lf_sched *s, lf_job *job)
{
    lf_sched_deactivate(s, job);
    job->preemptions++;
    s->p.stats->preemptions++;
}

/* Makes slots for the rows of the plan, oldest first, at the cost of those that came last; then for candidates, at nobody's. Returns
 * how many sequences are left. */
static int reserve_plan(lf_sched *s, int n)
{
    for (int i = 0; i < n; i++) {
        while (i < n && !reserve_rows(s, s->seqs[i], s->seqs[i]->n_rows)) {
            lf_job *last = s->stepped[--n];
            s->preempted[s->n_preempted++] = (lf_step_preemption){
                .id = last->id, .for_id = s->stepped[i]->id, .tokens = lf_kv_seq_len(last->seq->kv)};
            preempt(s, last);
        }
        assert(n > 0);
    }
    for (int i = 0; i < n; i++) {
        lf_seq *seq = s->seqs[i];
        if (seq->n_wanted == 0 || reserve_rows(s, seq, seq->n_rows + seq->n_wanted)) continue;
        seq->n_wanted = 0;
        seq->skip = LF_SKIP_PAGES;
    }
    return n;
}

/* Those that failed to be admitted follow those that were in the pass. */
static void collect_failed(lf_sched *s, int n)
{
    s->n_stepped = n + s->n_failed;
    for (lf_job *job = s->first; n < s->n_stepped; job = job->next)
        if (job->failed) s->stepped[n++] = job;
}

lf_status lf_sched_step(lf_sched *s, lf_step *step, lf_error *err)
{
    const int64_t start = lf_clock_ns();
    *step = (lf_step){0};
    s->n_preempted = 0;
    lf_sched_admit(s);
    int n = collect_active(s);
    lf_status status = LF_OK;
    if (n > 0) {
        lf_plan_rows(s->seqs, n, &s->p.rows);
        n = reserve_plan(s, n);
        const int64_t planned = lf_clock_ns();
        status = lf_round_run(s->p.round, s->seqs, n, step, err);
        if (status == LF_OK) lf_sched_count(s, n, step, planned - start);
    }
    collect_failed(s, n);
    return status;
}

void lf_sched_make_room(lf_sched *s, int n_pages)
{
    for (lf_job *job = s->last; job; job = job->prev) {
        if (lf_kv_pool_n_free(s->p.pool) + lf_kv_pool_n_idle(s->p.pool) >= n_pages) return;
        if (job->active) preempt(s, job);
    }
}

int lf_sched_n_stepped(const lf_sched *s)
{
    return s->n_stepped;
}

lf_job *lf_sched_stepped(const lf_sched *s, int i)
{
    assert(i >= 0 && i < s->n_stepped);
    return s->stepped[i];
}

const lf_step_preemption *lf_sched_preempted(const lf_sched *s, int *n)
{
    *n = s->n_preempted;
    return s->preempted;
}

lf_job *lf_sched_first(const lf_sched *s)
{
    return s->first;
}

int lf_sched_n_active(const lf_sched *s)
{
    return s->n_active;
}

int lf_sched_n_queued(const lf_sched *s)
{
    return s->n_jobs - s->n_active;
}
