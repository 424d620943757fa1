/* The Row law: logits of every row, compared as bytes, whatever shares its pass. And the sparse view. */
#include "forward_fixture.h"

#include "tensor/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const lf_dtype weight_dtypes[] = {LF_DTYPE_F32,  LF_DTYPE_F16,  LF_DTYPE_BF16, LF_DTYPE_Q8_0,
                                         LF_DTYPE_Q4_0, LF_DTYPE_Q4_K, LF_DTYPE_Q5_K, LF_DTYPE_Q6_K};
static const lf_dtype kv_dtypes[] = {LF_DTYPE_F32, LF_DTYPE_F16, LF_DTYPE_BF16, LF_DTYPE_Q8_0};

enum { N_WEIGHT_DTYPES = 8, N_KV_DTYPES = 4 };

static void expect_row_law(const reference *ref, const lf_model *m, const lf_kernels *k, lf_dtype kv_dtype,
                           const schedule *s)
{
    const int mismatches = count_mismatches(ref, m, k, kv_dtype, s);
    if (mismatches)
        fail_msg(
            "%s: %d rows differ: weights %s, cache %s, threads %d, rows %d, chunks %d to %d, sequences %d",
            k->name, mismatches, lf_dtype_name(m->output.dtype), lf_dtype_name(kv_dtype), s->n_threads,
            s->rows_max, s->chunk_min, s->chunk_max, s->seqs_max);
}

/* Every weight dtype, cache dtype and level: one sequence alone, and six in ragged company. */
static void test_every_dtype_and_level(void **state)
{
    (void)state;
    unsigned levels[4];
    const int n_levels = kernel_levels(levels);
    const lf_config config = small_config();
    for (int w = 0; w < N_WEIGHT_DTYPES; w++) {
        lf_model m;
        load_random_model(&m, &config, weight_dtypes[w], 11 + (uint64_t)w);
        for (int level = 0; level < n_levels; level++) {
            lf_kernels kernels;
            lf_kernels_init(&kernels, levels[level]);
            const int len = level == 0 ? 20 : 60;
            for (int kv = 0; kv < N_KV_DTYPES; kv++) {
                /* every cache dtype with f32 weights, every weight dtype with bf16 */
                if (w > 0 && kv_dtypes[kv] != LF_DTYPE_BF16) continue;
                reference ref;
                make_reference(&ref, &m, &kernels, kv_dtypes[kv], 6, 3, len, 5);
                const schedule ragged = {.n_threads = 2,
                                         .rows_max = 37,
                                         .chunk_min = 1,
                                         .chunk_max = 17,
                                         .seqs_max = 6,
                                         .rejects = true,
                                         .seed = 3};
                const schedule whole = {.n_threads = 3,
                                        .rows_max = 64,
                                        .chunk_min = 64,
                                        .chunk_max = 64,
                                        .seqs_max = 1,
                                        .seed = 4};
                expect_row_law(&ref, &m, &kernels, kv_dtypes[kv], &ragged);
                expect_row_law(&ref, &m, &kernels, kv_dtypes[kv], &whole);
                free_reference(&ref);
            }
        }
        lf_model_free(&m);
    }
}

/* One sequence of 600 positions, past two attention blocks and several pages: 1 to 17 rows a pass, 64 and 512, threads 1
 * to 4, for the products of floats, bf16 and integers. */
static void test_every_row_count_and_thread_count(void **state)
{
    (void)state;
    const lf_dtype dtypes[] = {LF_DTYPE_F32, LF_DTYPE_BF16, LF_DTYPE_Q8_0, LF_DTYPE_Q4_K};
    const lf_config config = small_config();
    unsigned levels[4];
    lf_kernels kernels;
    lf_kernels_init(&kernels, levels[kernel_levels(levels) - 1]);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        lf_model m;
        reference ref;
        load_random_model(&m, &config, dtypes[i], 21 + i);
        make_reference(&ref, &m, &kernels, LF_DTYPE_BF16, 1, TESTS_SHORT ? 300 : 600, TESTS_SHORT ? 300 : 600,
                       6);
        for (int rows = 1; rows <= 19; rows += TESTS_SHORT ? 6 : 1) {
            const int n = rows == 18 ? 64 : rows == 19 ? 512 : rows;
            const schedule s = {.n_threads = 1 + rows % 4,
                                .rows_max = n,
                                .chunk_min = n,
                                .chunk_max = n,
                                .seqs_max = 1,
                                .seed = (uint64_t)rows};
            expect_row_law(&ref, &m, &kernels, LF_DTYPE_BF16, &s);
        }
        free_reference(&ref);
        lf_model_free(&m);
    }
}

/* 32 sequences, 1 to 32 of them in a pass, mixed chunks and rejected candidates. */
static void test_every_batch_size(void **state)
{
    (void)state;
    const lf_config config = small_config();
    unsigned levels[4];
    lf_kernels kernels;
    lf_model m;
    reference ref;
    lf_kernels_init(&kernels, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_Q8_0, 31);
    make_reference(&ref, &m, &kernels, LF_DTYPE_BF16, 32, 20, 80, 7);
    for (int batch = 1; batch <= 32; batch += TESTS_SHORT ? 10 : 1) {
        const schedule s = {.n_threads = 1 + batch % 4,
                            .rows_max = 200,
                            .chunk_min = 1,
                            .chunk_max = 1 + batch % 9,
                            .seqs_max = batch,
                            .rejects = batch % 2 == 0,
                            .seed = (uint64_t)batch};
        expect_row_law(&ref, &m, &kernels, LF_DTYPE_BF16, &s);
    }
    free_reference(&ref);
    lf_model_free(&m);
}

/* One long sequence with few KV heads, so that several threads go through its segments: 1 to 4 threads, 1 to 40 rows. */
static void test_attention_by_segments(void **state)
{
    (void)state;
    enum { LEN = TESTS_SHORT ? 4200 : 8300 };
    lf_config config = small_config();
    config.n_layers = 1;
    config.n_kv_heads = 1;
    unsigned levels[4];
    lf_kernels kernels;
    lf_model m;
    reference ref;
    lf_kernels_init(&kernels, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_BF16, 41);
    make_reference(&ref, &m, &kernels, LF_DTYPE_BF16, 1, LEN, LEN, 8);
    for (int n = 1; n <= 4; n++) {
        const schedule s = {.n_threads = n,
                            .rows_max = 40,
                            .chunk_min = 1,
                            .chunk_max = n % 2 == 0 ? 12 : 40,
                            .seqs_max = 1,
                            .seed = (uint64_t)n};
        expect_row_law(&ref, &m, &kernels, LF_DTYPE_BF16, &s);
    }
    free_reference(&ref);
    lf_model_free(&m);
}

/* Shapes with tails everywhere: head_dim 6, odd head counts, sizes that are no multiple of a tile, biases, QK norm. */
static void test_odd_shapes(void **state)
{
    (void)state;
    lf_config config = small_config();
    config.arch = LF_ARCH_QWEN3;
    config.dim = 50;
    config.n_heads = 9;
    config.n_kv_heads = 3;
    config.head_dim = 6;
    config.ffn_dim = 35;
    config.n_vocab = 33;
    config.qkv_bias = config.qk_norm = true;
    config.tied = false;
    unsigned levels[4];
    const int n_levels = kernel_levels(levels);
    lf_model m;
    load_random_model(&m, &config, LF_DTYPE_BF16, 41);
    for (int level = 0; level < n_levels; level++) {
        lf_kernels kernels;
        reference ref;
        lf_kernels_init(&kernels, levels[level]);
        for (int kv = 0; kv < N_KV_DTYPES; kv++) {
            make_reference(&ref, &m, &kernels, kv_dtypes[kv], 5, 5, 50, 8);
            const schedule s = {.n_threads = 2,
                                .rows_max = 40,
                                .chunk_min = 1,
                                .chunk_max = 20,
                                .seqs_max = 5,
                                .rejects = true,
                                .seed = 9};
            expect_row_law(&ref, &m, &kernels, kv_dtypes[kv], &s);
            free_reference(&ref);
        }
    }
    lf_model_free(&m);
}

/* More than the Row law asks: all levels give the same bits. */
static void test_levels_agree(void **state)
{
    (void)state;
    unsigned levels[4];
    const int n_levels = kernel_levels(levels);
    const lf_config config = small_config();
    for (int w = 0; w < N_WEIGHT_DTYPES; w++) {
        lf_model m;
        reference first, other;
        lf_kernels kernels;
        load_random_model(&m, &config, weight_dtypes[w], 51);
        lf_kernels_init(&kernels, levels[0]);
        make_reference(&first, &m, &kernels, kv_dtypes[w % N_KV_DTYPES], 1, 24, 24, 10);
        for (int level = 1; level < n_levels; level++) {
            lf_kernels_init(&kernels, levels[level]);
            make_reference(&other, &m, &kernels, kv_dtypes[w % N_KV_DTYPES], 1, 24, 24, 10);
            if (memcmp(first.logits[0], other.logits[0], 24 * (size_t)first.n_vocab * sizeof(float)) != 0)
                fail_msg("%s differs from scalar: weights %s, cache %s", kernels.name,
                         lf_dtype_name(weight_dtypes[w]), lf_dtype_name(kv_dtypes[w % N_KV_DTYPES]));
            free_reference(&other);
        }
        free_reference(&first);
        lf_model_free(&m);
    }
}

/* ---- tests of the test ---- */

/* A product that adds the inputs in descending order when it has more than four rows: what a kernel that switches from
 * GEMV to GEMM does. */
static void matmul_by_row_count(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,
                                const void *x, size_t x_stride, int n_rows, const void *next)
{
    lf_kernels scalar;
    lf_kernels_init(&scalar, 0);
    scalar.matmul[LF_DTYPE_F32](y, y_stride, w, tile_begin, tile_end, x, x_stride, n_rows, next);
    float *weights = malloc((size_t)w->n_in * sizeof *weights);
    for (int o = tile_begin * LF_TILE_OUT; n_rows > 4 && o < tile_end * LF_TILE_OUT && o < w->n_out; o++) {
        lf_unpack_row(weights, w, o);
        for (int r = 0; r < n_rows; r++) {
            const float *row = (const float *)(const void *)((const char *)x + (size_t)r * x_stride);
            float sum = 0;
            for (int i = w->n_in - 1; i >= 0; i--) sum = fmaf(row[i], weights[i], sum);
            y[(size_t)r * y_stride + (size_t)o] = sum;
        }
    }
    free(weights);
}

static void test_the_law_test_sees_a_mutant(void **state)
{
    (void)state;
    lf_config config = small_config();
    config.dim = config.ffn_dim = 64;
    config.head_dim = 16;
    lf_model m;
    reference ref;
    lf_kernels kernels;
    lf_kernels_init(&kernels, 0);
    load_random_model(&m, &config, LF_DTYPE_F32, 61);
    make_reference(&ref, &m, &kernels, LF_DTYPE_F32, 2, 30, 30, 12);
    const schedule s = {
        .n_threads = 2, .rows_max = 20, .chunk_min = 1, .chunk_max = 10, .seqs_max = 2, .seed = 13};
    assert_int_equal(count_mismatches(&ref, &m, &kernels, LF_DTYPE_F32, &s), 0);
    kernels.matmul[LF_DTYPE_F32] = matmul_by_row_count;
    assert_true(count_mismatches(&ref, &m, &kernels, LF_DTYPE_F32, &s) > 0);
    free_reference(&ref);
    lf_model_free(&m);
}

/* ---- sparse views ---- */

/* One layer, no rotation: K and V then depend on the token alone, and a row that sees selected tiles of a long sequence
 * has the logits of a row that sees a short sequence made of those tiles' tokens. */
static void test_a_sparse_view_equals_the_sequence_of_what_it_sees(void **state)
{
    (void)state;
    enum { LEN = 700, TILES = LEN / LF_TILE_POS, RECENT = TILES - 3, SELECTED = 19 };
    lf_config config = small_config();
    config.n_layers = 1;
    lf_error err;
    lf_model m;
    lf_threads *threads;
    lf_kernels kernels;
    unsigned levels[4];
    lf_kernels_init(&kernels, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_BF16, 71);
    memset(m.rope_freqs, 0, (size_t)config.head_dim / 2 * sizeof *m.rope_freqs);
    assert_ok(lf_threads_create(&threads, 2, false, &err), &err);
    for (int kv = 0; kv < N_KV_DTYPES; kv++) {
        lf_kv_shape shape = {.n_layers = 1, .n_kv_heads = config.n_kv_heads};
        lf_kv_pool *pool;
        lf_kv_seq *full, *compact;
        lf_forward *forward;
        int32_t ids[LEN], selected[2][SELECTED];
        static lf_row rows[LEN];
        uint64_t rng = 14;
        assert_true(lf_kv_layout_init(&shape.layout, kv_dtypes[kv], config.head_dim));
        assert_ok(lf_kv_pool_create(&pool, &shape, 12, &err), &err);
        assert_ok(lf_kv_seq_open(&full, pool, LEN + 8, &err), &err);
        assert_ok(lf_kv_seq_open(&compact, pool, LEN, &err), &err);
        assert_ok(lf_forward_create(&forward, &m, &kernels, threads, &shape.layout, LEN, 8, &err), &err);

        assert_ok(lf_kv_seq_reserve(full, LEN, &err), &err);
        for (int i = 0; i < LEN; i++) {
            ids[i] = (int32_t)(rng_next(&rng) % (uint64_t)config.n_vocab);
            rows[i] = (lf_row){.seq = full, .token = ids[i], .pos = i};
        }
        lf_forward_run(forward, rows, LEN);
        lf_kv_seq_commit(full, LEN);
        for (int i = 0; i < SELECTED; i++) selected[0][i] = selected[1][i] = 2 * i; /* every other tile */
        const lf_view view = {.recent_tile = RECENT, .n_selected = SELECTED, .selected = &selected[0][0]};

        /* four rows at the end, seen through the view */
        float sparse[4][80];
        assert_ok(lf_kv_seq_reserve(full, 4, &err), &err);
        for (int i = 0; i < 4; i++)
            rows[i] = (lf_row){
                .seq = full, .view = &view, .token = 3 * i, .pos = LEN + i, .wants_logits = true};
        lf_forward_run(forward, rows, 4);
        for (int i = 0; i < 4; i++) memcpy(sparse[i], lf_forward_logits(forward, i), sizeof sparse[i]);

        /* the same tokens as a sequence of their own */
        int n = 0;
        assert_ok(lf_kv_seq_reserve(compact, SELECTED * LF_TILE_POS + LEN - RECENT * LF_TILE_POS + 4, &err),
                  &err);
        for (int t = 0; t < SELECTED; t++)
            for (int i = 0; i < LF_TILE_POS; i++, n++)
                rows[n] = (lf_row){.seq = compact, .token = ids[selected[0][t] * LF_TILE_POS + i], .pos = n};
        for (int i = RECENT * LF_TILE_POS; i < LEN; i++, n++)
            rows[n] = (lf_row){.seq = compact, .token = ids[i], .pos = n};
        for (int i = 0; i < 4; i++, n++)
            rows[n] = (lf_row){.seq = compact, .token = 3 * i, .pos = n, .wants_logits = true};
        lf_forward_run(forward, rows, n);
        for (int i = 0; i < 4; i++)
            assert_memory_equal(sparse[i], lf_forward_logits(forward, i), sizeof sparse[i]);

        lf_forward_free(forward);
        lf_kv_seq_close(full);
        lf_kv_seq_close(compact);
        lf_kv_pool_free(pool);
    }
    lf_threads_free(threads);
    lf_model_free(&m);
}

/* The attention of one head in double precision over the positions given, from what the cache holds. */
static void reference_attention(double *out, const double *q, const lf_kv_seq *seq,
                                const lf_kv_layout *layout, int head, const int *positions, int n)
{
    const int hd = layout->head_dim;
    double *p = calloc((size_t)n, sizeof *p), max = -INFINITY, sum = 0;
    float k[64], v[64];
    for (int i = 0; i < n; i++) {
        lf_kv_tile_load(k, v, lf_kv_seq_tile(seq, 0, head, positions[i] / LF_TILE_POS), layout,
                        positions[i] % LF_TILE_POS);
        for (int d = 0; d < hd; d++) p[i] += q[d] * (double)k[d] / sqrt(hd);
        if (p[i] > max) max = p[i];
    }
    for (int i = 0; i < n; i++) sum += p[i] = exp(p[i] - max);
    for (int d = 0; d < hd; d++) out[d] = 0;
    for (int i = 0; i < n; i++) {
        lf_kv_tile_load(k, v, lf_kv_seq_tile(seq, 0, head, positions[i] / LF_TILE_POS), layout,
                        positions[i] % LF_TILE_POS);
        for (int d = 0; d < hd; d++) out[d] += p[i] / sum * (double)v[d];
    }
    free(p);
}

/* y (n_out) = W x in double precision. */
static void reference_product(double *y, const lf_packed *w, const double *x)
{
    float *row = malloc((size_t)w->n_in * sizeof *row);
    for (int o = 0; o < w->n_out; o++) {
        lf_unpack_row(row, w, o);
        y[o] = 0;
        for (int i = 0; i < w->n_in; i++) y[o] += (double)row[i] * x[i];
    }
    free(row);
}

static void reference_norm(double *y, const double *x, const float *weight, int n, double eps)
{
    double ss = 0;
    for (int i = 0; i < n; i++) ss += x[i] * x[i];
    for (int i = 0; i < n; i++) y[i] = x[i] / sqrt(ss / n + eps) * (double)weight[i];
}

/* A whole one-layer pass in double precision, the attention of each KV head over its own positions. */
static void reference_pass(double *logits, const lf_model *m, const lf_kv_seq *seq,
                           const lf_kv_layout *layout, int32_t token, const int *const positions[2],
                           const int n_positions[2])
{
    enum { DIM = 256 };
    const lf_config *c = &m->config;
    const lf_layer *l = &m->layers[0];
    float embd[DIM];
    double x[DIM], h[DIM], q[DIM], att[DIM], gate[DIM], up[DIM], y[DIM];
    lf_model_embed(embd, m, token);
    for (int i = 0; i < DIM; i++) x[i] = (double)embd[i];
    reference_norm(h, x, l->attn_norm, DIM, (double)c->norm_eps);
    reference_product(q, &l->q, h);
    for (int i = 0; i < c->n_heads; i++) {
        const int kv = i / (c->n_heads / c->n_kv_heads);
        reference_attention(att + i * c->head_dim, q + i * c->head_dim, seq, layout, kv, positions[kv],
                            n_positions[kv]);
    }
    reference_product(y, &l->attn_output, att);
    for (int i = 0; i < DIM; i++) x[i] += y[i];
    reference_norm(h, x, l->ffn_norm, DIM, (double)c->norm_eps);
    reference_product(gate, &l->gate, h);
    reference_product(up, &l->up, h);
    for (int i = 0; i < DIM; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    reference_product(y, &l->down, gate);
    for (int i = 0; i < DIM; i++) x[i] += y[i];
    reference_norm(h, x, m->output_norm, DIM, (double)c->norm_eps);
    reference_product(logits, &m->output, h);
}

/* Each KV head has a selection of its own. */
static void test_a_sparse_view_selects_by_head(void **state)
{
    (void)state;
    enum { LEN = 500, RECENT = 29, SELECTED = 7 };
    lf_config config = small_config();
    config.n_layers = 1;
    lf_error err;
    lf_model m;
    lf_threads *threads;
    lf_kernels kernels;
    lf_kv_pool *pool;
    lf_kv_seq *seq;
    lf_forward *forward;
    unsigned levels[4];
    static lf_row rows[LEN];
    lf_kv_shape shape = {.n_layers = 1, .n_kv_heads = 2};
    uint64_t rng = 15;
    lf_kernels_init(&kernels, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_F32, 81);
    memset(m.rope_freqs, 0, (size_t)config.head_dim / 2 * sizeof *m.rope_freqs);
    assert_ok(lf_threads_create(&threads, 2, false, &err), &err);
    assert_true(lf_kv_layout_init(&shape.layout, LF_DTYPE_F32, config.head_dim));
    assert_ok(lf_kv_pool_create(&pool, &shape, 8, &err), &err);
    assert_ok(lf_kv_seq_open(&seq, pool, LEN + 1, &err), &err);
    assert_ok(lf_forward_create(&forward, &m, &kernels, threads, &shape.layout, LEN, 1, &err), &err);
    assert_ok(lf_kv_seq_reserve(seq, LEN + 1, &err), &err);
    for (int i = 0; i < LEN; i++)
        rows[i] = (lf_row){
            .seq = seq, .token = (int32_t)(rng_next(&rng) % (uint64_t)config.n_vocab), .pos = i};
    lf_forward_run(forward, rows, LEN);
    lf_kv_seq_commit(seq, LEN);

    const int32_t selected[2][SELECTED] = {{0, 3, 4, 9, 17, 20, 28}, {1, 2, 8, 10, 11, 25, 26}};
    const lf_view view = {.recent_tile = RECENT, .n_selected = SELECTED, .selected = &selected[0][0]};
    rows[0] = (lf_row){.seq = seq, .view = &view, .token = 5, .pos = LEN, .wants_logits = true};
    lf_forward_run(forward, rows, 1);

    int positions[2][LEN + 1], n_positions[2] = {0, 0};
    for (int head = 0; head < 2; head++) {
        for (int i = 0; i < SELECTED * LF_TILE_POS; i++)
            positions[head][n_positions[head]++] = selected[head][i / LF_TILE_POS] * LF_TILE_POS +
                                                   i % LF_TILE_POS;
        for (int pos = RECENT * LF_TILE_POS; pos <= LEN; pos++) positions[head][n_positions[head]++] = pos;
    }
    double expected[80], largest = 0;
    const int *const lists[2] = {positions[0], positions[1]};
    reference_pass(expected, &m, seq, &shape.layout, 5, lists, n_positions);
    for (int i = 0; i < config.n_vocab; i++) largest = fmax(largest, fabs(expected[i]));
    for (int i = 0; i < config.n_vocab; i++)
        assert_true(fabs((double)lf_forward_logits(forward, 0)[i] - expected[i]) < 1e-5 * largest);

    lf_forward_free(forward);
    lf_kv_seq_close(seq);
    lf_kv_pool_free(pool);
    lf_threads_free(threads);
    lf_model_free(&m);
}

/* ---- attention mass ---- */

/* The mass of one layer and head of the last rows of a sequence: shares of tiles that sum up to one for each row and head, more
 * where the keys are alike, and the same bits from any number of threads. */
static void test_mass_of_rows(void **state)
{
    (void)state;
    enum {
        LEN = 600,
        N = 30,
        TILES = (LEN + N + LF_TILE_POS - 1) / LF_TILE_POS,
        STRIDE = 80,
        HEADS = 2,
        LAYERS = 2
    };
    lf_config config = small_config();
    lf_error err;
    lf_model m;
    lf_kernels kernels;
    unsigned levels[4];
    static lf_row rows[LEN];
    static float mass[4][LAYERS][HEADS][STRIDE];
    assert_int_equal(config.n_layers, LAYERS);
    lf_kernels_init(&kernels, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_BF16, 91);
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        lf_kv_shape shape = {.n_layers = LAYERS, .n_kv_heads = HEADS};
        lf_threads *threads;
        lf_kv_pool *pool;
        lf_kv_seq *seq;
        lf_forward *forward;
        uint64_t rng = 15;
        assert_ok(lf_threads_create(&threads, n_threads, false, &err), &err);
        assert_true(lf_kv_layout_init(&shape.layout, LF_DTYPE_BF16, config.head_dim));
        assert_ok(lf_kv_pool_create(&pool, &shape, 8, &err), &err);
        assert_ok(lf_kv_seq_open(&seq, pool, LEN + N, &err), &err);
        assert_ok(lf_forward_create(&forward, &m, &kernels, threads, &shape.layout, LEN, 1, &err), &err);
        assert_ok(lf_forward_enable_mass(forward, STRIDE * LF_TILE_POS, &err), &err);
        for (int begin = 0, n = LEN; begin < LEN + N; begin += n, n = N) {
            assert_ok(lf_kv_seq_reserve(seq, n, &err), &err);
            for (int i = 0; i < n; i++)
                rows[i] = (lf_row){.seq = seq,
                                   .token = (int32_t)(rng_next(&rng) % (uint64_t)config.n_vocab),
                                   .pos = begin + i,
                                   .mass = begin == 0 || i < 5 ? NULL : &mass[n_threads][0][0][0]};
            lf_forward_run(forward, rows, n);
            lf_kv_seq_commit(seq, n);
        }
        for (int layer = 0; layer < LAYERS; layer++)
            for (int head = 0; head < HEADS; head++) {
                double sum = 0;
                for (int i = 0; i < STRIDE; i++) {
                    const float share = mass[n_threads][layer][head][i];
                    sum += (double)share;
                    assert_true(i < TILES ? share > 0 : share == 0);
                }
                assert_true(fabs(sum - (N - 5) * config.n_heads / HEADS) < 1e-3);
            }
        assert_memory_equal(mass[n_threads], mass[1], sizeof mass[1]);
        lf_forward_free(forward);
        lf_kv_seq_close(seq);
        lf_kv_pool_free(pool);
        lf_threads_free(threads);
    }
    lf_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_dtype_and_level),
        cmocka_unit_test(test_every_row_count_and_thread_count),
        cmocka_unit_test(test_every_batch_size),
        cmocka_unit_test(test_attention_by_segments),
        cmocka_unit_test(test_odd_shapes),
        cmocka_unit_test(test_levels_agree),
        cmocka_unit_test(test_the_law_test_sees_a_mutant),
        cmocka_unit_test(test_a_sparse_view_equals_the_sequence_of_what_it_sees),
        cmocka_unit_test(test_a_sparse_view_selects_by_head),
        cmocka_unit_test(test_mass_of_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
