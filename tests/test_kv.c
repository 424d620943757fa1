/* kv/: page accounting over random schedules, sharing and copy on write, limits. */
#include "testing.h"

#include "kv/kv.h"

#include <math.h>
#include <string.h>

enum { PAGES = 24, SEQS = 6, HEAD_DIM = 8 };

static lf_kv_pool *make_pool(int n_pages)
{
    lf_error err;
    lf_kv_pool *pool;
    lf_kv_shape shape = {.n_layers = 2, .n_kv_heads = 2};
    assert_true(lf_kv_layout_init(&shape.layout, LF_DTYPE_F32, HEAD_DIM));
    assert_ok(lf_kv_pool_create(&pool, &shape, n_pages, &err), &err);
    return pool;
}

/* Writes a value that tells sequence history and position apart to the slot of every layer and head. */
static void write_slot(lf_kv_seq *seq, int pos, float value)
{
    lf_kv_layout l;
    assert_true(lf_kv_layout_init(&l, LF_DTYPE_F32, HEAD_DIM));
    float k[HEAD_DIM], v[HEAD_DIM];
    for (int i = 0; i < HEAD_DIM; i++) {
        k[i] = value;
        v[i] = -value;
    }
    for (int layer = 0; layer < 2; layer++)
        for (int head = 0; head < 2; head++)
            lf_kv_tile_store(lf_kv_seq_tile(seq, layer, head, pos / LF_TILE_POS), &l, pos % LF_TILE_POS, k,
                             v);
}

static float read_slot(const lf_kv_seq *seq, int pos)
{
    lf_kv_layout l;
    assert_true(lf_kv_layout_init(&l, LF_DTYPE_F32, HEAD_DIM));
    float k[HEAD_DIM], v[HEAD_DIM];
    lf_kv_tile_load(k, v, lf_kv_seq_tile(seq, 1, 1, pos / LF_TILE_POS), &l, pos % LF_TILE_POS);
    return k[0];
}

/* A sequence and what its slots must hold. */
typedef struct shadow {
    lf_kv_seq *seq;
    int begin; /* positions before it are forgotten */
    float values[PAGES * LF_PAGE_POS];
} shadow;

static void extend(shadow *s, int n_reserve, int n_commit, float *next)
{
    lf_error err;
    if (lf_kv_seq_reserve(s->seq, n_reserve, &err) != LF_OK) {
        assert_int_equal(err.status, LF_ELIMIT);
        return;
    }
    const int len = lf_kv_seq_len(s->seq);
    for (int i = 0; i < n_reserve; i++) {
        write_slot(s->seq, len + i, *next);
        s->values[len + i] = (*next)++;
    }
    lf_kv_seq_commit(s->seq, n_commit);
}

/* Forgets some positions, now and then all and more; whole pages before them that nobody shares become free. */
static void forget(const lf_kv_pool *pool, shadow *s, uint64_t *rng)
{
    const int n_free = lf_kv_pool_n_free(pool), len = lf_kv_seq_len(s->seq);
    const int begin = s->begin + (int)(rng_next(rng) % (uint64_t)(5 * LF_PAGE_POS + 1 - s->begin));
    lf_kv_seq_forget(s->seq, begin);
    assert_int_equal(lf_kv_seq_len(s->seq), len > begin ? len : begin);
    assert_true(lf_kv_pool_n_free(pool) >= n_free);
    for (int pos = len; pos < begin; pos++) s->values[pos] = NAN;
    s->begin = begin;
}

static void test_random_schedule_keeps_the_accounts(void **state)
{
    (void)state;
    static shadow shadows[SEQS];
    memset(shadows, 0, sizeof shadows);
    lf_kv_pool *pool = make_pool(PAGES);
    lf_error err;
    uint64_t rng = 1;
    float next = 1.0f;
    for (int step = 0; step < 20000; step++) {
        shadow *s = &shadows[rng_next(&rng) % SEQS];
        const int action = (int)(rng_next(&rng) % 10);
        if (!s->seq) {
            shadow *from = &shadows[rng_next(&rng) % SEQS];
            if (action < 5 && from->seq) {
                assert_ok(lf_kv_seq_fork(&s->seq, from->seq, &err), &err);
                s->begin = from->begin;
                memcpy(s->values, from->values, sizeof s->values);
            } else {
                assert_ok(lf_kv_seq_open(&s->seq, pool, 5 * LF_PAGE_POS, &err), &err);
                s->begin = 0;
            }
        } else if (action == 0) {
            lf_kv_seq_close(s->seq);
            s->seq = NULL;
        } else if (action == 1) {
            const int n = lf_kv_seq_len(s->seq) - s->begin;
            const int len = rng_next(&rng) % 8 ? s->begin + (int)(rng_next(&rng) % (uint64_t)(n + 1)) : 0;
            lf_kv_seq_truncate(s->seq, len);
            if (len == 0) s->begin = 0;
        } else if (action == 3 && rng_next(&rng) % 4 == 0) {
            forget(pool, s, &rng);
        } else if (action == 2) {
            lf_kv_pool_shuffle(pool, rng_next(&rng));
        } else {
            const int n = (int)(rng_next(&rng) % 40);
            extend(s, n, (int)(rng_next(&rng) % (uint64_t)(n + 1)), &next);
        }
        const lf_kv_seq *open[SEQS];
        int n_open = 0;
        for (int i = 0; i < SEQS; i++)
            if (shadows[i].seq) open[n_open++] = shadows[i].seq;
        assert_true(lf_kv_pool_check(pool, open, n_open, NULL));
        if (s->seq && lf_kv_seq_len(s->seq) > s->begin) {
            const int pos = s->begin + (int)(rng_next(&rng) % (uint64_t)(lf_kv_seq_len(s->seq) - s->begin));
            assert_true(read_slot(s->seq, pos) == s->values[pos]);
        }
    }
    for (int i = 0; i < SEQS; i++) {
        for (int pos = shadows[i].begin; shadows[i].seq && pos < lf_kv_seq_len(shadows[i].seq); pos++)
            assert_true(read_slot(shadows[i].seq, pos) == shadows[i].values[pos]);
        lf_kv_seq_close(shadows[i].seq);
    }
    assert_int_equal(lf_kv_pool_n_free(pool), PAGES);
    lf_kv_pool_free(pool);
}

/* A window that rolls over a long text holds as many pages as it covers. */
static void test_forgetting_gives_pages_back(void **state)
{
    (void)state;
    enum { WINDOW = 200, TEXT = 20 * LF_PAGE_POS };
    lf_kv_pool *pool = make_pool(3);
    lf_kv_seq *seq;
    lf_error err;
    assert_ok(lf_kv_seq_open(&seq, pool, TEXT, &err), &err);
    lf_kv_seq_forget(seq, 1000); /* begins in the middle */
    assert_int_equal(lf_kv_seq_len(seq), 1000);
    assert_int_equal(lf_kv_pool_n_free(pool), 3);
    for (int len = 1000; len < TEXT; len++) {
        if (len > 1000 + WINDOW) lf_kv_seq_forget(seq, len - WINDOW);
        assert_ok(lf_kv_seq_reserve(seq, 1, &err), &err);
        write_slot(seq, len, (float)len);
        lf_kv_seq_commit(seq, 1);
        const lf_kv_seq *const seqs[] = {seq};
        assert_true(lf_kv_pool_check(pool, seqs, 1, NULL));
        assert_true(read_slot(seq, len > 1000 + WINDOW ? len - WINDOW : 1000) >= 1000);
    }
    lf_kv_seq_truncate(seq, 0);
    assert_ok(lf_kv_seq_reserve(seq, 3 * LF_PAGE_POS, &err), &err); /* empty, and from the start again */
    lf_kv_seq_close(seq);
    assert_int_equal(lf_kv_pool_n_free(pool), 3);
    lf_kv_pool_free(pool);
}

static void test_limits_leave_the_sequence_unchanged(void **state)
{
    (void)state;
    lf_kv_pool *pool = make_pool(2);
    lf_kv_seq *a, *b;
    lf_error err;
    assert_ok(lf_kv_seq_open(&a, pool, 3 * LF_PAGE_POS, &err), &err);
    assert_ok(lf_kv_seq_open(&b, pool, 100, &err), &err);
    assert_int_equal(lf_kv_seq_reserve(b, 101, &err), LF_ELIMIT);
    assert_non_null(strstr(err.text, "expected at most 100"));
    assert_ok(lf_kv_seq_reserve(a, LF_PAGE_POS + 1, &err), &err);
    assert_int_equal(lf_kv_seq_reserve(b, 1, &err), LF_ELIMIT);
    assert_non_null(strstr(err.text, "0 pages of 128 positions are free, 1 needed"));
    lf_kv_seq_truncate(a, 0);
    assert_ok(lf_kv_seq_reserve(b, 1, &err), &err);
    lf_kv_seq_close(a);
    lf_kv_seq_close(b);
    lf_kv_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_schedule_keeps_the_accounts),
        cmocka_unit_test(test_forgetting_gives_pages_back),
        cmocka_unit_test(test_limits_leave_the_sequence_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
