#include "forward_fixture.h"

#include "../bench/random_model.h"
#include "base/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

lf_config small_config(void)
{
    return (lf_config){.arch = LF_ARCH_LLAMA,
                       .n_layers = 2,
                       .dim = 256,
                       .n_heads = 4,
                       .n_kv_heads = 2,
                       .head_dim = 64,
                       .ffn_dim = 256,
                       .n_vocab = 80,
                       .n_ctx_max = 4096,
                       .norm_eps = 1e-5f,
                       .rope_base = 10000.0,
                       .rope_factor = 1.0,
                       .tied = true};
}

void load_model(lf_model *m, const char *path)
{
    lf_error err;
    lf_source source;
    lf_threads *threads;
    const lf_load_params params = {.weight_dtype = -1};
    assert_ok(lf_source_open(&source, path, &err), &err);
    assert_ok(lf_threads_create(&threads, 2, false, &err), &err);
    assert_ok(lf_model_load(m, &source, threads, &params, &err), &err);
    lf_threads_free(threads);
    lf_source_close(&source);
}

void load_random_model(lf_model *m, const lf_config *config, lf_dtype dtype, uint64_t seed)
{
    lf_error err;
    char *dir = make_temp_dir(), path[512];
    (void)snprintf(path, sizeof path, "%s/model.gguf", dir);
    const lf_random_model random = {.config = *config, .dtype = dtype, .seed = seed};
    assert_ok(lf_random_model_write(path, &random, &err), &err);
    load_model(m, path);
    remove_tree(dir);
    free(dir);
}

static void *checked_calloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

/* A pool for every sequence at its full length, with some pages to spare. */
static lf_kv_pool *make_pool(const reference *ref, const lf_model *m, lf_dtype kv_dtype, lf_kv_shape *shape)
{
    lf_error err;
    lf_kv_pool *pool;
    int n_pages = 4;
    *shape = (lf_kv_shape){.n_layers = m->config.n_layers, .n_kv_heads = m->config.n_kv_heads};
    assert_true(lf_kv_layout_init(&shape->layout, kv_dtype, m->config.head_dim));
    for (int i = 0; i < ref->n_seqs; i++) n_pages += ref->len[i] / LF_PAGE_POS + 2;
    assert_ok(lf_kv_pool_create(&pool, shape, n_pages, &err), &err);
    return pool;
}

void make_reference(reference *ref, const lf_model *m, const lf_kernels *kernels, lf_dtype kv_dtype,
                    int n_seqs, int len_min, int len_max, uint64_t seed)
{
    lf_error err;
    lf_threads *threads;
    lf_forward *forward;
    lf_kv_shape shape;
    *ref = (reference){.n_seqs = n_seqs, .n_vocab = m->config.n_vocab};
    ref->len = checked_calloc((size_t)n_seqs, sizeof *ref->len);
    ref->ids = checked_calloc((size_t)n_seqs, sizeof *ref->ids);
    ref->logits = checked_calloc((size_t)n_seqs, sizeof *ref->logits);
    for (int i = 0; i < n_seqs; i++)
        ref->len[i] = len_min + (int)(rng_next(&seed) % (uint64_t)(len_max - len_min + 1));
    lf_kv_pool *pool = make_pool(ref, m, kv_dtype, &shape);
    assert_ok(lf_threads_create(&threads, 1, false, &err), &err);
    assert_ok(lf_forward_create(&forward, m, kernels, threads, &shape.layout, 1, 1, &err), &err);
    for (int i = 0; i < n_seqs; i++) {
        lf_kv_seq *seq;
        assert_ok(lf_kv_seq_open(&seq, pool, ref->len[i], &err), &err);
        ref->ids[i] = checked_calloc((size_t)ref->len[i], sizeof **ref->ids);
        ref->logits[i] = checked_calloc((size_t)ref->len[i] * (size_t)ref->n_vocab, sizeof **ref->logits);
        for (int pos = 0; pos < ref->len[i]; pos++) {
            ref->ids[i][pos] = (int32_t)(rng_next(&seed) % (uint64_t)ref->n_vocab);
            const lf_row row = {.seq = seq, .token = ref->ids[i][pos], .pos = pos, .wants_logits = true};
            assert_ok(lf_kv_seq_reserve(seq, 1, &err), &err);
            lf_forward_run(forward, &row, 1);
            lf_kv_seq_commit(seq, 1);
            memcpy(ref->logits[i] + (size_t)pos * (size_t)ref->n_vocab, lf_forward_logits(forward, 0),
                   (size_t)ref->n_vocab * sizeof(float));
        }
        lf_kv_seq_close(seq);
    }
    lf_forward_free(forward);
    lf_threads_free(threads);
    lf_kv_pool_free(pool);
}

void free_reference(reference *ref)
{
    for (int i = 0; i < ref->n_seqs; i++) {
        free(ref->ids[i]);
        free(ref->logits[i]);
    }
    free(ref->ids);
    free(ref->logits);
    free(ref->len);
}

/* One pass being put together: rows, and for each where its logits are expected (NULL for a wrong candidate). */
typedef struct pass {
    lf_row *rows;
    const float **expected;
    int n_rows;
} pass;

static int add_chunk(pass *p, const reference *ref, int i, lf_kv_seq *seq, const schedule *s, uint64_t *rng)
{
    lf_error err;
    const int pos = lf_kv_seq_len(seq);
    int n = s->chunk_min + (int)(rng_next(rng) % (uint64_t)(s->chunk_max - s->chunk_min + 1));
    if (n > ref->len[i] - pos) n = ref->len[i] - pos;
    if (n > s->rows_max - p->n_rows) n = s->rows_max - p->n_rows;
    /* right tokens up to n_right, wrong ones after: candidates that will be rejected */
    const int n_right = s->rejects && n > 1 ? 1 + (int)(rng_next(rng) % (uint64_t)n) : n;
    assert_ok(lf_kv_seq_reserve(seq, n, &err), &err);
    for (int j = 0; j < n; j++) {
        const int32_t right = ref->ids[i][pos + j];
        p->rows[p->n_rows] = (lf_row){.seq = seq,
                                      .token = j < n_right ? right : (right + 1) % ref->n_vocab,
                                      .pos = pos + j,
                                      .wants_logits = rng_next(rng) % 4 != 0};
        p->expected[p->n_rows++] = j < n_right ? ref->logits[i] + (size_t)(pos + j) * (size_t)ref->n_vocab
                                               : NULL;
    }
    return n_right;
}

static int compare_pass(const pass *p, const lf_forward *forward, int n_vocab)
{
    int mismatches = 0, i_logits = 0;
    for (int r = 0; r < p->n_rows; r++) {
        if (!p->rows[r].wants_logits) continue;
        const float *found = lf_forward_logits(forward, i_logits++);
        if (p->expected[r] && memcmp(found, p->expected[r], (size_t)n_vocab * sizeof *found) != 0)
            mismatches++;
    }
    return mismatches;
}

int count_mismatches(const reference *ref, const lf_model *m, const lf_kernels *kernels, lf_dtype kv_dtype,
                     const schedule *s)
{
    lf_error err;
    lf_threads *threads;
    lf_forward *forward;
    lf_kv_shape shape;
    uint64_t rng = s->seed;
    lf_kv_pool *pool = make_pool(ref, m, kv_dtype, &shape);
    lf_kv_pool_shuffle(pool, rng_next(&rng));
    const int n_threads = TESTS_SHORT && s->n_threads > 2 ? 2 : s->n_threads;
    assert_ok(lf_threads_create(&threads, n_threads, false, &err), &err);
    assert_ok(lf_forward_create(&forward, m, kernels, threads, &shape.layout, s->rows_max, s->rows_max, &err),
              &err);
    lf_kv_seq **seqs = checked_calloc((size_t)ref->n_seqs, sizeof *seqs);
    int *n_commit = checked_calloc((size_t)ref->n_seqs, sizeof *n_commit);
    pass p = {.rows = checked_calloc((size_t)s->rows_max, sizeof *p.rows),
              .expected = checked_calloc((size_t)s->rows_max, sizeof *p.expected)};
    for (int i = 0; i < ref->n_seqs; i++) assert_ok(lf_kv_seq_open(&seqs[i], pool, ref->len[i], &err), &err);

    int mismatches = 0;
    for (;;) {
        p.n_rows = 0;
        memset(n_commit, 0, (size_t)ref->n_seqs * sizeof *n_commit);
        const int first = (int)(rng_next(&rng) % (uint64_t)ref->n_seqs);
        int n_in_pass = 0;
        for (int k = 0; k < ref->n_seqs && n_in_pass < s->seqs_max && p.n_rows < s->rows_max; k++) {
            const int i = (first + k) % ref->n_seqs;
            if (lf_kv_seq_len(seqs[i]) == ref->len[i]) continue;
            n_commit[i] = add_chunk(&p, ref, i, seqs[i], s, &rng);
            n_in_pass++;
        }
        if (p.n_rows == 0) break;
        lf_forward_run(forward, p.rows, p.n_rows);
        mismatches += compare_pass(&p, forward, ref->n_vocab);
        for (int i = 0; i < ref->n_seqs; i++) lf_kv_seq_commit(seqs[i], n_commit[i]);
    }
    assert_true(lf_kv_pool_check(pool, (const lf_kv_seq *const *)seqs, ref->n_seqs, NULL));
    for (int i = 0; i < ref->n_seqs; i++) lf_kv_seq_close(seqs[i]);
    free(p.rows);
    free(p.expected);
    free(seqs);
    free(n_commit);
    lf_forward_free(forward);
    lf_threads_free(threads);
    lf_kv_pool_free(pool);
    return mismatches;
}

int kernel_levels(unsigned flags[4])
{
    const unsigned have = lf_cpu_flags();
    const unsigned levels[] = {0, LF_CPU_AVX2, LF_CPU_AVX2 | LF_CPU_AVX512,
                               LF_CPU_AVX2 | LF_CPU_AVX512 | LF_CPU_AVX512BF16};
    int n = 0;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if ((levels[i] & have) == levels[i]) flags[n++] = levels[i];
    return n;
}
