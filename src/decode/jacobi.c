/* Jacobi decoding over a rolling window. The window holds guesses for the next n positions; a verify pass refines all of
 * them in parallel; the accepted ones leave in front, the picks after the first wrong guess stay as the next guesses, and new
 * positions at the end are filled by n-grams of the sequence, or by a token that it holds. Nothing is drawn twice: a
 * position's filling depends on the sequence alone.
 *
 * The pass that confirms a guess is the pass that moves on, so no pass is spent on confirming only (CLLM's reference code
 * has one such pass a block and does not count it). */
#include "decode/guesses.h"
#include "decode/proposer.h"

#include <stdlib.h>
#include <string.h>

typedef struct state {
    lf_guesses guesses;     /* picks kept from the last pass, and what fills up behind them */
    int ages[LF_DRAFT_MAX]; /* (guesses.n) passes in a row that picked this guess for its position */
} state;

static void detach(lf_proposer *self, lf_seq *seq)
{
    (void)self;
    state *s = seq->proposer_state;
    if (!s) return;
    lf_guesses_free(&s->guesses);
    free(s);
    seq->proposer_state = NULL;
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    state *s = calloc(1, sizeof *s);
    seq->proposer_state = s;
    if (!s) return lf_fail_memory(err, "a Jacobi proposer", sizeof *s);
    const lf_status status = lf_guesses_init(&s->guesses, seq->len_max, err);
    if (status != LF_OK) detach(self, seq);
    return status;
}

static void propose_one(lf_seq *seq)
{
    state *s = seq->proposer_state;
    lf_guesses_fill(&s->guesses, seq, seq->n_wanted);
    memcpy(seq->candidates, seq->tokens.data + seq->tokens.len,
           (size_t)seq->n_wanted * sizeof *seq->candidates);
    seq->n_candidates = seq->n_wanted;
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    (void)self;
    for (int i = 0; i < n_seqs; i++) propose_one(seqs[i]);
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
    (void)self;
    state *s = seq->proposer_state;
    const lf_guesses *g = &s->guesses;
    count(seq, s, v);
    /* `at` is where a position stood in the old window; its age is read before it is overwritten, since i < at */
    for (int i = 0, at = v->n_accepted + 1; at < v->n_picks; i++, at++)
        s->ages[i] = at < g->n && g->ids[at] == v->picks[at] ? s->ages[at] + 1 : 1;
    lf_guesses_keep(&s->guesses, v->picks + v->n_accepted + 1, v->n_picks - v->n_accepted - 1);
}

const lf_proposer_ops lf_proposer_jacobi = {.name = "jacobi",
                                            .wants_all_picks = true,
                                            .attach = attach,
                                            .detach = detach,
                                            .propose = propose,
                                            .observe = observe};
