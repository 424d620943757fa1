/* convert/: every number of every output against its source, for all families and types; the two forms of
 * the real stories260K against each other; the same bytes whatever the threads. What is refused:
 * test_convert_errors. */
#include "convert_fixture.h"

#include "base/mem.h"
#include "model/source.h"
#include "tensor/half.h"
#include "tensor/quant.h"
#include "token/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const families[] = {"llama2", "llama3",    "llama3.1", "llama3.2", "llama2-32k", "mistral",
                                       "yi",     "tinyllama", "smollm2",  "qwen2",    "qwen2.5",    "qwen3"};
enum { N_FAMILIES = sizeof families / sizeof *families };

static int quantize(const char *in, const char *out, int dtype)
{
    lf_convert_result result = {.size = sizeof result};
    lf_convert_params p = params_for(in, out, dtype);
    lf_error err;
    p.result = &result;
    assert_ok(lf_quantize(&p, &err), &err);
    return result.n_fallback;
}

/* ---- comparing models ---- */

/* What convert.h promises, stated again. */
static lf_dtype expected_dtype(lf_weight weight, lf_dtype from, int dtype, int64_t n_in)
{
    if (!lf_weight_is_matrix(weight)) return LF_DTYPE_F32;
    if (dtype < 0) return from;
    if ((weight == LF_W_TOKEN_EMBD || weight == LF_W_OUTPUT) &&
        (dtype == LF_DTYPE_Q4_K || dtype == LF_DTYPE_Q5_K))
        dtype = LF_DTYPE_Q6_K;
    if (dtype >= LF_DTYPE_Q4_K && n_in % 256 != 0) dtype = LF_DTYPE_Q8_0;
    if (dtype >= LF_DTYPE_Q8_0 && n_in % 32 != 0) dtype = LF_DTYPE_F16;
    return (lf_dtype)dtype;
}

static const uint8_t *row_of(const lf_tensor_info *t, int64_t i, int64_t n_in)
{
    size_t row_bytes;
    assert_true(lf_dtype_row_bytes(t->dtype, (size_t)n_in, &row_bytes));
    return (const uint8_t *)t->data + (size_t)i * row_bytes;
}

/* Row i of both, in half-split order, must have the same bytes, after quantising where the types differ. */
static void check_row(const lf_source *from, const lf_source *to, lf_weight weight, const lf_tensor_info *a,
                      const lf_tensor_info *b, int64_t i, int64_t n_in)
{
    size_t row_bytes;
    const uint8_t *source = row_of(a, lf_source_row(from, weight, i), n_in);
    const uint8_t *found = row_of(b, lf_source_row(to, weight, i), n_in);
    float *floats = malloc((size_t)n_in * sizeof *floats);
    uint8_t *expected = malloc((size_t)n_in * sizeof *floats);
    assert_true(floats && expected);
    assert_true(lf_dtype_row_bytes(b->dtype, (size_t)n_in, &row_bytes));
    lf_dequantize_row(floats, source, a->dtype, (size_t)n_in);
    lf_quantize_row(expected, floats, b->dtype, (size_t)n_in);
    if (memcmp(found, a->dtype == b->dtype ? source : expected, row_bytes) != 0)
        fail_msg("%s: row %lld of %s differs", to->path, (long long)i, b->name);
    free(expected);
    free(floats);
}

static void check_weight(const lf_source *from, const lf_source *to, lf_weight weight, int i_layer, int dtype)
{
    int64_t n_out, n_in;
    const lf_tensor_info *a = lf_source_find(from, weight, i_layer), *b = lf_source_find(to, weight, i_layer);
    if (!a) {
        assert_true(!b || weight == LF_W_ROPE_FREQS);
        return;
    }
    assert_non_null(b);
    lf_weight_shape(&from->config, weight, &n_out, &n_in);
    assert_int_equal(b->dtype, expected_dtype(weight, a->dtype, dtype, n_in));
    assert_int_equal(a->n_dims, b->n_dims);
    if (a->n_dims == 1) { /* a vector's elements can change places, as rows do */
        n_out = n_in;
        n_in = 1;
    }
    for (int64_t i = 0; i < n_out; i++) check_row(from, to, weight, a, b, i, n_in);
}

static void check_rope(const lf_source *from, const lf_source *to)
{
    float a[512], b[512];
    const lf_tensor_info *a_divisors = lf_source_find(from, LF_W_ROPE_FREQS, 0);
    const lf_tensor_info *b_divisors = lf_source_find(to, LF_W_ROPE_FREQS, 0);
    assert_int_equal(b_divisors != NULL, a_divisors != NULL || from->config.rope_scaling == LF_ROPE_LLAMA3);
    lf_config_rope_freqs(a, &from->config, a_divisors ? a_divisors->data : NULL);
    lf_config_rope_freqs(b, &to->config, b_divisors ? b_divisors->data : NULL);
    for (int i = 0; i < from->config.head_dim / 2; i++) assert_true(fabsf(a[i] - b[i]) <= 3e-7f * a[i]);
}

/* A config in words, rotation apart. */
static void describe(char out[512], const lf_config *c)
{
    (void)snprintf(
        out, 512,
        "arch %d layers %d dim %d heads %d %d x %d ffn %d vocab %d ctx %d window %d eps %g tied %d "
        "bias %d norm %d",
        (int)c->arch, c->n_layers, c->dim, c->n_heads, c->n_kv_heads, c->head_dim, c->ffn_dim, c->n_vocab,
        c->n_ctx_max, c->sliding_window, (double)c->norm_eps, c->tied, c->qkv_bias, c->qk_norm);
}

/* Opens both models and compares everything; dtype as it was given to the converter. */
static void check_model(const char *from_path, const char *to_path, int dtype)
{
    lf_source from, to;
    lf_error err;
    char a[512], b[512];
    assert_ok(lf_source_open(&from, from_path, &err), &err);
    assert_ok(lf_source_open(&to, to_path, &err), &err);
    describe(a, &from.config);
    describe(b, &to.config);
    assert_string_equal(a, b);
    check_rope(&from, &to);
    for (int i = 0; i < from.config.n_layers; i++)
        for (int w = 0; w < LF_W_COUNT; w++)
            if (i == 0 || w >= LF_W_FIRST_OF_LAYER) check_weight(&from, &to, (lf_weight)w, i, dtype);
    lf_source_close(&from);
    lf_source_close(&to);
}

static int64_t int_key(const char *path, const char *key)
{
    lf_gguf *g;
    lf_error err;
    int64_t value = -1;
    assert_ok(lf_gguf_open(&g, path, &err), &err);
    assert_ok(lf_gguf_get_int(g, key, true, &value, &err), &err);
    lf_gguf_close(g);
    return value;
}

/* ---- what is right ---- */

static void test_every_family_keeps_every_value(void **state)
{
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        convert(family_path(families[i]), in_temp("out.gguf"), -1);
        check_model(family_path(families[i]), in_temp("out.gguf"), -1);
    }
}

/* From float32, float16 and bfloat16, and from rows of odd lengths. */
static void test_folders_become_every_type(void **state)
{
    (void)state;
    static const char *const some[] = {"llama3", "llama2-32k", "mistral", "smollm2"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) {
            convert(family_path(some[i]), in_temp("out.gguf"), dtype);
            check_model(family_path(some[i]), in_temp("out.gguf"), dtype);
        }
}

/* Biases of architecture llama change places with their rows; no published model has them, so Qwen2 plays
 * the part. */
static void test_biases_of_llama_are_permuted(void **state)
{
    (void)state;
    copy_family("qwen2", "\"model_type\": \"qwen2\"", "\"model_type\": \"llama\"");
    convert(in_temp("model"), in_temp("out.gguf"), -1);
    check_model(in_temp("model"), in_temp("out.gguf"), -1);
}

static void test_quantize_reads_every_type_and_writes_every_type(void **state)
{
    (void)state;
    convert(write_bin("wide.bin", &wide_shape), in_temp("f32.gguf"), -1);
    for (int from = 0; from < LF_DTYPE_COUNT; from++) {
        assert_int_equal(quantize(in_temp("f32.gguf"), in_temp("from.gguf"), from), 0);
        check_model(in_temp("f32.gguf"), in_temp("from.gguf"), from);
        for (int to = LF_DTYPE_F32; to <= LF_DTYPE_Q8_0; to += LF_DTYPE_Q8_0) {
            assert_int_equal(quantize(in_temp("from.gguf"), in_temp("to.gguf"), to), 0);
            check_model(in_temp("from.gguf"), in_temp("to.gguf"), to);
        }
    }
}

static void test_rows_that_are_not_whole_blocks_fall_back(void **state)
{
    (void)state;
    convert(family_path("smollm2"), in_temp("odd.gguf"), -1);
    assert_int_equal(quantize(in_temp("odd.gguf"), in_temp("q8.gguf"), LF_DTYPE_Q8_0), 1 + 2 * 7);
    assert_int_equal(quantize(in_temp("odd.gguf"), in_temp("bf16.gguf"), LF_DTYPE_BF16), 0);
    convert(family_path("llama3"), in_temp("even.gguf"), -1);
    assert_int_equal(quantize(in_temp("even.gguf"), in_temp("q4_k.gguf"), LF_DTYPE_Q4_K), 2 + 2 * 7);
    assert_int_equal(quantize(in_temp("even.gguf"), in_temp("q4_0.gguf"), LF_DTYPE_Q4_0), 0);
    check_model(in_temp("odd.gguf"), in_temp("q8.gguf"), LF_DTYPE_Q8_0);
    check_model(in_temp("even.gguf"), in_temp("q4_k.gguf"), LF_DTYPE_Q4_K);
}

static void test_metadata(void **state)
{
    (void)state;
    static const int file_types[LF_DTYPE_COUNT] = {0, 1, 32, 7, 2, 14, 16, 18};
    lf_gguf *g, *q;
    lf_error err;
    char *text = NULL;
    double eps = 0, factor = 0;
    convert(family_path("llama2-32k"), in_temp("out.gguf"), -1); /* float16 */
    assert_ok(lf_gguf_open(&g, in_temp("out.gguf"), &err), &err);
    assert_int_equal(lf_gguf_version(g), 3);
    assert_ok(lf_gguf_get_string(g, "general.name", true, &text, &err), &err);
    assert_string_equal(text, "llama2-32k");
    free(text);
    assert_ok(lf_gguf_get_string(g, "llama.rope.scaling.type", true, &text, &err), &err);
    assert_string_equal(text, "linear");
    free(text);
    assert_ok(lf_gguf_get_float(g, "llama.rope.scaling.factor", true, &factor, &err), &err);
    assert_true(factor == 8.0);
    assert_ok(lf_gguf_get_float(g, "llama.attention.layer_norm_rms_epsilon", true, &eps, &err), &err);
    assert_true((float)eps == 1e-5f);
    assert_null(lf_gguf_find(g, "tokenizer.ggml.model"));
    assert_null(lf_gguf_find(g, "llama.attention.key_length"));
    assert_int_equal(lf_gguf_find(g, "llama.context_length")->type, LF_GGUF_U32);
    assert_int_equal(lf_gguf_find(g, "llama.rope.freq_base")->type, LF_GGUF_F32);
    assert_int_equal(int_key(in_temp("out.gguf"), "general.file_type"), 1);
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) { /* every other key survives */
        (void)quantize(in_temp("out.gguf"), in_temp("q.gguf"), dtype);
        assert_int_equal(int_key(in_temp("q.gguf"), "general.file_type"), file_types[dtype]);
        assert_int_equal(int_key(in_temp("q.gguf"), "general.quantization_version"), 2);
        assert_ok(lf_gguf_open(&q, in_temp("q.gguf"), &err), &err);
        assert_int_equal(lf_gguf_n_values(q), lf_gguf_n_values(g));
        for (size_t i = 0; i < lf_gguf_n_values(g); i++)
            assert_non_null(lf_gguf_find(q, lf_gguf_value_at(g, i)->key));
        lf_gguf_close(q);
    }
    lf_gguf_close(g);
    convert(family_path("qwen3"), in_temp("out.gguf"), -1);
    assert_int_equal(int_key(in_temp("out.gguf"), "qwen3.attention.key_length"), 16);
    assert_int_equal(int_key(in_temp("out.gguf"), "qwen3.attention.value_length"), 16);
}

/* The Hugging Face folder, and the llama2.c file it was made from. */
static void test_both_forms_of_stories260k_give_the_same_tensors(void **state)
{
    (void)state;
    lf_source hf, bin;
    lf_error err;
    const char *folder = require_data("models/hf/stories260K");
    convert(folder, in_temp("hf.gguf"), -1);
    check_model(folder, in_temp("hf.gguf"), -1);
    convert(require_data("models/stories260K.bin"), in_temp("bin.gguf"), -1);
    assert_ok(lf_source_open(&hf, in_temp("hf.gguf"), &err), &err);
    assert_ok(lf_source_open(&bin, in_temp("bin.gguf"), &err), &err);
    assert_int_equal(lf_source_n_tensors(&hf), lf_source_n_tensors(&bin));
    for (size_t i = 0; i < lf_source_n_tensors(&hf); i++) {
        const lf_tensor_info *a = lf_source_tensor_at(&hf, i), *b = lf_gguf_find_tensor(bin.gguf, a->name);
        assert_non_null(b);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    lf_source_close(&hf);
    lf_source_close(&bin);
}

static lf_tokenizer *tokenizer_of(const char *path)
{
    lf_gguf *g;
    lf_tokenizer *t;
    lf_error err;
    assert_ok(lf_gguf_open(&g, path, &err), &err);
    assert_ok(lf_tokenizer_from_gguf(&t, g, &err), &err);
    lf_gguf_close(g);
    return t;
}

static void check_same_tokenizer(const lf_tokenizer *a, const lf_tokenizer *b)
{
    static const char text[] = "Once upon a time, Zo\xc3\xab said: \"7 \xf0\x9f\x90\xb1!\"\n";
    lf_ids a_ids = {0}, b_ids = {0};
    lf_error err;
    assert_int_equal(lf_tokenizer_n_vocab(a), lf_tokenizer_n_vocab(b));
    assert_int_equal(lf_tokenizer_bos(a), lf_tokenizer_bos(b));
    assert_int_equal(lf_tokenizer_adds_bos(a), lf_tokenizer_adds_bos(b));
    for (int32_t i = 0; i < lf_tokenizer_n_vocab(a); i++) {
        size_t a_len, b_len;
        const char *a_piece = lf_tokenizer_piece(a, i, &a_len), *b_piece = lf_tokenizer_piece(b, i, &b_len);
        assert_int_equal(a_len, b_len);
        assert_memory_equal(a_piece, b_piece, a_len);
        assert_int_equal(lf_tokenizer_kind(a, i), lf_tokenizer_kind(b, i));
        assert_int_equal(lf_tokenizer_is_eos(a, i), lf_tokenizer_is_eos(b, i));
    }
    assert_ok(lf_tokenizer_encode(a, text, strlen(text), false, &a_ids, &err), &err);
    assert_ok(lf_tokenizer_encode(b, text, strlen(text), false, &b_ids, &err), &err);
    assert_int_equal(a_ids.len, b_ids.len);
    assert_memory_equal(a_ids.data, b_ids.data, a_ids.len * sizeof *a_ids.data);
    lf_ids_free(&a_ids);
    lf_ids_free(&b_ids);
}

/* Three ways for the same tokenizer to get into a GGUF file, and a fourth through quantize. */
static void test_tokenizers_survive(void **state)
{
    (void)state;
    static const char *const files[] = {"models/tok512.bin", "models/tok512.model"};
    char *bin = strdup(require_data("models/stories260K.bin"));
    lf_error err;
    lf_tokenizer *original;
    assert_ok(lf_tokenizer_from_dir(&original, require_data("models/hf/stories260K"), &err), &err);
    convert(require_data("models/hf/stories260K"), in_temp("out.gguf"), -1);
    lf_tokenizer *found = tokenizer_of(in_temp("out.gguf"));
    check_same_tokenizer(original, found);
    lf_tokenizer_free(found);
    for (size_t i = 0; i < 2; i++) {
        lf_convert_params p = params_for(bin, in_temp("out.gguf"), -1);
        p.tokenizer_path = require_data(files[i]);
        assert_ok(lf_convert(&p, &err), &err);
        (void)quantize(in_temp("out.gguf"), in_temp("q.gguf"), LF_DTYPE_Q8_0);
        found = tokenizer_of(in_temp("q.gguf"));
        check_same_tokenizer(original, found);
        lf_tokenizer_free(found);
    }
    lf_tokenizer_free(original);
    free(bin);
}

/* A matrix that is written in several chunks. */
static void test_large_matrix(void **state)
{
    (void)state;
    const char *in = write_bin("tall.bin", &tall_shape);
    convert(in, in_temp("f32.gguf"), -1);
    (void)quantize(in_temp("f32.gguf"), in_temp("f16.gguf"), LF_DTYPE_F16);
    check_model(in_temp("f32.gguf"), in_temp("f16.gguf"), LF_DTYPE_F16);
    lf_source source;
    lf_error err;
    size_t size;
    char *bin = read_file(in, &size);
    assert_ok(lf_source_open(&source, in_temp("f32.gguf"), &err), &err);
    const lf_tensor_info *t = lf_source_find(&source, LF_W_TOKEN_EMBD, 0);
    assert_memory_equal(t->data, bin + sizeof tall_shape, t->bytes);
    lf_source_close(&source);
    free(bin);
}

static void test_output_does_not_depend_on_threads_or_runs(void **state)
{
    (void)state;
    lf_convert_params p = params_for(write_bin("tall.bin", &tall_shape), in_temp("a.gguf"), LF_DTYPE_BF16);
    lf_error err;
    p.n_threads = 1;
    assert_ok(lf_convert(&p, &err), &err);
    p.output_path = in_temp("b.gguf");
    for (p.n_threads = 0; p.n_threads <= 3; p.n_threads++) {
        assert_ok(lf_convert(&p, &err), &err);
        expect_same_file(in_temp("a.gguf"), in_temp("b.gguf"));
    }
    (void)quantize(in_temp("a.gguf"), in_temp("a.gguf"), LF_DTYPE_F32); /* over its own input */
    (void)quantize(in_temp("b.gguf"), in_temp("c.gguf"), LF_DTYPE_F32);
    expect_same_file(in_temp("a.gguf"), in_temp("c.gguf"));
}

typedef struct progress {
    size_t done, total;
    int n_calls, cancel_at;
} progress;

static bool on_progress(void *cookie, size_t done, size_t total)
{
    progress *p = cookie;
    assert_true(done > p->done && done <= total);
    assert_true(p->n_calls == 0 || total == p->total);
    p->done = done;
    p->total = total;
    return ++p->n_calls != p->cancel_at;
}

static void test_progress_and_cancel(void **state)
{
    (void)state;
    progress seen = {0};
    lf_error err;
    lf_convert_params p = params_for(write_bin("tall.bin", &tall_shape), in_temp("out.gguf"), LF_DTYPE_F16);
    p.progress = on_progress;
    p.cookie = &seen;
    assert_ok(lf_convert(&p, &err), &err);
    assert_int_equal(seen.done, seen.total);
    assert_true(seen.total > bin_floats(&tall_shape) * 2 - 4096);
    assert_int_equal(seen.n_calls,
                     2 + 2 + 7 + 1); /* norms, final norm, matrices of a layer; the embedding twice */
    const int n_calls = seen.n_calls;
    assert_int_equal(remove(in_temp("out.gguf")), 0);
    for (int i = 1; i <= n_calls; i++) {
        seen = (progress){.cancel_at = i};
        assert_fails(lf_convert, &p, LF_ECANCELED, "canceled");
        assert_int_equal(seen.n_calls, i);
    }
}

#define in_folder(test) cmocka_unit_test_setup_teardown(test, enter_temp, leave_temp)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_folder(test_every_family_keeps_every_value),
        in_folder(test_folders_become_every_type),
        in_folder(test_biases_of_llama_are_permuted),
        in_folder(test_quantize_reads_every_type_and_writes_every_type),
        in_folder(test_rows_that_are_not_whole_blocks_fall_back),
        in_folder(test_metadata),
        in_folder(test_both_forms_of_stories260k_give_the_same_tensors),
        in_folder(test_tokenizers_survive),
        in_folder(test_large_matrix),
        in_folder(test_output_does_not_depend_on_threads_or_runs),
        in_folder(test_progress_and_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
