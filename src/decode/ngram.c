/* Prompt lookup: candidates are what followed the latest earlier occurrence of the last tokens, in the sequence itself or in
 * the text that the user predicted. The longer match wins, the prediction among equals. */
#include "decode/ngram_index.h"
#include "decode/proposer.h"

#include <stdlib.h>

enum { MATCH_MIN = 2 };

typedef struct state {
    lf_ngram_index own;       /* of the sequence's tokens */
    lf_ngram_index predicted; /* of the prediction */
} state;

static void detach(lf_proposer *self, lf_seq *seq)
{
    (void)self;
    state *s = seq->proposer_state;
    if (!s) return;
    lf_ngram_index_free(&s->own);
    lf_ngram_index_free(&s->predicted);
    free(s);
    seq->proposer_state = NULL;
}

static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    lf_status status = LF_OK;
    state *s = calloc(1, sizeof *s);
    seq->proposer_state = s;
    if (!s) return lf_fail_memory(err, "an n-gram proposer", sizeof *s);
    LF_TRY(lf_ngram_index_init(&s->own, seq->len_max, err));
    LF_TRY(lf_ngram_index_init(&s->predicted, seq->n_prediction, err));
    lf_ngram_index_update(&s->predicted, seq->prediction, seq->n_prediction);
done:
    if (status != LF_OK) detach(self, seq);
    return status;
}

/* Copies from a text; past its end it goes on with the candidates themselves, which repeats a period. */
static void copy_candidates(lf_seq *seq, const int32_t *text, int n_text, int from, bool periodic)
{
    while (seq->n_candidates < seq->n_wanted) {
        const int i = from + seq->n_candidates;
        if (i >= n_text && !periodic) break;
        seq->candidates[seq->n_candidates] = i < n_text ? text[i] : seq->candidates[i - n_text];
        seq->n_candidates++;
    }
}

/* How far a match goes back: the index knows of LF_NGRAM_MAX tokens at most. */
static int extend_match(const int32_t *text, int from, const int32_t *ids, int n, int matched)
{
    while (matched < LF_MATCH_MAX && matched < from && matched < n &&
           text[from - matched - 1] == ids[n - matched - 1])
        matched++;
    return matched;
}

static void propose_one(lf_seq *seq)
{
    state *s = seq->proposer_state;
    const int32_t *ids = seq->tokens.data;
    const int n = (int)seq->tokens.len;
    int n_own = 0, n_predicted = 0;
    seq->n_candidates = 0;
    lf_ngram_index_update(&s->own, ids, n);
    const int own = lf_ngram_index_find(&s->own, ids, ids, n, MATCH_MIN, &n_own);
    int predicted = lf_ngram_index_find(&s->predicted, seq->prediction, ids, n, MATCH_MIN, &n_predicted);
    /* right after the prompt the prediction is expected from its start, whatever the prompt ends with */
    if (seq->n_prediction > 0 && n == seq->n_prompt + 1 && ids[n - 1] == seq->prediction[0])
        predicted = 1, n_predicted = n;
    if (predicted >= 0 && n_predicted >= n_own) {
        seq->n_matched = extend_match(seq->prediction, predicted, ids, n, n_predicted);
        copy_candidates(seq, seq->prediction, seq->n_prediction, predicted, false);
    } else if (own >= 0) {
        seq->n_matched = extend_match(ids, own, ids, n, n_own);
        copy_candidates(seq, ids, n, own, true);
    }
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    (void)self;
    for (int i = 0; i < n_seqs; i++) propose_one(seqs[i]);
}

const lf_proposer_ops lf_proposer_ngram = {
    .name = "ngram", .attach = attach, .detach = detach, .propose = propose};
