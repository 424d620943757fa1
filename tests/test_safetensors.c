/* file/safetensors: a real file against the reference package's reading of it, shards, and hostile headers. */
#include "testing.h"

#include "base/mem.h"
#include "file/safetensors.h"
#include "file_tools.h"
#include "oom.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Appends a file with this header and n_data bytes of data, 1 2 3... */
static void put_safetensors(lf_bytes *f, const char *header, size_t n_data)
{
    put_string(f, header);
    for (size_t i = 0; i < n_data; i++) put_u8(f, (uint8_t)(i + 1));
}

static void write_safetensors(const char *dir, const char *name, const char *header, size_t n_data)
{
    char path[600];
    lf_bytes f = {0};
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    put_safetensors(&f, header, n_data);
    write_file(path, f.data, f.len);
    lf_bytes_free(&f);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    write_file(path, text, strlen(text));
}

/* Everything that a set holds, in the form of tests/oracle/check_safetensors.py. */
static lf_bytes dump(const lf_safetensors *s)
{
    lf_bytes out = {0};
    for (size_t i = 0; i < lf_safetensors_n_tensors(s); i++) {
        const lf_tensor_info *t = lf_safetensors_tensor_at(s, i);
        assert_ptr_equal(lf_safetensors_find(s, t->name), t);
        (void)lf_bytes_printf(&out, "%s %s [", t->name, t->type_name);
        for (int k = 0; k < t->n_dims; k++)
            (void)lf_bytes_printf(&out, k == 0 ? "%" PRId64 : " %" PRId64, t->dims[k]);
        (void)lf_bytes_printf(&out, "] %zu %016" PRIx64 "\n", t->bytes, fnv1a(t->data, t->bytes));
    }
    return out;
}

/* Parses a copy of data[0..size) that ends where it ends, so that a sanitizer sees each read past it. */
static lf_status parse_exactly(const void *data, size_t size, lf_error *err)
{
    lf_safetensors *s = NULL;
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    const lf_status status = lf_safetensors_parse(&s, copy, size, "x.safetensors", err);
    assert_true((status == LF_OK) == (s != NULL));
    if (s) {
        lf_bytes text = dump(s);
        lf_bytes_free(&text);
    }
    lf_safetensors_close(s);
    free(copy);
    return status;
}

static const char small_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
    "\"flags\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[16,19]},"
    "\"tiny\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[19,20]},"
    "\"new\":{\"dtype\":\"Z9\",\"shape\":[2,2],\"data_offsets\":[20,23]},"
    "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[23,23]}}   ";
enum { SMALL_DATA_BYTES = 24 }; /* one more than the tensors claim, which is tolerated */

/* ---- reading ---- */

static void test_reads_a_real_file(void **state)
{
    (void)state;
    lf_error err;
    lf_safetensors *s;
    (void)require_data("models/hf/stories260K/model.safetensors");
    assert_ok(lf_safetensors_open_dir(&s, data_path("models/hf/stories260K"), &err), &err);
    lf_bytes text = dump(s);
    char *golden = read_file(golden_path("safetensors/stories260K.txt"), NULL);
    assert_string_equal(text.data, golden);
    free(golden);
    lf_bytes_free(&text);
    lf_safetensors_close(s);
}

static void test_reads_every_kind_of_tensor(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_safetensors *s;
    put_safetensors(&f, small_header, SMALL_DATA_BYTES);
    const char *data = f.data + 8 + strlen(small_header);
    assert_ok(lf_safetensors_parse(&s, f.data, f.len, "x.safetensors", &err), &err);
    assert_int_equal(lf_safetensors_n_tensors(s), 6);
    const lf_tensor_info *t = lf_safetensors_find(s, "a");
    assert_true(t->supported);
    assert_int_equal(t->dtype, LF_DTYPE_F32);
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->dims[0], 1);
    assert_int_equal(t->bytes, 4);
    assert_ptr_equal(t->data, data);
    t = lf_safetensors_find(s, "b");
    assert_true(t->supported);
    assert_int_equal(t->dtype, LF_DTYPE_BF16);
    assert_string_equal(t->type_name, "BF16");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->dims[3], 1);
    assert_ptr_equal(t->data, data + 4);
    t = lf_safetensors_find(s, "none");
    assert_true(t->supported);
    assert_int_equal(t->dtype, LF_DTYPE_F16);
    assert_int_equal(t->bytes, 0);
    const char *const unsupported[][2] = {{"flags", "BOOL"}, {"tiny", "F4"}, {"new", "Z9"}};
    for (size_t i = 0; i < 3; i++) {
        t = lf_safetensors_find(s, unsupported[i][0]);
        assert_false(t->supported);
        assert_string_equal(t->type_name, unsupported[i][1]);
    }
    assert_null(lf_safetensors_find(s, "__metadata__"));
    assert_null(lf_safetensors_find(s, "c"));
    lf_safetensors_close(s);
    lf_bytes_free(&f);
}

static void test_reads_an_empty_set(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_safetensors *s;
    put_safetensors(&f, "{}", 0);
    assert_ok(lf_safetensors_parse(&s, f.data, f.len, "x.safetensors", &err), &err);
    assert_int_equal(lf_safetensors_n_tensors(s), 0);
    assert_null(lf_safetensors_find(s, "a"));
    lf_safetensors_close(s);
    lf_bytes_free(&f);
}

/* ---- damaged files ---- */

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    put_safetensors(&f, small_header, SMALL_DATA_BYTES);
    for (size_t size = 0; size < f.len - 1; size++) { /* the last byte belongs to no tensor */
        err.text[0] = '\0';
        assert_int_equal(parse_exactly(f.data, size, &err), LF_EFORMAT);
        assert_ptr_equal(strstr(err.text, "x.safetensors: "), err.text);
    }
    assert_ok(parse_exactly(f.data, f.len - 1, &err), &err);
    lf_bytes_free(&f);
}

static void test_prefixes_of_a_real_file_are_refused(void **state)
{
    (void)state;
    size_t size;
    char *data = read_file(require_data("models/hf/stories260K/model.safetensors"), &size);
    for (size_t n = 0; n < size; n += n < 5000 ? 1 : size / 37)
        assert_int_equal(parse_exactly(data, n, NULL), LF_EFORMAT);
    assert_int_equal(parse_exactly(data, size - 1, NULL), LF_EFORMAT);
    assert_int_equal(parse_exactly(data, size, NULL), LF_OK);
    free(data);
}

static void test_flipped_bits_never_crash(void **state)
{
    (void)state;
    lf_bytes f = {0};
    size_t n_refused = 0;
    put_safetensors(&f, small_header, SMALL_DATA_BYTES);
    const size_t header_bytes = 8 + strlen(small_header);
    for (size_t i = 0; i < header_bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            f.data[i] = (char)(f.data[i] ^ 1 << bit);
            n_refused += parse_exactly(f.data, f.len, NULL) != LF_OK;
            f.data[i] = (char)(f.data[i] ^ 1 << bit);
        }
    assert_true(n_refused > 4 * header_bytes);
    lf_bytes_free(&f);
}

/* ---- lies ---- */

static void refuse(const char *header, size_t n_data, lf_status expected, const char *fragment)
{
    lf_bytes f = {0};
    lf_error err = {0};
    put_safetensors(&f, header, n_data);
    assert_error(parse_exactly(f.data, f.len, &err), expected, &err, fragment);
    assert_ptr_equal(strstr(err.text, "x.safetensors: "), err.text);
    lf_bytes_free(&f);
}

/* The header of one tensor with these fields. */
static void refuse_tensor(const char *fields, const char *fragment)
{
    char header[400];
    (void)snprintf(header, sizeof header, "{\"t\":%s}", fields);
    refuse(header, 8, LF_EFORMAT, fragment);
}

static void test_lies_in_the_header(void **state)
{
    (void)state;
    lf_error err;
    refuse("[]", 0, LF_EFORMAT, "found a header that is not a JSON object");
    refuse("", 0, LF_EFORMAT, "line 1 column 0: ");
    refuse("{\"a\":}", 0, LF_EFORMAT, "line 1 column 6: unexpected token near '}'");
    refuse("{} x", 0, LF_EFORMAT, "line 1 column 4: end of file expected near 'x'");
    refuse("{\"t\":{},\"t\":{}}", 0, LF_EFORMAT, "duplicate object key near '\"t\"'");
    refuse("{\"\xff\":{}}", 0, LF_EFORMAT, "unable to decode byte 0xff");
    refuse("{\"a\\u0000\":{}}", 0, LF_EFORMAT, "NUL byte in object key not supported");
    assert_error(parse_exactly("\377\377\377\377\377\377\377\377{}", 10, &err), LF_EFORMAT, &err,
                 "found a header length of 18446744073709551615, expected at most");
    assert_error(parse_exactly("\3\0\0\0\0\0\0\0{}", 10, &err), LF_EFORMAT, &err,
                 "found a header length of 3, expected at most");
    assert_error(parse_exactly("\2\0\0\0", 4, &err), LF_EFORMAT, &err,
                 "found 4 bytes, expected a header length of 8");
}

static void test_lies_in_tensors(void **state)
{
    (void)state;
    refuse_tensor("3", "tensor 't': found no dtype, expected a string");
    refuse_tensor("{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}", "tensor 't': found no dtype");
    refuse_tensor("{\"dtype\":\"F32\",\"data_offsets\":[0,8]}", "tensor 't': found no shape");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}", "tensor 't': found no shape");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}",
                  "dimension 0 of the shape is not");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[1,2.0],\"data_offsets\":[0,8]}",
                  "dimension 1 of the shape is not");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}",
                  "dimension 0 of the shape is not an integer >= 0");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}",
                  "tensor 't': the product of the shape overflows");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[1152921504606846976],\"data_offsets\":[0,0]}",
                  "tensor 't': found 0 bytes of data, expected 1152921504606846976 elements of F32");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}",
                  "tensor 't': found 8 bytes of data, expected 1 elements of F32");
    refuse_tensor("{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}",
                  "tensor 't': found 1 bytes of data, expected 3 elements of F4");
    refuse("{\"t\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, LF_EUNSUPPORTED,
           "tensor 't': found 5 dimensions, expected at most 4");
}

static void test_lies_in_offsets(void **state)
{
    (void)state;
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2]}", "tensor 't': found no data_offsets [begin, end]");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}", "found no data_offsets");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,\"8\"]}", "found no data_offsets");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}", "found no data_offsets");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}",
                  "tensor 't': found data_offsets [8, 0], expected a range within the 8 bytes");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}", "found data_offsets [-8, 0]");
    refuse_tensor("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}", "found data_offsets [1, 9]");
    refuse_tensor(
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9223372036854775800,9223372036854775807]}",
        "found data_offsets [9223372036854775800, 9223372036854775807]");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[3,8]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
           8, LF_EFORMAT, "tensor 'a' begins 3 bytes into the 4 bytes of tensor 'b', expected no overlap");
}

/* ---- folders ---- */

#define TENSOR_U8(name, from, to)                                                                            \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[" #from "," #to "]}"

static const char shard_1[] = "{" TENSOR_U8("a", 0, 2) "," TENSOR_U8("c", 2, 4) "}";
static const char shard_2[] = "{" TENSOR_U8("b", 0, 2) "," TENSOR_U8("extra", 2, 4) "}";
static const char index_name[] = "model.safetensors.index.json";
static const char good_index[] =
    "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\","
    "\"c\":\"m-1.safetensors\"}}";

static char *make_sharded_dir(const char *index)
{
    char *dir = make_temp_dir();
    write_safetensors(dir, "m-1.safetensors", shard_1, 4);
    write_safetensors(dir, "m-2.safetensors", shard_2, 4);
    write_text(dir, index_name, index);
    return dir;
}

static void test_reads_shards(void **state)
{
    (void)state;
    lf_error err;
    lf_safetensors *s;
    char *dir = make_sharded_dir(good_index);
    assert_ok(lf_safetensors_open_dir(&s, dir, &err), &err);
    assert_int_equal(lf_safetensors_n_tensors(s), 4); /* "extra" is not in the index, and is no harm */
    const struct {
        const char *name, *data;
    } expected[] = {{"a", "\1\2"}, {"b", "\1\2"}, {"c", "\3\4"}, {"extra", "\3\4"}};
    for (size_t i = 0; i < 4; i++) {
        const lf_tensor_info *t = lf_safetensors_find(s, expected[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, 2);
        assert_memory_equal(t->data, expected[i].data, 2);
    }
    lf_safetensors_close(s);
    remove_tree(dir);
    free(dir);
}

static void refuse_index(const char *index, lf_status expected, const char *fragment)
{
    lf_error err = {0};
    lf_safetensors *s = NULL;
    char *dir = make_sharded_dir(index);
    assert_error(lf_safetensors_open_dir(&s, dir, &err), expected, &err, fragment);
    assert_null(s);
    assert_ptr_equal(strstr(err.text, dir), err.text);
    remove_tree(dir);
    free(dir);
}

static void test_lies_in_the_index(void **state)
{
    (void)state;
    refuse_index("{}", LF_EFORMAT, "index.json: found no weight_map, expected an object of tensor: file");
    refuse_index("{\"weight_map\":[1]}", LF_EFORMAT, "found no weight_map");
    refuse_index("{\"weight_map\":{\"a\":1}}", LF_EFORMAT, "tensor 'a': found shard '(not a string)'");
    refuse_index("{\"weight_map\":{\"a\":\"\"}}", LF_EFORMAT, "tensor 'a': found shard ''");
    refuse_index(
        "{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", LF_EFORMAT,
        "tensor 'a': found shard '../m-1.safetensors', expected the name of a file beside the index");
    refuse_index("{\"weight_map\":{\"a\":\"..\"}}", LF_EIO, "found a directory, expected a regular file");
    refuse_index("{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", LF_EIO, "m-3.safetensors: cannot open");
    refuse_index("{\"weight_map\":{\"d\":\"m-1.safetensors\"}}", LF_EFORMAT,
                 "found no tensor 'd' in m-1.safetensors, expected it there");
    refuse_index("{\"weight_map\":{\"b\":\"m-1.safetensors\",\"a\":\"m-2.safetensors\"}}", LF_EFORMAT,
                 "found no tensor 'b' in m-1.safetensors, expected it there");
    refuse_index("{\"weight_map\":", LF_EFORMAT, "index.json: line 1 column 14: ");
}

static void test_one_name_in_two_shards(void **state)
{
    (void)state;
    lf_error err = {0};
    lf_safetensors *s = NULL;
    char *dir = make_sharded_dir(good_index);
    write_safetensors(dir, "m-2.safetensors", "{" TENSOR_U8("b", 0, 2) "," TENSOR_U8("c", 2, 4) "}", 4);
    assert_error(lf_safetensors_open_dir(&s, dir, &err), LF_EFORMAT, &err,
                 "found tensor 'c' in two shards, expected it in one");
    write_safetensors(dir, "m-2.safetensors", "{" TENSOR_U8("b", 0, 2) "}", 1); /* a truncated shard */
    assert_error(lf_safetensors_open_dir(&s, dir, &err), LF_EFORMAT, &err,
                 "m-2.safetensors: tensor 'b': found data_offsets [0, 2]");
    remove_tree(dir);
    free(dir);
}

static void test_folder_without_weights(void **state)
{
    (void)state;
    lf_error err = {0};
    lf_safetensors *s = NULL;
    char *dir = make_temp_dir();
    assert_error(lf_safetensors_open_dir(&s, dir, &err), LF_EIO, &err,
                 ": found neither model.safetensors nor model.safetensors.index.json");
    write_safetensors(dir, "model.safetensors", "{}", 0); /* comes before an index */
    write_text(dir, index_name, "not JSON");
    assert_ok(lf_safetensors_open_dir(&s, dir, &err), &err);
    lf_safetensors_close(s);
    remove_tree(dir);
    free(dir);
}

static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    oom_require();
    lf_error err;
    char *dir = make_sharded_dir(good_index);
    for (long n = 1;; n++) {
        const long live = oom_live();
        lf_safetensors *s = NULL;
        oom_fail_at(n);
        const lf_status status = lf_safetensors_open_dir(&s, dir, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        lf_safetensors_close(s);
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            assert_true(n > (oom_sees_libraries() ? 30 : 1));
            break;
        }
        if (status != LF_OK) {
            if (status != LF_ENOMEM) fail_msg("allocation %ld: %s", n, err.text);
            assert_null(s);
        }
    }
    remove_tree(dir);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_real_file),
        cmocka_unit_test(test_reads_every_kind_of_tensor),
        cmocka_unit_test(test_reads_an_empty_set),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_prefixes_of_a_real_file_are_refused),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_lies_in_the_header),
        cmocka_unit_test(test_lies_in_tensors),
        cmocka_unit_test(test_lies_in_offsets),
        cmocka_unit_test(test_reads_shards),
        cmocka_unit_test(test_lies_in_the_index),
        cmocka_unit_test(test_one_name_in_two_shards),
        cmocka_unit_test(test_folder_without_weights),
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
