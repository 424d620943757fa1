/* Events that are filled in as text: each must be what JSON's own writer would have made, whatever the text. */
#include "testing.h"

#include "../app/serve/chunk.h"

#include <stdlib.h>
#include <string.h>

/* A choice whose other members look like the place for the text. */
static json_t *choice(const char *text, size_t len)
{
    json_t *json = json_pack("{s:s, s:s, s:[{s:i, s:{s:s%}, s:n}]}", "id", "content", "model",
                             "x\",\"content\":\"?\",\"", "choices", "index", 3, "delta", "content",
                             text ? text : "", len, "logprobs");
    assert_non_null(json);
    return json;
}

static serve_chunk make(void)
{
    serve_chunk chunk;
    assert_true(serve_chunk_make(&chunk, choice(SERVE_CHUNK_MARK, 1), "content", JSON_COMPACT));
    return chunk;
}

static void expect_event(const serve_chunk *chunk, const char *text, size_t len)
{
    lf_bytes event = {0};
    assert_true(serve_chunk_write(&event, chunk, text, len));
    assert_memory_equal(event.data, "data: ", 6);
    assert_string_equal(event.data + event.len - 2, "\n\n");
    assert_null(memchr(event.data, '\n', event.len - 2)); /* which would end it */
    json_t *found = json_loads(event.data + 6, JSON_ALLOW_NUL, NULL), *expected = choice(text, len);
    assert_non_null(found);
    assert_true(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
    lf_bytes_free(&event);
}

static size_t encode(char *out, unsigned cp)
{
    if (cp < 0x80) return out[0] = (char)cp, 1;
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)(leads[n] | cp);
    return n;
}

static void test_every_character(void **state)
{
    (void)state;
    serve_chunk chunk = make();
    for (unsigned first = 0; first < 0x110000; first += first < 0x800 ? 1 : 97) {
        char text[64];
        size_t n = 0;
        for (unsigned cp = first; cp < first + 8 && cp < 0x110000; cp++)
            if (cp < 0xD800 || cp > 0xDFFF) n += encode(text + n, cp);
        expect_event(&chunk, text, n);
        if (first < 0x80) expect_event(&chunk, text, 1);
    }
    expect_event(&chunk, "", 0);
    expect_event(&chunk, NULL, 0);
    serve_chunk_free(&chunk);
}

/* Appended to what is there, one after the other. */
static void test_appends(void **state)
{
    (void)state;
    serve_chunk chunk = make();
    lf_bytes out = {0};
    for (int i = 0; i < 3; i++) assert_true(serve_chunk_write(&out, &chunk, "\"a\"", 3));
    const size_t each = out.len / 3;
    assert_int_equal(out.len, 3 * each);
    assert_memory_equal(out.data, out.data + each, each);
    assert_memory_equal(out.data, out.data + 2 * each, each);
    lf_bytes_free(&out);
    serve_chunk_free(&chunk);
}

static void test_without_a_place(void **state)
{
    (void)state;
    serve_chunk chunk;
    assert_false(serve_chunk_make(&chunk, json_pack("{s:s}", "text", "!"), "text", 0));
    assert_false(serve_chunk_make(&chunk, json_pack("{s:s}", "text", SERVE_CHUNK_MARK), "content", 0));
    assert_false(serve_chunk_make(&chunk, NULL, "text", 0));
    assert_null(chunk.event.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_without_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
