/* convert/: what is left behind when something goes wrong: one error, no file. */
#include "convert_fixture.h"

#include "oom.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void test_parameters_are_checked(void **state)
{
    (void)state;
    lf_convert_result result = {.size = 1};
    lf_convert_params p = params_for("in", in_temp("out.gguf"), LF_DTYPE_Q8_0);
    assert_fails(lf_convert, &p, LF_EIO, "in: cannot open");
    assert_fails(lf_quantize, &p, LF_EIO, "in: ");
    p.dtype = LF_DTYPE_COUNT;
    assert_fails(lf_convert, &p, LF_EINVAL, "found 8, expected -1 to 7");
    p.dtype = -1;
    assert_fails(lf_quantize, &p, LF_EINVAL, "found -1, expected 0 to 7");
    p.n_threads = 257;
    assert_fails(lf_convert, &p, LF_EINVAL, "threads: found 257, expected 0 to 256");
    p.n_threads = 0;
    p.result = &result;
    assert_fails(lf_convert, &p, LF_EINVAL, "result: found size 1");
    p.input_path = NULL;
    p.result = NULL;
    assert_fails(lf_convert, &p, LF_EINVAL, "input_path is NULL");
    p.size--;
    assert_fails(lf_convert, &p, LF_EINVAL, "lf_convert_params_init");
}

static void test_bad_folders(void **state)
{
    (void)state;
    static const struct {
        const char *family, *from, *to;
        lf_status status;
        const char *expected;
    } cases[] = {
        {"llama2", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", LF_EFORMAT,
         "model.layers.2.input_layernorm.weight is missing"},
        {"llama2", "\"vocab_size\": 128", "\"vocab_size\": 127", LF_EFORMAT,
         "model.embed_tokens.weight: found shape (128, 32), expected (127, 32)"},
        {"llama2", "\"intermediate_size\": 96", "\"intermediate_size\": 64", LF_EFORMAT,
         "found shape (96, 32)"},
        {"llama2", "\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"", LF_EUNSUPPORTED,
         "model_type: found \"gpt2\""},
        {"llama2", "{", "", LF_EFORMAT, "config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_family(cases[i].family, cases[i].from, cases[i].to);
        const lf_convert_params p = params_for(in_temp("model"), in_temp("out.gguf"), -1);
        assert_fails(lf_convert, &p, cases[i].status, cases[i].expected);
    }
    const lf_convert_params p = params_for(family_path("llama2"), in_temp("out.gguf"), LF_DTYPE_F16);
    assert_fails(lf_quantize, &p, LF_EINVAL, "found a folder, expected a GGUF file");
}

static void test_tokenizers_that_do_not_fit(void **state)
{
    (void)state;
    size_t size;
    char *tok512 = read_file(require_data("models/tok512.model"), &size);
    copy_family("llama2", "llama", "llama");
    write_file(in_temp("model/tokenizer.model"), tok512, size);
    lf_convert_params p = params_for(in_temp("model"), in_temp("out.gguf"), -1);
    assert_fails(lf_convert, &p, LF_EFORMAT, "the tokenizer has 512 tokens, the embedding 128 rows");
    p.input_path = write_bin("tiny.bin", &tiny_shape);
    p.tokenizer_path = in_temp("model/tokenizer.model");
    assert_fails(lf_convert, &p, LF_EFORMAT, "the tokenizer has 512 tokens, the embedding 8 rows");
    p.tokenizer_path = require_data("models/tok512.bin");
    assert_fails(lf_convert, &p, LF_EFORMAT, "the tokenizer has 512 tokens, the embedding 8 rows");
    p.tokenizer_path = in_temp("absent");
    assert_fails(lf_convert, &p, LF_EIO, "absent");
    free(tok512);
}

/* A file of whole records is a tokenizer.bin with too few tokens; one cut elsewhere is not a tokenizer.bin
 * at all. */
static void test_truncated_tokenizer_bin(void **state)
{
    (void)state;
    size_t size, boundary = sizeof(uint32_t);
    char *tok512 = read_file(require_data("models/tok512.bin"), &size);
    lf_convert_params p = params_for(require_data("models/stories260K.bin"), in_temp("out.gguf"), -1);
    p.tokenizer_path = in_temp("tok.bin");
    for (size_t n = 1; n < 200; n++) {
        lf_error err;
        if (n > boundary) boundary += 8 + (unsigned char)tok512[boundary + 4];
        write_file(in_temp("tok.bin"), tok512, n);
        assert_int_not_equal(lf_convert(&p, &err), LF_OK);
        assert_int_equal(n > 4 && n == boundary, strstr(err.text, "tokens, the embedding 512 rows") != NULL);
        assert_int_equal(count_temp_files(), 1);
    }
    tok512[0]--; /* the longest piece: now one of them is too long */
    write_file(in_temp("tok.bin"), tok512, size);
    assert_fails(lf_convert, &p, LF_EFORMAT, "tok.bin");
    free(tok512);
}

static void test_bad_llama2c_headers(void **state)
{
    (void)state;
    static const struct {
        int i_field;
        int32_t value;
        const char *expected;
    } cases[] = {
        {0, 0, "found dim 0"},
        {1, -1, "found hidden_dim -1"},
        {2, 1 << 30, "found n_layers 1073741824"},
        {3, 3, "found dim 16, n_heads 3"},
        {3, 16, "whole heads of even size"},
        {4, 3, "n_kv_heads 3"},
        {5, INT32_MIN, "found vocab_size -2147483648"},
        {6, 0, "found seq_len 0"},
        {6, 5, "expected more: the rotary tables"},
        {6, 3, "found 16284 bytes, expected 16268"},
        {2, 1 << 22, "expected more"},
        {5, -8, "expected more: output.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size;
        char *data = make_bin(&tiny_shape, &size);
        memcpy(data + sizeof(int32_t) * (size_t)cases[i].i_field, &cases[i].value, sizeof(int32_t));
        write_file(in_temp("bad.bin"), data, size);
        free(data);
        const lf_convert_params p = params_for(in_temp("bad.bin"), in_temp("out.gguf"), -1);
        assert_fails(lf_convert, &p, LF_EFORMAT, cases[i].expected);
    }
    write_file(in_temp("bad.bin"), "24ka\1\0\0\0aaaabbbbccccddddeeee", 28);
    lf_convert_params p = params_for(in_temp("bad.bin"), in_temp("out.gguf"), -1);
    assert_fails(lf_convert, &p, LF_EUNSUPPORTED, "found llama2.c format version 1");
    convert(write_bin("tiny.bin", &tiny_shape), in_temp("tiny.gguf"), -1);
    p.input_path = in_temp("tiny.gguf");
    assert_fails(lf_convert, &p, LF_EINVAL, "found a GGUF file");
}

/* Cut at every byte of the header and at many of the weights; and one byte too long. */
static void test_truncated_llama2c_files(void **state)
{
    (void)state;
    size_t size;
    char *data = make_bin(&tiny_shape, &size);
    const lf_convert_params p = params_for(in_temp("cut.bin"), in_temp("out.gguf"), -1);
    for (size_t n = 1; n <= size + 1; n += n < 64 || n >= size - 1 ? 1 : 97) {
        if (n == size) continue;
        char *cut = calloc(n, 1); /* of its own length, so that reading past it is seen */
        assert_non_null(cut);
        memcpy(cut, data, n < size ? n : size);
        write_file(in_temp("cut.bin"), cut, n);
        free(cut);
        assert_fails(lf_convert, &p, LF_EFORMAT, "cut.bin: found ");
    }
    free(data);
}

static void test_values_that_no_type_can_hold(void **state)
{
    (void)state;
    const struct {
        size_t row;
        float value;
        int dtype;
        const char *expected;
    } cases[] = {
        {3, NAN, -1,
         "tensor token_embd.weight, row 3: found a value that is not finite or too large for f32"},
        {9999, -INFINITY, LF_DTYPE_BF16, "row 9999: found a value that is not finite or too large for bf16"},
        {4096, 1e6f, LF_DTYPE_F16, "row 4096: found a value that is not finite or too large for f16"},
        {0, 1e9f, LF_DTYPE_Q8_0, "row 0: found a value that is not finite or too large for q8_0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size;
        char *data = make_bin(&tall_shape, &size);
        memcpy(data + sizeof tall_shape + (cases[i].row * 256 + 100) * sizeof(float), &cases[i].value,
               sizeof(float));
        write_file(in_temp("tall.bin"), data, size);
        free(data);
        const lf_convert_params p = params_for(in_temp("tall.bin"), in_temp("out.gguf"), cases[i].dtype);
        assert_fails(lf_convert, &p, LF_EFORMAT, cases[i].expected);
    }
}

static void test_output_that_cannot_be_written(void **state)
{
    (void)state;
    const char *in = write_bin("wide.bin", &wide_shape);
    lf_convert_params p = params_for(in, in_temp("no/such/folder/out.gguf"), -1);
    assert_fails(lf_convert, &p, LF_EIO, "no/such/folder");
    convert(in, in_temp("in.gguf"), -1);
    p = params_for(in_temp("in.gguf"), in_temp("model"), LF_DTYPE_F16);
    assert_int_equal(mkdir(in_temp("model"), 0777), 0);
    assert_fails(lf_quantize, &p, LF_EIO, "model");
}

/* A disk that is full after `bytes`, at several places of the file. */
static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit original, limited;
    const char *in = write_bin("wide.bin", &wide_shape);
    convert(in, in_temp("in.gguf"), -1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &original), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes < 200000; bytes = 2 * bytes + 100) {
        const lf_convert_params p = params_for(in_temp("in.gguf"), in_temp("out.gguf"), LF_DTYPE_Q4_0);
        lf_error err = {0};
        limited = original;
        limited.rlim_cur = bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
        const lf_status status = lf_quantize(&p, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &original), 0);
        assert_int_equal(status, LF_EIO);
        assert_non_null(strstr(err.text, "out.gguf.tmp: cannot write"));
        assert_int_equal(count_temp_files(), 2);
    }
    (void)signal(SIGXFSZ, handler);
}

/* Every allocation of a call fails once: LF_ENOMEM, nothing leaked, no file. Success is fine for one of
 * them, that of the folder's name, which the writer syncs if it can. The call after the last one succeeds. */
static void fail_every_allocation(lf_status (*call)(const lf_convert_params *, lf_error *),
                                  const lf_convert_params *p)
{
    oom_require();
    int n_tolerated = 0;
    for (long n = 1;; n++) {
        const int n_files = count_temp_files();
        const long live = oom_live();
        lf_error err = {0};
        oom_fail_at(n);
        const lf_status status = call(p, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        if (status == LF_OK) {
            assert_int_equal(count_temp_files(), n_files + 1);
            assert_int_equal(remove(p->output_path), 0);
            if (all_succeeded) return;
            assert_int_equal(++n_tolerated, 1);
        } else if (all_succeeded || status != LF_ENOMEM) {
            fail_msg("allocation %ld: %s: %s", n, lf_status_name(status), err.text);
        }
        assert_int_equal(oom_live(), live);
        assert_int_equal(count_temp_files(), n_files);
    }
}

static void test_no_memory_for_a_folder(void **state)
{
    (void)state;
    /* Without memory for a string's closing quote, Jansson 2.14 reads past its buffer. A key in front that
     * makes the buffer grow in its middle keeps the quotes of this folder from being that byte. */
    copy_family("llama3.2", "{", "{\"a key that makes the buffer grow\": 0,");
    lf_convert_params p = params_for(in_temp("model"), in_temp("out.gguf"), LF_DTYPE_Q8_0);
    p.n_threads = 1;
    fail_every_allocation(lf_convert, &p);
}

static void test_no_memory_for_a_llama2c_file(void **state)
{
    (void)state;
    lf_convert_params p = params_for(require_data("models/stories260K.bin"), in_temp("out.gguf"), -1);
    p.tokenizer_path = require_data("models/tok512.bin");
    p.n_threads = 1;
    fail_every_allocation(lf_convert, &p);
}

static void test_no_memory_to_quantize(void **state)
{
    (void)state;
    convert(write_bin("tiny.bin", &tiny_shape), in_temp("in.gguf"), -1);
    lf_convert_params p = params_for(in_temp("in.gguf"), in_temp("out.gguf"), LF_DTYPE_Q4_0);
    p.n_threads = 1;
    fail_every_allocation(lf_quantize, &p);
}

#define in_folder(test) cmocka_unit_test_setup_teardown(test, enter_temp, leave_temp)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_folder(test_parameters_are_checked),
        in_folder(test_bad_folders),
        in_folder(test_tokenizers_that_do_not_fit),
        in_folder(test_truncated_tokenizer_bin),
        in_folder(test_bad_llama2c_headers),
        in_folder(test_truncated_llama2c_files),
        in_folder(test_values_that_no_type_can_hold),
        in_folder(test_output_that_cannot_be_written),
        in_folder(test_full_disk),
        in_folder(test_no_memory_for_a_folder),
        in_folder(test_no_memory_for_a_llama2c_file),
        in_folder(test_no_memory_to_quantize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
