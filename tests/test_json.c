/* file/json: every JSON file of the data folder, typed members, and what must be refused. */
#include "testing.h"

#include "base/mem.h"
#include "file/json.h"
#include "file_tools.h"
#include "oom.h"

#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text)
{
    lf_error err;
    json_t *root = NULL;
    assert_ok(lf_json_parse(&root, text, strlen(text), "x.json", &err), &err);
    return root;
}

static void refuse(const char *text, size_t size, const char *fragment)
{
    lf_error err = {0};
    json_t *root = NULL;
    char *copy = malloc(size ? size : 1); /* ends where it ends, for the sanitizers */
    assert_non_null(copy);
    memcpy(copy, text, size);
    assert_error(lf_json_parse(&root, copy, size, "x.json", &err), LF_EFORMAT, &err, fragment);
    assert_null(root);
    assert_ptr_equal(strstr(err.text, "x.json: line "), err.text);
    free(copy);
}

/* ---- real files ---- */

static void test_reads_a_real_config(void **state)
{
    (void)state;
    lf_error err;
    json_t *root;
    const char *path = require_data("configs/committed/llama-3.2-3b-instruct.config.json"),
               *model_type = NULL;
    int64_t hidden_size = 0, absent = 7;
    double rope_theta = 0, eps = 0;
    bool tied = false;
    assert_ok(lf_json_load(&root, path, &err), &err);
    assert_ok(lf_json_get_int(root, path, "hidden_size", true, &hidden_size, &err), &err);
    assert_ok(lf_json_get_float(root, path, "rope_theta", true, &rope_theta, &err), &err);
    assert_ok(lf_json_get_float(root, path, "rms_norm_eps", true, &eps, &err), &err);
    assert_ok(lf_json_get_bool(root, path, "tie_word_embeddings", true, &tied, &err), &err);
    assert_ok(lf_json_get_string(root, path, "model_type", true, &model_type, &err), &err);
    assert_ok(lf_json_get_int(root, path, "no_such_key", false, &absent, &err), &err);
    assert_int_equal(hidden_size, 3072);
    assert_true(rope_theta == 500000.0 && eps == 1e-5);
    assert_true(tied);
    assert_string_equal(model_type, "llama");
    assert_int_equal(absent, 7);
    json_decref(root);
}

static void test_loads_real_tokenizers(void **state)
{
    (void)state;
    const char *const names[] = {
        "tokenizers/llama2/tokenizer.json",         "tokenizers/llama2/tokenizer_config.json",
        "tokenizers/mistral/tokenizer.json",        "tokenizers/mistral/tokenizer_config.json",
        "tokenizers/llama3/tokenizer_config.json",  "tokenizers/qwen2.5/vocab.json",
        "tokenizers/qwen2.5/tokenizer_config.json", "tokenizers/gpt2/vocab.json",
        "gguf/ollama-mini_llama-tokenizer.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lf_error err;
        json_t *root;
        assert_ok(lf_json_load(&root, require_data(names[i]), &err), &err);
        assert_true(json_object_size(root) > 1);
        json_decref(root);
    }
}

/* ---- members ---- */

static void test_typed_members(void **state)
{
    (void)state;
    lf_error err;
    json_t *root = parse(
        "{\"i\":-5,\"r\":2.5,\"whole\":32768.0,\"big\":9223372036854775807,\"t\":true,\"f\":false,"
        "\"s\":\"t\xc3\xa9xt\",\"n\":null}");
    int64_t i = 7;
    double d = 7;
    bool b = false;
    const char *s = "default";
    assert_ok(lf_json_get_int(root, "x.json", "i", true, &i, &err), &err);
    assert_int_equal(i, -5);
    assert_ok(lf_json_get_int(root, "x.json", "whole", true, &i, &err), &err);
    assert_int_equal(i, 32768);
    assert_ok(lf_json_get_int(root, "x.json", "big", true, &i, &err), &err);
    assert_true(i == INT64_MAX);
    assert_ok(lf_json_get_int(root, "x.json", "n", false, &i, &err), &err); /* null is absent */
    assert_true(i == INT64_MAX);
    assert_ok(lf_json_get_float(root, "x.json", "r", true, &d, &err), &err);
    assert_true(d == 2.5);
    assert_ok(lf_json_get_float(root, "x.json", "i", true, &d, &err), &err);
    assert_true(d == -5.0);
    assert_ok(lf_json_get_bool(root, "x.json", "t", true, &b, &err), &err);
    assert_true(b);
    assert_ok(lf_json_get_bool(root, "x.json", "f", true, &b, &err), &err);
    assert_false(b);
    assert_ok(lf_json_get_string(root, "x.json", "absent", false, &s, &err), &err);
    assert_string_equal(s, "default");
    assert_ok(lf_json_get_string(root, "x.json", "s", true, &s, &err), &err);
    assert_string_equal(s, "t\xc3\xa9xt");
    json_decref(root);
}

static void test_members_of_another_type(void **state)
{
    (void)state;
    lf_error err;
    json_t *root = parse(
        "{\"i\":1,\"r\":2.5,\"huge\":1e300,\"s\":\"1\",\"n\":null,\"a\":[],\"o\":{},\"t\":true}");
    json_t *array = parse("[1]");
    int64_t i = 7;
    double d = 7;
    bool b = false;
    const char *s = NULL;
    assert_error(lf_json_get_int(root, "x.json", "absent", true, &i, &err), LF_EFORMAT, &err,
                 "x.json: key 'absent': found no such key, expected a value");
    assert_error(lf_json_get_int(root, "x.json", "n", true, &i, &err), LF_EFORMAT, &err,
                 "key 'n': found null, expected a value");
    assert_error(lf_json_get_int(root, "x.json", "s", false, &i, &err), LF_EFORMAT, &err,
                 "x.json: key 's': found a string, expected an integer");
    assert_error(lf_json_get_int(root, "x.json", "r", true, &i, &err), LF_EFORMAT, &err,
                 "found 2.5, expected an integer within 2^53");
    assert_error(lf_json_get_int(root, "x.json", "huge", true, &i, &err), LF_EFORMAT, &err,
                 "found 1e+300, expected an integer");
    assert_error(lf_json_get_int(root, "x.json", "t", true, &i, &err), LF_EFORMAT, &err,
                 "found true, expected an integer");
    assert_error(lf_json_get_float(root, "x.json", "a", true, &d, &err), LF_EFORMAT, &err,
                 "found an array, expected a number");
    assert_error(lf_json_get_bool(root, "x.json", "i", true, &b, &err), LF_EFORMAT, &err,
                 "found an integer, expected true or false");
    assert_error(lf_json_get_string(root, "x.json", "o", true, &s, &err), LF_EFORMAT, &err,
                 "found an object, expected a string");
    assert_error(lf_json_get_string(root, "x.json", "r", true, &s, &err), LF_EFORMAT, &err,
                 "found a real number, expected a string");
    assert_error(lf_json_get_int(array, "x.json", "k", false, &i, &err), LF_EFORMAT, &err,
                 "x.json: found an array in place of the object with key 'k'");
    assert_error(lf_json_get_int(NULL, "x.json", "k", false, &i, &err), LF_EFORMAT, &err,
                 "found nothing in place of the object");
    assert_int_equal(i, 7);
    json_decref(array);
    json_decref(root);
}

/* An integer beyond 64 bits turns the file's integers into reals, from which lf_json_get_int still reads them. */
static void test_integers_beyond_64_bits(void **state)
{
    (void)state;
    lf_error err;
    int64_t i = 0;
    double d = 0;
    json_t *root = parse("{\"model_max_length\":1000000000000000019884624838656,\"id\":9007199254740992}");
    assert_ok(lf_json_get_int(root, "x.json", "id", true, &i, &err), &err);
    assert_true(i == INT64_C(9007199254740992));
    assert_ok(lf_json_get_float(root, "x.json", "model_max_length", true, &d, &err), &err);
    assert_true(d == 1e30);
    assert_error(lf_json_get_int(root, "x.json", "model_max_length", true, &i, &err), LF_EFORMAT, &err,
                 "found 1e+30, expected an");
    json_decref(root);
}

/* ---- what is refused ---- */

static void test_malformed_text(void **state)
{
    (void)state;
    char deep[5000];
    memset(deep, '[', sizeof deep);
    refuse("", 0, "line 1 column 0: ");
    refuse("{\n\"a\": 1,\n}", 12, "line 3 column 1: string or '}' expected near '}'");
    refuse("{} {}", 5, "line 1 column 4: end of file expected near '{'");
    refuse("{\"a\":1,\"a\":2}", 13, "duplicate object key near '\"a\"'");
    refuse("{\"a\":\"\xff\"}", 9, "unable to decode byte 0xff");
    refuse("{\"a\":\"\xc0\x80\"}", 10, "unable to decode byte 0xc0"); /* an overlong NUL */
    refuse("{\"a\":\"\\ud800\"}", 14, "invalid Unicode '\\uD800'");
    refuse("{\"a\":\"\\u0000\"}", 14, "\\u0000 is not allowed");
    refuse("{\"a\":1e999}", 11, "real number overflow");
    refuse("{\"a\":NaN}", 9, "invalid token near 'NaN'");
    refuse("{\"a\":1}\0", 8, "end of file expected");
    refuse(deep, sizeof deep, "maximum parsing depth reached");
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,-2.5e3,\"s\\u00e9\"],\"b\":{\"c\":null,\"d\":true}}";
    for (size_t n = 0; n < sizeof text - 1; n++) refuse(text, n, ": ");
    json_decref(parse(text));
}

static void test_load_says_what_is_wrong(void **state)
{
    (void)state;
    lf_error err;
    json_t *root = NULL;
    assert_error(lf_json_load(&root, "/nonexistent/x.json", &err), LF_EIO, &err,
                 "/nonexistent/x.json: cannot open: No such file");
    assert_null(root);
}

static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    /* The last number makes it parse twice. It is shorter than the string, for the reason that json.c gives. */
    static const char text[] = "{\"a\":[1,-2.5e3,\"a string that is longer than the number below\",[],{}],"
                               "\"b\":{\"c\":null,\"d\":true},\"c\":1000000000000000019884624838656}";
    oom_require();
    if (!oom_sees_libraries()) skip(); /* they are all Jansson's */
    for (long n = 1;; n++) {
        const long live = oom_live();
        lf_error err = {0};
        json_t *root = NULL;
        oom_fail_at(n);
        const lf_status status = lf_json_parse(&root, text, strlen(text), "x.json", &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        json_decref(root);
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            assert_true(n > 30);
            break;
        }
        assert_null(root);
        if (status != LF_ENOMEM) fail_msg("allocation %ld: %s", n, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_real_config),
        cmocka_unit_test(test_loads_real_tokenizers),
        cmocka_unit_test(test_typed_members),
        cmocka_unit_test(test_members_of_another_type),
        cmocka_unit_test(test_integers_beyond_64_bits),
        cmocka_unit_test(test_malformed_text),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_load_says_what_is_wrong),
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
