/* tensor/quant: every dtype against the recorded results of `gguf` and ggml as bytes (tests/oracle/quant.py), every
 * scale a block can have against the formula, and what happens to values that no format can hold. */
#include "testing.h"

#include "tensor/half.h"
#include "tensor/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_LEN_MAX = 256, BLOCK_BYTES_MAX = 256 };

static char *golden(const char *dtype, const char *what, size_t *size)
{
    char name[64];
    (void)snprintf(name, sizeof name, "quant/%s.%s", dtype, what);
    return read_file(golden_path(name), size);
}

static void test_dequantised_bytes_are_the_reference_s(void **state)
{
    (void)state;
    for (lf_dtype dtype = LF_DTYPE_F16; dtype < LF_DTYPE_COUNT; dtype++) {
        const lf_dtype_info *info = lf_dtype_of(dtype);
        size_t block_bytes, float_bytes;
        char *blocks = golden(info->name, "blocks", &block_bytes);
        char *expected = golden(info->name, "floats", &float_bytes);
        float *y = malloc(float_bytes);
        assert_non_null(y);
        assert_int_equal(float_bytes / sizeof *y / info->block_len, block_bytes / info->block_bytes);
        lf_dequantize_row(y, blocks, dtype, float_bytes / sizeof *y);
        for (size_t i = 0; i < float_bytes / sizeof *y; i++)
            if (memcmp(y + i, expected + i * sizeof *y, sizeof *y) != 0)
                fail_msg("%s: value %zu is %a", info->name, i, (double)y[i]);
        free(y);
        free(expected);
        free(blocks);
    }
}

static void test_quantised_bytes_are_the_reference_s(void **state)
{
    (void)state;
    size_t row_bytes;
    char *rows = read_file(golden_path("quant/rows.f32"), &row_bytes);
    const size_t n = row_bytes / sizeof(float);
    for (lf_dtype dtype = LF_DTYPE_F16; dtype < LF_DTYPE_COUNT; dtype++) {
        const lf_dtype_info *info = lf_dtype_of(dtype);
        size_t bytes, expected_bytes;
        char *expected = golden(info->name, "quantized", &expected_bytes);
        assert_true(lf_dtype_row_bytes(dtype, n, &bytes));
        assert_int_equal(bytes, expected_bytes);
        uint8_t *out = malloc(bytes);
        assert_non_null(out);
        lf_quantize_row(out, (const float *)(const void *)rows, dtype, n);
        for (size_t i = 0; i < bytes; i++)
            if (out[i] != (uint8_t)expected[i])
                fail_msg("%s: byte %zu of block %zu differs", info->name, i % info->block_bytes,
                         i / info->block_bytes);
        free(out);
        free(expected);
    }
    free(rows);
}

/* 2^18 generated values, half of them with long tails and half nearly normal, by the hash of what they become. */
static void test_many_quantised_bytes_are_the_reference_s(void **state)
{
    (void)state;
    enum { N = 1 << 18 };
    float *x = malloc(N * sizeof *x);
    uint8_t *out = malloc(N * sizeof *x);
    assert_true(x && out);
    uint64_t rng = 1;
    for (int i = 0; i < N; i++) {
        const float u = rng_uniform(&rng);
        if (i < N / 2) {
            x[i] = u * u * u;
        } else {
            x[i] = u + rng_uniform(&rng);
            x[i] += rng_uniform(&rng);
        }
    }
    for (lf_dtype dtype = LF_DTYPE_F16; dtype < LF_DTYPE_COUNT; dtype++) {
        size_t bytes, hash_bytes;
        uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
        char *expected = golden(lf_dtype_of(dtype)->name, "fnv", &hash_bytes);
        assert_int_equal(hash_bytes, sizeof hash);
        assert_true(lf_dtype_row_bytes(dtype, N, &bytes));
        lf_quantize_row(out, x, dtype, N);
        for (size_t i = 0; i < bytes; i++) hash = (hash ^ out[i]) * 0x100000001b3u;
        if (memcmp(&hash, expected, sizeof hash) != 0)
            fail_msg("%s: the bytes differ", lf_dtype_of(dtype)->name);
        free(expected);
    }
    free(out);
    free(x);
}

/* f32 is copied, from any alignment. */
static void test_f32_rows_are_copied(void **state)
{
    (void)state;
    const float x[3] = {1.5f, -0.0f, INFINITY};
    uint8_t unaligned[1 + sizeof x];
    float y[3];
    lf_quantize_row(unaligned + 1, x, LF_DTYPE_F32, 3);
    lf_dequantize_row(y, unaligned + 1, LF_DTYPE_F32, 3);
    assert_memory_equal(x, y, sizeof x);
}

/* One block of each quantised dtype with scale h (and, for the k-quants with minimum, dmin h), checked against its
 * formula in double: the products of an f16 with these small integers are exact there, so one rounding remains. */
static void check_scale(uint16_t h)
{
    enum { SC = 41, M = 50 }; /* the 6-bit scale and minimum of every sub-block */
    static const uint8_t scales[12] = {41 | 2 << 6, 41 | 2 << 6, 41 | 2 << 6, 41 | 2 << 6,
                                       50 | 3 << 6, 50 | 3 << 6, 50 | 3 << 6, 50 | 3 << 6,
                                       9 | 2 << 4,  9 | 2 << 4,  9 | 2 << 4,  9 | 2 << 4};
    const double d = (double)lf_f16_to_float(h);
    float y[BLOCK_LEN_MAX];
    uint8_t block[BLOCK_BYTES_MAX];

    memset(block, 0x9c, sizeof block); /* q8_0: -100; nibbles: 12 and 9 */
    memcpy(block, &h, sizeof h);
    lf_dequantize_row(y, block, LF_DTYPE_Q8_0, 32);
    assert_true(y[0] == (float)(d * -100) || isnan(d));
    lf_dequantize_row(y, block, LF_DTYPE_Q4_0, 32);
    assert_true((y[0] == (float)(d * (12 - 8)) && y[31] == (float)(d * (9 - 8))) || isnan(d) || isinf(d));

    memcpy(block + 2, &h, sizeof h);
    memcpy(block + 4, scales, sizeof scales);
    lf_dequantize_row(y, block, LF_DTYPE_Q4_K, 256);
    for (int j = 0; j < 8; j++)
        assert_true(y[32 * j] == (float)(d * SC * (j % 2 ? 9 : 12) - d * M) || isnan(d) || isinf(d));
    lf_dequantize_row(y, block, LF_DTYPE_Q5_K, 256); /* fifth bits: 0x9c, so of sub-blocks 2, 3, 4 and 7 */
    for (int j = 0; j < 8; j++)
        assert_true(y[32 * j + 5] == (float)(d * SC * ((j % 2 ? 9 : 12) + (0x9c >> j & 1) * 16) - d * M) ||
                    isnan(d) || isinf(d));

    memset(block, 0x9c, sizeof block); /* q6_k: scales -100; low bits 12 or 9, upper bits 0, 3, 1, 2 */
    memcpy(block + 208, &h, sizeof h);
    lf_dequantize_row(y, block, LF_DTYPE_Q6_K, 256);
    const int q[4] = {12, 12 + 48, 9 + 16, 9 + 32};
    for (int j = 0; j < 8; j++)
        assert_true(y[32 * j + 31] == (float)(d * -100 * (q[j % 4] - 32)) || isnan(d) || isinf(d));
}

static void test_every_scale(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) check_scale((uint16_t)h);
}

/* What is left of a row of the given values, all equal but for their sign: the largest |y|, or NaN. */
static float largest_after(float value, lf_dtype dtype)
{
    float x[BLOCK_LEN_MAX], y[BLOCK_LEN_MAX], largest = 0.0f;
    uint8_t block[BLOCK_LEN_MAX * sizeof(float)];
    for (int i = 0; i < BLOCK_LEN_MAX; i++) x[i] = i % 3 ? value : -value;
    lf_quantize_row(block, x, dtype, BLOCK_LEN_MAX);
    lf_dequantize_row(y, block, dtype, BLOCK_LEN_MAX);
    for (int i = 0; i < BLOCK_LEN_MAX; i++) largest = isnan(y[i]) ? y[i] : fmaxf(largest, fabsf(y[i]));
    return largest;
}

static void test_extreme_values_are_defined(void **state)
{
    (void)state;
    for (lf_dtype dtype = LF_DTYPE_Q8_0; dtype < LF_DTYPE_COUNT; dtype++) {
        assert_true(largest_after(0.0f, dtype) == 0.0f);
        assert_true(largest_after(0x1p-149f, dtype) <= 0x1p-24f);
        assert_true(largest_after(0x1p-126f, dtype) <= 0x1p-24f);
        assert_true(largest_after(1e-30f, dtype) <= 0x1p-24f);
        assert_true(fabsf(largest_after(1e5f, dtype) - 1e5f) < 1e5f / 8);
        assert_true(!isfinite(largest_after(1e30f, dtype)));
        assert_true(!isfinite(largest_after(3.4e38f, dtype)));
    }
}

static void test_nonfinite_is_found(void **state)
{
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (lf_dtype dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
        enum { N = 3 * BLOCK_LEN_MAX };
        const uint32_t block_len = lf_dtype_of(dtype)->block_len;
        float x[N];
        uint8_t row[N * sizeof(float)];
        for (int i = 0; i < N; i++) x[i] = (float)(i % 17) - 8.0f;
        lf_quantize_row(row, x, dtype, N);
        assert_int_equal(lf_find_nonfinite(row, dtype, N), -1);
        assert_int_equal(lf_find_nonfinite(row, dtype, 0), -1);
        for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
            x[2 * BLOCK_LEN_MAX + 7] = bad[b];
            lf_quantize_row(row, x, dtype, N);
            assert_int_equal(lf_find_nonfinite(row, dtype, N), (2 * BLOCK_LEN_MAX + 7) / block_len);
            assert_int_equal(lf_find_nonfinite(row, dtype, 2 * BLOCK_LEN_MAX), -1);
        }
    }
}

/* The minimum of a k-quant is a scale too. */
static void test_nonfinite_minimum_is_found(void **state)
{
    (void)state;
    uint8_t block[BLOCK_BYTES_MAX] = {0};
    block[3] = 0x7c; /* dmin = infinity */
    assert_int_equal(lf_find_nonfinite(block, LF_DTYPE_Q4_K, 256), 0);
    assert_int_equal(lf_find_nonfinite(block, LF_DTYPE_Q5_K, 256), 0);
    assert_int_equal(lf_find_nonfinite(block, LF_DTYPE_Q6_K, 256), -1);
}

/* Root mean square error of a row of normal values, relative to theirs. */
static double relative_error(lf_dtype dtype)
{
    enum { N = 64 * BLOCK_LEN_MAX };
    static float x[N], y[N];
    static uint8_t row[N * sizeof(float)];
    uint64_t rng = 7;
    double error = 0.0, power = 0.0;
    for (int i = 0; i < N; i++) {
        x[i] = 0.0f; /* the sum of twelve uniform values is as good as normal here */
        for (int j = 0; j < 12; j++) x[i] += rng_uniform(&rng);
    }
    lf_quantize_row(row, x, dtype, N);
    lf_dequantize_row(y, row, dtype, N);
    for (int i = 0; i < N; i++) {
        error += (double)(y[i] - x[i]) * (double)(y[i] - x[i]);
        power += (double)x[i] * (double)x[i];
    }
    return sqrt(error / power);
}

static void test_more_bits_lose_less(void **state)
{
    (void)state;
    const lf_dtype finer[] = {LF_DTYPE_Q4_0, LF_DTYPE_Q4_K, LF_DTYPE_Q5_K, LF_DTYPE_Q6_K,
                              LF_DTYPE_Q8_0, LF_DTYPE_BF16, LF_DTYPE_F16,  LF_DTYPE_F32};
    assert_true(relative_error(LF_DTYPE_Q4_0) < 0.1);
    for (size_t i = 1; i < sizeof finer / sizeof *finer; i++)
        assert_true(relative_error(finer[i]) < 0.85 * relative_error(finer[i - 1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequantised_bytes_are_the_reference_s),
        cmocka_unit_test(test_quantised_bytes_are_the_reference_s),
        cmocka_unit_test(test_many_quantised_bytes_are_the_reference_s),
        cmocka_unit_test(test_f32_rows_are_copied),
        cmocka_unit_test(test_every_scale),
        cmocka_unit_test(test_extreme_values_are_defined),
        cmocka_unit_test(test_nonfinite_is_found),
        cmocka_unit_test(test_nonfinite_minimum_is_found),
        cmocka_unit_test(test_more_bits_lose_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
