/* Chooses for each sequence and round what to propose: a continuation that occurred before (ngram), a draft over a sparse view of
 * the cache (sparse) or by a smaller model (draft), the picks behind the last wrong guess (jacobi), or nothing; and how much. One of the two drafts in a round, for all sequences,
 * since they share its passes. What passes cost is measured (cost.h), how often each proposer is right is counted for each
 * sequence, and how many candidates an iteration of a Jacobi draft settles, for all together. */
#include "decode/auto_jacobi.h"
#include "decode/guesses.h"
#include "decode/proposer.h"
#include "decode/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* JACOBI has no proposer of its own: its guesses are those where Jacobi drafts begin. */
typedef enum source { NGRAM, SPARSE, DRAFT, N_SOURCES, JACOBI = N_SOURCES, NOTHING } source;

/* How often the candidates of a source were right, older rounds fading. */
typedef struct record {
    double right, judged;
} record;

/* What Jacobi drafts settled in how many passes, older ones fading. */
typedef struct iterations {
    double settled, passes;
} iterations;

typedef struct state {
    void *of[N_SOURCES]; /* the sources' own states */
    record records[N_SOURCES];
    source last;                    /* whose candidates are being verified */
    int32_t occurred[LF_DRAFT_MAX]; /* (n_occurred) what ngram proposes */
    int n_occurred;
    lf_auto_jacobi_seq jacobi;
} state;

typedef struct chooser {
    lf_proposer base;
    lf_proposer *sources[N_SOURCES]; /* NULL: that of a smaller model when there is none */
    lf_cost *costs[N_SOURCES]; /* of the passes that SPARSE and DRAFT draft with; SPARSE: the target's */
    int draft_reach;           /* positions that a pass of the smaller model sees at most */
    iterations iterations;
    lf_auto_jacobi jacobi;
    source drafter;                    /* who drafts in this round */
    lf_cost_seq *plan, *plan_of_other; /* (seqs_max) */
    lf_seq **subset;                   /* (seqs_max) */
    state **states;                    /* (seqs_max) of the subset */
    int *wanted;                       /* (seqs_max) n_wanted of the subset as the round set it */
} chooser;

static const double fading = 0.9;      /* of a record, with each round that judges it */
static const double forgetting = 0.99; /* with each that does not: after a while a source is tried again */
static const double prior[N_SOURCES] = {0.5, 0.75, 0.6}, prior_weight = 3.0;
static const double prior_settled = 1.5,
                    prior_passes = 8.0; /* of Jacobi drafts: a pass settles 1.5 candidates */

static double acceptance(const state *s, source from)
{
    const record *r = &s->records[from];
    return (r->right + prior[from] * prior_weight) / (r->judged + prior_weight);
}

static void close_auto(lf_proposer *self)
{
    chooser *p = (chooser *)(void *)self;
    for (int i = 0; i < N_SOURCES; i++) lf_proposer_close(p->sources[i]);
    lf_auto_jacobi_free(&p->jacobi);
    free(p->plan);
    free(p->plan_of_other);
    free(p->subset);
    free(p->states);
    free(p->wanted);
    free(p);
}

static lf_status open_sources(chooser *p, const lf_proposer_env *env, lf_error *err)
{
    lf_status status = LF_OK;
    p->costs[SPARSE] = env->cost;
    LF_TRY(lf_proposer_open(&p->sources[NGRAM], LF_PROPOSER_NGRAM, env, err));
    LF_TRY(lf_proposer_open(&p->sources[SPARSE], LF_PROPOSER_SPARSE, env, err));
    LF_TRY(lf_proposer_require_cost(env->cost, env->forward, env->pool, env->n_ctx, env, err));
    if (!env->draft) goto done;
    p->costs[DRAFT] = env->draft->cost;
    p->draft_reach = lf_draft_reach(env->draft->window);
    LF_TRY(lf_proposer_open(&p->sources[DRAFT], LF_PROPOSER_DRAFT, env, err));
    LF_TRY(lf_proposer_require_cost(env->draft->cost, env->draft->forward, env->draft->pool,
                                    p->draft_reach < env->n_ctx ? p->draft_reach : env->n_ctx, env, err));
done:
    return status;
}

static lf_status open_auto(lf_proposer **out, const lf_proposer_env *env, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t n = (size_t)env->seqs_max;
    chooser *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return lf_fail_memory(err, "a proposer", sizeof *p);
    p->base.ops = &lf_proposer_auto;
    p->plan = calloc(n, sizeof *p->plan);
    p->plan_of_other = calloc(n, sizeof *p->plan_of_other);
    p->subset = calloc(n, sizeof *p->subset);
    p->states = calloc(n, sizeof *p->states);
    p->wanted = calloc(n, sizeof *p->wanted);
    if (!p->plan || !p->plan_of_other || !p->subset || !p->states || !p->wanted) {
        status = lf_fail_memory(err, "a proposer", n * sizeof *p->plan);
        goto done;
    }
    LF_TRY(lf_auto_jacobi_init(&p->jacobi, env->cost, env->seqs_max, err));
    LF_TRY(open_sources(p, env, err));
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
        if (!p->sources[i]) continue;
        seq->proposer_state = s->of[i];
        p->sources[i]->ops->detach(p->sources[i], seq);
    }
    lf_guesses_close(seq);
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
    seq->drafting = LF_DRAFTING_SINGLE; /* whether to draft by iterations is decided in each round */
    status = lf_guesses_open(seq, err);
    for (int i = 0; i < N_SOURCES && status == LF_OK; i++) {
        if (!p->sources[i]) continue;
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

/* What `from` could draft for each sequence. */
static void fill_plan(const chooser *p, lf_cost_seq *plan, source from, lf_seq *const *seqs, int n)
{
    for (int i = 0; i < n; i++) {
        const state *s = seqs[i]->proposer_state;
        const int len = (int)seqs[i]->tokens.len;
        plan[i] = (lf_cost_seq){.acceptance = acceptance(s, from), .len = len, .g_max = seqs[i]->n_wanted};
        if (from == SPARSE) {
            plan[i].draft_len = lf_tile_choice_budget(s->of[SPARSE], len);
            if (!lf_tile_choice_is_sparse(s->of[SPARSE], len - 1)) plan[i].g_max = 0;
        } else {
            plan[i].draft_len = len < p->draft_reach ? len : p->draft_reach;
        }
    }
}

/* Plans for who drafts best, in p->drafter and p->plan; returns the tokens per second expected. */
static double plan_drafts(chooser *p, lf_seq *const *seqs, int n)
{
    p->drafter = SPARSE;
    fill_plan(p, p->plan, SPARSE, seqs, n);
    const double rate = lf_cost_plan(p->costs[SPARSE], p->costs[SPARSE], p->plan, n, 0);
    if (!p->sources[DRAFT]) return rate;
    fill_plan(p, p->plan_of_other, DRAFT, seqs, n);
    const double other = lf_cost_plan(p->costs[SPARSE], p->costs[DRAFT], p->plan_of_other, n, 0);
    if (other <= rate) return rate;
    lf_cost_seq *plan = p->plan;
    p->plan = p->plan_of_other;
    p->plan_of_other = plan;
    p->drafter = DRAFT;
    return other;
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
                            rate *
                                (draft + lf_cost_of_candidate(p->costs[SPARSE], rows + k, 1 + k, plan->len));
        if (gain <= 0.0) break;
        *worth += gain;
        k++;
    }
    return k;
}

static const char *name_of(const chooser *p, source from)
{
    return from == NOTHING ? "none" : from == JACOBI ? lf_proposer_jacobi.name : p->sources[from]->ops->name;
}

/* Decides between what occurred before, the g that was planned for drafting, and the window of guesses that was planned. */
static void choose_source(const chooser *p, lf_seq *seq, const lf_cost_seq *plan, const lf_window_seq *window,
                          int rows, double rate)
{
    state *s = seq->proposer_state;
    double copied, drafted;
    const lf_cost *by = p->costs[p->drafter];
    const double draft = by->draft * lf_cost_attend(by, 1) * plan->draft_len;
    const int n_copied = count_worthy(p, plan, acceptance(s, NGRAM), 0.0, s->n_occurred, rows, rate, &copied);
    (void)count_worthy(p, plan, plan->acceptance, draft, plan->g, rows, rate, &drafted);
    const double guessed = lf_window_worth(p->jacobi.cost, window, rows, rate);
    seq->n_candidates = 0;
    seq->all_picks = guessed >
                     0.0; /* whoever proposes: what is picked behind a wrong candidate is the next guess */
    s->last = NOTHING;
    if (guessed > copied && guessed > drafted) {
        s->last = JACOBI;
        seq->n_candidates = window->g;
        lf_guesses_propose(seq->guesses, seq);
    } else if (n_copied > 0 && copied >= drafted) {
        s->last = NGRAM;
        seq->n_candidates = n_copied;
        memcpy(seq->candidates, s->occurred, (size_t)n_copied * sizeof *seq->candidates);
    } else if (plan->g > 0) {
        s->last = p->drafter;
    }
    seq->step.proposer = name_of(p, s->last);
}

/* Lets one that nothing was proposed for have a few guesses now and then, so that it shows whether they come out right. */
static void try_guesses(chooser *p, lf_seq *const *seqs, int n)
{
    lf_seq *seq = seqs[p->jacobi.n_tries % n];
    state *s = seq->proposer_state;
    if (s->last != NOTHING || !lf_auto_jacobi_try(&p->jacobi, seq, n)) return;
    s->last = JACOBI;
    seq->step.proposer = name_of(p, JACOBI);
}

/* ---- drafting ---- */

/* Whether iterations promise the same candidates (n plans) in less time. */
static bool iterations_pay(const chooser *p, const lf_cost_seq *plans, int n)
{
    static const double worthwhile = 1.03;
    const lf_cost *by = p->costs[p->drafter];
    const double settled = (p->iterations.settled + prior_settled * prior_passes) /
                           (p->iterations.passes + prior_passes);
    return lf_cost_of_jacobi_draft(by, plans, n, settled) * worthwhile < lf_cost_of_draft(by, plans, n);
}

static int count_draft_passes(const chooser *p, int n)
{
    int passes = 0;
    for (int i = 0; i < n; i++) passes += p->subset[i]->draft_passes;
    return passes;
}

static void note_iterations(chooser *p, int n, int passes)
{
    p->iterations.settled *= fading;
    p->iterations.passes = p->iterations.passes * fading + passes;
    for (int i = 0; i < n; i++) p->iterations.settled += p->subset[i]->n_candidates;
}

/* Drafts the planned g of the sequences that chose to. */
static void draft(chooser *p, lf_seq *const *seqs, int n)
{
    int n_drafting = 0;
    for (int i = 0; i < n; i++) {
        if (((state *)seqs[i]->proposer_state)->last != p->drafter) continue;
        p->wanted[n_drafting] = seqs[i]->n_wanted;
        p->plan[n_drafting] = p->plan[i]; /* theirs alone, from here on */
        p->subset[n_drafting] = seqs[i];
        seqs[i]->n_wanted = p->plan[n_drafting++].g;
    }
    if (n_drafting == 0) return;
    const bool iterates = iterations_pay(p, p->plan, n_drafting);
    const int passes = count_draft_passes(p, n_drafting);
    for (int i = 0; iterates && i < n_drafting; i++) p->subset[i]->drafting = LF_DRAFTING_JACOBI;
    propose_from(p, p->drafter, n_drafting);
    if (iterates) note_iterations(p, n_drafting, count_draft_passes(p, n_drafting) - passes);
    for (int i = 0; i < n_drafting; i++) {
        p->subset[i]->drafting = LF_DRAFTING_SINGLE;
        p->subset[i]->n_wanted = p->wanted[i];
    }
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n)
{
    chooser *p = (chooser *)(void *)self;
    look_for_occurrences(p, seqs, n);
    for (int i = 0; i < n; i++) p->jacobi.seqs[i] = &((state *)seqs[i]->proposer_state)->jacobi;
    const double drafting = plan_drafts(p, seqs, n), guessing = lf_auto_jacobi_plan(&p->jacobi, seqs, n),
                 rate = drafting > guessing ? drafting : guessing;
    for (int i = 0; i < n; i++) choose_source(p, seqs[i], &p->plan[i], &p->jacobi.plan[i], n, rate);
    try_guesses(p, seqs, n);
    draft(p, seqs, n);
}

static void judge(record *r, const lf_seq *seq, const lf_verdict *v)
{
    r->right += v->n_accepted;
    r->judged += v->n_accepted < seq->n_candidates ? v->n_accepted + 1 : v->n_accepted;
}

static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    chooser *p = (chooser *)(void *)self;
    state *s = seq->proposer_state;
    for (int i = 0; i < N_SOURCES; i++) {
        if (!p->sources[i]) continue;
        record *r = &s->records[i];
        const bool judged = s->last == (source)i && seq->n_candidates > 0;
        r->right *= judged ? fading : forgetting;
        r->judged *= judged ? fading : forgetting;
        if (judged) judge(r, seq, v);
        seq->proposer_state = s->of[i];
        if (p->sources[i]->ops->observe) p->sources[i]->ops->observe(p->sources[i], seq, v);
    }
    seq->proposer_state = s;
    lf_auto_jacobi_observe(&p->jacobi, &s->jacobi, seq, v, s->last == JACOBI,
                           s->last == SPARSE || s->last == DRAFT);
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
