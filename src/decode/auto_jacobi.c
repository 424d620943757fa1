#include "decode/auto_jacobi.h"

#include "decode/guesses.h"

#include <stdlib.h>

enum { TRY = 2 /* guesses of a try */ };

lf_status lf_auto_jacobi_init(lf_auto_jacobi *j, const lf_cost *cost, int seqs_max, lf_error *err)
{
    const size_t n = (size_t)seqs_max;
    *j = (lf_auto_jacobi){
        .cost = cost, .plan = calloc(n, sizeof *j->plan), .seqs = calloc(n, sizeof *j->seqs)};
    if (j->plan && j->seqs) return LF_OK;
    lf_auto_jacobi_free(j);
    return lf_fail_memory(err, "windows of guesses", n * sizeof *j->plan);
}

void lf_auto_jacobi_free(lf_auto_jacobi *j)
{
    free(j->plan);
    free(j->seqs);
    *j = (lf_auto_jacobi){0};
}

double lf_auto_jacobi_plan(lf_auto_jacobi *j, lf_seq *const *seqs, int n)
{
    double plain;
    for (int i = 0; i < n; i++)
        j->plan[i] = (lf_window_seq){
            .own = &j->seqs[i]->counts, .len = (int)seqs[i]->tokens.len, .g_max = seqs[i]->n_wanted};
    const double rate = lf_window_plan(j->cost, &j->counts, j->plan, n, 0, &plain);
    j->seconds += plain;
    return rate;
}

bool lf_auto_jacobi_try(lf_auto_jacobi *j, lf_seq *seq, int n)
{
    static const double share = 0.01; /* of the time, for tries */
    if (j->tried > share * j->seconds || seq->n_wanted < TRY) return false;
    const int len = (int)seq->tokens.len;
    for (int i = 0; i < TRY; i++) j->tried += lf_cost_of_candidate(j->cost, n + i, 1 + i, len);
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
