#include "decode/guesses.h"

#include "decode/fill.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

lf_status lf_guesses_init(lf_guesses *g, int n_max, lf_error *err)
{
    g->n = 0;
    return lf_ngram_index_init(&g->index, n_max, err);
}

void lf_guesses_free(lf_guesses *g)
{
    lf_ngram_index_free(&g->index);
}

lf_status lf_guesses_open(lf_seq *seq, lf_error *err)
{
    seq->guesses = calloc(1, sizeof *seq->guesses);
    if (!seq->guesses) return lf_fail_memory(err, "guesses", sizeof *seq->guesses);
    const lf_status status = lf_guesses_init(seq->guesses, seq->len_max, err);
    if (status != LF_OK) lf_guesses_close(seq);
    return status;
}

void lf_guesses_close(lf_seq *seq)
{
    if (!seq->guesses) return;
    lf_guesses_free(seq->guesses);
    free(seq->guesses);
    seq->guesses = NULL;
}

void lf_guesses_fill(lf_guesses *g, lf_seq *seq, int n)
{
    int32_t *ids = seq->tokens.data;
    const int len = (int)seq->tokens.len;
    assert(n <= LF_DRAFT_MAX);
    lf_ngram_index_update(&g->index, ids, len);
    for (int i = 0; i < n; i++)
        ids[len + i] = i < g->n ? g->ids[i] : lf_fill_token(&g->index, ids, len, len + i, 0);
}

void lf_guesses_propose(lf_guesses *g, lf_seq *seq)
{
    lf_guesses_fill(g, seq, seq->n_candidates);
    memcpy(seq->candidates, seq->tokens.data + seq->tokens.len,
           (size_t)seq->n_candidates * sizeof *seq->candidates);
}

void lf_guesses_keep(lf_guesses *g, const int32_t *ids, int n)
{
    for (g->n = 0; g->n < n && ids[g->n] >= 0; g->n++) g->ids[g->n] = ids[g->n];
}

void lf_guesses_pass(lf_guesses *g, const int32_t *came, int n)
{
    const bool right = n < g->n && memcmp(g->ids, came, (size_t)n * sizeof *came) == 0;
    if (right) memmove(g->ids, g->ids + n, (size_t)(g->n - n) * sizeof *g->ids);
    g->n = right ? g->n - n : 0;
}

void lf_guesses_keep_rest(lf_seq *seq, const lf_verdict *v)
{
    const int n_rest = seq->n_candidates - v->n_accepted - 1;
    lf_guesses_keep(seq->guesses, seq->candidates + seq->n_candidates - (n_rest > 0 ? n_rest : 0), n_rest);
}
