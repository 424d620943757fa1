#include "decode/auto_jacobi.h"

#include "decode/guesses.h"

#include <assert.h>

void lf_auto_jacobi_add_way(const lf_window_seq *s, lf_cost_seq *plan, int kind)
{
    assert(plan->n_ways < LF_COST_WAYS);
    if (s->n_gains > 0)
        plan->ways[plan->n_ways++] = (lf_cost_way){.gains = s->gains, .g_max = s->n_gains, .kind = kind};
}

bool lf_auto_jacobi_pays(const lf_cost_seq *plan, int kind)
{
    for (int i = 0; i < plan->n_ways; i++)
        if (plan->ways[i].kind == kind) return plan->ways[i].worth > 0.0;
    return false;
}

bool lf_auto_jacobi_try(lf_windows *w, const lf_window_seq *s, lf_seq *seq, const lf_window_deal *deal)
{
    const int n = lf_window_try_size(w, s, deal);
    if (n == 0) return false;
    seq->n_candidates = n;
    seq->all_picks = true;
    lf_guesses_propose(seq->guesses, seq);
    return true;
}

void lf_auto_jacobi_observe(lf_windows *w, lf_window_seq *s, lf_seq *seq, const lf_verdict *v, bool proposed,
                            bool drafted)
{
    lf_guesses *g = seq->guesses;
    const int n_behind = v->n_picks - v->n_accepted - 1; /* picks behind the first wrong candidate */
    const int n_right = v->n_accepted < v->n_emitted ? v->n_accepted : v->n_emitted;
    lf_window_observe(w, s, proposed ? seq->n_candidates : 0, proposed ? n_right : 0, v->n_emitted);
    if (n_behind > 0)
        lf_guesses_keep(g, v->picks + v->n_accepted + 1, n_behind);
    else if (drafted)
        lf_guesses_keep_rest(seq, v);
    else
        lf_guesses_pass(g, v->picks, v->n_emitted);
}
