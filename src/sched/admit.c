/* Admission: by true memory, in the order of arrival, and with what is already there or being read by others. */
#include "sched/sched_int.h"

#include "base/clock.h"

#include <assert.h>

typedef enum verdict { ADMITTED, FAILED, WAITS, NO_ROOM } verdict;

/* Tokens: fewer are computed sooner than the page is copied that they are a part of. Texts may all begin alike with some, such as a
 * mark or a role. */
enum { SHARE_MIN = 8 };

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* ---- memory ---- */

/* Positions that a job will have come to after reading its tokens and one more round. */
static int positions_due(const lf_job *job)
{
    const lf_seq *seq = job->seq;
    return min_int((int)seq->tokens.len + 1 + seq->draft_max, seq->len_max - 1);
}

/* Pages that it still lacks for that. */
static int pages_due(const lf_job *job)
{
    const int n = positions_due(job) - lf_kv_seq_len(job->seq->kv);
    return n > 0 ? lf_kv_seq_missing(job->seq->kv, n) : 0;
}

/* Pages that can be had and that the active jobs do not need; fewer than none when they will have to be preempted. */
static int spare_pages(const lf_sched *s)
{
    int n = lf_kv_pool_n_free(s->p.pool) + lf_kv_pool_n_idle(s->p.pool);
    int n_seen = 0;
    for (const lf_job *job = s->first; n_seen < s->n_active; job = job->next) {
        if (!job->active) continue;
        n -= pages_due(job);
        n_seen++;
    }
    return n;
}

/* Pages kept free for one that waits for its reader. */
static int pages_kept(const lf_job *job)
{
    return (positions_due(job) + LF_PAGE_POS - 1) / LF_PAGE_POS - job->reader_len / LF_PAGE_POS + 1;
}

/* ---- sharing ---- */

static int count_common(const int32_t *a, const int32_t *b, int n)
{
    int i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

/* Gives a job's new sequence the most of its tokens that the prefix cache or an active job has, and finds the active job that will
 * have read the most of them. The last token is always computed: its logits are needed. */
static void share_tokens(lf_sched *s, lf_job *job, lf_job **reader, int *reader_len)
{
    lf_seq *seq = job->seq;
    const int32_t *ids = seq->tokens.data;
    const int n_max = (int)seq->tokens.len - 1;
    const lf_job *donor = NULL;
    int attached = lf_prefix_attach(s->p.prefix, seq->kv, ids, n_max);
    if (attached % LF_PAGE_POS < SHARE_MIN) attached -= attached % LF_PAGE_POS;
    lf_kv_seq_truncate(seq->kv, attached);
    int most = attached, n_seen = 0;
    *reader = NULL;
    *reader_len = 0;
    for (lf_job *other = s->first; n_seen < s->n_active; other = other->next) {
        n_seen += other->active;
        if (!other->active || other->no_prefix_cache) continue;
        const int n = min_int((int)other->seq->tokens.len, n_max),
                  common = count_common(other->seq->tokens.data, ids, n),
                  there = min_int(common, lf_kv_seq_len(other->seq->kv));
        if (there > most && there - attached >= SHARE_MIN) {
            most = there;
            donor = other;
        }
        if (common > *reader_len) {
            *reader_len = common;
            *reader = other;
        }
    }
    if (!donor) return;
    lf_kv_seq_truncate(seq->kv, 0);
    lf_kv_seq_share(seq->kv, donor->seq->kv, most);
}

/* Whether to wait for a reader: it will save a page, or half of what there is to read. */
static bool is_worth_waiting(const lf_job *job, int reader_len)
{
    const int have = lf_kv_seq_len(job->seq->kv), left = (int)job->seq->tokens.len - have,
              gain = reader_len - have;
    return gain >= LF_PAGE_POS || (gain >= SHARE_MIN && 2 * gain >= left);
}

/* ---- one job ---- */

/* The proposer may be opened by this, running passes. */
static lf_status attach_proposer(lf_sched *s, lf_job *job)
{
    lf_status status = LF_OK;
    lf_proposer *proposer;
    if (job->i_proposer < 0) return LF_OK;
    LF_TRY(s->p.find_proposer(s->p.cookie, &proposer, job->i_proposer, job->err));
    LF_TRY(proposer->ops->attach(proposer, job->seq, job->err));
    job->seq->proposer = proposer;
done:
    return status;
}

static void close_sequence(lf_job *job)
{
    lf_kv_seq_close(job->seq->kv);
    job->seq->kv = NULL;
}

/* Tries to admit a job into what is spare besides `kept` pages. */
static verdict admit(lf_sched *s, lf_job *job, int kept)
{
    if (lf_kv_seq_open(&job->seq->kv, s->p.pool, s->p.n_ctx, job->err) != LF_OK) return FAILED;
    if (!job->no_prefix_cache) {
        share_tokens(s, job, &job->reader, &job->reader_len);
        if (!is_worth_waiting(job, job->reader_len)) job->reader = NULL;
    }
    const bool fits = !job->reader && pages_due(job) <= spare_pages(s) - kept;
    if (!fits || attach_proposer(s, job) != LF_OK) {
        close_sequence(job);
        return job->reader ? WAITS : fits ? FAILED : NO_ROOM;
    }
    if (!job->admitted_ns) {
        job->cached_tokens = lf_kv_seq_len(job->seq->kv);
        job->admitted_ns = lf_clock_ns();
        s->p.stats->prompt_tokens += job->seq->n_prompt;
        s->p.stats->cached_tokens += job->cached_tokens;
    }
    job->active = true;
    s->n_active++;
    return ADMITTED;
}

/* ---- the queue ---- */

static bool still_waits(const lf_job *job)
{
    return job->reader && lf_kv_seq_len(job->reader->seq->kv) < job->reader_len;
}

void lf_sched_admit(lf_sched *s)
{
    int n_slots = s->p.n_seqs - s->n_active, kept = 0;
    s->n_failed = 0;
    for (lf_job *job = s->first; job && n_slots > 0; job = job->next) {
        if (job->active) continue;
        n_slots--;
        verdict v = WAITS;
        if (!still_waits(job)) {
            /* one that had no room has none while as many pages are spare */
            const int spare = spare_pages(s) - kept;
            if (job == s->blocked && spare == s->blocked_pages) return;
            v = admit(s, job, kept);
            s->blocked = v == NO_ROOM ? job : NULL;
            s->blocked_pages = spare;
        }
        if (v == NO_ROOM) return;
        job->failed = v == FAILED;
        s->n_failed += job->failed;
        if (v == WAITS) kept += pages_kept(job);
    }
}

void lf_sched_deactivate(lf_sched *s, lf_job *job)
{
    lf_seq *seq = job->seq;
    assert(job->active);
    if (!job->no_prefix_cache) lf_prefix_insert(s->p.prefix, seq->kv, seq->tokens.data);
    if (seq->proposer) seq->proposer->ops->detach(seq->proposer, seq);
    seq->proposer = NULL;
    close_sequence(job);
    job->active = false;
    s->n_active--;
    for (lf_job *other = s->first; other; other = other->next)
        if (other->reader == job) other->reader = NULL;
}
