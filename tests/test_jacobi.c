/* What the jacobi proposer counts, against CLLM's definitions applied to the states of a whole decoding. The target is a list
 * of right tokens; behind a wrong guess it picks the right one only sometimes. */
#include "testing.h"

#include "decode/blocks.h"
#include "decode/window.h"

#include <stdlib.h>
#include <string.h>

enum { N = 160, N_PROMPT = 5, STATES_MAX = N + 1, NO_VALUE = -1 };

typedef struct decoding {
    int32_t right[N];
    int states[STATES_MAX][N]; /* what pass j made of each position; NO_VALUE past the window */
    int n_states;
    uint64_t rng;
} decoding;

static uint32_t draw(decoding *d, uint32_t n)
{
    d->rng = d->rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->rng >> 33) % n;
}

/* Picks after each candidate, as a target would give them, and the state they make. */
static lf_verdict verify(decoding *d, const lf_seq *seq, int32_t *picks, int n_done, uint32_t luck)
{
    lf_verdict v = {.picks = picks};
    int *made = d->states[d->n_states++];
    bool right = true;
    for (int i = 0; i < N; i++) made[i] = i < n_done ? d->right[i] : NO_VALUE;
    for (int j = 0; j <= seq->n_candidates && n_done + j < N; j++) {
        const int32_t truth = d->right[n_done + j];
        picks[j] = right || draw(d, 100) < luck ? truth : truth + 1 + (int32_t)draw(d, 3);
        made[n_done + j] = picks[j];
        v.n_picks++;
        right = right && j < seq->n_candidates && seq->candidates[j] == picks[j];
        v.n_accepted += right;
    }
    return v;
}

static lf_proposer *open_jacobi(lf_cost *cost)
{
    lf_proposer *p;
    lf_error err;
    const lf_proposer_env env = {.seqs_max = 1, .cost = cost};
    assert_ok(lf_proposer_open(&p, LF_PROPOSER_JACOBI, &env, &err), &err);
    return p;
}

/* Decodes N tokens in windows of `width`, or of any size up to it; cut: the last pass may have candidates whose picks would be past
 * the end, as with an end-of-sequence token inside an accepted run. Returns the passes. */
static int decode(decoding *d, lf_seq *seq, int width, bool varies, uint32_t luck, bool cut)
{
    lf_proposer *self = open_jacobi(NULL);
    lf_error err;
    int n_done = 0, passes = 0;
    assert_ok(self->ops->attach(self, seq, &err), &err);
    while (n_done < N) {
        int32_t picks[LF_DRAFT_MAX + 1];
        const int left = N - n_done - (cut ? 0 : 1),
                  wanted = varies ? (int)draw(d, (uint32_t)width + 1) : width;
        seq->n_wanted = passes == 0 ? 0 : wanted < left ? wanted : left; /* the first pass is the prompt's */
        seq->n_candidates = 0;
        lf_seq *const seqs[] = {seq};
        if (seq->n_wanted > 0) self->ops->propose(self, seqs, 1);
        lf_verdict v = verify(d, seq, picks, n_done, luck);
        v.n_emitted = v.n_accepted + 1 < N - n_done ? v.n_accepted + 1 : N - n_done;
        memcpy(seq->tokens.data + seq->tokens.len, picks, (size_t)v.n_emitted * sizeof *picks);
        seq->tokens.len += (size_t)v.n_emitted;
        n_done += v.n_emitted;
        passes++;
        self->ops->observe(self, seq, &v);
    }
    self->ops->detach(self, seq);
    lf_proposer_close(self);
    return passes;
}

/* CLLM's evaluation code in words: k is the first state that is right throughout. A token is stationary if the run of states up
 * to k in which it was right is longer than the run since the right prefix reached it. */
static int count_stationary(const decoding *d, int k)
{
    int n = 0;
    for (int i = 0; i < N; i++) {
        int run = 0, joined = 0;
        for (int j = 0; j < k; j++) {
            run = d->states[j][i] == d->right[i] ? run + 1 : 0;
            int prefix = 0;
            while (prefix < N && d->states[j][prefix] == d->right[prefix]) prefix++;
            joined = prefix > i ? joined + 1 : 0; /* a narrower window can lose what the prefix had reached */
        }
        n += run > joined;
    }
    return n;
}

static int first_right_state(const decoding *d)
{
    for (int j = 0; j < d->n_states; j++) {
        int i = 0;
        while (i < N && d->states[j][i] == d->right[i]) i++;
        if (i == N) return j + 1;
    }
    return 0;
}

static void test_counts_are_those_of_cllm(void **state)
{
    (void)state;
    static decoding d;
    int32_t tokens[N_PROMPT + N + LF_DRAFT_MAX];
    int n_stationary = 0, n_confirming = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        d = (decoding){.rng = seed};
        for (int i = 0; i < N; i++) d.right[i] = (int32_t)(10 * draw(&d, 6));
        for (int i = 0; i < N_PROMPT; i++) tokens[i] = (int32_t)(10 * draw(&d, 6));
        lf_seq seq = {.tokens = {.data = tokens, .len = N_PROMPT, .cap = sizeof tokens / sizeof *tokens},
                      .len_max = N_PROMPT + N,
                      .n_prompt = N_PROMPT};
        const bool varies = seed % 3 == 0;
        const int width = 1 + (int)draw(&d, 24),
                  passes = decode(&d, &seq, width, varies, 30 + draw(&d, 70), seed % 2);
        const int k = passes - seq.confirming, first = first_right_state(&d);
        assert_memory_equal(tokens + N_PROMPT, d.right, sizeof d.right);
        assert_true(k == first || (varies && k > first)); /* narrow windows can confirm in several passes */
        assert_int_equal(seq.stationary, count_stationary(&d, k));
        n_stationary += seq.stationary;
        n_confirming += seq.confirming;
    }
    assert_true(n_stationary > 200 && n_confirming > 10 && n_confirming < 190);
}

/* A pick that is no token ends the window: it is never proposed. */
static void test_nothing_to_pick_is_not_a_guess(void **state)
{
    (void)state;
    int32_t tokens[8 + LF_DRAFT_MAX] = {1, 2, 3, 4};
    const int32_t picks[] = {5, 6, 7, -1, 8};
    lf_proposer *self = open_jacobi(NULL);
    lf_seq seq = {.tokens = {.data = tokens, .len = 4, .cap = 8 + LF_DRAFT_MAX}, .len_max = 8, .n_wanted = 4};
    lf_seq *const seqs[] = {&seq};
    lf_error err;
    assert_ok(self->ops->attach(self, &seq, &err), &err);
    self->ops->propose(self, seqs, 1);
    const lf_verdict v = {.picks = picks, .n_picks = 5, .n_accepted = 0, .n_emitted = 1};
    tokens[seq.tokens.len++] = 5;
    self->ops->observe(self, &seq, &v);
    self->ops->propose(self, seqs, 1);
    assert_int_equal(seq.n_candidates, 4);
    assert_true(seq.candidates[0] == 6 && seq.candidates[1] == 7);
    for (int i = 2; i < 4; i++) assert_in_range(seq.candidates[i], 1, 7);
    self->ops->detach(self, &seq);
    lf_proposer_close(self);
}

/* The window that nobody asked for follows what rows cost and what came out right, and is never empty. */
static void test_a_free_window_has_as_many_guesses_as_pay(void **state)
{
    (void)state;
    static const uint32_t lucks[] = {0, 90};
    for (int dear = 0; dear < 2; dear++)
        for (int k = 0; k < 2; k++) {
            static decoding d;
            int32_t tokens[N_PROMPT + N + LF_DRAFT_MAX], widest = 0;
            lf_cost cost = {.n_pass = 2, .n_attend = 1, .pass = {1.0, dear ? 2.0 : 1.02}};
            lf_cost_reset(&cost);
            lf_proposer *self = open_jacobi(&cost);
            lf_seq seq = {.tokens = {.data = tokens, .len = N_PROMPT, .cap = sizeof tokens / sizeof *tokens},
                          .len_max = N_PROMPT + N,
                          .n_prompt = N_PROMPT,
                          .draft_free = true};
            lf_error err;
            d = (decoding){.rng = 1};
            for (int i = 0; i < N; i++) d.right[i] = i + 100;
            for (int i = 0; i < N_PROMPT; i++) tokens[i] = i;
            assert_ok(self->ops->attach(self, &seq, &err), &err);
            for (int n_done = 0; n_done < N - LF_WINDOW_MAX; n_done = (int)seq.tokens.len - N_PROMPT) {
                int32_t picks[LF_DRAFT_MAX + 1];
                lf_seq *const seqs[] = {&seq};
                seq.n_wanted = LF_WINDOW_MAX;
                self->ops->propose(self, seqs, 1);
                assert_in_range(seq.n_candidates, 1, LF_WINDOW_MAX);
                widest = seq.n_candidates > widest ? seq.n_candidates : widest;
                lf_verdict v = verify(&d, &seq, picks, n_done, lucks[k]);
                v.n_emitted = v.n_accepted + 1;
                memcpy(tokens + seq.tokens.len, picks, (size_t)v.n_emitted * sizeof *picks);
                seq.tokens.len += (size_t)v.n_emitted;
                self->ops->observe(self, &seq, &v);
            }
            assert_true(dear ? widest == 1 : k == 0 ? widest < 8 : widest >= 8);
            self->ops->detach(self, &seq);
            lf_proposer_close(self);
        }
}

/* However wrong all guesses are, the first wrong token of a block moves on with every pass: n passes end a block of n. */
static void test_a_block_takes_n_passes_at_most(void **state)
{
    (void)state;
    static const uint32_t lucks[] = {0, 40, 100};
    for (int n = 2; n <= 20; n += 3)
        for (int k = 0; k < 3; k++) {
            static decoding d;
            int32_t tokens[N_PROMPT + N + LF_DRAFT_MAX] = {0};
            const int n_blocks = N / n;
            const lf_blocks_params params = {.n = n};
            lf_proposer *self;
            lf_error err;
            lf_seq seq = {.tokens = {.data = tokens, .len = N_PROMPT, .cap = sizeof tokens / sizeof *tokens},
                          .len_max = N_PROMPT + n_blocks * n,
                          .n_prompt = N_PROMPT,
                          .draft_max = n - 1};
            d = (decoding){.rng = 1};
            for (int i = 0; i < N; i++) d.right[i] = i + 100;
            assert_ok(lf_blocks_open(&self, &params, &err), &err);
            assert_ok(self->ops->attach(self, &seq, &err), &err);
            for (int block = 0; block < n_blocks; block++) {
                int passes = 0;
                for (int left = n; left > 0; passes++) {
                    int32_t picks[LF_DRAFT_MAX + 1];
                    lf_seq *const seqs[] = {&seq};
                    seq.n_wanted = left - 1;
                    d.n_states = 0;
                    self->ops->propose(self, seqs, 1);
                    lf_verdict v = verify(&d, &seq, picks, (int)seq.tokens.len - N_PROMPT, lucks[k]);
                    v.n_emitted = v.n_accepted + 1;
                    memcpy(tokens + seq.tokens.len, picks, (size_t)v.n_emitted * sizeof *picks);
                    seq.tokens.len += (size_t)v.n_emitted;
                    self->ops->observe(self, &seq, &v);
                    left -= v.n_emitted;
                }
                assert_true(k == 0 ? passes == n : passes <= n);
                assert_true(k < 2 || passes <= 3);
            }
            assert_memory_equal(tokens + N_PROMPT, d.right, (size_t)(n_blocks * n) * sizeof *tokens);
            self->ops->detach(self, &seq);
            lf_proposer_close(self);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_are_those_of_cllm),
        cmocka_unit_test(test_nothing_to_pick_is_not_a_guess),
        cmocka_unit_test(test_a_free_window_has_as_many_guesses_as_pay),
        cmocka_unit_test(test_a_block_takes_n_passes_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
