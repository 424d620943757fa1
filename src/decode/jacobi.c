/* Jacobi decoding over a rolling window. The window holds guesses for the next n positions; a verify pass refines all of
 * them in parallel; the accepted ones leave in front, the picks after the first wrong guess stay as the next guesses, and new
 * positions at the end are filled by n-grams of the sequence, or by a token that it holds. Nothing is drawn twice: a
 * position's filling depends on the sequence alone.
 *
 * The pass that confirms a guess is the pass that moves on, so no pass is spent on confirming only (CLLM's reference code
 * has one such pass a block and does not count it).
 *
 * A sequence's window has draft_max guesses, or, where nobody asked for so many, as many as pay (window.h), at least one. */
#include "decode/guesses.h"
#include "decode/proposer.h"
#include "decode/window.h"

#include <stdlib.h>
#include <string.h>

typedef struct jacobi {
    lf_proposer base;
    lf_proposer_env env;
    lf_windows windows;
    lf_cost_seq *plan; /* (seqs_max) of those that choose their window */
} jacobi;

typedef struct state {
    lf_guesses guesses;     /* picks kept from the last pass, and what fills up behind them */
    int ages[LF_DRAFT_MAX]; /* (guesses.n) passes in a row that picked this guess for its position */
    lf_window_seq window;
} state;

static void close_jacobi(lf_proposer *self)
{
    jacobi *p = (jacobi *)(void *)self;
    free(p->plan);
    free(p);
}

static lf_status open_jacobi(lf_proposer **out, const lf_proposer_env *env, lf_error *err)
{
    jacobi *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return lf_fail_memory(err, "a Jacobi proposer", sizeof *p);
    *p = (jacobi){.base.ops = &lf_proposer_jacobi, .env = *env};
    p->plan = calloc((size_t)env->seqs_max, sizeof *p->plan);
    if (!p->plan) {
        close_jacobi(&p->base);
        return lf_fail_memory(err, "a Jacobi proposer", (size_t)env->seqs_max * sizeof *p->plan);
    }
    *out = &p->base;
    return LF_OK;
}

static void detach(lf_proposer *self, lf_seq *seq)
{
    jacobi *p = (jacobi *)(void *)self;
    state *s = seq->proposer_state;
    if (!s) return;
    lf_window_leave(&p->windows, &s->window);
    lf_guesses_free(&s->guesses);
    free(s);
    seq->proposer_state = NULL;
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    const jacobi *p = (jacobi *)(void *)self;
    const lf_proposer_env *env = &p->env;
    lf_status status = LF_OK;
    state *s = calloc(1, sizeof *s);
    seq->proposer_state = s;
    seq->all_picks = true;
    if (!s) return lf_fail_memory(err, "a Jacobi proposer", sizeof *s);
    LF_TRY(lf_guesses_init(&s->guesses, seq->len_max, err));
    if (seq->draft_free)
        LF_TRY(lf_proposer_require_cost(env->cost, env->forward, env->pool, env->n_ctx, env, err));
done:
    if (status != LF_OK) detach(self, seq);
    return status;
}

/* Chooses the windows that are free; the others' rows ride along. Returns what a second is worth, in tokens. */
static double plan_windows(jacobi *p, lf_seq *const *seqs, int n_seqs)
{
    int n = 0, other_rows = 0;
    for (int i = 0; i < n_seqs; i++) {
        state *s = seqs[i]->proposer_state;
        if (!seqs[i]->draft_free) {
            other_rows += 1 + seqs[i]->n_wanted;
            continue;
        }
        lf_window_expect(&s->window, &p->windows, seqs[i]->n_wanted);
        p->plan[n++] = (lf_cost_seq){.len = (int)seqs[i]->tokens.len,
                                     .n_ways = 1,
                                     .ways = {{.gains = s->window.gains, .g_max = s->window.n_gains}}};
    }
    return n > 0 ? lf_cost_plan(p->env.cost, p->env.cost, p->plan, n, other_rows) : 0.0;
}

/* The guesses of a free window: as planned, or a size that is tried. */
static int choose_size(jacobi *p, const lf_seq *seq, const lf_cost_seq *plan, double rate, int rows)
{
    const state *s = seq->proposer_state;
    const lf_window_deal deal = {.cost = p->env.cost,
                                 .rows = rows,
                                 .len = plan->len,
                                 .g_max = seq->n_wanted,
                                 .rate = rate,
                                 .g = plan->g,
                                 .worth = plan->ways[0].worth};
    const int size = lf_window_try_size(&p->windows, &s->window, &deal);
    return size > 0 ? size : plan->g > 1 ? plan->g : 1;
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    jacobi *p = (jacobi *)(void *)self;
    const lf_cost_seq *planned = p->plan;
    const double rate = plan_windows(p, seqs, n_seqs);
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        state *s = seq->proposer_state;
        seq->n_candidates = seq->n_wanted;
        if (seq->draft_free) seq->n_candidates = choose_size(p, seq, planned++, rate, n_seqs);
        lf_guesses_propose(&s->guesses, seq);
    }
}

/* Guesses that came out as the picks stood right behind the right prefix in the state that the last pass made, so that state
 * is when the prefix reached them; those that an earlier pass had picked already are stationary. (The guess behind the
 * accepted candidates can be right, too, where there was no room left to propose it.) */
static void count(lf_seq *seq, const state *s, const lf_verdict *v)
{
    int n_known = 0;
    const lf_guesses *g = &s->guesses;
    while (n_known < v->n_emitted && n_known < g->n && g->ids[n_known] == v->picks[n_known])
        seq->stationary += s->ages[n_known++] > 1;
    seq->confirming = n_known == v->n_emitted;
}

/* Keeps the picks behind the first wrong guess. */
static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    jacobi *p = (jacobi *)(void *)self;
    state *s = seq->proposer_state;
    const lf_guesses *g = &s->guesses;
    lf_window_observe(&p->windows, &s->window, seq->n_candidates,
                      v->n_accepted < v->n_emitted ? v->n_accepted : v->n_emitted, v->n_emitted);
    count(seq, s, v);
    /* `at` is where a position stood in the old window; its age is read before it is overwritten, since i < at */
    for (int i = 0, at = v->n_accepted + 1; at < v->n_picks; i++, at++)
        s->ages[i] = at < g->n && g->ids[at] == v->picks[at] ? s->ages[at] + 1 : 1;
    lf_guesses_keep(&s->guesses, v->picks + v->n_accepted + 1, v->n_picks - v->n_accepted - 1);
}

const lf_proposer_ops lf_proposer_jacobi = {.name = "jacobi",
                                            .open = open_jacobi,
                                            .close = close_jacobi,
                                            .attach = attach,
                                            .detach = detach,
                                            .propose = propose,
                                            .observe = observe};
