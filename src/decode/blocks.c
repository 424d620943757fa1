#include "decode/blocks.h"

#include "decode/fill.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct blocks {
    lf_proposer base;
    lf_blocks_params params;
} blocks;

typedef struct state {
    lf_ngram_index index; /* of the sequence's tokens; only with params.ngram */
    int n;
    int begin; /* position of the block at hand */
    int n_blocks;
    int32_t *n_states; /* (blocks that fit) owned */
    int32_t *states;   /* (as many blocks, n + 1, n) owned; those of all blocks, without gaps */
    int32_t *last;     /* (n) the state at hand, in states; NULL before the first block */
} state;

static void detach(lf_proposer *self, lf_seq *seq)
{
    (void)self;
    state *s = seq->proposer_state;
    if (!s) return;
    lf_ngram_index_free(&s->index);
    free(s->n_states);
    free(s->states);
    free(s);
    seq->proposer_state = NULL;
}

/* A block has n + 1 states at most, since each pass makes one more token right; a last one that only confirms is among them for a
 * moment. */
static lf_status attach(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    const blocks *b = (const blocks *)self;
    const size_t n = (size_t)b->params.n, n_blocks = ((size_t)seq->len_max - (size_t)seq->n_prompt) / n;
    assert(n_blocks * n == (size_t)seq->len_max - (size_t)seq->n_prompt && seq->draft_max == b->params.n - 1);
    state *s = calloc(1, sizeof *s);
    seq->proposer_state = s;
    seq->all_picks = true;
    if (!s) return lf_fail_memory(err, "the states of blocks", sizeof *s);
    s->n = b->params.n;
    s->n_states = calloc(n_blocks + 1, sizeof *s->n_states);
    s->states = malloc((n_blocks * (n + 1) * n + 1) * sizeof *s->states);
    lf_status status = LF_OK;
    if (!s->n_states || !s->states)
        status = lf_fail_memory(err, "the states of blocks", n_blocks * (n + 1) * n * sizeof *s->states);
    else if (b->params.ngram)
        status = lf_ngram_index_init(&s->index, seq->len_max, err);
    if (status != LF_OK) detach(self, seq);
    return status;
}

/* Adds the next state, with the tokens of `from` (n). */
static void add_state(state *s, const int32_t *from)
{
    int32_t *next = s->last ? s->last + s->n : s->states;
    memmove(next, from, (size_t)s->n * sizeof *next);
    s->last = next;
    s->n_states[s->n_blocks - 1]++;
}

static void begin_block(state *s, lf_seq *seq, bool ngram)
{
    int32_t *ids = seq->tokens.data; /* past its end there is room for candidates */
    const int n = (int)seq->tokens.len;
    if (ngram) lf_ngram_index_update(&s->index, ids, n);
    for (int i = 0; i < s->n; i++)
        ids[n + i] = lf_fill_token(ngram ? &s->index : NULL, ids, n, n + i, seq->pick.seed);
    s->begin = n;
    s->n_blocks++;
    add_state(s, ids + n);
}

static void propose(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    const blocks *b = (const blocks *)self;
    for (int i = 0; i < n_seqs; i++) {
        lf_seq *seq = seqs[i];
        state *s = seq->proposer_state;
        if (!s->last || (int)seq->tokens.len == s->begin + s->n) begin_block(s, seq, b->params.ngram);
        const int n_right = (int)seq->tokens.len - s->begin;
        seq->n_candidates = s->n - 1 - n_right;
        assert(seq->n_candidates <= seq->n_wanted);
        memcpy(seq->candidates, s->last + n_right, (size_t)seq->n_candidates * sizeof *seq->candidates);
    }
}

/* What stands behind the end of the output is its last token, in every state. */
static void fill_end(state *s, int n_right)
{
    int32_t *first = s->last - (s->n_states[s->n_blocks - 1] - 1) * s->n;
    const int32_t end = s->last[n_right - 1];
    for (int32_t *row = first; row <= s->last; row += s->n)
        for (int i = n_right; i < s->n; i++) row[i] = end;
}

static void observe(lf_proposer *self, lf_seq *seq, const lf_verdict *v)
{
    (void)self;
    state *s = seq->proposer_state;
    const int n_right = (int)seq->tokens.len - s->begin, n_before = n_right - v->n_emitted;
    const int32_t *before = s->last;
    add_state(s, before);
    assert(n_before + v->n_picks == s->n);
    for (int i = 0; i < v->n_picks; i++)
        if (v->picks[i] >= 0) s->last[n_before + i] = v->picks[i];
    if (seq->finished && n_right > 0) fill_end(s, n_right);
    if (memcmp(before, s->last, (size_t)s->n * sizeof *before) != 0) return;
    s->last -= s->n; /* a pass that only confirmed */
    s->n_states[s->n_blocks - 1]--;
}

static void close_blocks(lf_proposer *self)
{
    free(self);
}

static const lf_proposer_ops ops = {.name = "blocks",
                                    .close = close_blocks,
                                    .attach = attach,
                                    .detach = detach,
                                    .propose = propose,
                                    .observe = observe};

lf_status lf_blocks_open(lf_proposer **out, const lf_blocks_params *params, lf_error *err)
{
    blocks *b = malloc(sizeof *b);
    assert(params->n >= 2 && params->n <= LF_BLOCK_MAX);
    *out = NULL;
    if (!b) return lf_fail_memory(err, "a proposer", sizeof *b);
    *b = (blocks){.base = {.ops = &ops}, .params = *params};
    *out = &b->base;
    return LF_OK;
}

lf_block_states lf_blocks_get(const lf_seq *seq)
{
    const state *s = seq->proposer_state;
    return (lf_block_states){
        .n = s->n, .n_blocks = s->n_blocks, .n_states = s->n_states, .states = s->states};
}
