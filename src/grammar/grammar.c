/* Masks by walking the vocabulary in the order of its bytes: a token continues where it parts from the one before it, and what
 * follows a refused byte is passed over. A mask is kept with its state until its room is needed. */
#include "grammar/grammar.h"

#include "grammar/compile.h"
#include "grammar/machine.h"
#include "token/vocab.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    MASK_ROOM_BYTES =
        8 << 20, /* of a grammar's masks: 2,048 of a vocabulary of 32,000 tokens, 512 of 128,000 */
    MASKS_MIN = 32,
    NO_MASK = 0,
};

struct lf_grammar {
    atomic_int n_references;
    const lf_token_bytes *tokens;
    lf_exprs exprs;
    lf_machine *machine;

    size_t n_words;     /* of a mask */
    uint32_t *masks;    /* (n_masks, n_words); the first is not used */
    uint16_t *mask_of;  /* (LF_STATES_MAX) a state's mask, or NO_MASK */
    uint16_t *state_of; /* (n_masks) and the way back */
    uint16_t n_masks, i_oldest;
    uint32_t epoch;                        /* of the states above */
    uint16_t path[LF_PIECE_BYTES_MAX + 1]; /* states after the first bytes of the token at hand */
};

static void destroy(lf_grammar *g)
{
    lf_machine_free(g->machine);
    lf_exprs_free(&g->exprs);
    free(g->masks);
    free(g->mask_of);
    free(g->state_of);
    free(g);
}

lf_status lf_grammar_create(lf_grammar **out, const lf_token_bytes *tokens, lf_grammar_kind kind,
                            const char *text, size_t len, lf_error *err)
{
    lf_status status = LF_OK;
    lf_grammar *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return lf_fail_memory(err, "a grammar", sizeof *g);
    atomic_init(&g->n_references, 1);
    g->tokens = tokens;
    g->n_words = ((size_t)tokens->n_vocab + 31) / 32;
    LF_TRY(lf_grammar_build(&g->exprs, kind, text, len, err));
    LF_TRY(lf_machine_create(&g->machine, &g->exprs, err));
    const size_t fitting = MASK_ROOM_BYTES / (g->n_words * sizeof *g->masks);
    g->n_masks = (uint16_t)(1 + (fitting < MASKS_MIN       ? MASKS_MIN
                                 : fitting < LF_STATES_MAX ? fitting
                                                           : LF_STATES_MAX));
    g->i_oldest = 1;
    g->masks = calloc((size_t)g->n_masks * g->n_words, sizeof *g->masks);
    g->mask_of = calloc(LF_STATES_MAX, sizeof *g->mask_of);
    g->state_of = calloc(g->n_masks, sizeof *g->state_of);
    if (!g->masks || !g->mask_of || !g->state_of)
        LF_TRY(lf_fail_memory(err, "a grammar's masks", (size_t)g->n_masks * g->n_words * sizeof *g->masks));
    *out = g;
done:
    if (status != LF_OK) destroy(g);
    return status;
}

bool lf_grammar_is_over(const lf_grammar *g, const lf_token_bytes *tokens)
{
    return g->tokens == tokens;
}

lf_grammar *lf_grammar_share(lf_grammar *g)
{
    (void)atomic_fetch_add_explicit(&g->n_references, 1, memory_order_relaxed);
    return g;
}

void lf_grammar_free(lf_grammar *g)
{
    if (g && atomic_fetch_sub_explicit(&g->n_references, 1, memory_order_acq_rel) == 1) destroy(g);
}

/* ---- masks ---- */

/* Sets the bits of the tokens of places [begin, end), which share their first byte, that may follow *state. */
static void walk_tokens(lf_grammar *g, int begin, int end, uint16_t *state, uint32_t *mask)
{
    const lf_token_bytes *t = g->tokens;
    int n_path = 0;        /* first bytes of the last token that were not refused */
    bool is_known = false; /* path has the states after them */
    for (int i = begin; i < end; i++) {
        if (i > begin && t->shared[i] > n_path) continue; /* it begins like one that was refused */
        int len, n = is_known ? t->shared[i] : 0;
        const uint8_t *bytes = lf_token_bytes_at(t, i, &len);
        const uint32_t epoch = lf_machine_epoch(g->machine);
        uint16_t at = n ? g->path[n] : *state;
        for (; n < len; n++) {
            at = lf_machine_step(g->machine, at, bytes[n], state);
            if (at == LF_STATE_DEAD) break;
            g->path[n + 1] = at;
        }
        if (n == len) mask[t->ids[i] / 32] |= UINT32_C(1) << (t->ids[i] % 32);
        n_path = n;
        is_known = lf_machine_epoch(g->machine) == epoch;
    }
}

static void compute_mask(lf_grammar *g, uint16_t *state, uint32_t *mask)
{
    const lf_token_bytes *t = g->tokens;
    memset(mask, 0, g->n_words * sizeof *mask);
    for (int byte = 0; byte < 256; byte++) {
        if (t->begins[byte] == t->begins[byte + 1]) continue;
        if (lf_machine_step(g->machine, *state, (uint8_t)byte, state) != LF_STATE_DEAD)
            walk_tokens(g, t->begins[byte], t->begins[byte + 1], state, mask);
    }
    if (lf_machine_may_end(g->machine, *state))
        for (size_t i = 0; i < g->n_words; i++) mask[i] |= t->ends_of_sequence[i];
}

/* The mask of a state, which gets another number when the epoch moves. */
static const uint32_t *mask_of(lf_grammar *g, uint16_t *state)
{
    if (g->epoch == lf_machine_epoch(g->machine) && g->mask_of[*state] != NO_MASK)
        return g->masks + g->mask_of[*state] * g->n_words;
    const uint16_t slot = g->i_oldest;
    uint32_t *mask = g->masks + slot * g->n_words;
    g->i_oldest = slot + 1 < g->n_masks ? (uint16_t)(slot + 1) : 1;
    compute_mask(g, state, mask);
    if (g->epoch != lf_machine_epoch(g->machine)) {
        g->epoch = lf_machine_epoch(g->machine);
        memset(g->mask_of, 0, LF_STATES_MAX * sizeof *g->mask_of);
        memset(g->state_of, 0, g->n_masks * sizeof *g->state_of);
    }
    g->mask_of[g->state_of[slot]] = NO_MASK;
    g->state_of[slot] = *state;
    g->mask_of[*state] = slot;
    return mask;
}

/* ---- cursors ---- */

struct lf_grammar_cursor {
    lf_grammar *g;
    int n_prompt, n_output_max;
    int n;            /* tokens of the output that somebody asked for last */
    int32_t *ids;     /* (n_output_max) them */
    uint16_t *states; /* (n_output_max + 1) after them */
    uint32_t epoch;   /* of states[valid_from ..) */
    int valid_from;
};

lf_status lf_grammar_cursor_create(lf_grammar_cursor **out, lf_grammar *g, int n_prompt, int n_output_max,
                                   lf_error *err)
{
    lf_grammar_cursor *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return lf_fail_memory(err, "a grammar's cursor", sizeof *c);
    *c = (lf_grammar_cursor){.g = lf_grammar_share(g), .n_prompt = n_prompt, .n_output_max = n_output_max};
    c->ids = malloc((size_t)n_output_max * sizeof *c->ids + 1);
    c->states = malloc(((size_t)n_output_max + 1) * sizeof *c->states);
    if (!c->ids || !c->states) {
        lf_grammar_cursor_free(c);
        return lf_fail_memory(err, "a grammar's cursor", (size_t)n_output_max * sizeof *c->ids);
    }
    c->states[0] = LF_STATE_START;
    *out = c;
    return LF_OK;
}

void lf_grammar_cursor_free(lf_grammar_cursor *c)
{
    if (!c) return;
    lf_grammar_free(c->g);
    free(c->ids);
    free(c->states);
    free(c);
}

/* The state after a token; dead for one that is no text. */
static uint16_t step_token(lf_grammar *g, uint16_t state, int32_t id)
{
    const lf_token_bytes *t = g->tokens;
    if (id < 0 || id >= t->n_vocab || t->places[id] < 0) return LF_STATE_DEAD;
    int len;
    const uint8_t *bytes = lf_token_bytes_at(t, t->places[id], &len);
    for (int i = 0; i < len && state != LF_STATE_DEAD; i++)
        state = lf_machine_step(g->machine, state, bytes[i], &state);
    return state;
}

/* The state after the output of history: from where it parts from the one that was asked for last. */
static uint16_t *seek(lf_grammar_cursor *c, const int32_t *history, int n_history)
{
    lf_machine *m = c->g->machine;
    const int32_t *output = history + c->n_prompt;
    const int n_output = n_history - c->n_prompt;
    assert(n_output >= 0 && n_output <= c->n_output_max);
    int at = 0;
    while (at < c->n && at < n_output && c->ids[at] == output[at]) at++;
    if (c->epoch != lf_machine_epoch(m) || at < c->valid_from) {
        at = c->valid_from = 0;
        c->epoch = lf_machine_epoch(m);
        c->states[0] = LF_STATE_START;
    }
    uint16_t state = c->states[at];
    for (; at < n_output; at++) {
        state = step_token(c->g, state, output[at]);
        c->ids[at] = output[at];
        c->states[at + 1] = state;
        if (c->epoch == lf_machine_epoch(m)) continue;
        c->epoch = lf_machine_epoch(m);
        c->valid_from = at + 1;
    }
    c->n = n_output;
    return &c->states[n_output];
}

void lf_grammar_cursor_mask(void *cursor, const int32_t *history, int n_history, uint32_t *allowed)
{
    lf_grammar_cursor *c = cursor;
    uint16_t *state = seek(c, history, n_history);
    const uint32_t *mask = mask_of(c->g, state);
    for (size_t i = 0; i < c->g->n_words; i++) allowed[i] &= mask[i];
    if (c->epoch == lf_machine_epoch(c->g->machine)) return;
    c->epoch = lf_machine_epoch(c->g->machine);
    c->valid_from = c->n;
}

bool lf_grammar_cursor_is_done(lf_grammar_cursor *c, const int32_t *history, int n_history)
{
    const uint16_t state = *seek(c, history, n_history);
    const lf_machine *m = c->g->machine;
    return lf_machine_may_end(m, state) && !lf_machine_may_go_on(m, state);
}
