/* file/gguf: hostile files. Cut at each byte, with each bit flipped, with no memory to read them, and one case for each
 * lie that a header can tell: always an error that says where, what was found and what was expected. */
#include "testing.h"

#include "file_tools.h"
#include "oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parses a copy of data[0..size) that ends where it ends, so that a sanitizer sees each read past it. */
static lf_status parse_exactly(const void *data, size_t size, bool look, lf_error *err)
{
    lf_gguf *g = NULL;
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    const lf_status status = lf_gguf_parse(&g, copy, size, "x.gguf", err);
    assert_true((status == LF_OK) == (g != NULL));
    if (g && look) {
        lf_bytes text = dump_gguf(g);
        lf_bytes_free(&text);
    }
    lf_gguf_close(g);
    free(copy);
    return status;
}

/* ---- damaged files ---- */

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    (void)put_small_file(&f);
    /* The last tensor whose size is known ends 132 bytes into the data; the foreign ones begin after 192 and 256. */
    for (size_t size = 0; size < f.len; size++) {
        err.text[0] = '\0';
        assert_int_equal(parse_exactly(f.data, size, false, &err), LF_EFORMAT);
        assert_ptr_equal(strstr(err.text, "x.gguf: "), err.text);
    }
    assert_ok(parse_exactly(f.data, f.len, true, &err), &err);
    lf_bytes_free(&f);
}

static void check_prefixes_of_real_file(const char *path, size_t header_bytes)
{
    size_t size;
    char *data = read_file(path, &size);
    const size_t stride = header_bytes / 61 + 1;
    for (size_t n = 0; n < header_bytes; n += n < 2000 ? 1 : stride)
        assert_int_equal(parse_exactly(data, n, false, NULL), LF_EFORMAT);
    if (header_bytes < size) assert_int_equal(parse_exactly(data, size - 1, false, NULL), LF_EFORMAT);
    assert_int_equal(parse_exactly(data, size, false, NULL), LF_OK);
    free(data);
}

static void test_prefixes_of_real_files_are_refused(void **state)
{
    (void)state;
    check_prefixes_of_real_file(require_data("gguf/llama-2-tiny-random.gguf"), 724000);
    check_prefixes_of_real_file(require_data("tokenizers/vectors/ggml-vocab-gpt-2.gguf"), 1766800);
    check_prefixes_of_real_file(require_data("tokenizers/vectors/ggml-vocab-llama-spm.gguf"), 723860);
}

/* No flipped bit and no extreme byte crashes the parser or what reads its result. Some leave a valid file. */
static void test_flipped_bits_never_crash(void **state)
{
    (void)state;
    lf_bytes f = {0};
    size_t n_refused = 0;
    const size_t header_bytes = put_small_file(&f);
    for (size_t i = 0; i < header_bytes; i++) {
        const char original = f.data[i];
        for (int bit = 0; bit < 8; bit++) {
            f.data[i] = (char)(original ^ 1 << bit);
            n_refused += parse_exactly(f.data, f.len, true, NULL) != LF_OK;
        }
        f.data[i] = (char)0xff;
        n_refused += parse_exactly(f.data, f.len, true, NULL) != LF_OK;
        f.data[i] = original;
    }
    assert_true(n_refused > header_bytes); /* the flips do reach the checks */
    lf_bytes_free(&f);
}

static void test_flipped_bits_of_a_real_file(void **state)
{
    (void)state;
    size_t size;
    char *data = read_file(require_data("gguf/llama-2-tiny-random.gguf"), &size);
    lf_gguf *g;
    for (size_t i = 0; i < 700;
         i++) { /* up to the array of tokens; then the tensor records after the arrays */
        for (size_t k = 0; k < 2; k++) {
            const size_t at = k == 0 ? i : 725000 + i;
            const char original = data[at];
            data[at] = (char)(original ^ 1 << i % 8);
            if (lf_gguf_parse(&g, data, size, "x.gguf", NULL) == LF_OK) lf_gguf_close(g);
            data[at] = original;
        }
    }
    free(data);
}

/* ---- lies ---- */

/* Parsing f fails with a text that names the file and has this fragment; frees f. */
static void refuse(lf_bytes *f, lf_status expected, const char *fragment)
{
    lf_error err = {0};
    assert_error(parse_exactly(f->data, f->len, false, &err), expected, &err, fragment);
    assert_ptr_equal(strstr(err.text, "x.gguf: "), err.text);
    lf_bytes_free(f);
}

static void test_lies_in_the_header(void **state)
{
    (void)state;
    lf_bytes f = {0};
    put(&f, "GGU", 3);
    refuse(&f, LF_EFORMAT, "header at byte 0: the magic needs 4 bytes, found 3");
    put(&f, "GGML\0\0\0\0", 8);
    refuse(&f, LF_EFORMAT, "found magic bytes 47 47 4d 4c, expected 47 47 55 46 (GGUF)");
    put_start(&f, 1, 0, 0);
    refuse(&f, LF_EUNSUPPORTED, "found GGUF version 1, expected 2 or 3");
    put_start(&f, 4, 0, 0);
    refuse(&f, LF_EUNSUPPORTED, "found GGUF version 4, expected 2 or 3");
    put_start(&f, 0, 0, 0);
    refuse(&f, LF_EUNSUPPORTED, "found GGUF version 0, expected 2 or 3");
    put_start(&f, 0x03000000, 0, 0);
    refuse(&f, LF_EUNSUPPORTED, "found a big-endian GGUF file, expected little-endian");
    put_start(&f, 3, UINT64_MAX, 0);
    refuse(&f, LF_EFORMAT, "found 18446744073709551615 tensors, expected at most 1048576");
    put_start(&f, 3, 0, UINT64_MAX);
    refuse(&f, LF_EFORMAT, "found 18446744073709551615 keys, expected at most 1048576");
    put_start(&f, 3, 1 << 20, 0);
    refuse(&f, LF_EFORMAT, "found 1048576 tensors, but the file has only 8 bytes left for them");
    put_start(&f, 3, 0, 3);
    put_zeros(&f, 41);
    refuse(&f, LF_EFORMAT, "found 3 keys, but the file has only 41 bytes left for them");
}

static void test_lies_in_keys(void **state)
{
    (void)state;
    lf_bytes f = {0};
    char long_name[66000];
    memset(long_name, 'n', sizeof long_name);

    put_start(&f, 3, 0, 1);
    put_u64(&f, UINT64_MAX);
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT,
           "key 0 at byte 32: the name has length 18446744073709551615, found 8 bytes before");
    put_start(&f, 3, 0, 1);
    put_string(&f, "");
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "found a name of 0 bytes, expected 1 to 65535 without control characters");
    put_start(&f, 3, 0, 1);
    put_u64(&f, 65536);
    put(&f, long_name, 65536);
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "found a name of 65536 bytes, expected 1 to 65535");
    put_start(&f, 3, 0, 1);
    put_u64(&f, 3);
    put(&f, "a\0b", 3);
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "found a name of 3 bytes, expected 1 to 65535 without control characters");
    put_start(&f, 3, 0, 1);
    put_string(&f, "a\x1b[2J");
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "without control characters");
    put_start(&f, 3, 0, 1);
    put_string(&f, "a\x7f");
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "without control characters");
    put_start(&f, 3, 0, 1);
    put_string(&f, "k");
    put_u32(&f, 13);
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "key 'k': found the value type 13, expected 0 to 12");
    put_start(&f, 3, 0, 1);
    put_key(&f, "k", LF_GGUF_U64);
    put_zeros(&f, 7);
    refuse(&f, LF_EFORMAT, "key 'k': the value needs 8 bytes, found 7 before the end of the file");
    put_start(&f, 3, 0, 1);
    put_key(&f, "k", LF_GGUF_STRING);
    put_u64(&f, 1ull << 63);
    refuse(&f, LF_EFORMAT, "key 'k': the string has length 9223372036854775808, found 0 bytes before");
    put_start(&f, 3, 0, 1);
    put_key(&f, "k", LF_GGUF_BOOL);
    put_u8(&f, 2);
    refuse(&f, LF_EFORMAT, "key 'k': found a bool of 2, expected 0 or 1");
    put_start(&f, 3, 0, 2);
    put_scalar(&f, "twin", LF_GGUF_BOOL, "", 1);
    put_scalar(&f, "twin", LF_GGUF_BOOL, "", 1);
    refuse(&f, LF_EFORMAT, "key 'twin': found twice (0 and 1), expected once");
}

static void test_lies_in_arrays(void **state)
{
    (void)state;
    lf_bytes f = {0};
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", LF_GGUF_U32, 1ull << 62); /* times 4 is 0 in 64 bits */
    put_zeros(&f, 16);
    refuse(&f, LF_EFORMAT, "key 'k': found 4611686018427387904 items, but the file has only 16 bytes left");
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", LF_GGUF_U64, 3);
    put_zeros(&f, 23);
    refuse(&f, LF_EFORMAT, "key 'k': found 3 items, but the file has only 23 bytes left");
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", LF_GGUF_STRING, 3);
    put_zeros(&f, 23);
    refuse(&f, LF_EFORMAT, "key 'k': found 3 items, but the file has only 23 bytes left");
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", LF_GGUF_STRING, 2);
    put_u64(&f, 9);
    put_zeros(&f, 8);
    refuse(&f, LF_EFORMAT, "key 'k': a string of the array has length 9, found 8 bytes before");
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", LF_GGUF_ARRAY, 1);
    put_zeros(&f, 12);
    refuse(&f, LF_EUNSUPPORTED, "key 'k': found an array of arrays, expected no nesting");
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", 99, 1);
    put_zeros(&f, 12);
    refuse(&f, LF_EFORMAT, "key 'k': found the item type 99, expected 0 to 12");
    put_start(&f, 3, 0, 1);
    put_array_start(&f, "k", LF_GGUF_BOOL, 2);
    put(&f, "\1\7", 2);
    refuse(&f, LF_EFORMAT, "key 'k': found a bool of 7, expected 0 or 1");
}

/* A file of one tensor with the given record and 64 bytes of data. */
static void put_one_tensor(lf_bytes *f, uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_start(f, 3, 1, 0);
    put_string(f, "t");
    put_u32(f, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 5; i++) put_u64(f, dims[i]);
    put_u32(f, type);
    put_u64(f, offset);
    put_padding(f, 32);
    put_zeros(f, 64);
}

static void test_lies_in_tensor_shapes(void **state)
{
    (void)state;
    lf_bytes f = {0};
    put_one_tensor(&f, 0, NULL, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found 0 dimensions, expected 1 to 4");
    put_one_tensor(&f, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found 5 dimensions, expected 1 to 4");
    put_one_tensor(&f, UINT32_MAX, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found 4294967295 dimensions, expected 1 to 4");
    put_one_tensor(&f, 2, (uint64_t[]){4, 0}, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found a dimension of 0, expected at least 1");
    put_one_tensor(&f, 2, (uint64_t[]){(uint64_t)-4, 1}, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found a dimension of -4, expected at least 1");
    put_one_tensor(&f, 2, (uint64_t[]){1ull << 32, 1ull << 32}, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found dimensions whose product overflows");
    put_one_tensor(&f, 1, (uint64_t[]){1ull << 62}, 0, 0); /* elements fit, bytes do not */
    refuse(&f, LF_EFORMAT, "tensor 't': found dimensions whose product overflows");
    put_one_tensor(&f, 2, (uint64_t[]){1ull << 31, 1ull << 31}, 0, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found dimensions whose product overflows");
    put_one_tensor(&f, 2, (uint64_t[]){1ull << 32, 1ull << 32}, 7, 0); /* of a type whose size is not known */
    refuse(&f, LF_EFORMAT, "tensor 't': found dimensions whose product overflows");
    put_one_tensor(&f, 2, (uint64_t[]){48, 2}, 8, 0); /* whole blocks in all, but not in a row */
    refuse(&f, LF_EFORMAT, "tensor 't': found rows of 48 q8_0 elements, expected a multiple of 32");
    put_one_tensor(&f, 1, (uint64_t[]){32}, 12, 0);
    refuse(&f, LF_EFORMAT, "tensor 't': found rows of 32 q4_k elements, expected a multiple of 256");
}

static void test_lies_in_tensor_places(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    put_one_tensor(&f, 1, (uint64_t[]){16}, 0, 0); /* no lie */
    assert_ok(parse_exactly(f.data, f.len, true, &err), &err);
    lf_bytes_free(&f);
    put_one_tensor(&f, 1, (uint64_t[]){17}, 0, 0);
    refuse(&f, LF_EFORMAT,
           "tensor 't': found 68 bytes of data at offset 0, expected them within the 64 bytes");
    put_one_tensor(&f, 1, (uint64_t[]){16}, 0, 32);
    refuse(&f, LF_EFORMAT,
           "tensor 't': found 64 bytes of data at offset 32, expected them within the 64 bytes");
    put_one_tensor(&f, 1, (uint64_t[]){16}, 0, 96);
    refuse(&f, LF_EFORMAT, "found 64 bytes of data at offset 96");
    put_one_tensor(&f, 1, (uint64_t[]){16}, 0, UINT64_MAX - 31);
    refuse(&f, LF_EFORMAT, "found 64 bytes of data at offset 18446744073709551584");
    put_one_tensor(&f, 1, (uint64_t[]){8}, 0, 16);
    refuse(&f, LF_EFORMAT, "tensor 't': found offset 16, expected a multiple of 32");

    put_start(&f, 3, 2, 0);
    put_tensor(&f, "twin", 1, (uint64_t[]){8}, 0, 0);
    put_tensor(&f, "twin", 1, (uint64_t[]){8}, 0, 32);
    put_padding(&f, 32);
    put_zeros(&f, 64);
    refuse(&f, LF_EFORMAT, "tensor 'twin': found twice (0 and 1), expected once");
    put_start(&f, 3, 2, 0);
    put_tensor(&f, "a", 1, (uint64_t[]){8}, 0, 32);
    put_tensor(&f, "b", 1, (uint64_t[]){9}, 0, 0);
    put_padding(&f, 32);
    put_zeros(&f, 64);
    refuse(&f, LF_EFORMAT, "tensor 'a' begins 32 bytes into the 36 bytes of tensor 'b', expected no overlap");
}

static void test_lies_about_alignment(void **state)
{
    (void)state;
    const uint32_t bad[] = {0, 3, 48, 1u << 21, 1u << 31};
    lf_bytes f = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_start(&f, 3, 0, 1);
        put_scalar(&f, "general.alignment", LF_GGUF_U32, &bad[i], sizeof bad[i]);
        char expected[80];
        (void)snprintf(expected, sizeof expected,
                       "key 'general.alignment': found %u, expected a power of two", bad[i]);
        refuse(&f, LF_EFORMAT, expected);
    }
    put_start(&f, 3, 0, 1);
    put_key(&f, "general.alignment", LF_GGUF_STRING);
    put_string(&f, "32");
    refuse(&f, LF_EFORMAT, "key 'general.alignment': found type string, expected an integer");
}

/* ---- no memory ---- */

static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    oom_require();
    (void)put_small_file(&f);
    for (long n = 1;; n++) {
        const long live = oom_live();
        lf_gguf *g = NULL;
        oom_fail_at(n);
        const lf_status status = lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        lf_gguf_close(g);
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            assert_true(n > N_SMALL_KEYS + N_SMALL_TENSORS);
            break;
        }
        if (status != LF_OK) { /* sorting does without its scratch memory */
            assert_error(status, LF_ENOMEM, &err, "out of memory");
            assert_null(g);
        }
    }
    lf_bytes_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_prefixes_of_real_files_are_refused),
        cmocka_unit_test(test_flipped_bits_never_crash),
        cmocka_unit_test(test_flipped_bits_of_a_real_file),
        cmocka_unit_test(test_lies_in_the_header),
        cmocka_unit_test(test_lies_in_keys),
        cmocka_unit_test(test_lies_in_arrays),
        cmocka_unit_test(test_lies_in_tensor_shapes),
        cmocka_unit_test(test_lies_in_tensor_places),
        cmocka_unit_test(test_lies_about_alignment),
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
