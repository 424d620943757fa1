/* Chooses for each sequence and round what to propose: a continuation that occurred before (ngram), a draft over a sparse view of
 * the cache (sparse), or nothing; and how much. What passes cost is measured (cost.h), how often each proposer is right is counted
 * for each sequence. */
#include "base/clock.h"
#include "decode/proposer.h"
#include "decode/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum source { NGRAM, SPARSE, N_SOURCES, NOTHING = N_SOURCES } source;

/* How often the candidates of a source were right, older rounds fading. */
typedef struct record {
    double right, judged;
} record;

typedef struct state {
    void *of[N_SOURCES]; /* the sources' own states */
    record records[N_SOURCES];
    source last;                    /* whose candidates are being verified */
    int32_t occurred[LF_DRAFT_MAX]; /* (n_occurred) what ngram proposes */
    int n_occurred;
} state;

typedef struct chooser {
    lf_proposer base;
    lf_proposer *sources[N_SOURCES];
    lf_cost *cost;
    lf_cost_seq *plan; /* (seqs_max) */
    lf_seq **subset;   /* (seqs_max) */
    state **states;    /* (seqs_max) of the subset */
    int *wanted;       /* (seqs_max) n_wanted of the subset as the round set it */
} chooser;

static const double fading = 0.9;      /* of a record, with each round that judges it */
static const double forgetting = 0.99; /* with each that does not: after a while a source is tried again */
static const double prior[N_SOURCES] = {0.5, 0.75}, prior_weight = 3.0;

static double acceptance(const state *s, source from)
{
    const record *r = &s->records[from];
    return (r->right + prior[from] * prior_weight) / (r->judged + prior_weight);
}

static void close_auto(lf_proposer *self)
{
    chooser *p = (chooser *)(void *)self;
    for (int i = 0; i < N_SOURCES; i++) lf_proposer_close(p->sources[i]);
    free(p->plan);
    free(p->subset);
    free(p->states);
    free(p->wanted);
    free(p);
}

static lf_status open_auto(lf_proposer **out, const lf_proposer_env *env, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t n = (size_t)env->seqs_max;
    chooser *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return lf_fail_memory(err, "a proposer", sizeof *p);
    *p = (chooser){.base.ops = &lf_proposer_auto, .cost = env->cost};
    p->plan = calloc(n, sizeof *p->plan);
    p->subset = calloc(n, sizeof *p->subset);
    p->states = calloc(n, sizeof *p->states);
    p->wanted = calloc(n, sizeof *p->wanted);
    if (!p->plan || !p->subset || !p->states || !p->wanted) {
        status = lf_fail_memory(err, "a proposer", n * sizeof *p->plan);
        goto done;
    }
    LF_TRY(lf_proposer_open(&p->sources[NGRAM], LF_PROPOSER_NGRAM, env, err));
    LF_TRY(lf_proposer_open(&p->sources[SPARSE], LF_PROPOSER_SPARSE, env, err));
    if (!lf_cost_is_known(env->cost))
        LF_TRY(lf_cost_measure(env->cost, env->forward, env->pool, env->rows_max, env->n_ctx,
                               env->profile_seconds, err));
    *out = &p->base;
done:
    if (status != LF_OK) close_auto(&p->base);
    return status;
}

/* ---- sequences ---- */

static void detach(lf_proposer *self, lf_seq *seq)
{
    const chooser *p = (chooser *)(void *)self;
    state *s = seq->proposer_state;
    if (!s) return;
    for (int i = 0; i < N_SOURCES; i++) {
        seq->proposer_state = s->of[i];
        p->sources[i]->ops->detach(p->sources[i], seq);
    }
    free(s);
    seq->proposer_state = NULL;
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    lf_status status = LF_OK;
    const chooser *p = (chooser *)(void *)self;
    state *s = calloc(1, sizeof *s);
    if (!s) return lf_fail_memory(err, "a proposer", sizeof *s);
    s->last = NOTHING;
    for (int i = 0; i < N_SOURCES && status == LF_OK; i++) {
        seq->proposer_state = NULL;
        status = p->sources[i]->ops->attach(p->sources[i], seq, err);
        s->of[i] = seq->proposer_state;
    }
    seq->proposer_state = s;
    if (status != LF_OK) detach(self, seq);
    return status;
}

/* Lets a source propose for the subset (n), each sequence as if it were alone with it. */
static void propose_from(const chooser *p, source from, int n)
{
    for (int i = 0; i < n; i++) {
        p->states[i] = p->subset[i]->proposer_state;
        p->subset[i]->proposer_state = p->states[i]->of[from];
    }
    p->sources[from]->ops->propose(p->sources[from], p->subset, n);
    for (int i = 0; i < n; i++) p->subset[i]->proposer_state = p->states[i];
}

/* ---- choosing ---- */

static void look_for_occurrences(const chooser *p, lf_seq *const *seqs, int n)
{
    memcpy(p->subset, seqs, (size_t)n * sizeof *seqs);
    propose_from(p, NGRAM, n);
    for (int i = 0; i < n; i++) {
        state *s = seqs[i]->proposer_state;
        s->n_occurred = seqs[i]->n_candidates;
        memcpy(s->occurred, seqs[i]->candidates, (size_t)s->n_occurred * sizeof *s->occurred);
    }
}

/* How many candidates of a chance each are worth verifying at `rate` tokens a second, each after `draft` seconds of drafting; *worth
 * is what they bring beyond their seconds, in tokens. */
static int count_worthy(const chooser *p, const lf_cost_seq *plan, double chance, double draft, int most,
                        int rows, double rate, double *worth)
{
    int k = 0;
    *worth = 0.0;
    while (k < most) {
        const double gain = pow(chance, k + 1) -
                            rate * (draft + lf_cost_of_candidate(p->cost, rows + k, 1 + k, plan->len));
        if (gain <= 0.0) break;
        *worth += gain;
        k++;
    }
    return k;
}

/* Decides between what occurred before and the g that was planned for drafting. */
static void choose_source(const chooser *p, lf_seq *seq, const lf_cost_seq *plan, int rows, double rate)
{
    state *s = seq->proposer_state;
    double copied, drafted;
    const double draft = p->cost->draft * lf_cost_attend(p->cost, 1) * plan->draft_len;
    const int n_copied = count_worthy(p, plan, acceptance(s, NGRAM), 0.0, s->n_occurred, rows, rate, &copied);
    (void)count_worthy(p, plan, plan->acceptance, draft, plan->g, rows, rate, &drafted);
    seq->n_candidates = 0;
    s->last = NOTHING;
    if (n_copied > 0 && copied >= drafted) {
        s->last = NGRAM;
        seq->n_candidates = n_copied;
        memcpy(seq->candidates, s->occurred, (size_t)n_copied * sizeof *seq->candidates);
    } else if (plan->g > 0) {
        s->last = SPARSE;
    }
    seq->step.proposer = s->last == NOTHING ? "none" : p->sources[s->last]->ops->name;
}

static void make_plan(const chooser *p, lf_seq *const *seqs, int n)
{
    for (int i = 0; i < n; i++) {
        const state *s = seqs[i]->proposer_state;
        const lf_tile_choice *tiles = s->of[SPARSE];
        const int len = (int)seqs[i]->tokens.len;
        p->plan[i] = (lf_cost_seq){.acceptance = acceptance(s, SPARSE),
                                   .len = len,
                                   .draft_len = lf_tile_choice_budget(tiles, len),
                                   .g_max = lf_tile_choice_is_sparse(tiles, len - 1) ? seqs[i]->n_wanted : 0};
    }
}

/* Drafts the planned g of the sequences that chose to, and lets the cost know what it took. */
static void draft(const chooser *p, lf_seq *const *seqs, int n)
{
    double expected = 0.0;
    int n_drafting = 0, g_most = 0, n_at[LF_DRAFT_MAX] = {0};
    for (int i = 0; i < n; i++) {
        if (((state *)seqs[i]->proposer_state)->last != SPARSE) continue;
        p->wanted[n_drafting] = seqs[i]->n_wanted;
        p->subset[n_drafting++] = seqs[i];
        seqs[i]->n_wanted = p->plan[i].g;
        expected += p->plan[i].g * lf_cost_attend(p->cost, 1) * p->plan[i].draft_len;
        for (int j = 0; j < p->plan[i].g; j++) n_at[j]++;
        if (p->plan[i].g > g_most) g_most = p->plan[i].g;
    }
    if (n_drafting == 0) return;
    for (int j = 0; j < g_most; j++) expected += lf_cost_pass(p->cost, n_at[j]);
    const int64_t start = lf_clock_ns();
    propose_from(p, SPARSE, n_drafting);
    lf_cost_correct(&p->cost->draft, expected, (double)(lf_clock_ns() - start) * 1e-9);
    for (int i = 0; i < n_drafting; i++) p->subset[i]->n_wanted = p->wanted[i];
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n)
{
    const chooser *p = (chooser *)(void *)self;
    look_for_occurrences(p, seqs, n);
    make_plan(p, seqs, n);
    const double rate = lf_cost_plan(p->cost, p->plan, n, 0);
    for (int i = 0; i < n; i++) choose_source(p, seqs[i], &p->plan[i], n, rate);
    draft(p, seqs, n);
}

static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    const chooser *p = (chooser *)(void *)self;
    state *s = seq->proposer_state;
    for (int i = 0; i < N_SOURCES; i++) {
        record *r = &s->records[i];
        const bool judged = s->last == (source)i && seq->n_candidates > 0;
        r->right *= judged ? fading : forgetting;
        r->judged *= judged ? fading : forgetting;
        if (judged) {
            r->right += v->n_accepted;
            r->judged += v->n_accepted < seq->n_candidates ? v->n_accepted + 1 : v->n_accepted;
        }
        seq->proposer_state = s->of[i];
        if (p->sources[i]->ops->observe) p->sources[i]->ops->observe(p->sources[i], seq, v);
    }
    seq->proposer_state = s;
    s->last = NOTHING;
}

const lf_proposer_ops lf_proposer_auto = {.name = "auto",
                                          .drafts = true,
                                          .open = open_auto,
                                          .close = close_auto,
                                          .attach = attach,
                                          .detach = detach,
                                          .propose = propose,
                                          .observe = observe};
