/* base/: sizes, vectors, Philox against its published vectors, statuses. */
#include "testing.h"

#include "base/mem.h"
#include "base/philox.h"
#include "base/status.h"
#include "tensor/half.h"

#include <math.h>
#include <string.h>

/* The known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10). */
static void test_philox_known_answers(void **state)
{
    (void)state;
    const struct {
        uint32_t counter[4], key[2], expected[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        lf_philox4x32(out, cases[i].counter, cases[i].key);
        assert_memory_equal(out, cases[i].expected, sizeof out);
    }
    assert_true(lf_unit_open(0) > 0.0f && lf_unit_open(~0u) < 1.0f);
}

static void test_sizes_overflow(void **state)
{
    (void)state;
    size_t out = 7;
    assert_false(lf_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(lf_add_size(SIZE_MAX, 1, &out));
    assert_true(lf_mul_size(1u << 20, 3, &out));
    assert_int_equal(out, 3u << 20);
}

static void test_bytes_and_ids_grow(void **state)
{
    (void)state;
    lf_bytes b = {0};
    lf_ids ids = {0};
    for (int i = 0; i < 1000; i++) {
        assert_true(lf_bytes_printf(&b, "%d,", i % 10));
        assert_true(lf_ids_push(&ids, i));
    }
    assert_int_equal(b.len, 2000);
    assert_int_equal(strlen(b.data), 2000);
    assert_int_equal(ids.data[999], 999);
    lf_bytes_free(&b);
    lf_ids_free(&ids);
}

/* Every 16-bit pattern survives the way to float and back (NaNs become quiet). */
static void test_half_formats_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float from_f16 = lf_f16_to_float((uint16_t)h), from_bf16 = lf_bf16_to_float((uint16_t)h);
        if (isnan(from_f16))
            assert_true(isnan(lf_f16_to_float(lf_f16_from_float(from_f16))));
        else
            assert_int_equal(lf_f16_from_float(from_f16), h);
        if (isnan(from_bf16))
            assert_true(isnan(lf_bf16_to_float(lf_bf16_from_float(from_bf16))));
        else
            assert_int_equal(lf_bf16_from_float(from_bf16), h);
    }
    assert_int_equal(lf_f16_from_float(65520.0f), 0x7c00);
    assert_int_equal(lf_f16_from_float(65519.0f), 0x7bff);
    assert_int_equal(lf_f16_from_float(0x1p-25f), 0);
    assert_int_equal(lf_f16_from_float(0x1.8p-25f), 1);
}

static void test_fail_fills_the_error(void **state)
{
    (void)state;
    lf_error err;
    assert_int_equal(lf_fail(&err, LF_EIO, "%s: found %d", "x", 3), LF_EIO);
    assert_string_equal(err.text, "x: found 3");
    assert_int_equal(lf_fail(NULL, LF_ELIMIT, "nobody listens"), LF_ELIMIT);
    assert_string_equal(lf_status_name(LF_EFORMAT), "malformed file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers), cmocka_unit_test(test_sizes_overflow),
        cmocka_unit_test(test_bytes_and_ids_grow),   cmocka_unit_test(test_half_formats_round_trip),
        cmocka_unit_test(test_fail_fills_the_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
