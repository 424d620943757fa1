/* The kernels over single rows: each level gives the bits of scalar, scalar computes what kernel.h and act.h say, and
 * lf_exp is as accurate as promised. */
#include "testing.h"

#include "base/mem.h"

#include "levels.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { N_MAX = 4100, GUARD = 32 /* floats after a result, which nothing may write */ };

static const int sizes[] = {1,  2,  7,  8,  15, 16,  17,  31,  32,  33,
                            47, 48, 63, 64, 65, 100, 172, 256, 768, N_MAX};

/* ---- numbers ---- */

/* The shares of a row's values that are zero, subnormal, of any finite size, and not finite. */
static float draw(uint64_t *rng, int flavour)
{
    const uint64_t bits = rng_next(rng);
    const uint32_t pick = bits >> 32 & 31;
    const float plain = 4.0f * rng_uniform(rng);
    if (flavour == 0) return plain;
    if (pick == 0) return bits & 1 ? -0.0f : 0.0f;
    if (pick == 1) return lf_bits_to_float((uint32_t)bits & 0x807fffff);
    if (flavour == 2 && pick == 2) return bits & 1 ? NAN : bits & 2 ? INFINITY : -INFINITY;
    const float any = lf_bits_to_float((uint32_t)bits);
    return pick < 10 && isfinite(any) ? any : plain;
}

static void draw_row(float *x, int n, int flavour, uint64_t seed)
{
    for (int i = 0; i < n; i++) x[i] = draw(&seed, flavour);
}

static void assert_same(const float *found, const float *expected, int n, const char *level, const char *what)
{
    for (int i = 0; i < n; i++)
        if (!same_bits(found[i], expected[i]))
            fail_msg("%s %s of %d: value %d is %a, expected %a", level, what, n, i, (double)found[i],
                     (double)expected[i]);
}

/* ---- exp ---- */

static void test_exp_exact_values(void **state)
{
    (void)state;
    assert_true(lf_exp(0.0f) == 1.0f && lf_exp(-0.0f) == 1.0f && lf_exp(0x1p-149f) == 1.0f);
    assert_true(lf_exp(-INFINITY) == 0.0f && lf_exp(-87.34f) == 0.0f && lf_exp(-1e30f) == 0.0f);
    assert_true(lf_exp(-87.33f) > 0.0f && lf_exp(88.72f) < INFINITY);
    assert_true(isinf(lf_exp(88.73f)) && isinf(lf_exp(1e30f)) && isinf(lf_exp(INFINITY)));
    assert_true(isnan(lf_exp(NAN)));
}

static void test_exp_accuracy(void **state)
{
    (void)state;
    double worst = 0;
    for (uint32_t bits = 0x30000000; bits < 0x42b10000; bits += 61) { /* 4.7e-10 to 88.5, and below 0 */
        for (int sign = 0; sign < 2; sign++) {
            const float x = lf_bits_to_float(bits | (uint32_t)sign << 31);
            if (x < -87.33f) continue;
            const double exact = exp((double)x);
            worst = fmax(worst, fabs((double)lf_exp(x) - exact) / exact);
        }
    }
    if (!(worst < 1e-7)) fail_msg("relative error %g", worst);
}

/* ---- activations ---- */

static void check_act_q8(const uint8_t *row, const float *x, int n)
{
    const lf_act_q8 found = lf_act_q8_at(row, n);
    const int padded = (n + 63) / 64 * 64;
    for (int b = 0; b < padded / 32; b++) {
        float amax = 0;
        bool finite = true;
        int32_t sum[2] = {0};
        for (int i = 32 * b; i < 32 * b + 32 && i < n; i++) {
            finite = finite && isfinite(x[i]);
            amax = fmaxf(amax, fabsf(x[i]));
        }
        const bool zero = !finite || amax < LF_ACT_Q8_TINY;
        for (int i = 32 * b; i < 32 * b + 32; i++) {
            const float scaled = zero || i >= n ? 0.0f : x[i] * (127.0f / amax);
            assert_int_equal(found.q[i], (int)nearbyint((double)scaled));
            assert_in_range(found.q[i] + 127, 0, 254);
            sum[i / 16 % 2] += found.q[i];
        }
        assert_int_equal(found.sum[2 * b], sum[0]);
        assert_int_equal(found.sum[2 * b + 1], sum[1]);
        assert_int_equal(found.start[b], -128 * (sum[0] + sum[1]));
        const float d = !finite ? NAN : zero ? 0.0f : amax / 127.0f;
        assert_true(same_bits(found.d[b], d));
        assert_true(same_bits(found.ds[b], d * (float)(sum[0] + sum[1])));
    }
}

/* Of every form: what it says, zeros as padding, nothing past the row's bytes, the same bytes at every level. */
static void check_act_rows(const float *x, int n)
{
    for (int act = 0; act < LF_ACT_COUNT; act++) {
        const size_t row_bytes = lf_act_row_bytes((lf_act)act, n);
        assert_int_equal(row_bytes % 64, 0);
        uint8_t *expected = lf_calloc_aligned(row_bytes + 64), *found = lf_calloc_aligned(row_bytes + 64);
        memset(expected, 0xa5, row_bytes + 64);
        lf_act_row(&scalar, act, expected, x, n);
        for (size_t i = row_bytes; i < row_bytes + 64; i++) assert_int_equal(expected[i], 0xa5);
        for (int l = 0; l < n_levels; l++) {
            memset(found, 0xa5, row_bytes + 64);
            lf_act_row(&levels[l], act, found, x, n);
            if (act != LF_ACT_Q8) {
                assert_memory_equal(found, expected, row_bytes + 64);
                continue;
            }
            check_act_q8(found, x, n);
            assert_memory_equal(found + row_bytes, expected + row_bytes, 64);
        }
        if (act == LF_ACT_F32) assert_memory_equal(expected, x, (size_t)n * sizeof *x);
        if (act == LF_ACT_Q8) check_act_q8(expected, x, n);
        for (int i = 0; act == LF_ACT_BF16 && i < n; i++) {
            uint16_t h;
            memcpy(&h, expected + 2 * i, sizeof h);
            assert_int_equal(h, lf_bf16_from_float(x[i]));
        }
        const size_t filled = (size_t)n * (act == LF_ACT_F32 ? 4 : act == LF_ACT_BF16 ? 2 : 1);
        const size_t end = act == LF_ACT_Q8 ? (size_t)(n + 63) / 64 * 64 : row_bytes;
        for (size_t i = filled; i < end; i++) assert_int_equal(expected[i], 0);
        free(expected);
        free(found);
    }
}

static void test_act_rows(void **state)
{
    (void)state;
    static float x[N_MAX + 1];
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (int flavour = 0; flavour < 3; flavour++)
            for (int shift = 0; shift < 2; shift++) { /* rows need no alignment */
                draw_row(x + shift, sizes[i], flavour, i + 100);
                check_act_rows(x + shift, sizes[i]);
            }
}

/* A row written in parts, whose sizes are multiples of 32 up to the last, has the bytes of a row written at once. */
static void test_act_rows_in_parts(void **state)
{
    (void)state;
    static float x[N_MAX];
    uint64_t rng = 3;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (int l = -1; l < n_levels; l++)
            for (int act = 0; act < LF_ACT_COUNT; act++) {
                const lf_kernels *k = l < 0 ? &scalar : &levels[l];
                const int n = sizes[i];
                const size_t bytes = lf_act_row_bytes((lf_act)act, n);
                uint8_t *whole = lf_calloc_aligned(bytes), *parts = lf_calloc_aligned(bytes);
                draw_row(x, n, (int)(i % 3), i + 200);
                lf_act_row(k, (lf_act)act, whole, x, n);
                memset(parts, 0xa5, bytes);
                for (int first = 0, count; first < n; first += count) {
                    count = 32 * (1 + (int)(rng_next(&rng) % 5));
                    if (count > n - first) count = n - first;
                    k->act_part[act](parts, n, x + first, first, count);
                }
                if (act != LF_ACT_Q8)
                    assert_memory_equal(parts, whole, bytes);
                else
                    check_act_q8(parts, x, n);
                free(whole);
                free(parts);
            }
}

static void test_act_rows_of_edges(void **state)
{
    (void)state;
    const float edges[] = {0.0f,       -0.0f,     0x1p-149f, 0x1p-126f, 0x1.fffffep-120f, 0x1p-119f,
                           -0x1p-119f, 1e-30f,    1.0f,      -127.0f,   0x1p127f,         -0x1.fffffep127f,
                           INFINITY,   -INFINITY, NAN,       -NAN};
    float x[64];
    for (size_t e = 0; e < COUNT(edges); e++) {
        for (size_t f = 0; f < COUNT(edges); f++) {
            for (int i = 0; i < 64; i++)
                x[i] = i == 37 ? edges[f] : i < 32 && i % 3 ? 0.5f * edges[e] : edges[e];
            check_act_rows(x, 64);
            check_act_rows(x, 38);
        }
    }
    for (int i = 0; i < 64; i++) x[i] = (float)(i - 32) + 0.5f; /* ties of rounding */
    x[0] = x[32] = 127.0f;
    check_act_rows(x, 64);
}

/* ---- the rest ---- */

static float a[N_MAX + GUARD], b[N_MAX + GUARD], c[N_MAX + GUARD], expected[N_MAX + GUARD],
    found[N_MAX + GUARD];

static void test_rms_norm(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const int n = sizes[i];
        for (int flavour = 0; flavour < 3; flavour++) {
            draw_row(a, n + GUARD, flavour, i);
            draw_row(b, n + GUARD, flavour == 1, i + 1);
            draw_row(c, n + GUARD, 0, i + 2);
            memcpy(expected, c, sizeof expected);
            scalar.rms_norm(expected, a, b, n, 1e-5f);
            double squares = 0;
            for (int k = 0; k < n; k++) squares += (double)a[k] * (double)a[k];
            for (int k = 0; flavour == 0 && k < n; k++) {
                const double exact = (double)a[k] / sqrt(squares / n + 1e-5) * (double)b[k];
                assert_true(fabs((double)expected[k] - exact) <= 1e-6 * fabs(exact));
            }
            for (int l = 0; l < n_levels; l++) {
                memcpy(found, c, sizeof found);
                levels[l].rms_norm(found, a, b, n, 1e-5f);
                assert_same(found, expected, n + GUARD, levels[l].name, "rms_norm");
                memcpy(found, a, sizeof found);
                levels[l].rms_norm(found, found, b, n, 1e-5f);
                assert_same(found, expected, n, levels[l].name, "rms_norm in place");
            }
        }
    }
}

static void test_silu_mul(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const int n = sizes[i];
        for (int flavour = 0; flavour < 3; flavour++) {
            draw_row(a, n + GUARD, flavour, i);
            draw_row(b, n + GUARD, flavour, i + 1);
            draw_row(c, n + GUARD, 0, i + 2);
            memcpy(expected, c, sizeof expected);
            scalar.silu_mul(expected, a, b, n);
            for (int k = 0; flavour == 0 && k < n; k++) {
                const double exact = (double)a[k] / (1.0 + exp(-(double)a[k])) * (double)b[k];
                assert_true(fabs((double)expected[k] - exact) <= 1e-6 * fabs(exact));
            }
            for (int l = 0; l < n_levels; l++) {
                memcpy(found, c, sizeof found);
                levels[l].silu_mul(found, a, b, n);
                assert_same(found, expected, n + GUARD, levels[l].name, "silu_mul");
                memcpy(found, a, sizeof found);
                levels[l].silu_mul(found, found, b, n);
                assert_same(found, expected, n, levels[l].name, "silu_mul in place");
            }
        }
    }
}

/* o / l, where a zero has no sign: the state that merging with an empty one gives is finished to the same bits. */
static void test_attend_finish(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const int n = sizes[i];
        for (int flavour = 0; flavour < 3; flavour++) {
            draw_row(a, n, flavour, i);
            a[n / 2] = -0.0f;
            draw_row(c, n + GUARD, 0, i + 2);
            memcpy(expected, c, sizeof expected);
            scalar.attend_finish(expected, a, 3.0f, n);
            assert_true(lf_float_to_bits(expected[n / 2]) == 0);
            for (int k = 0; k < n; k++) assert_true(expected[k] == a[k] / 3.0f || isnan(a[k]));
            for (int l = 0; l < n_levels; l++) {
                memcpy(found, c, sizeof found);
                levels[l].attend_finish(found, a, 3.0f, n);
                assert_same(found, expected, n + GUARD, levels[l].name, "attend_finish");
            }
            float m = -INFINITY, sum = 0.0f;
            memset(b, 0, (size_t)n * sizeof *b);
            scalar.attend_merge(b, &m, &sum, a, 0.5f, 3.0f, n);
            scalar.attend_finish(b, b, sum, n);
            assert_same(b, expected, n, "scalar", "attend_finish of a merged state");
        }
    }
}

/* The exponential inside silu_mul, over all magnitudes: the vector forms of lf_exp against lf_exp. */
static void test_silu_mul_sweeps_exp(void **state)
{
    (void)state;
    for (int i = 0; i < N_MAX; i++) b[i] = 1.0f;
    for (uint32_t start = 0; start < 1u << 20; start += N_MAX) {
        for (int i = 0; i < N_MAX; i++) a[i] = lf_bits_to_float((start + (uint32_t)i) * 4099);
        scalar.silu_mul(expected, a, b, N_MAX);
        for (int i = 0; i < N_MAX; i++) assert_true(same_bits(expected[i], a[i] / (1.0f + lf_exp(-a[i]))));
        for (int l = 0; l < n_levels; l++) {
            levels[l].silu_mul(found, a, b, N_MAX);
            assert_same(found, expected, N_MAX, levels[l].name, "silu_mul");
        }
    }
}

static void test_add(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const int n = sizes[i];
        for (int flavour = 0; flavour < 3; flavour++) {
            draw_row(a, n, flavour, i);
            draw_row(b, n + GUARD, flavour, i + 1);
            for (int l = -1; l < n_levels; l++) {
                const lf_kernels *k = l < 0 ? &scalar : &levels[l];
                memcpy(found, b, sizeof found);
                k->add(found, a, n);
                for (int j = 0; j < n + GUARD; j++)
                    assert_true(same_bits(found[j], j < n ? b[j] + a[j] : b[j]));
            }
        }
    }
}

static void test_rope(void **state)
{
    (void)state;
    const int head_dims[] = {2, 4, 8, 16, 30, 32, 48, 64, 80, 96, 128, 200, 256};
    enum { N_HEADS = 5 };
    for (size_t i = 0; i < COUNT(head_dims); i++) {
        const int dim = head_dims[i], half = dim / 2, n = N_HEADS * dim;
        for (int flavour = 0; flavour < 3; flavour++) {
            draw_row(a, n + GUARD, flavour, i);
            for (int k = 0; k < half; k++) {
                b[k] = cosf(0.7f * (float)k);
                c[k] = sinf(0.7f * (float)k);
            }
            memcpy(expected, a, sizeof expected);
            scalar.rope(expected, b, c, N_HEADS, dim);
            for (int k = 0; flavour == 0 && k < n; k++) {
                const int pair = k % dim % half, first = k - k % dim + pair;
                const double x = (double)a[first], y = (double)a[first + half];
                const double cosine = (double)b[pair], sine = (double)c[pair];
                const double exact = k % dim < half ? x * cosine - y * sine : y * cosine + x * sine;
                assert_true(fabs((double)expected[k] - exact) <= 1e-6);
            }
            for (int l = 0; l < n_levels; l++) {
                memcpy(found, a, sizeof found);
                levels[l].rope(found, b, c, N_HEADS, dim);
                assert_same(found, expected, n + GUARD, levels[l].name, "rope");
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_exact_values),
        cmocka_unit_test(test_exp_accuracy),
        cmocka_unit_test(test_act_rows),
        cmocka_unit_test(test_act_rows_in_parts),
        cmocka_unit_test(test_act_rows_of_edges),
        cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_silu_mul),
        cmocka_unit_test(test_silu_mul_sweeps_exp),
        cmocka_unit_test(test_attend_finish),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, set_up_levels, NULL);
}
