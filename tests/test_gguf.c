/* file/gguf: reading. Real files against dumps of the Python package `gguf`, every value type, typed look-ups. */
#include "testing.h"

#include "file_tools.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- real files ---- */

static void check_against_golden(const char *data_name, const char *golden_name)
{
    lf_error err;
    lf_gguf *g;
    assert_ok(lf_gguf_open(&g, require_data(data_name), &err), &err);
    lf_bytes text = dump_gguf(g);
    char *golden = read_file(golden_path(golden_name), NULL);
    assert_string_equal(text.data, golden);
    free(golden);
    lf_bytes_free(&text);
    lf_gguf_close(g);
}

static void test_reads_a_real_model(void **state)
{
    (void)state;
    check_against_golden("gguf/llama-2-tiny-random.gguf", "gguf/llama-2-tiny-random.gguf.txt");
}

static void test_reads_real_vocabularies(void **state)
{
    (void)state;
    check_against_golden("tokenizers/vectors/ggml-vocab-gpt-2.gguf", "gguf/ggml-vocab-gpt-2.gguf.txt");
    check_against_golden("tokenizers/vectors/ggml-vocab-llama-spm.gguf",
                         "gguf/ggml-vocab-llama-spm.gguf.txt");
}

/* ---- values and tensors ---- */

static void test_reads_every_type(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_gguf *g;
    (void)put_small_file(&f);
    assert_ok(lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err), &err);
    assert_string_equal(lf_gguf_name(g), "x.gguf");
    assert_int_equal(lf_gguf_version(g), 3);
    assert_int_equal(lf_gguf_n_values(g), N_SMALL_KEYS);
    assert_int_equal(lf_gguf_find(g, "a.u8")->u, 200);
    assert_int_equal(lf_gguf_find(g, "a.i8")->i, -100);
    assert_int_equal(lf_gguf_find(g, "a.u16")->u, 60000);
    assert_int_equal(lf_gguf_find(g, "a.i16")->i, -30000);
    assert_int_equal(lf_gguf_find(g, "a.u32")->u, 4000000000u);
    assert_int_equal(lf_gguf_find(g, "a.i32")->i, -2000000000);
    assert_true(lf_gguf_find(g, "a.u64")->u == UINT64_MAX);
    assert_true(lf_gguf_find(g, "a.i64")->i == INT64_MIN);
    assert_true(lf_gguf_find(g, "a.f32")->f == 1.5);
    assert_true(lf_gguf_find(g, "a.f64")->f == 1e-300);
    assert_int_equal(lf_gguf_find(g, "a.bool")->u, 1);
    assert_int_equal(lf_gguf_find(g, "a.string")->len, 4);
    assert_memory_equal(lf_gguf_find(g, "a.string")->str, "text", 4);
    assert_null(lf_gguf_find(g, "a"));
    assert_null(lf_gguf_find(g, ""));
    assert_null(lf_gguf_find_tensor(g, "a.u8"));
    lf_gguf_close(g);
    lf_bytes_free(&f);
}

static void test_reads_arrays(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_gguf *g;
    (void)put_small_file(&f);
    assert_ok(lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err), &err);
    const lf_gguf_value *v = lf_gguf_find(g, "b.i8s");
    assert_int_equal(v->type, LF_GGUF_ARRAY);
    assert_int_equal(v->item_type, LF_GGUF_I8);
    assert_int_equal(v->count, 3);
    assert_int_equal(lf_gguf_array_int(v, 0), -1);
    assert_true(lf_gguf_array_float(v, 2) == -3.0);
    assert_int_equal(lf_gguf_array_int(lf_gguf_find(g, "b.i16s"), 1), 300);
    assert_true(lf_gguf_array_int(lf_gguf_find(g, "b.u64s"), 1) == INT64_MAX); /* the nearest that fits */
    assert_true(lf_gguf_array_float(lf_gguf_find(g, "b.u64s"), 1) == 0x1p64);
    v = lf_gguf_find(g, "b.f32s");
    assert_true(lf_gguf_array_float(v, 0) == 0.25);
    assert_true(lf_gguf_array_int(v, 1) == INT64_MIN);
    assert_int_equal(lf_gguf_array_int(v, 2), 0); /* NaN */
    assert_true(isnan(lf_gguf_array_float(v, 2)));
    assert_int_equal(lf_gguf_array_int(lf_gguf_find(g, "b.bools"), 2), 1);

    v = lf_gguf_find(g, "b.strings");
    const char *const expected[] = {"one", "", "three"};
    const uint8_t *cursor = v->items;
    assert_int_equal(v->count, 3);
    for (size_t i = 0; i < v->count; i++) {
        const char *str;
        size_t len;
        lf_gguf_array_next_string(&cursor, &str, &len);
        assert_int_equal(len, strlen(expected[i]));
        assert_memory_equal(str, expected[i], len);
    }
    assert_int_equal(lf_gguf_find(g, "b.none")->count, 0);
    lf_gguf_close(g);
    lf_bytes_free(&f);
}

static void test_reads_tensors(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_gguf *g;
    const size_t header_bytes = put_small_file(&f);
    const uint8_t *data = (const uint8_t *)f.data +
                          (header_bytes + 63) / 64 * 64; /* general.alignment is 64 */
    assert_ok(lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err), &err);
    assert_int_equal(lf_gguf_n_tensors(g), N_SMALL_TENSORS);
    const lf_tensor_info *t = lf_gguf_find_tensor(g, "t.f32");
    assert_true(t->supported);
    assert_string_equal(t->type_name, "f32");
    assert_int_equal(t->dtype, LF_DTYPE_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->dims[2], 1);
    assert_int_equal(t->bytes, 24);
    assert_ptr_equal(t->data, data);
    t = lf_gguf_find_tensor(g, "t.q8_0");
    assert_int_equal(t->dtype, LF_DTYPE_Q8_0);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 1);
    assert_int_equal(t->dims[2], 32);
    assert_int_equal(t->bytes, 68);
    assert_ptr_equal(t->data, data + 64);
    t = lf_gguf_find_tensor(g, "t.q5_1");
    assert_false(t->supported);
    assert_string_equal(t->type_name, "q5_1");
    assert_null(t->data);
    assert_string_equal(lf_gguf_find_tensor(g, "t.new")->type_name, "type 12345");
    lf_gguf_close(g);
    lf_bytes_free(&f);
}

static void test_typed_look_ups(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_gguf *g;
    int64_t i = 7;
    double d = 7;
    bool b = true;
    char *s = NULL;
    (void)put_small_file(&f);
    assert_ok(lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err), &err);
    assert_ok(lf_gguf_get_int(g, "absent", false, &i, &err), &err);
    assert_int_equal(i, 7);
    assert_ok(lf_gguf_get_int(g, "a.u32", true, &i, &err), &err);
    assert_int_equal(i, 4000000000);
    assert_ok(lf_gguf_get_int(g, "a.i8", true, &i, &err), &err);
    assert_int_equal(i, -100);
    assert_ok(lf_gguf_get_float(g, "absent", false, &d, &err), &err);
    assert_true(d == 7.0);
    assert_ok(lf_gguf_get_float(g, "a.f32", true, &d, &err), &err);
    assert_true(d == 1.5);
    assert_ok(lf_gguf_get_bool(g, "a.bool", true, &b, &err), &err);
    assert_true(b);
    assert_ok(lf_gguf_get_string(g, "absent", false, &s, &err), &err);
    assert_null(s);
    assert_ok(lf_gguf_get_string(g, "a.string", true, &s, &err), &err);
    assert_string_equal(s, "text");
    free(s);

    assert_error(lf_gguf_get_int(g, "absent", true, &i, &err), LF_EFORMAT, &err,
                 "x.gguf: key 'absent': found no such key");
    assert_error(lf_gguf_get_int(g, "a.f32", false, &i, &err), LF_EFORMAT, &err,
                 "'a.f32': found type float32, expected an integer");
    assert_error(lf_gguf_get_int(g, "a.bool", true, &i, &err), LF_EFORMAT, &err,
                 "found type bool, expected an integer");
    assert_error(lf_gguf_get_int(g, "b.i8s", true, &i, &err), LF_EFORMAT, &err,
                 "found type array, expected an integer");
    assert_error(lf_gguf_get_int(g, "a.u64", true, &i, &err), LF_EFORMAT, &err,
                 "found 18446744073709551615, expected at most 9223372036854775807");
    assert_error(lf_gguf_get_float(g, "a.u8", true, &d, &err), LF_EFORMAT, &err,
                 "found type uint8, expected a float");
    assert_error(lf_gguf_get_bool(g, "a.u8", true, &b, &err), LF_EFORMAT, &err,
                 "found type uint8, expected bool");
    assert_error(lf_gguf_get_string(g, "a.u8", true, &s, &err), LF_EFORMAT, &err,
                 "found type uint8, expected string");
    lf_gguf_close(g);
    lf_bytes_free(&f);
}

static void test_string_with_nul(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_gguf *g;
    char *s = NULL;
    put_start(&f, 2, 0, 1); /* version 2 has the same layout */
    put_key(&f, "k", LF_GGUF_STRING);
    put_u64(&f, 3);
    put(&f, "a\0b", 3);
    assert_ok(lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err), &err);
    assert_int_equal(lf_gguf_version(g), 2);
    assert_int_equal(lf_gguf_find(g, "k")->len, 3);
    assert_error(lf_gguf_get_string(g, "k", true, &s, &err), LF_EFORMAT, &err,
                 "key 'k': found a NUL inside the string");
    assert_null(s);
    lf_gguf_close(g);
    lf_bytes_free(&f);
}

/* ---- files ---- */

static void test_open_says_what_is_wrong(void **state)
{
    (void)state;
    lf_error err;
    lf_gguf *g = NULL;
    char *dir = make_temp_dir(), path[512];
    assert_error(lf_gguf_open(&g, dir, &err), LF_EIO, &err, "found a directory, expected a regular file");
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    assert_error(lf_gguf_open(&g, path, &err), LF_EIO, &err, "No such file");
    write_file(path, "", 0);
    assert_error(lf_gguf_open(&g, path, &err), LF_EIO, &err, "the file is empty");
    write_file(path, "not a model", 11);
    assert_int_equal(lf_gguf_open(&g, path, &err), LF_EFORMAT);
    assert_ptr_equal(strstr(err.text, path), err.text);
    assert_null(g);
    remove_tree(dir);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_real_model), cmocka_unit_test(test_reads_real_vocabularies),
        cmocka_unit_test(test_reads_every_type),   cmocka_unit_test(test_reads_arrays),
        cmocka_unit_test(test_reads_tensors),      cmocka_unit_test(test_typed_look_ups),
        cmocka_unit_test(test_string_with_nul),    cmocka_unit_test(test_open_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
