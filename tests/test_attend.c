/* kernel/attend and kernel/kv_tile: each level gives the bits of scalar, a query's bits do not depend on its
 * company (the Row law), slots that a query does not see do not reach its result, and scalar computes
 * attention. */
#include "testing.h"

#include "levels.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM_MAX = LF_HEAD_DIM_MAX };

static const lf_dtype kv_dtypes[] = {LF_DTYPE_F32, LF_DTYPE_F16, LF_DTYPE_BF16, LF_DTYPE_Q8_0};
static const int head_dims[] = {1, 2, 3, 8, 15, 16, 17, 32, 48, 64, 80, 128, 200};
static const int query_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 64};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- problems ---- */

typedef struct problem {
    lf_kv_layout layout;
    int n_q, n_tiles;
    uint8_t *kv; /* (n_tiles, tile_bytes) */
    const void **tiles;
    uint8_t *q; /* (n_q, q_stride) */
    size_t q_stride;
    int *n_visible; /* (n_q) */
    float scale;
} problem;

/* The running state, all that a call may change. Gaps between rows of o are part of it. */
typedef struct attention {
    float *o, *m, *l; /* (n_q, o_stride), (n_q), (n_q) */
    int n_q;
    size_t o_stride;
} attention;

/* What a problem's numbers are like. */
typedef enum numbers {
    ORDINARY, /* within [-1, 1) */
    TINY,     /* zeros, subnormals, and such whose products lie around 2^-126; scores are scaled up */
    EXTREME, /* magnitudes far apart, now and then beyond f16 or near the end of float: scores may overflow */
    N_NUMBERS,
} numbers;

static float make_number(numbers kind, uint64_t *rng)
{
    static const float tiny[] = {0.0f,     -0.0f,     0x1p-149f, -0x1p-140f, 0x1p-126f, -0x1p-126f,
                                 0x1p-63f, -0x1p-63f, 0x1p-75f,  -0x1p-75f,  0x1p-51f,  -0x1p-51f};
    static const float huge[] = {65504.0f, -65504.0f, 1e5f, 1e19f, -1e19f, 3e38f, -3e38f, INFINITY};
    switch (kind) {
    case TINY:
        if (rng_next(rng) % 2 == 0) return tiny[rng_next(rng) % COUNT(tiny)];
        return rng_uniform(rng) * 0x1p-63f;
    case EXTREME:
        if (rng_next(rng) % 2048 == 0) return huge[rng_next(rng) % COUNT(huge)];
        return rng_uniform(rng) * ldexpf(1.0f, (int)(rng_next(rng) % 24) - 20);
    default: return rng_uniform(rng);
    }
}

static void fill_numbers(float *x, int n, numbers kind, uint64_t *rng)
{
    for (int i = 0; i < n; i++) x[i] = make_number(kind, rng);
}

static void *allocate(size_t bytes)
{
    void *block = lf_calloc_aligned(bytes);
    assert_non_null(block);
    return block;
}

/* Tiles start as bytes that are NaN in every format, so that slots never stored are garbage. */
static problem make_problem(lf_dtype dtype, int head_dim, int n_q, int n_tiles, numbers kind, uint64_t *rng)
{
    problem p = {
        .n_q = n_q, .n_tiles = n_tiles, .scale = kind == TINY ? 0x1p120f : 1.0f / sqrtf((float)head_dim)};
    assert_true(lf_kv_layout_init(&p.layout, dtype, head_dim));
    p.kv = allocate((size_t)n_tiles * p.layout.tile_bytes);
    memset(p.kv, 0xff, (size_t)n_tiles * p.layout.tile_bytes);
    p.tiles = allocate((size_t)n_tiles * sizeof *p.tiles);
    for (int i = 0; i < n_tiles; i++) p.tiles[i] = p.kv + (size_t)i * p.layout.tile_bytes;

    const lf_act act = lf_act_for(dtype);
    p.q_stride = lf_act_row_bytes(act, head_dim);
    p.q = allocate((size_t)n_q * p.q_stride);
    float x[DIM_MAX], y[DIM_MAX];
    for (int i = 0; i < n_q; i++) {
        fill_numbers(x, head_dim, kind, rng);
        lf_act_row(&scalar, act, p.q + (size_t)i * p.q_stride, x, head_dim);
    }

    const int n_pos = n_tiles * LF_TILE_POS;
    /* All see all; a causal staircase; two kinds of mixture. */
    const unsigned view = (unsigned)(rng_next(rng) % 4);
    int longest = 0;
    p.n_visible = allocate((size_t)n_q * sizeof *p.n_visible);
    for (int i = 0; i < n_q; i++) {
        const int any = (int)(rng_next(rng) % (unsigned)(n_pos + 1)), causal = n_pos - n_q + 1 + i;
        const int choices[] = {n_pos, causal > 0 ? causal : 0, any, i % 3 == 0 ? 0 : any};
        p.n_visible[i] = choices[view];
        if (p.n_visible[i] > longest) longest = p.n_visible[i];
    }
    for (int j = 0; j < longest; j++) {
        fill_numbers(x, head_dim, kind, rng);
        fill_numbers(y, head_dim, kind, rng);
        lf_kv_tile_store(p.kv + (size_t)(j / LF_TILE_POS) * p.layout.tile_bytes, &p.layout, j % LF_TILE_POS,
                         x, y);
    }
    return p;
}

static void free_problem(problem *p)
{
    free(p->n_visible);
    free(p->q);
    free(p->tiles);
    free(p->kv);
}

static attention start_attention(const problem *p, int n_q)
{
    attention a = {.n_q = n_q, .o_stride = (size_t)p->layout.dim_padded + 5};
    a.o = allocate((size_t)n_q * a.o_stride * sizeof *a.o);
    a.m = allocate((size_t)n_q * sizeof *a.m);
    a.l = allocate((size_t)n_q * sizeof *a.l);
    for (int i = 0; i < n_q; i++) a.m[i] = -INFINITY;
    return a;
}

static void free_attention(attention *a)
{
    free(a->l);
    free(a->m);
    free(a->o);
}

/* Lets the queries [begin, end) of p attend to its tiles [first_tile, n_tiles) with a; n_visible is of
 * these. */
static void attend_part(lf_attend_fn *fn, attention *a, const problem *p, int begin, int end, int first_tile,
                        int n_tiles, const int *n_visible)
{
    void *scratch = allocate(lf_attend_scratch_bytes(end - begin));
    fn(a->o, a->o_stride, a->m, a->l, &p->layout, p->tiles + first_tile, n_tiles,
       p->q + (size_t)begin * p->q_stride, p->q_stride, n_visible, end - begin, p->scale, NULL, scratch);
    free(scratch);
}

static attention attend(lf_attend_fn *fn, const problem *p, int begin, int end)
{
    attention a = start_attention(p, end - begin);
    attend_part(fn, &a, p, begin, end, 0, p->n_tiles, p->n_visible + begin);
    return a;
}

/* ---- comparisons ---- */

static bool same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!same_bits(a[i], b[i])) return false;
    return true;
}

/* Whether query i of a and query j of b have the same bits, NaN payloads apart. */
static bool same_query(const attention *a, int i, const attention *b, int j)
{
    return same_floats(a->m + i, b->m + j, 1) && same_floats(a->l + i, b->l + j, 1) &&
           same_floats(a->o + (size_t)i * a->o_stride, b->o + (size_t)j * b->o_stride, a->o_stride);
}

static bool same_attention(const attention *a, const attention *b)
{
    for (int i = 0; i < a->n_q; i++)
        if (!same_query(a, i, b, i)) return false;
    return true;
}

static const char *problem_text(const problem *p)
{
    static char text[200];
    (void)snprintf(text, sizeof text, "%s, head_dim %d, %d queries, %d tiles, query 0 sees %d",
                   lf_dtype_of(p->layout.dtype)->name, p->layout.head_dim, p->n_q, p->n_tiles,
                   p->n_visible[0]);
    return text;
}

/* ---- tests of the kernels ---- */

/* Calls check for every dtype, head_dim and number of queries, with ordinary and with special numbers. */
static void each_problem(void (*check)(const problem *p, uint64_t *rng), const int *counts, size_t n_counts)
{
    uint64_t rng = 1;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++)
        for (size_t d = 0; d < COUNT(head_dims); d++)
            for (size_t c = 0; c < n_counts * N_NUMBERS; c++) {
                const numbers kind = (numbers)(c % N_NUMBERS);
                const bool long_one = rng_next(&rng) % 8 == 0;
                const int n_tiles = 1 +
                                    (int)(rng_next(&rng) % (long_one ? 3 * LF_ATTN_TILES : LF_ATTN_TILES));
                problem p = make_problem(kv_dtypes[t], head_dims[d], counts[c / N_NUMBERS], n_tiles, kind,
                                         &rng);
                check(&p, &rng);
                free_problem(&p);
            }
}

static void check_levels_agree(const problem *p, uint64_t *rng)
{
    (void)rng;
    attention expected = attend(scalar.attend[p->layout.dtype], p, 0, p->n_q);
    for (int i = 0; i < n_levels; i++) {
        attention found = attend(levels[i].attend[p->layout.dtype], p, 0, p->n_q);
        if (!same_attention(&expected, &found))
            fail_msg("%s differs from scalar: %s", levels[i].name, problem_text(p));
        free_attention(&found);
    }
    free_attention(&expected);
}

static void test_levels_agree(void **state)
{
    (void)state;
    each_problem(check_levels_agree, query_counts, COUNT(query_counts));
}

/* How many queries of p have other bits alone than in the company of the others. */
static int row_law_violations(lf_attend_fn *fn, const problem *p)
{
    int n = 0;
    attention company = attend(fn, p, 0, p->n_q);
    for (int i = 0; i < p->n_q; i++) {
        attention alone = attend(fn, p, i, i + 1);
        n += !same_query(&company, i, &alone, 0);
        free_attention(&alone);
    }
    free_attention(&company);
    return n;
}

static void check_row_law(const problem *p, uint64_t *rng)
{
    (void)rng;
    for (int i = 0; i < n_levels; i++)
        if (row_law_violations(levels[i].attend[p->layout.dtype], p) != 0)
            fail_msg("%s: company changes a query: %s", levels[i].name, problem_text(p));
}

static void test_row_law(void **state)
{
    (void)state;
    const int counts[] = {2, 5, 16, 19};
    each_problem(check_row_law, counts, COUNT(counts));
}

/* A kernel that breaks the Row law: with company it takes the tiles in the opposite order. */
static void mutant_attend(float *o, size_t o_stride, float *m, float *l, const lf_kv_layout *layout,
                          const void *const *tiles, int n_tiles, const void *q, size_t q_stride,
                          const int *n_visible, int n_q, float scale, const lf_attend_mass *mass,
                          void *scratch)
{
    const void *turned[LF_ATTN_TILES];
    for (int i = 0; i < n_tiles; i++) turned[i] = tiles[n_q > 1 ? n_tiles - 1 - i : i];
    scalar.attend[layout->dtype](o, o_stride, m, l, layout, turned, n_tiles, q, q_stride, n_visible, n_q,
                                 scale, mass, scratch);
}

static void test_row_law_check_reports_a_mutant(void **state)
{
    (void)state;
    uint64_t rng = 2;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++) {
        problem p = make_problem(kv_dtypes[t], 64, 8, LF_ATTN_TILES, ORDINARY, &rng);
        for (int i = 0; i < p.n_q; i++) p.n_visible[i] = LF_ATTN_POS;
        for (int j = 0; j < LF_ATTN_POS; j++) {
            float k[64], v[64];
            fill_numbers(k, 64, ORDINARY, &rng);
            fill_numbers(v, 64, ORDINARY, &rng);
            lf_kv_tile_store(p.kv + (size_t)(j / LF_TILE_POS) * p.layout.tile_bytes, &p.layout,
                             j % LF_TILE_POS, k, v);
        }
        assert_int_equal(row_law_violations(scalar.attend[p.layout.dtype], &p), 0);
        assert_true(row_law_violations(mutant_attend, &p) > 0);
        free_problem(&p);
    }
}

/* What lies in the slots that a query does not see, NaN or huge, must not change its bits. */
static void check_garbage(const problem *p, uint64_t *rng)
{
    const size_t kv_bytes = (size_t)p->n_tiles * p->layout.tile_bytes;
    uint8_t *clean = allocate(kv_bytes);
    memcpy(clean, p->kv, kv_bytes);
    const int i = (int)(rng_next(rng) % (unsigned)p->n_q), dim = p->layout.head_dim;
    const float junk[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f};
    for (int level = -1; level < n_levels; level++) {
        lf_attend_fn *fn = (level < 0 ? &scalar : &levels[level])->attend[p->layout.dtype];
        attention before = attend(fn, p, 0, p->n_q);
        for (int j = p->n_visible[i]; j < p->n_tiles * LF_TILE_POS; j++) {
            float x[DIM_MAX];
            for (int d = 0; d < dim; d++) x[d] = junk[rng_next(rng) % COUNT(junk)];
            lf_kv_tile_store(p->kv + (size_t)(j / LF_TILE_POS) * p->layout.tile_bytes, &p->layout,
                             j % LF_TILE_POS, x, x);
        }
        attention after = attend(fn, p, 0, p->n_q);
        if (!same_query(&before, i, &after, i))
            fail_msg("level %d: invisible slots change query %d, which sees %d: %s", level, i,
                     p->n_visible[i], problem_text(p));
        free_attention(&after);
        free_attention(&before);
        memcpy(p->kv, clean, kv_bytes);
    }
    free(clean);
}

static void test_invisible_slots_have_no_effect(void **state)
{
    (void)state;
    const int counts[] = {1, 2, 4, 7, 18};
    each_problem(check_garbage, counts, COUNT(counts));
}

/* One call over many blocks is the calls block by block. */
static void check_block_by_block(const problem *p, uint64_t *rng)
{
    (void)rng;
    int *n_visible = allocate((size_t)p->n_q * sizeof *n_visible);
    for (int level = -1; level < n_levels; level++) {
        lf_attend_fn *fn = (level < 0 ? &scalar : &levels[level])->attend[p->layout.dtype];
        attention whole = attend(fn, p, 0, p->n_q), parts = start_attention(p, p->n_q);
        for (int first = 0; first < p->n_tiles; first += LF_ATTN_TILES) {
            const int n_tiles = p->n_tiles - first < LF_ATTN_TILES ? p->n_tiles - first : LF_ATTN_TILES;
            for (int i = 0; i < p->n_q; i++) {
                const int left = p->n_visible[i] - first * LF_TILE_POS, all = n_tiles * LF_TILE_POS;
                n_visible[i] = left < 0 ? 0 : left < all ? left : all;
            }
            attend_part(fn, &parts, p, 0, p->n_q, first, n_tiles, n_visible);
        }
        if (!same_attention(&whole, &parts)) fail_msg("level %d: %s", level, problem_text(p));
        free_attention(&parts);
        free_attention(&whole);
    }
    free(n_visible);
}

static void test_blocks_in_one_call_or_many(void **state)
{
    (void)state;
    uint64_t rng = 3;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++)
        for (int n_q = 1; n_q < 20; n_q += 3) {
            problem p = make_problem(kv_dtypes[t], 40, n_q, 70 - n_q, (numbers)(n_q % N_NUMBERS), &rng);
            check_block_by_block(&p, &rng);
            free_problem(&p);
        }
}

/* Queries that see nothing keep the state they had, bit for bit. */
static void test_a_blind_query_keeps_its_state(void **state)
{
    (void)state;
    uint64_t rng = 4;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++) {
        problem p = make_problem(kv_dtypes[t], 64, 6, 3, ORDINARY, &rng);
        for (int i = 0; i < p.n_q; i++) p.n_visible[i] = 0;
        for (int level = -1; level < n_levels; level++) {
            attention a = start_attention(&p, p.n_q), b = start_attention(&p, p.n_q);
            fill_numbers(a.o, (int)(a.o_stride * 6), EXTREME, &rng);
            fill_numbers(a.m, 6, EXTREME, &rng);
            fill_numbers(a.l, 6, EXTREME, &rng);
            memcpy(b.o, a.o, a.o_stride * 6 * sizeof *a.o);
            memcpy(b.m, a.m, 6 * sizeof *a.m);
            memcpy(b.l, a.l, 6 * sizeof *a.l);
            lf_attend_fn *fn = (level < 0 ? &scalar : &levels[level])->attend[p.layout.dtype];
            attend_part(fn, &b, &p, 0, p.n_q, 0, p.n_tiles, p.n_visible);
            assert_true(same_attention(&a, &b));
            free_attention(&b);
            free_attention(&a);
        }
        free_problem(&p);
    }
}

/* The places where taking subnormals as zeros is delicate: a product of bf16 is exactly at 2^-126, just under
 * it, and so little under it that plain rounding lifts it there. And afterwards subnormals work again. */
static void test_bf16_results_around_the_smallest_normal(void **state)
{
    (void)state;
    const float steps[] = {0x1p-75f, 0x1p-76f, 0x1.8p-76f, 0x1.fep-76f, 0x1p-74f, 0.0f};
    for (size_t i = 0; i < COUNT(steps); i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            uint64_t rng = 5;
            problem p = make_problem(LF_DTYPE_BF16, 4, 5, 1, ORDINARY, &rng);
            const float q[4] = {0, 0x1p-63f, 0, 0x1p-75f}, k[4] = {0, 0x1p-63f, 0, (float)sign * steps[i]};
            const float v[4] = {0x1p-126f, 0x1.8p-126f, -0x1p-126f, 1.0f};
            for (int j = 0; j < LF_TILE_POS; j++) lf_kv_tile_store(p.kv, &p.layout, j, k, v);
            for (int r = 0; r < p.n_q; r++) {
                lf_act_row(&scalar, LF_ACT_BF16, p.q + (size_t)r * p.q_stride, q, 4);
                p.n_visible[r] = 1 + 3 * r;
            }
            p.scale = 0x1p126f;
            check_levels_agree(&p, &rng);
            free_problem(&p);
        }
    const volatile float smallest_normal = 0x1p-126f;
    assert_true(smallest_normal * 0.5f != 0.0f);
}

/* Block after block, each from a fresh state, and merged: the bits of one call. */
static void check_merge(const problem *p, uint64_t *rng)
{
    (void)rng;
    for (int level = -1; level < n_levels; level++) {
        const lf_kernels *k = level < 0 ? &scalar : &levels[level];
        lf_attend_fn *fn = k->attend[p->layout.dtype];
        attention whole = attend(fn, p, 0, p->n_q), merged = start_attention(p, p->n_q);
        for (int first = 0; first < p->n_tiles; first += LF_ATTN_TILES) {
            attention block = start_attention(p, p->n_q);
            const int n_tiles = p->n_tiles - first < LF_ATTN_TILES ? p->n_tiles - first : LF_ATTN_TILES;
            int *n_visible = allocate((size_t)p->n_q * sizeof *n_visible);
            for (int i = 0; i < p->n_q; i++) {
                const int n = p->n_visible[i] - first * LF_TILE_POS;
                n_visible[i] = n < 0 ? 0 : n > n_tiles * LF_TILE_POS ? n_tiles * LF_TILE_POS : n;
            }
            attend_part(fn, &block, p, 0, p->n_q, first, n_tiles, n_visible);
            for (int i = 0; i < p->n_q; i++)
                k->attend_merge(merged.o + (size_t)i * merged.o_stride, merged.m + i, merged.l + i,
                                block.o + (size_t)i * block.o_stride, block.m[i], block.l[i],
                                p->layout.dim_padded);
            free(n_visible);
            free_attention(&block);
        }
        for (int i = 0; i < p->n_q; i++)
            /* a query whose block has the maximum -inf is merged by attend and left out by attend_merge: NaN and 0 */
            if (!isnan(whole.l[i]) && !same_query(&whole, i, &merged, i))
                fail_msg("%s: merging query %d: %s", k->name, i, problem_text(p));
        free_attention(&merged);
        free_attention(&whole);
    }
}

static void test_merged_blocks(void **state)
{
    (void)state;
    const int counts[] = {1, 5, 18};
    each_problem(check_merge, counts, COUNT(counts));
}

/* ---- scalar against attention in double ---- */

static double q_value(const problem *p, int i_q, int d)
{
    const uint8_t *row = p->q + (size_t)i_q * p->q_stride;
    switch (lf_act_for(p->layout.dtype)) {
    case LF_ACT_F32: return (double)((const float *)(const void *)row)[d];
    case LF_ACT_BF16: return (double)lf_bf16_to_float(((const uint16_t *)(const void *)row)[d]);
    default: {
        const lf_act_q8 q = lf_act_q8_at(row, p->layout.head_dim);
        return (double)q.d[d / 32] * q.q[d];
    }
    }
}

/* out (head_dim) = softmax(scale q . k) v of query i_q over the positions it sees, k and v (n_pos,
 * head_dim). */
static void attend_in_double(double *out, const problem *p, const float *k, const float *v, int i_q)
{
    const int dim = p->layout.head_dim, n = p->n_visible[i_q];
    double *score = allocate((size_t)n * sizeof *score), max = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++) {
        score[j] = 0;
        for (int d = 0; d < dim; d++) score[j] += q_value(p, i_q, d) * (double)k[j * dim + d];
        score[j] *= (double)p->scale;
        max = fmax(max, score[j]);
    }
    for (int d = 0; d < dim; d++) out[d] = 0;
    for (int j = 0; j < n; j++) {
        const double e = exp(score[j] - max);
        sum += e;
        for (int d = 0; d < dim; d++) out[d] += e * (double)v[j * dim + d];
    }
    for (int d = 0; d < dim; d++) out[d] /= sum;
    free(score);
}

static void test_scalar_is_attention(void **state)
{
    (void)state;
    /* Values lie within [-1, 1]. In bf16 the weights are rounded to 8 bits, each of n at random. */
    const struct {
        lf_dtype dtype;
        double tolerance;
    } cases[] = {{LF_DTYPE_F32, 5e-6}, {LF_DTYPE_F16, 5e-6}, {LF_DTYPE_BF16, 1e-3}, {LF_DTYPE_Q8_0, 5e-6}};
    uint64_t rng = 6;
    for (size_t t = 0; t < COUNT(cases); t++) {
        enum { N_TILES = 75, N_Q = 3, DIM = 72, N_POS = N_TILES * LF_TILE_POS };
        problem p = make_problem(cases[t].dtype, DIM, N_Q, N_TILES, ORDINARY, &rng);
        float *k = allocate(sizeof(float[N_POS][DIM])), *v = allocate(sizeof(float[N_POS][DIM]));
        fill_numbers(k, N_POS * DIM, ORDINARY, &rng);
        fill_numbers(v, N_POS * DIM, ORDINARY, &rng);
        for (int j = 0; j < N_POS; j++) {
            uint8_t *tile = p.kv + (size_t)(j / LF_TILE_POS) * p.layout.tile_bytes;
            lf_kv_tile_store(tile, &p.layout, j % LF_TILE_POS, k + j * DIM, v + j * DIM);
            lf_kv_tile_load(k + j * DIM, v + j * DIM, tile, &p.layout, j % LF_TILE_POS);
        }
        p.scale = 3.0f; /* sharp enough that blocks differ in their maximum */
        for (int i = 0; i < N_Q; i++) p.n_visible[i] = N_POS - 7 - 400 * i;
        attention a = attend(scalar.attend[cases[t].dtype], &p, 0, N_Q);
        for (int i = 0; i < N_Q; i++) {
            for (int d = DIM; d < p.layout.dim_padded; d++)
                assert_true(a.o[(size_t)i * a.o_stride + (size_t)d] == 0.0f); /* the padding of V */
            double expected[DIM];
            attend_in_double(expected, &p, k, v, i);
            for (int d = 0; d < DIM; d++) {
                const double found = (double)a.o[(size_t)i * a.o_stride + (size_t)d] / (double)a.l[i];
                if (!(fabs(found - expected[d]) <= cases[t].tolerance))
                    fail_msg("%s: query %d, dimension %d: %g instead of %g",
                             lf_dtype_of(cases[t].dtype)->name, i, d, found, expected[d]);
            }
        }
        free_attention(&a);
        free(v);
        free(k);
        free_problem(&p);
    }
}

/* ---- tiles ---- */

/* The shares of the tiles in a query's attention, from what a call leaves, against their definition; asking for them changes
 * nothing. */
static void test_mass(void **state)
{
    (void)state;
    enum { DIM = 64, N_Q = 6, N_TILES = 40, N_POS = N_TILES * LF_TILE_POS, STRIDE = N_TILES + 3 };
    static float k[N_POS * DIM], v[N_POS * DIM];
    uint64_t rng = 17;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++) {
        problem p = make_problem(kv_dtypes[t], DIM, N_Q, N_TILES, ORDINARY, &rng);
        fill_numbers(k, N_POS * DIM, ORDINARY, &rng);
        fill_numbers(v, N_POS * DIM, ORDINARY, &rng);
        for (int j = 0; j < N_POS; j++)
            lf_kv_tile_store(p.kv + (size_t)(j / LF_TILE_POS) * p.layout.tile_bytes, &p.layout,
                             j % LF_TILE_POS, k + j * DIM, v + j * DIM);
        for (int i = 0; i < N_Q; i++) p.n_visible[i] = 1 + (int)(rng_next(&rng) % N_POS);
        for (int level = -1; level < n_levels; level++) {
            lf_attend_fn *fn = (level < 0 ? &scalar : &levels[level])->attend[p.layout.dtype];
            float sum[N_Q][STRIDE] = {{0}}, max[N_Q][4];
            const lf_attend_mass mass = {&sum[0][0], STRIDE, &max[0][0], 4};
            attention plain = attend(fn, &p, 0, N_Q), a = start_attention(&p, N_Q);
            void *scratch = allocate(lf_attend_scratch_bytes(N_Q));
            fn(a.o, a.o_stride, a.m, a.l, &p.layout, p.tiles, N_TILES, p.q, p.q_stride, p.n_visible, N_Q,
               p.scale, &mass, scratch);
            assert_true(same_attention(&plain, &a));
            for (int i = 0; i < N_Q; i++) {
                double share[N_TILES] = {0}, all = 0;
                for (int j = 0; j < p.n_visible[i]; j++) {
                    double score = 0;
                    for (int d = 0; d < DIM; d++) score += q_value(&p, i, d) * (double)k[j * DIM + d];
                    share[j / LF_TILE_POS] += exp(score * (double)p.scale);
                    all += exp(score * (double)p.scale);
                }
                for (int j = 0; j < N_TILES; j++) {
                    const bool seen = j * LF_TILE_POS < p.n_visible[i];
                    const double found = seen ? (double)(sum[i][j] *
                                                         lf_exp(max[i][j / LF_ATTN_TILES] - a.m[i]) / a.l[i])
                                              : (double)sum[i][j];
                    assert_true(fabs(found - share[j] / all) < 0.02 * share[j] / all + 1e-9);
                }
            }
            free(scratch);
            free_attention(&plain);
            free_attention(&a);
        }
        free_problem(&p);
    }
}

static void test_layout_limits(void **state)
{
    (void)state;
    lf_kv_layout layout;
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        bool supported = false;
        for (size_t t = 0; t < COUNT(kv_dtypes); t++) supported |= kv_dtypes[t] == (lf_dtype)dtype;
        assert_int_equal(lf_kv_layout_init(&layout, (lf_dtype)dtype, 64), supported);
        assert_false(lf_kv_layout_init(&layout, (lf_dtype)dtype, 0));
        assert_false(lf_kv_layout_init(&layout, (lf_dtype)dtype, -64));
        assert_false(lf_kv_layout_init(&layout, (lf_dtype)dtype, LF_HEAD_DIM_MAX + 1));
        assert_false(lf_kv_layout_init(&layout, (lf_dtype)dtype, INT32_MAX));
    }
    for (size_t t = 0; t < COUNT(kv_dtypes); t++)
        for (int dim = 1; dim <= LF_HEAD_DIM_MAX; dim++) {
            assert_true(lf_kv_layout_init(&layout, kv_dtypes[t], dim));
            assert_int_equal(layout.v_offset % 64 + layout.tile_bytes % 64, 0);
            assert_true(layout.dim_padded >= dim && layout.dim_padded % 16 == 0);
        }
    assert_true(lf_kv_layout_init(&layout, LF_DTYPE_BF16, 65));
    assert_int_equal(layout.v_offset, 33 * 16 * 2 * 2);
    assert_int_equal(layout.tile_bytes, layout.v_offset + 8 * 80 * 2 * 2);
    assert_true(lf_kv_layout_init(&layout, LF_DTYPE_Q8_0, 65));
    assert_int_equal(layout.v_offset, 3 * (8 * 16 * 4 + 16 * 2) + 32);
}

/* Bytes of one slot's K and V, padding included. */
static size_t slot_bytes(const lf_kv_layout *layout)
{
    const size_t dim = (size_t)layout->head_dim, padded = (size_t)layout->dim_padded;
    switch (layout->dtype) {
    case LF_DTYPE_F32: return (dim + padded) * 4;
    case LF_DTYPE_F16: return (dim + padded) * 2;
    case LF_DTYPE_BF16: return (dim + dim % 2 + padded) * 2;
    default: return 2 * (padded + padded / 32 * 2);
    }
}

/* A store writes exactly its slot: what two tiles of different bytes have in common afterwards. */
static void test_store_touches_its_slot_only(void **state)
{
    (void)state;
    uint64_t rng = 7;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++)
        for (size_t d = 0; d < COUNT(head_dims); d++) {
            lf_kv_layout layout;
            assert_true(lf_kv_layout_init(&layout, kv_dtypes[t], head_dims[d]));
            const size_t bytes = layout.tile_bytes;
            uint8_t *zeros = allocate(bytes), *ones = allocate(bytes);
            size_t n_written = 0;
            for (int slot = 0; slot < LF_TILE_POS; slot++) {
                float k[DIM_MAX], v[DIM_MAX];
                fill_numbers(k, head_dims[d], ORDINARY, &rng);
                fill_numbers(v, head_dims[d], ORDINARY, &rng);
                memset(zeros, 0, bytes);
                memset(ones, 0xff, bytes);
                lf_kv_tile_store(zeros, &layout, slot, k, v);
                lf_kv_tile_store(ones, &layout, slot, k, v);
                size_t n = 0;
                for (size_t i = 0; i < bytes; i++) {
                    n += zeros[i] == ones[i];
                    if (zeros[i] != ones[i]) assert_true(zeros[i] == 0 && ones[i] == 0xff);
                }
                assert_int_equal(n, slot_bytes(&layout));
                n_written += n;
            }
            assert_true(n_written <= bytes && n_written + 128 > bytes);
            free(ones);
            free(zeros);
        }
}

/* What x comes back as after a store of the float types. */
static float converted(lf_dtype dtype, float x)
{
    switch (dtype) {
    case LF_DTYPE_F16: return lf_f16_to_float(lf_f16_from_float(x));
    case LF_DTYPE_BF16: return lf_bf16_to_float(lf_bf16_from_float(x));
    default: return x;
    }
}

/* The largest error that q8_0 may make for x in its block of 32 of the row: half a step and the scale's. */
static float q8_tolerance(const float *row, int n, int i)
{
    float amax = 0;
    for (int j = i / 32 * 32; j < i / 32 * 32 + 32 && j < n; j++) amax = fmaxf(amax, fabsf(row[j]));
    return amax / 127.0f * 0.5f + amax * 0x1p-10f;
}

static void test_tiles_round_trip(void **state)
{
    (void)state;
    uint64_t rng = 8;
    for (size_t t = 0; t < COUNT(kv_dtypes); t++)
        for (size_t d = 0; d < COUNT(head_dims); d++) {
            enum { N = LF_TILE_POS };
            const int dim = head_dims[d];
            lf_kv_layout layout;
            assert_true(lf_kv_layout_init(&layout, kv_dtypes[t], dim));
            uint8_t *tile = allocate(layout.tile_bytes);
            float in[2][N][DIM_MAX], out[2][DIM_MAX];
            for (int slot = 0; slot < N; slot++) {
                for (int kv = 0; kv < 2; kv++) {
                    fill_numbers(in[kv][slot], dim, ORDINARY, &rng);
                    if (slot % 5 == kv) memset(in[kv][slot], 0, sizeof in[kv][slot]);
                }
                lf_kv_tile_store(tile, &layout, slot, in[0][slot], in[1][slot]);
            }
            for (int slot = 0; slot < N; slot++) {
                lf_kv_tile_load(out[0], out[1], tile, &layout, slot);
                for (int kv = 0; kv < 2; kv++)
                    for (int i = 0; i < dim; i++) {
                        const float x = in[kv][slot][i], y = out[kv][i];
                        if (layout.dtype == LF_DTYPE_Q8_0)
                            assert_true(fabsf(x - y) <= q8_tolerance(in[kv][slot], dim, i));
                        else
                            assert_true(lf_float_to_bits(y) == lf_float_to_bits(converted(layout.dtype, x)));
                    }
            }
            free(tile);
        }
}

/* Where f16 scales and int8 values end: each case is one block of 32 with this first value and zeros. */
static void test_q8_extremes(void **state)
{
    (void)state;
    const float limit = 127.0f * 65504.0f;
    const struct {
        float stored, loaded;
    } cases[] = {
        {0.0f, 0.0f},
        {-0.0f, 0.0f},
        {0x1p-149f, 0.0f},
        {1e-9f, 0.0f},
        {127.0f, 127.0f},
        {-127.0f, -127.0f},
        {limit, limit},
        {-limit, -limit},
        {1e30f, limit},
        {-3e38f, -limit},
        {INFINITY, limit},
        {-INFINITY, -limit},
        {127.0f * 0x1p-24f, 127.0f * 0x1p-24f},
        {NAN, NAN},
    };
    lf_kv_layout layout;
    assert_true(lf_kv_layout_init(&layout, LF_DTYPE_Q8_0, 40));
    uint8_t *tile = allocate(layout.tile_bytes);
    for (size_t i = 0; i < COUNT(cases); i++) {
        float x[40] = {cases[i].stored}, k[40], v[40];
        x[32] = 1.0f;
        lf_kv_tile_store(tile, &layout, 3, x, x);
        lf_kv_tile_load(k, v, tile, &layout, 3);
        assert_true(same_floats(k, &cases[i].loaded, 1) && same_floats(v, &cases[i].loaded, 1));
        for (int j = 1; j < 32; j++) assert_true(isnan(cases[i].stored) ? isnan(k[j]) : k[j] == 0.0f);
        assert_true(fabsf(k[32] - 1.0f) < 1e-3f && k[39] == 0.0f);
    }
    free(tile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_agree),
        cmocka_unit_test(test_row_law),
        cmocka_unit_test(test_row_law_check_reports_a_mutant),
        cmocka_unit_test(test_invisible_slots_have_no_effect),
        cmocka_unit_test(test_blocks_in_one_call_or_many),
        cmocka_unit_test(test_a_blind_query_keeps_its_state),
        cmocka_unit_test(test_bf16_results_around_the_smallest_normal),
        cmocka_unit_test(test_merged_blocks),
        cmocka_unit_test(test_scalar_is_attention),
        cmocka_unit_test(test_mass),
        cmocka_unit_test(test_layout_limits),
        cmocka_unit_test(test_store_touches_its_slot_only),
        cmocka_unit_test(test_tiles_round_trip),
        cmocka_unit_test(test_q8_extremes),
    };
    return cmocka_run_group_tests(tests, set_up_levels, NULL);
}
