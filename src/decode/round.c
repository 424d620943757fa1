#include "decode/round.h"

#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A sequence's part of a pass: its pending tokens, or some of a long prompt, then its candidates. */
typedef struct part {
    lf_seq *seq;
    int n_pending; /* rows of tokens that have no K/V yet */
    bool picks;    /* the last pending token is in: there are logits */
    int i_logits;  /* of the last pending token; the candidates' follow */
} part;

struct lf_round {
    lf_forward *forward;
    lf_picker *picker;
    int seqs_max, rows_max, logits_max;
    part *parts;          /* (seqs_max) */
    lf_seq **group;       /* (seqs_max) sequences of one proposer */
    lf_proposer **called; /* (seqs_max) proposers of this step that have proposed, n_called */
    int n_called;
    lf_cost *cost; /* corrected by every pass that only decodes; or NULL */
    lf_row *rows;  /* (rows_max) */
    int n_parts, n_rows, n_logits;
    int64_t judge_ns; /* spent on the picks of the step */
};

lf_status lf_round_create(lf_round **out, lf_forward *forward, const lf_config *config, int seqs_max,
                          int rows_max, int logits_max, lf_error *err)
{
    assert(seqs_max >= 1 && logits_max >= seqs_max && rows_max >= seqs_max);
    lf_status status = LF_OK;
    lf_round *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return lf_fail_memory(err, "a round", sizeof *r);
    *r = (lf_round){.forward = forward, .seqs_max = seqs_max, .rows_max = rows_max, .logits_max = logits_max};
    r->parts = calloc((size_t)seqs_max, sizeof *r->parts);
    r->group = calloc((size_t)seqs_max, sizeof *r->group);
    r->called = calloc((size_t)seqs_max, sizeof *r->called);
    r->rows = calloc((size_t)rows_max, sizeof *r->rows);
    if (!r->parts || !r->group || !r->called || !r->rows) {
        status = lf_fail_memory(err, "a round", (size_t)rows_max * sizeof *r->rows);
        goto done;
    }
    LF_TRY(lf_picker_create(&r->picker, config->n_vocab, err));
    lf_picker_use_highest(r->picker, lf_forward_kernels(forward)->highest);
    *out = r;
done:
    if (status != LF_OK) lf_round_free(r);
    return status;
}

void lf_round_free(lf_round *r)
{
    if (!r) return;
    lf_picker_free(r->picker);
    free(r->parts);
    free(r->group);
    free(r->called);
    free(r->rows);
    free(r);
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* ---- propose ---- */

static bool was_called(const lf_round *r, const lf_proposer *proposer)
{
    for (int i = 0; i < r->n_called; i++)
        if (r->called[i] == proposer) return true;
    return false;
}

/* Each proposer sees all its sequences at once. */
static lf_status propose_all(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_error *err)
{
    for (int i = 0; i < n_seqs; i++) {
        if (seqs[i]->n_wanted == 0 || !seqs[i]->proposer->ops->drafts) continue;
        const lf_status status = lf_kv_seq_reserve(seqs[i]->kv, 1 + seqs[i]->n_wanted, err);
        if (status != LF_OK) return status;
    }
    r->n_called = 0;
    for (int i = 0; i < n_seqs; i++) {
        lf_proposer *proposer = seqs[i]->proposer;
        if (seqs[i]->n_wanted == 0 || was_called(r, proposer)) continue;
        int n = 0;
        for (int j = i; j < n_seqs; j++)
            if (seqs[j]->proposer == proposer && seqs[j]->n_wanted > 0) {
                seqs[j]->step.proposer = proposer->ops->name;
                r->group[n++] = seqs[j];
            }
        proposer->ops->propose(proposer, r->group, n);
        r->called[r->n_called++] = proposer;
    }
    return LF_OK;
}

/* ---- the pass ---- */

static void add_row(lf_round *r, const part *p, int32_t token, bool wants_logits)
{
    lf_row *row = &r->rows[r->n_rows++];
    const int pos = row > r->rows && row[-1].seq == p->seq->kv ? row[-1].pos + 1 : lf_kv_seq_len(p->seq->kv);
    *row = (lf_row){.seq = p->seq->kv,
                    .token = token,
                    .pos = pos,
                    .wants_logits = wants_logits,
                    .mass = pos >= p->seq->mass_from ? p->seq->mass : NULL};
    r->n_logits += wants_logits;
}

static void add_part(lf_round *r, lf_seq *seq, lf_step *step)
{
    const int n_rows = seq->n_rows;
    part *p = &r->parts[r->n_parts++];
    const int32_t *pending = seq->tokens.data + lf_kv_seq_len(seq->kv);
    *p = (part){.seq = seq,
                .n_pending = n_rows,
                .picks = n_rows == lf_seq_n_pending(seq),
                .i_logits = r->n_logits + (seq->on_prompt ? n_rows - 1 : 0)};
    for (int i = 0; i < n_rows; i++)
        add_row(r, p, pending[i], seq->on_prompt || (p->picks && i == n_rows - 1));
    for (int i = 0; i < seq->n_candidates; i++) add_row(r, p, seq->candidates[i], true);
    assert(r->n_rows <= r->rows_max && r->n_logits <= r->logits_max);
    if (seq->decodes)
        step->decode_rows += 1 + seq->n_candidates;
    else
        step->prefill_rows += n_rows;
    seq->step.rows = n_rows + seq->n_candidates;
    seq->step.proposed = seq->n_candidates;
    step->proposed += seq->n_candidates;
    step->n_seqs++;
}

static lf_status assemble(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_step *step, lf_error *err)
{
    r->n_parts = r->n_rows = r->n_logits = 0;
    for (int decoding = 1; decoding >= 0; decoding--) {
        for (int i = 0; i < n_seqs; i++) {
            lf_seq *seq = seqs[i];
            if (seq->finished || seq->n_rows == 0 || seq->decodes != decoding) continue;
            const lf_status status = lf_kv_seq_reserve(seq->kv, seq->n_rows + seq->n_candidates, err);
            if (status != LF_OK) return status;
            add_part(r, seq, step);
        }
    }
    return LF_OK;
}

/* ---- pick, accept, commit, observe, emit ---- */

/* Fills picks (n_candidates + 1 at most) and returns the verdict. The history of a position is the tokens and the candidates
 * before it; the candidates are written behind the tokens for that. */
static lf_verdict judge(lf_round *r, const part *p, int32_t *picks)
{
    lf_seq *seq = p->seq;
    int32_t *tokens = seq->tokens.data;
    const int n = (int)seq->tokens.len, n_candidates = seq->n_candidates;
    lf_verdict v = {.picks = picks};
    memcpy(tokens + n, seq->candidates, (size_t)n_candidates * sizeof *tokens);
    bool right = true;
    for (int j = 0; j <= n_candidates && (right || seq->all_picks); j++) {
        picks[j] = lf_pick(r->picker, lf_forward_logits(r->forward, p->i_logits + j), tokens, n + j,
                           &seq->pick);
        v.n_picks++;
        right = right && j < n_candidates && picks[j] == seq->candidates[j];
        v.n_accepted += right;
    }
    return v;
}

/* Emits picks[0 .. n_accepted], token by token, until one is the last. Returns how many were emitted. */
static int emit_accepted(lf_round *r, const part *p, const lf_verdict *v)
{
    lf_seq *seq = p->seq;
    int n = 0;
    while (n <= v->n_accepted && !seq->finished) {
        if (v->picks[n] < 0) {
            seq->finished = seq->not_finite = true;
            break;
        }
        seq->tokens.data[seq->tokens.len++] = v->picks[n];
        const bool goes_on = seq->emit(seq->cookie, seq, v->picks[n],
                                       lf_forward_logits(r->forward, p->i_logits + n), n < v->n_accepted);
        seq->finished = !goes_on || (int)seq->tokens.len >= seq->len_max;
        n++;
    }
    return n;
}

/* Tells of the tokens of a prompt that were read; not again of those that were read before a preemption. */
static void tell_prompt(lf_round *r, const part *p)
{
    lf_seq *seq = p->seq;
    const int first = lf_kv_seq_len(seq->kv), i_logits = p->i_logits - (p->n_pending - 1);
    for (int i = 0; i < p->n_pending; i++) {
        const int next = first + i + 1;
        if (next >= seq->n_prompt || next < seq->n_prompt_told) continue;
        seq->on_prompt(seq->cookie, seq, next, lf_forward_logits(r->forward, i_logits + i));
        seq->n_prompt_told = next + 1;
    }
}

static void settle(lf_round *r, const part *p, lf_step *step)
{
    lf_seq *seq = p->seq;
    if (seq->on_prompt) tell_prompt(r, p);
    if (!p->picks) {
        lf_kv_seq_commit(seq->kv, p->n_pending);
        return;
    }
    int32_t picks[LF_DRAFT_MAX + 1];
    const int64_t start = lf_clock_ns();
    lf_verdict v = judge(r, p, picks);
    const int64_t judged = lf_clock_ns();
    r->judge_ns += judged - start;
    v.n_emitted = emit_accepted(r, p, &v);
    step->emit_ns += lf_clock_ns() - judged;
    const int n_accepted = min_int(v.n_accepted, v.n_emitted);
    lf_kv_seq_commit(seq->kv, p->n_pending + n_accepted);
    seq->passes++;
    seq->proposed += seq->n_candidates;
    seq->accepted += n_accepted;
    seq->step.accepted = n_accepted;
    seq->step.emitted = v.n_emitted;
    step->n_picked++;
    step->accepted += n_accepted;
    step->emitted += v.n_emitted;
    if (seq->proposer && seq->proposer->ops->observe) seq->proposer->ops->observe(seq->proposer, seq, &v);
}

void lf_round_correct_cost(lf_round *r, lf_cost *cost)
{
    r->cost = cost;
}

/* What attention of a pass over the parts should take, without correction. */
typedef struct expectation {
    double attend, more; /* with one row of each part; what candidates add */
} expectation;

static expectation expect_attention(const lf_round *r)
{
    const double each = lf_cost_attend(r->cost, 1);
    expectation e = {0};
    for (int i = 0; i < r->n_parts; i++) {
        const lf_seq *seq = r->parts[i].seq;
        const double len = (double)seq->tokens.len;
        e.attend += each * len;
        e.more += (lf_cost_attend(r->cost, 1 + seq->n_candidates) - each) * len;
    }
    return e;
}

lf_status lf_round_run(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_step *step, lf_error *err)
{
    assert(n_seqs <= r->seqs_max);
    *step = (lf_step){0};
    const int64_t start = lf_clock_ns();
    for (int i = 0; i < n_seqs; i++) seqs[i]->step = (lf_seq_step){.proposer = "none"};
    lf_status status = propose_all(r, seqs, n_seqs, err);
    if (status == LF_OK) status = assemble(r, seqs, n_seqs, step, err);
    if (status != LF_OK || r->n_rows == 0) return status;
    const int64_t proposed = lf_clock_ns();
    lf_forward_run(r->forward, r->rows, r->n_rows);
    const int64_t forwarded = lf_clock_ns();
    const bool corrects = r->cost && step->prefill_rows == 0;
    const expectation e = corrects ? expect_attention(r) : (expectation){0};
    r->judge_ns = 0;
    for (int i = 0; i < r->n_parts; i++) settle(r, &r->parts[i], step);
    /* a row costs its picks, too: in a small model with a large vocabulary they are a good part */
    if (corrects)
        lf_cost_correct_target(r->cost, r->n_rows, e.attend, e.more,
                               (double)(forwarded - proposed + r->judge_ns) * 1e-9);
    step->propose_ns = proposed - start;
    step->forward_ns = forwarded - proposed;
    step->pick_ns = lf_clock_ns() - forwarded;
    return LF_OK;
}

lf_status lf_round_step(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_step *step, lf_error *err)
{
    const lf_row_budget budget = {.rows_max = r->rows_max,
                                  .logits_max = r->logits_max,
                                  .prefill_rows = r->rows_max / 4 > 0 ? r->rows_max / 4 : 1};
    lf_plan_rows(seqs, n_seqs, &budget);
    return lf_round_run(r, seqs, n_seqs, step, err);
}

void lf_round_logprobs(lf_round *r, const float *logits, int32_t id, float *logprob, lf_logprob *top,
                       int n_top)
{
    lf_pick_logprobs(r->picker, logits, id, logprob, top, n_top);
}
