/* kernel/packed and the matrix products: packing loses no bit, each kernel level gives the bits of scalar, a row's
 * result does not depend on its company (the Row law), and scalar computes the product. */
#include "testing.h"

#include "base/mem.h"
#include "tensor/quant.h"

#include "levels.h"
#include "oom.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- numbers ---- */

/* What weights and activations are drawn from. */
typedef enum flavour {
    PLAIN, /* within [-1, 1) */
    TINY,  /* around 2^-63: products and sums near the smallest normal float */
    WILD,  /* any finite float: zeros, subnormals, huge ones, whose sums overflow */
    BROKEN /* with infinities and NaNs */
} flavour;

enum { N_FLAVOURS = 4 };

static float draw(uint64_t *rng, flavour kind)
{
    const uint64_t bits = rng_next(rng);
    const uint32_t pick = bits >> 32 & 15;
    const float plain = rng_uniform(rng);
    switch (kind) {
    case PLAIN: return plain;
    case TINY:
        return pick == 0 ? lf_bits_to_float((uint32_t)bits & 0x807fffff)
                         : ldexpf(plain, -62 - (int)(pick % 4));
    case BROKEN:
        if (pick == 0 && (bits >> 40 & 7) == 0)
            return bits >> 50 & 1 ? NAN : bits >> 51 & 1 ? INFINITY : -INFINITY;
        return plain;
    case WILD: break;
    }
    if (pick == 0) return bits & 1 ? -0.0f : 0.0f;
    if (pick == 1) return lf_bits_to_float((uint32_t)bits & 0x807fffff); /* subnormal */
    if (pick > 8) return plain;
    const float any = lf_bits_to_float((uint32_t)bits);
    return isfinite(any) ? any : plain;
}

/* ---- weights and rows ---- */

typedef struct weights {
    lf_packed packed;
    uint8_t *source; /* (n_out, row_bytes) of the packed dtype */
    size_t row_bytes;
} weights;

/* One random f16 scale. */
static uint16_t draw_scale(uint64_t *rng, flavour kind)
{
    const float d = draw(rng, kind == TINY ? PLAIN : kind);
    return lf_f16_from_float(kind == TINY ? ldexpf(d, -14) : kind == PLAIN ? d * 0.05f : d);
}

/* n elements: floats of the given flavour, or blocks of random bits under scales of it. */
static void draw_row(uint8_t *dst, lf_dtype dtype, int n, flavour kind, uint64_t *rng)
{
    static const int scale_at[LF_DTYPE_COUNT] = {[LF_DTYPE_Q6_K] = 208}; /* others: at 0 */
    const lf_dtype_info *info = lf_dtype_of(dtype);
    for (int i = 0; i < n; i += (int)info->block_len, dst += info->block_bytes) {
        if (info->block_len == 1) {
            const float f = draw(rng, kind);
            lf_quantize_row(dst, &f, dtype, 1);
            continue;
        }
        for (uint32_t b = 0; b < info->block_bytes; b++) dst[b] = (uint8_t)rng_next(rng);
        const uint16_t d[2] = {draw_scale(rng, kind), draw_scale(rng, kind)};
        const bool has_minimum = dtype == LF_DTYPE_Q4_K || dtype == LF_DTYPE_Q5_K;
        memcpy(dst + scale_at[dtype], d, has_minimum ? 4 : 2);
    }
}

static void pack_rows(lf_packed *w, const uint8_t *source, size_t row_bytes, lf_dtype dtype)
{
    void *scratch = lf_calloc_aligned(lf_pack_scratch_bytes(w));
    assert_non_null(scratch);
    for (int t = 0; t < w->n_tiles; t++) {
        const void *rows[LF_TILE_OUT] = {NULL};
        for (int j = 0; j < LF_TILE_OUT && t * LF_TILE_OUT + j < w->n_out; j++)
            rows[j] = source + (size_t)(t * LF_TILE_OUT + j) * row_bytes;
        lf_pack_tile(w, t, rows, dtype, scratch);
    }
    free(scratch);
}

static weights make_weights(lf_dtype dtype, int n_out, int n_in, flavour kind, uint64_t seed)
{
    weights w;
    lf_error err;
    assert_true(lf_dtype_row_bytes(dtype, (size_t)n_in, &w.row_bytes));
    w.source = malloc((size_t)n_out * w.row_bytes);
    assert_non_null(w.source);
    for (int i = 0; i < n_out; i++) draw_row(w.source + (size_t)i * w.row_bytes, dtype, n_in, kind, &seed);
    assert_ok(lf_packed_init(&w.packed, dtype, n_out, n_in, &err), &err);
    pack_rows(&w.packed, w.source, w.row_bytes, dtype);
    return w;
}

static void free_weights(weights *w)
{
    lf_packed_free(&w->packed);
    free(w->source);
}

typedef struct rows {
    uint8_t *x; /* (n, stride) */
    size_t stride;
    int n;
} rows;

static rows make_rows(lf_dtype dtype, int n, int n_in, flavour kind, uint64_t seed)
{
    const lf_act act = lf_act_for(dtype);
    rows r = {.stride = lf_act_row_bytes(act, n_in) + 64, .n = n};
    float *values = malloc((size_t)n_in * sizeof *values);
    r.x = lf_calloc_aligned((size_t)n * r.stride);
    assert_true(values && r.x);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n_in; k++) values[k] = draw(&seed, kind);
        lf_act_row(&scalar, act, r.x + (size_t)i * r.stride, values, n_in);
    }
    free(values);
    return r;
}

/* Every second value of y, also those that no kernel may write, starts as this. */
static const float canary = -123456.0f;

static float *make_result(size_t n)
{
    float *y = malloc(n * sizeof *y);
    assert_non_null(y);
    for (size_t i = 0; i < n; i++) y[i] = canary;
    return y;
}

/* ---- packing ---- */

static void test_packing_keeps_every_bit(void **state)
{
    (void)state;
    const int n_outs[] = {1, 15, 16, 17, 40};
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        const int step = (int)lf_dtype_of((lf_dtype)dtype)->block_len;
        for (size_t i = 0; i < COUNT(n_outs); i++) {
            for (int kind = 0; kind < N_FLAVOURS; kind++) {
                const int n_in = step * (step == 1 ? 77 + (int)i : 1 + (int)i);
                weights w = make_weights((lf_dtype)dtype, n_outs[i], n_in, (flavour)kind, 7 + i);
                float *expected = make_result((size_t)n_in), *found = make_result((size_t)n_in);
                for (int r = 0; r < n_outs[i]; r++) {
                    lf_dequantize_row(expected, w.source + (size_t)r * w.row_bytes, (lf_dtype)dtype,
                                      (size_t)n_in);
                    lf_unpack_row(found, &w.packed, r);
                    for (int k = 0; k < n_in; k++)
                        if (!same_bits(expected[k], found[k]))
                            fail_msg("%s row %d input %d: %a, expected %a",
                                     lf_dtype_of((lf_dtype)dtype)->name, r, k, (double)found[k],
                                     (double)expected[k]);
                }
                free(expected);
                free(found);
                free_weights(&w);
            }
        }
    }
}

/* From any dtype to any other: what lf_quantize_row makes of the floats. */
static void test_packing_converts(void **state)
{
    (void)state;
    enum { N_IN = 512, N_OUT = 17 };
    float values[N_IN], expected[N_IN], found[N_IN];
    uint8_t converted[N_IN * 4];
    for (int from = 0; from < LF_DTYPE_COUNT; from++) {
        weights w = make_weights((lf_dtype)from, N_OUT, N_IN, PLAIN, 3);
        for (int to = 0; to < LF_DTYPE_COUNT; to++) {
            lf_packed packed;
            assert_int_equal(lf_packed_init(&packed, (lf_dtype)to, N_OUT, N_IN, NULL), LF_OK);
            pack_rows(&packed, w.source, w.row_bytes, (lf_dtype)from);
            for (int r = 0; r < N_OUT; r++) {
                lf_dequantize_row(values, w.source + (size_t)r * w.row_bytes, (lf_dtype)from, N_IN);
                if (from == to) {
                    memcpy(expected, values, sizeof expected);
                } else {
                    lf_quantize_row(converted, values, (lf_dtype)to, N_IN);
                    lf_dequantize_row(expected, converted, (lf_dtype)to, N_IN);
                }
                lf_unpack_row(found, &packed, r);
                assert_memory_equal(found, expected, sizeof expected);
            }
            lf_packed_free(&packed);
        }
        free_weights(&w);
    }
}

static void test_packed_shapes_are_checked(void **state)
{
    (void)state;
    lf_packed w;
    lf_error err;
    size_t bytes;
    assert_int_equal(lf_packed_init(&w, LF_DTYPE_Q8_0, 16, 33, &err), LF_EINVAL);
    assert_string_equal(err.text,
                        "q8_0 weights of 33 inputs and 16 outputs: expected a multiple of 32 inputs");
    assert_int_equal(lf_packed_init(&w, LF_DTYPE_Q4_K, 16, 128, NULL), LF_EINVAL);
    assert_int_equal(lf_packed_init(&w, LF_DTYPE_F32, 0, 4, NULL), LF_EINVAL);
    assert_int_equal(lf_packed_init(&w, LF_DTYPE_F32, 4, -4, NULL), LF_EINVAL);
    assert_false(lf_packed_bytes(LF_DTYPE_Q6_K, 16, 100, &bytes));
    assert_false(lf_packed_bytes(LF_DTYPE_F32, INT32_MAX, INT32_MAX, &bytes) &&
                 bytes / INT32_MAX < INT32_MAX);
    assert_true(lf_packed_bytes(LF_DTYPE_Q4_K, 17, 512, &bytes));
    assert_int_equal(bytes, 2 * 2 * 2368);
    assert_true(lf_packed_bytes(LF_DTYPE_F16, 16, 3, &bytes));
    assert_int_equal(bytes, 128); /* 96, rounded up to lines */
}

static void test_packed_without_memory(void **state)
{
    (void)state;
    lf_packed w;
    lf_error err;
    oom_require();
    const long live = oom_live();
    oom_fail_at(1);
    const lf_status status = lf_packed_init(&w, LF_DTYPE_F32, 100, 100, &err);
    oom_off();
    assert_int_equal(status, LF_ENOMEM);
    assert_int_equal(oom_live(), live);
    lf_packed_free(&w); /* nothing to free, and fine */
}

/* ---- products ---- */

/* Sizes of inputs that every format allows some of; the last ones take several spans of the vector kernels. */
static const int n_ins[] = {1, 2, 3, 7, 32, 64, 96, 100, 160, 172, 256, 768, 1300, 4128, 4352};
static const int n_outs[] = {1, 15, 16, 17, 64, 100, 130};
static const int n_rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17, 31, 64, 100};

static void compare_levels(lf_dtype dtype, int n_out, int n_in, int count, flavour kind, uint64_t seed)
{
    weights w = make_weights(dtype, n_out, n_in, kind, seed);
    rows x = make_rows(dtype, count, n_in, kind, seed + 1);
    const size_t width = (size_t)w.packed.n_tiles * LF_TILE_OUT, stride = width + 3;
    float *expected = make_result((size_t)count * stride);
    scalar.matmul[dtype](expected, stride, &w.packed, 0, w.packed.n_tiles, x.x, x.stride, count, NULL);
    for (int l = 0; l < n_levels; l++) {
        float *y = make_result((size_t)count * stride);
        levels[l].matmul[dtype](y, stride, &w.packed, 0, w.packed.n_tiles, x.x, x.stride, count, NULL);
        for (int r = 0; r < count; r++) {
            for (size_t c = 0; c < stride; c++) {
                const size_t at = (size_t)r * stride + c;
                if (!same_bits(y[at], expected[at]))
                    fail_msg(
                        "%s %s, %d outputs, %d inputs, %d rows, flavour %d: row %d output %zu is %a, scalar %a",
                        levels[l].name, lf_dtype_of(dtype)->name, n_out, n_in, count, kind, r, c,
                        (double)y[at], (double)expected[at]);
            }
        }
        free(y);
    }
    free(expected);
    free(x.x);
    free_weights(&w);
}

static void test_levels_equal_scalar(void **state)
{
    (void)state;
    uint64_t seed = 1;
    size_t turn = 0;
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        for (size_t i = 0; i < COUNT(n_ins); i++) {
            if (n_ins[i] % (int)lf_dtype_of((lf_dtype)dtype)->block_len != 0) continue;
            for (size_t o = 0; o < COUNT(n_outs); o++, turn++) {
                if (n_ins[i] > 1000 && o % 3 != 2) continue;
                int count = n_rows[turn % COUNT(n_rows)];
                if (n_ins[i] > 1000 && count > 13) count = 13;
                compare_levels((lf_dtype)dtype, n_outs[o], n_ins[i], count, (flavour)(turn % N_FLAVOURS),
                               seed++);
            }
        }
    }
}

/* Every number of rows and every flavour, at a size that has whole and ragged groups of tiles. */
static void test_levels_equal_scalar_for_any_rows(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++)
        for (size_t i = 0; i < COUNT(n_rows); i++)
            for (int kind = 0; kind < N_FLAVOURS; kind++)
                compare_levels((lf_dtype)dtype, 100, 256, n_rows[i] > 20 ? 19 : n_rows[i], (flavour)kind,
                               50 + i);
}

/* bf16 sums whose last step lands at the border between normal and subnormal, where rounding and flushing meet. */
static void test_bf16_border_of_subnormals(void **state)
{
    (void)state;
    enum { N = 16 * 64 };
    static float row_w[2 * LF_TILE_OUT], row_x[2];
    uint64_t rng = 5;
    for (int i = 0; i < N; i++) {
        lf_packed w;
        uint8_t packed_row[LF_TILE_OUT][4];
        _Alignas(64) uint8_t x[64] = {0};
        const void *sources[LF_TILE_OUT];
        assert_int_equal(lf_packed_init(&w, LF_DTYPE_BF16, LF_TILE_OUT, 2, NULL), LF_OK);
        /* the odd element makes 2^-126 or a few units more, the even one takes some 2^-150 away */
        row_x[1] = 0x1p-63f;
        row_x[0] = 0x1p-75f;
        for (int j = 0; j < LF_TILE_OUT; j++) {
            const uint64_t bits = rng_next(&rng);
            const float sign = bits & 1 ? -1.0f : 1.0f;
            row_w[2 * j + 1] = sign * ldexpf(1.0f + (float)(bits >> 1 & 1) * 0x1p-7f, -63);
            row_w[2 * j] = -sign *
                           ldexpf(1.0f + (float)(bits >> 2 & 127) * 0x1p-7f, -68 - (int)(bits >> 9 & 15));
            for (int k = 0; k < 2; k++) {
                const uint16_t h = lf_bf16_from_float(row_w[2 * j + k]);
                memcpy(packed_row[j] + 2 * k, &h, 2);
            }
            sources[j] = packed_row[j];
        }
        lf_pack_tile(&w, 0, sources, LF_DTYPE_BF16, NULL);
        lf_act_row(&scalar, LF_ACT_BF16, x, row_x, 2);
        float expected[LF_TILE_OUT], y[LF_TILE_OUT];
        scalar.matmul[LF_DTYPE_BF16](expected, LF_TILE_OUT, &w, 0, 1, x, sizeof x, 1, NULL);
        for (int l = 0; l < n_levels; l++) {
            levels[l].matmul[LF_DTYPE_BF16](y, LF_TILE_OUT, &w, 0, 1, x, sizeof x, 1, NULL);
            assert_memory_equal(y, expected, sizeof y);
        }
        lf_packed_free(&w);
    }
}

/* ---- the Row law ---- */

/* The first row whose outputs depend on which other rows are there, or -1: all of x against each row alone, and
 * against each half. */
static int row_that_breaks_the_law(lf_matmul_fn *matmul, const lf_packed *w, const rows *x)
{
    const size_t stride = (size_t)w->n_tiles * LF_TILE_OUT;
    float *together = make_result((size_t)x->n * stride), *apart = make_result((size_t)x->n * stride);
    const int parts[] = {x->n, (x->n + 1) / 2, 1};
    int broken = -1;
    for (size_t p = 0; p < COUNT(parts) && broken < 0; p++) {
        float *y = p == 0 ? together : apart;
        for (int r = 0; r < x->n; r += parts[p])
            matmul(y + (size_t)r * stride, stride, w, 0, w->n_tiles, x->x + (size_t)r * x->stride, x->stride,
                   parts[p] < x->n - r ? parts[p] : x->n - r, NULL);
        for (int r = 0; p > 0 && r < x->n && broken < 0; r++)
            for (int c = 0; c < w->n_out; c++)
                if (!same_bits(together[(size_t)r * stride + (size_t)c],
                               apart[(size_t)r * stride + (size_t)c]))
                    broken = r;
    }
    free(together);
    free(apart);
    return broken;
}

static void test_row_law(void **state)
{
    (void)state;
    const int sizes[] = {256, 1280};
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        for (size_t i = 0; i < COUNT(n_rows); i++) {
            const int n_in = sizes[i % COUNT(sizes)];
            weights w = make_weights((lf_dtype)dtype, 100, n_in, (flavour)(i % 3), i);
            rows x = make_rows((lf_dtype)dtype, n_rows[i], n_in, (flavour)(i % 3), i + 1);
            for (int l = 0; l < n_levels; l++) {
                const int broken = row_that_breaks_the_law(levels[l].matmul[dtype], &w.packed, &x);
                if (broken >= 0)
                    fail_msg("%s %s: row %d of %d differs from itself in other company", levels[l].name,
                             lf_dtype_of((lf_dtype)dtype)->name, broken, n_rows[i]);
            }
            free(x.x);
            free_weights(&w);
        }
    }
}

/* A kernel of the usual kind, which the law forbids: with several rows it sums the two halves of the inputs apart. */
static void matmul_mutant(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,
                          const void *x, size_t x_stride, int count, const void *next)
{
    (void)next;
    const float *all = (const void *)w->data;
    for (int r = 0; r < count; r++) {
        const float *row = (const void *)((const uint8_t *)x + (size_t)r * x_stride);
        for (int o = tile_begin * LF_TILE_OUT; o < tile_end * LF_TILE_OUT; o++) {
            const float *column = all + (size_t)(o / LF_TILE_OUT) * w->tile_bytes / sizeof *all +
                                  o % LF_TILE_OUT;
            float sum[2] = {0};
            for (int i = 0; i < w->n_in; i++) {
                float *part = &sum[count > 1 && i >= w->n_in / 2];
                *part = fmaf(row[i], column[(size_t)i * LF_TILE_OUT], *part);
            }
            y[(size_t)r * y_stride + (size_t)o] = sum[0] + sum[1];
        }
    }
}

/* A test of the test: the mutant is reported, and the same code is not where it keeps the law. */
static void test_row_law_check_reports_a_mutant(void **state)
{
    (void)state;
    weights w = make_weights(LF_DTYPE_F32, 16, 100, PLAIN, 1);
    rows x = make_rows(LF_DTYPE_F32, 4, 100, PLAIN, 2), one = x;
    one.n = 1;
    assert_int_equal(row_that_breaks_the_law(matmul_mutant, &w.packed, &one), -1);
    assert_true(row_that_breaks_the_law(matmul_mutant, &w.packed, &x) >= 0);
    assert_int_equal(row_that_breaks_the_law(scalar.matmul[LF_DTYPE_F32], &w.packed, &x), -1);
    free(x.x);
    free_weights(&w);
}

/* Tiles computed in any two parts are the tiles computed at once; those outside the range are left alone. The hint may be anything. */
static void test_tile_ranges(void **state)
{
    (void)state;
    const void *const nowhere = (const void *)(uintptr_t)0x123456789;
    const int counts[] = {1, 5, 20};
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        weights w = make_weights((lf_dtype)dtype, 150, 256, PLAIN, 9);
        const int n_tiles = w.packed.n_tiles;
        const size_t stride = (size_t)n_tiles * LF_TILE_OUT;
        for (size_t i = 0; i < COUNT(counts); i++) {
            rows x = make_rows((lf_dtype)dtype, counts[i], 256, PLAIN, 10);
            const size_t n = (size_t)counts[i] * stride;
            float *whole = make_result(n);
            scalar.matmul[dtype](whole, stride, &w.packed, 0, n_tiles, x.x, x.stride, counts[i], NULL);
            for (int l = 0; l < n_levels; l++) {
                for (int split = 0; split <= n_tiles; split++) {
                    float *y = make_result(n);
                    lf_matmul_fn *matmul = levels[l].matmul[dtype];
                    matmul(y, stride, &w.packed, 0, split, x.x, x.stride, counts[i], nowhere);
                    for (int r = 0; r < counts[i]; r++)
                        for (size_t c = (size_t)split * LF_TILE_OUT; c < stride; c++)
                            assert_true(y[(size_t)r * stride + c] == canary);
                    matmul(y, stride, &w.packed, split, n_tiles, x.x, x.stride, counts[i], nowhere);
                    assert_memory_equal(y, whole, n * sizeof *y);
                    free(y);
                }
            }
            free(whole);
            free(x.x);
        }
        free_weights(&w);
    }
}

/* ---- scalar against the definition of a product ---- */

/* values (n_in) = the floats that an activation row stands for. */
static void read_act_row(double *values, const uint8_t *row, lf_act act, int n_in)
{
    const lf_act_q8 q8 = lf_act_q8_at(row, n_in);
    for (int i = 0; i < n_in; i++) {
        float f;
        uint16_t h;
        switch (act) {
        case LF_ACT_F32:
            memcpy(&f, row + 4 * i, sizeof f);
            values[i] = (double)f;
            break;
        case LF_ACT_BF16:
            memcpy(&h, row + 2 * i, sizeof h);
            values[i] = (double)lf_bf16_to_float(h);
            break;
        default: values[i] = (double)q8.d[i / 32] * q8.q[i];
        }
    }
}

static void test_scalar_computes_the_product(void **state)
{
    (void)state;
    enum { N_IN = 512, N_OUT = 20, N_ROWS = 3, STRIDE = 32 };
    static float y[N_ROWS * STRIDE], weight_row[N_IN];
    static double values[N_IN];
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        weights w = make_weights((lf_dtype)dtype, N_OUT, N_IN, PLAIN, 21);
        rows x = make_rows((lf_dtype)dtype, N_ROWS, N_IN, PLAIN, 22);
        scalar.matmul[dtype](y, STRIDE, &w.packed, 0, 2, x.x, x.stride, N_ROWS, NULL);
        for (int r = 0; r < N_ROWS; r++) {
            read_act_row(values, x.x + (size_t)r * x.stride, lf_act_for((lf_dtype)dtype), N_IN);
            for (int o = 0; o < STRIDE; o++) {
                double sum = 0, magnitude = 0;
                if (o < N_OUT) lf_unpack_row(weight_row, &w.packed, o);
                for (int i = 0; o < N_OUT && i < N_IN; i++) {
                    sum += values[i] * (double)weight_row[i];
                    magnitude += fabs(values[i] * (double)weight_row[i]);
                }
                const double error = fabs((double)y[r * STRIDE + o] - sum);
                if (!(error <= magnitude * 1e-5)) /* outputs past the last: exactly 0 */
                    fail_msg("%s row %d output %d: %g, expected %g", lf_dtype_of((lf_dtype)dtype)->name, r, o,
                             (double)y[r * STRIDE + o], sum);
            }
        }
        free(x.x);
        free_weights(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packing_keeps_every_bit),
        cmocka_unit_test(test_packing_converts),
        cmocka_unit_test(test_packed_shapes_are_checked),
        cmocka_unit_test(test_packed_without_memory),
        cmocka_unit_test(test_levels_equal_scalar),
        cmocka_unit_test(test_levels_equal_scalar_for_any_rows),
        cmocka_unit_test(test_bf16_border_of_subnormals),
        cmocka_unit_test(test_row_law),
        cmocka_unit_test(test_row_law_check_reports_a_mutant),
        cmocka_unit_test(test_tile_ranges),
        cmocka_unit_test(test_scalar_computes_the_product),
    };
    return cmocka_run_group_tests(tests, set_up_levels, NULL);
}
