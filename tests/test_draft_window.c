/* The smaller model's cache: the sinks and a window that rolls, which draft as a text of their own would; it keeps up with the text, and
 * holds no page more. */
#include "draft_fixture.h"

#include <stdlib.h>
#include <string.h>

/* What the model says greedily after ids (n) at positions 0 on: n_out tokens. */
static void decode_plain(const lf_engine *e, const lf_model *m, const int32_t *ids, int n, int32_t *out,
                         int n_out)
{
    lf_error err;
    lf_forward *forward;
    lf_kv_pool *pool;
    lf_kv_seq *seq;
    lf_row rows[N_CTX];
    assert_ok(lf_kv_pool_create(&pool, &e->draft.shape, N_CTX / LF_PAGE_POS + 1, &err), &err);
    assert_ok(lf_kv_seq_open(&seq, pool, N_CTX, &err), &err);
    assert_ok(lf_kv_seq_reserve(seq, n + n_out, &err), &err);
    assert_ok(lf_forward_create(&forward, m, &e->kernels, e->threads, &e->draft.shape.layout, N_CTX, 1, &err),
              &err);
    for (int i = 0; i < n; i++)
        rows[i] = (lf_row){.seq = seq, .token = ids[i], .pos = i, .wants_logits = i == n - 1};
    lf_forward_run(forward, rows, n);
    for (int i = 0; i < n_out; i++) {
        const float *logits = lf_forward_logits(forward, 0);
        out[i] = 0;
        for (int id = 1; id < N_VOCAB; id++)
            if (logits[id] > logits[out[i]]) out[i] = id;
        rows[0] = (lf_row){.seq = seq, .token = out[i], .pos = n + i, .wants_logits = true};
        lf_forward_run(forward, rows, 1);
    }
    lf_forward_free(forward);
    lf_kv_seq_close(seq);
    lf_kv_pool_free(pool);
}

/* Where the window of a text of len begins, with the sinks: from its definition. */
static int window_begin(int len)
{
    int begin = 0;
    while (begin + 64 + SINKS + WINDOW <= len) begin += 64;
    return begin;
}

/* A prompt is drafted on as if its sinks and its window were all there is, one right behind the other. */
static void test_a_window_is_a_text_of_its_own(void **state)
{
    (void)state;
    enum { G = 6 };
    lf_error err;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_models[OTHER], 1);
    static const int lengths[] = {3, 56, 119, 120, 121, 184, 250, 300, 500};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        int32_t ids[N_CTX], seen[N_CTX], want[G];
        lf_request *r;
        const int n_wanted = G;
        lf_request_params p = draft_request_params(ids, (size_t)lengths[k], 50 + k);
        p.draft_max = 0; /* it does not draft by itself */
        assert_ok(lf_request_submit(&r, e, &p, &err), &err);
        lf_seq *seq = step_until(e, r, p.n_ids);
        const int len = (int)seq->tokens.len, begin = window_begin(len);
        memcpy(seen, seq->tokens.data, SINKS * sizeof *seen);
        memcpy(seen + (begin ? SINKS : 0), seq->tokens.data + (begin ? begin + SINKS : 0),
               (size_t)(len - (begin ? begin + SINKS : 0)) * sizeof *seen);
        propose_alone(&seq, 1, &n_wanted);
        decode_plain(e, &e->draft.model, seen, len - begin, want, G);
        assert_int_equal(seq->n_candidates, G);
        assert_memory_equal(seq->candidates, want, sizeof want);
        lf_request_free(r);
    }
    lf_engine_close(e);
}

static void load_position(const lf_engine *e, const lf_kv_seq *kv, int pos, float *k, float *v)
{
    lf_kv_tile_load(k, v, lf_kv_seq_tile(kv, 0, 0, pos / LF_TILE_POS), &e->draft.shape.layout,
                    pos % LF_TILE_POS);
}

/* The K/V of all that the draft of a sequence sees are those of a draft that begins with the same text, bit for bit: its sinks, and,
 * before it rolls, the whole window. (Later what is in the window has seen more than the window.) */
static void compare_with_fresh(lf_engine *e, lf_seq *rolling, const lf_request_params *params)
{
    lf_error err;
    lf_request *r;
    lf_request_params p = *params;
    int32_t text[N_CTX];
    const int n_wanted = 1, n = (int)rolling->tokens.len, begin = window_begin(n);
    memcpy(text, rolling->tokens.data, (size_t)n * sizeof *text);
    propose_alone(&rolling, 1, &n_wanted);
    assert_int_equal(lf_kv_seq_len(rolling->draft_kv), n - 1);
    p.ids = text;
    p.n_ids = (size_t)n;
    p.draft_max = 0;
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    lf_seq *fresh = step_until(e, r, (size_t)n);
    fresh->tokens.len = (size_t)n; /* without its first token, which may move the window */
    propose_alone(&fresh, 1, &n_wanted);
    for (int i = 0; i < (begin == 0 ? n - 1 : SINKS); i++) {
        float a[2][16], b[2][16];
        load_position(e, rolling->draft_kv, begin + i, a[0], a[1]);
        load_position(e, fresh->draft_kv, begin + i, b[0], b[1]);
        assert_memory_equal(a, b, sizeof a);
    }
    lf_request_free(r);
    check_draft_pages(e);
}

/* What is read keeps up with the text, whether all candidates are right or none, at the cost of the pages of a window. */
static void check_rolling(const char *draft_path, bool is_right)
{
    lf_error err;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_path, 2);
    int32_t ids[N_CTX];
    lf_request *r;
    lf_request_result result = {.size = sizeof result};
    lf_request_params p = draft_request_params(ids, 30, 77);
    p.n_predict = 500;
    p.draft_max = 5;
    p.repetition_penalty = 1.5f;
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    for (int len = 40; len < 500; len += 29) {
        lf_seq *seq = step_until(e, r, (size_t)len);
        /* unread: what nobody guessed, and the guess before it, if that was the last */
        assert_true((int)seq->tokens.len - lf_kv_seq_len(seq->draft_kv) <= 2);
        const int n_used = lf_kv_pool_n_pages(e->draft.pool) - lf_kv_pool_n_free(e->draft.pool);
        assert_true(n_used <= lf_draft_pages(WINDOW, N_CTX));
        compare_with_fresh(e, seq, &p);
    }
    lf_request_get_result(r, &result);
    assert_true(is_right ? result.accepted > 100 : result.accepted < 100);
    lf_request_free(r);
    lf_engine_close(e);
}

static void test_sinks_roll_with_the_window(void **state)
{
    (void)state;
    check_rolling(draft_models[OTHER], false);
    check_rolling(draft_models[TARGET], true);
}

/* A draft that was never verified, and a text that went on otherwise: only what agrees with it was read. */
static void test_what_went_on_otherwise_is_read_again(void **state)
{
    (void)state;
    enum { G = 5, N_RIGHT = 2 };
    lf_error err;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_models[OTHER], 2);
    int32_t ids[N_CTX];
    lf_request *r;
    const int n_wanted = G;
    lf_request_params p = draft_request_params(ids, 60, 5);
    p.draft_max = 0;
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    lf_seq *seq = step_until(e, r, 60);
    const int n = (int)seq->tokens.len;
    propose_alone(&seq, 1, &n_wanted);
    const lf_verdict v = {.n_emitted = G};
    int32_t *next = seq->tokens.data + n;
    next[N_RIGHT] = (next[N_RIGHT] + 1) % N_VOCAB;
    seq->tokens.len += G;
    seq->proposer->ops->observe(seq->proposer, seq, &v);
    assert_int_equal(lf_kv_seq_len(seq->draft_kv), n + N_RIGHT);
    lf_request_free(r);
    lf_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_window_is_a_text_of_its_own),
        cmocka_unit_test(test_sinks_roll_with_the_window),
        cmocka_unit_test(test_what_went_on_otherwise_is_read_again),
    };
    return cmocka_run_group_tests(tests, begin_drafts, leave_temp);
}
