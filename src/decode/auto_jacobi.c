#include "decode/auto_jacobi.h"

#include "decode/guesses.h"

#include <assert.h>
#include <math.h>

enum { TRY = 2 /* guesses of a try */ };

void lf_auto_jacobi_expect(const lf_auto_jacobi *j, lf_auto_jacobi_seq *s, const lf_seq *seq)
{
    s->n_gains = lf_window_expect(s->gains, &s->counts, &j->counts, seq->n_wanted);
}

void lf_auto_jacobi_add_way(const lf_auto_jacobi_seq *s, lf_cost_seq *plan, int kind)
{
    assert(plan->n_ways < LF_COST_WAYS);
    if (s->n_gains > 0)
        plan->ways[plan->n_ways++] = (lf_cost_way){.gains = s->gains, .g_max = s->n_gains, .kind = kind};
}

void lf_auto_jacobi_begin_round(lf_auto_jacobi *j, double seconds)
{
    j->step = seconds;
    j->seconds += seconds;
}

bool lf_auto_jacobi_try(lf_auto_jacobi *j, lf_seq *seq, int n)
{
    static const double share = 0.01; /* of the time, for tries */
    /* Of a step: what a row costs on a machine that was measured to give it away. */
    static const double least = 0.05;
    if (j->tried > share * j->seconds || seq->n_wanted < TRY) return false;
    const int len = (int)seq->tokens.len;
    for (int i = 0; i < TRY; i++)
        j->tried += fmax(lf_cost_of_candidate(j->cost, n + i, 1 + i, len), least * j->step / n);
    j->n_tries++;
    seq->n_candidates = TRY;
    seq->all_picks = true;
    lf_guesses_propose(seq->guesses, seq);
    return true;
}

void lf_auto_jacobi_observe(lf_auto_jacobi *j, lf_auto_jacobi_seq *s, lf_seq *seq, const lf_verdict *v,
                            bool proposed, bool drafted)
{
    lf_guesses *g = seq->guesses;
    const int n_behind = v->n_picks - v->n_accepted - 1; /* picks behind the first wrong candidate */
    if (proposed)
        lf_window_judge(&s->counts, &j->counts, seq->candidates, s->n_kept, seq->n_candidates, v->picks,
                        v->n_emitted);
    else
        lf_window_judge(&s->counts, &j->counts, g->ids, s->n_kept, s->n_kept, v->picks, v->n_emitted);
    if (n_behind > 0) {
        lf_guesses_keep(g, v->picks + v->n_accepted + 1, n_behind);
        s->n_kept = g->n;
    } else if (drafted) {
        lf_guesses_keep_rest(seq, v);
        s->n_kept = 0;
    } else {
        lf_guesses_pass(g, v->picks, v->n_emitted);
        s->n_kept = s->n_kept > 0 ? g->n : 0;
    }
}
