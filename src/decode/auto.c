/* Chooses for each sequence and round what to propose: a continuation that occurred before (ngram), a draft over a sparse view of
 * the cache (sparse), of some budget, or by a smaller model (draft), the picks behind the last wrong guess (jacobi), or nothing; and
 * how much. One of the two drafts in a round, for all sequences, since they share its passes. What passes cost is measured (cost.h).
 * How often candidates are right is counted (odds.h) by kind: copies by how long a text they continue, drafts by budget and model;
 * windows of Jacobi guesses by their size (window.h). Copies are judged in every round, whether they were verified or not. */
#include "decode/auto_jacobi.h"
#include "decode/guesses.h"
#include "decode/odds.h"
#include "decode/proposer.h"
#include "decode/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* JACOBI has no proposer of its own: its guesses are those where Jacobi drafts begin. */
typedef enum source { NGRAM, SPARSE, DRAFT, N_SOURCES, JACOBI = N_SOURCES, NOTHING } source;

/* Kinds of candidates; windows of guesses have counts of their own. */
enum {
    COPY_KINDS = 5,
    BUDGETS = COPY_KINDS,
    SMALLER_MODEL = BUDGETS + LF_BUDGETS,
    N_KINDS,
    WINDOW = N_KINDS
};

/* What Jacobi drafts settled in how many passes, older ones fading. */
typedef struct iterations {
    double settled, passes;
} iterations;

typedef struct state {
    void *of[N_SOURCES]; /* the sources' own states */
    lf_odds odds[N_SOURCES];
    source last;                    /* whose candidates are being verified, */
    int kind;                       /* and of which kind they are */
    int32_t occurred[LF_DRAFT_MAX]; /* (n_occurred) what ngram proposes, of this kind: */
    int n_occurred, copy_kind;
    lf_window_seq window;
} state;

typedef struct chooser {
    lf_proposer base;
    lf_proposer *sources[N_SOURCES]; /* NULL: that of a smaller model when there is none */
    lf_cost *costs[N_SOURCES]; /* of the passes that SPARSE and DRAFT draft with; SPARSE: the target's */
    int draft_reach;           /* positions that a pass of the smaller model sees at most */
    iterations iterations;
    lf_windows windows;
    double rate; /* tokens that a second is worth in this round */
    lf_odds kinds[N_KINDS];
    double rates[N_KINDS];             /* of being wrong, in this round */
    source drafter;                    /* who drafts in this round */
    lf_cost_seq *plan, *plan_of_other; /* (seqs_max) */
    lf_seq **subset;                   /* (seqs_max) */
    state **states;                    /* (seqs_max) of the subset */
    int *wanted;                       /* (seqs_max) n_wanted of the subset as the round set it */
} chooser;

static const double fading = 0.9; /* of iterations, with each round */
static const double prior_settled = 1.5,
                    prior_passes = 8.0; /* of Jacobi drafts: a pass settles 1.5 candidates */

static void close_auto(lf_proposer *self)
{
    chooser *p = (chooser *)(void *)self;
    for (int i = 0; i < N_SOURCES; i++) lf_proposer_close(p->sources[i]);
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
    LF_TRY(open_sources(p, env, err));
    *out = &p->base;
done:
    if (status != LF_OK) close_auto(&p->base);
    return status;
}

/* ---- sequences ---- */

static void detach(lf_proposer *self, lf_seq *seq)
{
    chooser *p = (chooser *)(void *)self;
    state *s = seq->proposer_state;
    if (!s) return;
    lf_window_leave(&p->windows, &s->window);
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

/* ---- odds ---- */

/* How many wrong ones there are before any was seen. */
static const double prior_of_copies[COPY_KINDS] = {0.6, 0.5, 0.35, 0.2, 0.1}, prior_of_drafts = 0.2,
                    prior_of_smaller_model = 0.4;

/* With the budget doubled, and halved, there are so many wrong ones of what there were, until it is seen: both are hoped for, so that
 * what could be better is tried. Before anything is seen, a doubled one leaves so many. */
static const double rate_of_double = 0.6, rate_of_half = 1.3, rate_at_first = 0.6;

/* A copy that continues 2, 3, 4 to 7, 8 to 15 or more tokens. */
static int kind_of_copy(int n_matched)
{
    return n_matched < 3 ? 0 : n_matched < 4 ? 1 : n_matched < 8 ? 2 : n_matched < 16 ? 3 : 4;
}

/* What is supposed of a budget that is so many doublings from those that were seen. */
static double supposed_rate(double rate, double doublings, bool is_seen)
{
    const double each = !is_seen ? rate_at_first : doublings > 0.0 ? rate_of_double : 1.0 / rate_of_half;
    return fmin(rate * pow(each, doublings), 1.0);
}

/* Rates of drafts over budgets that were not seen follow from those that were. */
static void rate_budgets(chooser *p)
{
    lf_odds all = {0};
    double places = 0.0;
    for (int i = 0; i < LF_BUDGETS; i++) {
        const lf_odds *kind = &p->kinds[BUDGETS + i];
        all.wrong += kind->wrong;
        all.expected += kind->expected;
        places += kind->expected * i;
    }
    const bool is_seen = all.expected > 1.0;
    const double rate = lf_odds_rate(&all, prior_of_drafts), place = is_seen ? places / all.expected : 0.0;
    for (int i = 0; i < LF_BUDGETS; i++)
        p->rates[BUDGETS + i] = lf_odds_rate(&p->kinds[BUDGETS + i], supposed_rate(rate, i - place, is_seen));
}

static void rate_kinds(chooser *p)
{
    for (int i = 0; i < N_KINDS; i++) lf_odds_forget(&p->kinds[i]);
    for (int i = 0; i < COPY_KINDS; i++) p->rates[i] = lf_odds_rate(&p->kinds[i], prior_of_copies[i]);
    rate_budgets(p);
    p->rates[SMALLER_MODEL] = lf_odds_rate(&p->kinds[SMALLER_MODEL], prior_of_smaller_model);
}

/* ---- choosing ---- */

static void look_for_occurrences(const chooser *p, lf_seq *const *seqs, int n)
{
    memcpy(p->subset, seqs, (size_t)n * sizeof *seqs);
    propose_from(p, NGRAM, n);
    for (int i = 0; i < n; i++) {
        state *s = seqs[i]->proposer_state;
        s->n_occurred = seqs[i]->n_candidates;
        s->copy_kind = kind_of_copy(seqs[i]->n_matched);
        memcpy(s->occurred, seqs[i]->candidates, (size_t)s->n_occurred * sizeof *s->occurred);
    }
}

static void add_way(const chooser *p, lf_cost_seq *plan, const state *s, source from, int kind, int draft_len,
                    int g_max)
{
    plan->ways[plan->n_ways++] = (lf_cost_way){
        .acceptance = lf_odds_acceptance(p->rates[kind], lf_odds_factor(&s->odds[from])),
        .draft_len = draft_len,
        .g_max = g_max,
        .kind = kind};
}

/* What the sequences could have verified if `from` is who drafts. */
static void fill_plan(const chooser *p, lf_cost_seq *plan, source from, lf_seq *const *seqs, int n)
{
    for (int i = 0; i < n; i++) {
        const state *s = seqs[i]->proposer_state;
        const int len = (int)seqs[i]->tokens.len, g_max = seqs[i]->n_wanted;
        plan[i].len = len;
        plan[i].n_ways = 0;
        if (s->n_occurred > 0) add_way(p, &plan[i], s, NGRAM, s->copy_kind, 0, s->n_occurred);
        lf_auto_jacobi_add_way(&s->window, &plan[i], WINDOW);
        if (from == SPARSE) {
            int budgets[LF_BUDGETS], places[LF_BUDGETS];
            const int n_budgets = lf_tile_choice_ladder(s->of[SPARSE], len, budgets, places);
            for (int j = 0; j < n_budgets; j++)
                add_way(p, &plan[i], s, SPARSE, BUDGETS + places[j], budgets[j], g_max);
        } else {
            add_way(p, &plan[i], s, DRAFT, SMALLER_MODEL, len < p->draft_reach ? len : p->draft_reach, g_max);
        }
    }
}

/* Plans for who drafts best, in p->drafter, p->plan and p->rate. */
static void plan_drafts(chooser *p, lf_seq *const *seqs, int n)
{
    p->drafter = SPARSE;
    fill_plan(p, p->plan, SPARSE, seqs, n);
    p->rate = lf_cost_plan(p->costs[SPARSE], p->costs[SPARSE], p->plan, n, 0);
    if (!p->sources[DRAFT]) return;
    fill_plan(p, p->plan_of_other, DRAFT, seqs, n);
    const double rate = lf_cost_plan(p->costs[SPARSE], p->costs[DRAFT], p->plan_of_other, n, 0);
    if (rate <= p->rate) return;
    p->rate = rate;
    lf_cost_seq *plan = p->plan;
    p->plan = p->plan_of_other;
    p->plan_of_other = plan;
    p->drafter = DRAFT;
}

static void plan_round(chooser *p, lf_seq *const *seqs, int n)
{
    for (int i = 0; i < n; i++)
        lf_window_expect(&((state *)seqs[i]->proposer_state)->window, &p->windows, seqs[i]->n_wanted);
    plan_drafts(p, seqs, n);
    for (int i = 0; i < n; i++) /* whoever proposes: what is picked behind a wrong candidate is a guess */
        seqs[i]->all_picks = lf_auto_jacobi_pays(&p->plan[i], WINDOW);
}

static const char *name_of(const chooser *p, source from)
{
    return from == NOTHING ? "none" : from == JACOBI ? lf_proposer_jacobi.name : p->sources[from]->ops->name;
}

/* Begins to do what was planned: copies and guesses are candidates at once. */
static void take_way(const chooser *p, lf_seq *seq, const lf_cost_seq *plan)
{
    state *s = seq->proposer_state;
    const lf_cost_way *way = plan->g > 0 ? &plan->ways[plan->way] : NULL;
    s->last = !way ? NOTHING : way->kind == WINDOW ? JACOBI : way->draft_len > 0 ? p->drafter : NGRAM;
    s->kind = way ? way->kind : 0;
    seq->n_candidates = s->last == NGRAM || s->last == JACOBI ? plan->g : 0;
    if (s->last == NGRAM) memcpy(seq->candidates, s->occurred, (size_t)plan->g * sizeof *seq->candidates);
    if (s->last == JACOBI) lf_guesses_propose(seq->guesses, seq);
    if (s->last == SPARSE) lf_tile_choice_set_budget(s->of[SPARSE], way->draft_len);
    seq->step.proposer = name_of(p, s->last);
}

/* Lets one that has no better candidates than a window have one of a size that is to be known. */
static void try_guesses(chooser *p, lf_seq *const *seqs, int n)
{
    for (int i = 0; i < n; i++) {
        lf_seq *seq = seqs[i];
        state *s = seq->proposer_state;
        const lf_cost_seq *plan = &p->plan[i];
        const bool goes_on = p->windows.trying.seq == &s->window, is_turn = i == p->windows.n_tries % n;
        if ((s->last != NOTHING && s->last != JACOBI) || !(goes_on || is_turn)) continue;
        const lf_window_deal deal = {.cost = p->costs[SPARSE],
                                     .rows = n,
                                     .len = plan->len,
                                     .g_max = seq->n_wanted,
                                     .rate = p->rate,
                                     .g = plan->g,
                                     .worth = plan->g > 0 ? plan->ways[plan->way].worth : 0.0};
        if (!lf_auto_jacobi_try(&p->windows, &s->window, seq, &deal)) continue;
        s->last = JACOBI;
        seq->step.proposer = name_of(p, JACOBI);
    }
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
    rate_kinds(p);
    plan_round(p, seqs, n);
    for (int i = 0; i < n; i++) take_way(p, seqs[i], &p->plan[i]);
    try_guesses(p, seqs, n);
    draft(p, seqs, n);
}

/* How many of the candidates (n) are what was picked. */
static int count_right(const int32_t *candidates, int n, const int32_t *picks)
{
    int i = 0;
    while (i < n && candidates[i] == picks[i]) i++;
    return i;
}

/* Judges candidates (n) by as many picks as are known. */
static void judge_candidates(chooser *p, state *s, source from, int kind, const int32_t *candidates, int n,
                             const lf_verdict *v)
{
    const int n_known = n < v->n_accepted + 1 ? n : v->n_accepted + 1,
              n_right = count_right(candidates, n_known, v->picks);
    if (n_known > 0)
        lf_odds_judge(&p->kinds[kind], &s->odds[from], p->rates[kind],
                      n_right < n_known ? n_right + 1 : n_right, n_right);
}

static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    chooser *p = (chooser *)(void *)self;
    state *s = seq->proposer_state;
    judge_candidates(p, s, NGRAM, s->copy_kind, s->occurred, s->n_occurred, v);
    if (s->last == p->drafter)
        judge_candidates(p, s, s->last, s->kind, seq->candidates, seq->n_candidates, v);
    for (int i = 0; i < N_SOURCES; i++) {
        if (!p->sources[i] || !p->sources[i]->ops->observe) continue;
        seq->proposer_state = s->of[i];
        p->sources[i]->ops->observe(p->sources[i], seq, v);
    }
    seq->proposer_state = s;
    lf_auto_jacobi_observe(&p->windows, &s->window, seq, v, s->last == JACOBI,
                           s->last == SPARSE || s->last == DRAFT);
    s->last = NOTHING;
    s->n_occurred = 0;
}

const lf_proposer_ops lf_proposer_auto = {.name = "auto",
                                          .drafts = true,
                                          .open = open_auto,
                                          .close = close_auto,
                                          .attach = attach,
                                          .detach = detach,
                                          .propose = propose,
                                          .observe = observe};
