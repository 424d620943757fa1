#include "tokenizer_fixture.h"

#include <stdlib.h>
#include <string.h>

void put_ranks(lf_bytes *out, int n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < n; i++)
        assert_true(lf_bytes_printf(out, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i));
}

const char small_merges[] = "#version: 0.2\nh e\nl l\nhe ll\n";

void put_small_vocab(lf_bytes *vocab)
{
    assert_true(lf_bytes_printf(vocab, "{"));
    for (int i = 0; i < 95; i++)
        assert_true(lf_bytes_printf(vocab, "\"\\u%04x\":%d,", i == 94 ? 0x120 : 0x21 + i, i));
    assert_true(lf_bytes_printf(vocab, "\"he\":95,\"ll\":96,\"hell\":97,\"<|endoftext|>\":98}"));
}

void expect_ids(const lf_tokenizer *t, const char *text, bool special, const int32_t *expected, size_t n)
{
    lf_ids ids = {0};
    lf_error err;
    assert_ok(lf_tokenizer_encode(t, text, strlen(text), special, &ids, &err), &err);
    assert_int_equal(ids.len, n);
    assert_memory_equal(ids.data, expected, n * sizeof *expected);
    lf_ids_free(&ids);
}
