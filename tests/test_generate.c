/* The library as its users call it: golden text of real models, reuse of the cache, limits, bad input, allocation
 * failures. */
#include "testing.h"

#include "oom.h"

#include "../bench/random_model.h"
#include "tensor/quant.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static lf_engine *open_engine(const char *path, int n_ctx)
{
    lf_engine_params params;
    lf_engine *engine;
    lf_error err;
    lf_engine_params_init(&params);
    params.model_path = path;
    params.n_ctx = n_ctx;
    params.kv_dtype = LF_DTYPE_F32;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    return engine;
}

typedef struct output {
    int32_t ids[512];
    size_t n_ids;
    char text[4096];
    size_t len;
    size_t stop_after; /* cancel after this many tokens; 0: never */
} output;

static bool collect(void *cookie, const lf_token *token)
{
    output *o = cookie;
    if (token->id >= 0) o->ids[o->n_ids++] = token->id;
    memcpy(o->text + o->len, token->text, token->len);
    o->len += token->len;
    return o->n_ids != o->stop_after || o->stop_after == 0;
}

static lf_request_result generate(lf_engine *engine, const int32_t *ids, size_t n_ids, int n_predict,
                                  float temperature, uint64_t seed, output *o)
{
    lf_request_params params;
    lf_request_result result = {.size = sizeof result};
    lf_error err;
    lf_request_params_init(&params);
    params.ids = ids;
    params.n_ids = n_ids;
    params.n_predict = n_predict;
    params.temperature = temperature;
    params.seed = seed;
    params.ignore_eos = true;
    params.on_token = collect;
    params.cookie = o;
    o->n_ids = o->len = 0;
    assert_ok(lf_generate(engine, &params, &result, &err), &err);
    return result;
}

/* ---- real models ---- */

static void check_golden(const char *folder, const char *level)
{
    char path[256];
    (void)snprintf(path, sizeof path, "models/hf/%s", folder);
    const char *model = require_data(path);
    (void)snprintf(path, sizeof path, "models/hf/%s/golden.json", folder);
    json_t *golden = json_load_file(require_data(path), 0, NULL);
    assert_non_null(golden);
    const char *prompt = json_string_value(json_object_get(golden, "prompt"));
    const json_t *prompt_ids = json_object_get(golden, "prompt_ids"),
                 *greedy = json_object_get(golden, "greedy_ids");

    lf_engine_params params;
    lf_engine *engine;
    lf_error err;
    lf_engine_params_init(&params);
    params.model_path = model;
    params.kv_dtype = LF_DTYPE_F32;
    assert_true(lf_cpu_mask_parse(level, &params.cpu_mask));
    assert_ok(lf_engine_open(&engine, &params, &err), &err);

    int32_t *ids;
    size_t n_ids;
    assert_ok(lf_tokenize(engine, prompt, strlen(prompt), true, false, &ids, &n_ids, &err), &err);
    assert_int_equal(n_ids, json_array_size(prompt_ids));
    for (size_t i = 0; i < n_ids; i++)
        assert_int_equal(ids[i], json_integer_value(json_array_get(prompt_ids, i)));

    output o = {.n_ids = 0};
    const size_t n_greedy = json_array_size(greedy);
    (void)generate(engine, ids, n_ids, (int)n_greedy, 0.0f, 0, &o);
    assert_int_equal(o.n_ids, n_greedy);
    for (size_t i = 0; i < n_greedy; i++)
        assert_int_equal(o.ids[i], json_integer_value(json_array_get(greedy, i)));

    const char *text = json_string_value(json_object_get(golden, "text"));
    char whole[4096];
    (void)snprintf(whole, sizeof whole, "%s%.*s", prompt, (int)o.len, o.text);
    assert_string_equal(whole, text);

    (void)snprintf(path, sizeof path, "models/hf/%s/golden_prompt_logits.f32", folder);
    size_t bytes;
    char *file = read_file(require_data(path), &bytes);
    const float *expected = (const float *)(const void *)file;
    float *logits = malloc(bytes);
    assert_non_null(logits);
    assert_int_equal(bytes, n_ids * 512 * sizeof *logits);
    assert_ok(lf_score(engine, ids, n_ids, logits, &err), &err);
    double largest = 0, worst = 0;
    for (size_t i = 0; i < n_ids * 512; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
        worst = fmax(worst, fabs((double)expected[i] - (double)logits[i]));
    }
    assert_true(worst < 2e-4 * largest);
    free(logits);
    free(file);
    free(ids);
    lf_engine_close(engine);
    json_decref(golden);
}

static void test_stories260k(void **state)
{
    (void)state;
    check_golden("stories260K", "scalar");
    check_golden("stories260K", "avx2");
    check_golden("stories260K", "native");
}

static void test_llama2xs(void **state)
{
    (void)state;
    check_golden("llama2xs-281K", "native");
}

/* ---- a random model, so that the rest needs no data folder ---- */

static char *temp_dir;
static char model_path[512];

static lf_random_model tiny_model(void)
{
    const lf_config config = {.arch = LF_ARCH_LLAMA,
                              .n_layers = 2,
                              .dim = 64,
                              .n_heads = 4,
                              .n_kv_heads = 2,
                              .head_dim = 16,
                              .ffn_dim = 96,
                              .n_vocab = 100,
                              .n_ctx_max = 300,
                              .norm_eps = 1e-5f,
                              .rope_base = 10000.0,
                              .rope_factor = 1.0,
                              .tied = true};
    return (lf_random_model){.config = config, .dtype = LF_DTYPE_F32, .seed = 1};
}

static int write_tiny_model(void **state)
{
    (void)state;
    lf_error err;
    const lf_random_model m = tiny_model();
    temp_dir = make_temp_dir();
    (void)snprintf(model_path, sizeof model_path, "%s/tiny.gguf", temp_dir);
    assert_ok(lf_random_model_write(model_path, &m, &err), &err);
    return 0;
}

static int remove_tiny_model(void **state)
{
    (void)state;
    remove_tree(temp_dir);
    free(temp_dir);
    return 0;
}

static void random_ids(int32_t *ids, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(rng_next(&seed) % 100);
}

/* A prompt of which a part is cached gives the same output, and only the rest is computed. The cache holds whole pages of 128
 * positions, and a page is shared from its beginning as far as the tokens agree. */
static void test_cached_prefixes_change_nothing(void **state)
{
    (void)state;
    int32_t ids[270];
    output fresh = {.n_ids = 0}, reused = {.n_ids = 0};
    lf_engine *engine = open_engine(model_path, 0);
    random_ids(ids, 270, 3);
    lf_request_result r = generate(engine, ids, 270, 20, 0.7f, 5, &fresh);
    assert_int_equal(r.cached_tokens, 0);
    for (size_t n = 1; n <= 270; n += 17) {
        int32_t other[270];
        random_ids(other, 270, 100 + n);
        memcpy(other, ids, n * sizeof *ids);
        r = generate(engine, other, 270, 3, 0.0f, 0, &reused);
        r = generate(engine, ids, 270, 20, 0.7f, 5, &reused);
        assert_true(r.cached_tokens < 270);
        if (n >= 128) assert_true(r.cached_tokens >= 128);
        assert_int_equal(reused.n_ids, fresh.n_ids);
        assert_memory_equal(reused.ids, fresh.ids, fresh.n_ids * sizeof *fresh.ids);
    }
    r = generate(engine, ids, 270, 20, 0.7f, 5, &reused);
    assert_int_equal(r.cached_tokens, 256);
    lf_engine_close(engine);
}

static void test_sampling_is_a_function_of_the_seed(void **state)
{
    (void)state;
    int32_t ids[10];
    output a = {.n_ids = 0}, b = {.n_ids = 0};
    lf_engine *engine = open_engine(model_path, 0);
    random_ids(ids, 10, 4);
    (void)generate(engine, ids, 10, 50, 1.0f, 1, &a);
    (void)generate(engine, ids, 10, 50, 1.0f, 1, &b);
    assert_memory_equal(a.ids, b.ids, 50 * sizeof *a.ids);
    (void)generate(engine, ids, 10, 50, 1.0f, 2, &b);
    assert_memory_not_equal(a.ids, b.ids, 50 * sizeof *a.ids);
    lf_engine_close(engine);
}

static void test_limits_and_cancel(void **state)
{
    (void)state;
    int32_t ids[400];
    output o = {.n_ids = 0};
    lf_error err;
    lf_engine *engine = open_engine(model_path, 200);
    random_ids(ids, 400, 5);
    lf_request_result r = generate(engine, ids, 190, -1, 0.0f, 0, &o);
    assert_int_equal(r.finish, LF_FINISH_LENGTH);
    assert_int_equal(o.n_ids, 11); /* the last token needs no slot */
    r = generate(engine, ids, 200, -1, 0.0f, 0, &o);
    assert_int_equal(o.n_ids, 1);
    r = generate(engine, ids, 10, 0, 0.0f, 0, &o);
    assert_int_equal(o.n_ids, 0);
    o.stop_after = 7;
    r = generate(engine, ids, 10, 100, 0.0f, 0, &o);
    assert_int_equal(r.finish, LF_FINISH_CANCEL);
    assert_int_equal(o.n_ids, 7);

    lf_request_params params;
    lf_request_params_init(&params);
    params.ids = ids;
    params.n_ids = 201;
    assert_int_equal(lf_generate(engine, &params, NULL, &err), LF_ELIMIT);
    assert_string_equal(err.text, "prompt: found 201 tokens, expected at most 200, the context");
    params.n_ids = 0;
    assert_int_equal(lf_generate(engine, &params, NULL, &err), LF_EINVAL);
    params.n_ids = 3;
    ids[1] = 100;
    assert_int_equal(lf_generate(engine, &params, NULL, &err), LF_EINVAL);
    assert_non_null(strstr(err.text, "token 1: found id 100, expected 0 to 99"));
    params.temperature = NAN;
    assert_int_equal(lf_generate(engine, &params, NULL, &err), LF_EINVAL);
    params.size = 1;
    assert_int_equal(lf_generate(engine, &params, NULL, &err), LF_EINVAL);
    lf_engine_close(engine);
}

/* ---- files that must be refused ---- */

static void expect_refused(const lf_engine_params *params, lf_status status, const char *fragment)
{
    lf_engine *engine = (lf_engine *)1;
    lf_error err = {0};
    const lf_status found = lf_engine_open(&engine, params, &err);
    if (found != status || !strstr(err.text, fragment))
        fail_msg("found status %d, \"%s\"; expected %d, \"...%s...\"", (int)found, err.text, (int)status,
                 fragment);
    assert_null(engine);
}

static void test_bad_parameters_and_paths(void **state)
{
    (void)state;
    lf_engine_params p;
    lf_engine_params_init(&p);
    expect_refused(&p, LF_EINVAL, "model_path is NULL");
    p.model_path = "/nonexistent/model.gguf";
    expect_refused(&p, LF_EIO, "/nonexistent/model.gguf: cannot open");
    p.model_path = temp_dir; /* a folder without config.json */
    expect_refused(&p, LF_EIO, "config.json");
    p.model_path = model_path;
    p.n_ctx = 301;
    expect_refused(&p, LF_ELIMIT, "context size: found 301, expected at most 300");
    p.n_ctx = 0;
    p.kv_dtype = LF_DTYPE_Q4_K;
    expect_refused(&p, LF_EINVAL, "KV dtype: found q4_k, supported are f32, f16, bf16, q8_0");
    p.kv_dtype = LF_DTYPE_BF16;
    p.weight_dtype = LF_DTYPE_Q4_K;
    expect_refused(&p, LF_EINVAL, "not a multiple of its block of 256");
    p.weight_dtype = -1;
    p.n_threads = 1000;
    expect_refused(&p, LF_EINVAL, "threads: found 1000");
    p.n_threads = 0;
    p.batch_rows = 0;
    expect_refused(&p, LF_EINVAL, "batch size: found 0");
}

static void test_weights_that_are_not_finite(void **state)
{
    (void)state;
    lf_error err;
    lf_gguf *g;
    size_t size;
    char path[512];
    char *file = read_file(model_path, &size);
    assert_ok(lf_gguf_parse(&g, file, size, "tiny", &err), &err);
    const char *const names[] = {"token_embd.weight", "blk.1.ffn_down.weight", "blk.0.attn_norm.weight"};
    (void)snprintf(path, sizeof path, "%s/nan.gguf", temp_dir);
    lf_engine_params p;
    lf_engine_params_init(&p);
    p.model_path = path;
    for (size_t i = 0; i < 3; i++) {
        const lf_tensor_info *t = lf_gguf_find_tensor(g, names[i]);
        char *bytes = file + ((const char *)t->data - file), saved[4];
        const float nan = NAN;
        memcpy(saved, bytes + 40, 4);
        memcpy(bytes + 40, &nan, 4);
        write_file(path, file, size);
        memcpy(bytes + 40, saved, 4);
        expect_refused(&p, LF_EFORMAT, "element 10: found a value that is not finite");
    }
    lf_gguf_close(g);
    free(file);
}

/* A model that asks for more memory than any machine has. */
static void test_a_model_larger_than_memory(void **state)
{
    (void)state;
    lf_engine_params p;
    lf_random_model m = tiny_model();
    lf_error err;
    char path[512];
    m.config.n_ctx_max = 1 << 26;
    m.config.n_layers = 40;
    m.config.n_kv_heads = 4;
    (void)snprintf(path, sizeof path, "%s/huge.gguf", temp_dir);
    assert_ok(lf_random_model_write(path, &m, &err), &err);
    lf_engine_params_init(&p);
    p.model_path = path;
    expect_refused(&p, LF_ELIMIT, "GiB are available");
    p.n_ctx = 100;
    lf_engine *engine;
    assert_ok(lf_engine_open(&engine, &p, &err), &err);
    lf_engine_close(engine);
}

/* ---- allocation failures ---- */

/* Load, tokenless generation, close, with the n-th allocation failing. */
static lf_status load_and_generate(lf_error *err)
{
    lf_engine_params p;
    lf_engine *engine = NULL;
    int32_t ids[20];
    random_ids(ids, 20, 6);
    lf_engine_params_init(&p);
    p.model_path = model_path;
    p.n_threads = 2;
    lf_status status = lf_engine_open(&engine, &p, err);
    if (status == LF_OK) {
        lf_request_params g;
        lf_request_params_init(&g);
        g.ids = ids;
        g.n_ids = 20;
        g.n_predict = 5;
        status = lf_generate(engine, &g, NULL, err);
    }
    lf_engine_close(engine);
    return status;
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    oom_require();
    for (long n = 1;; n++) {
        lf_error err = {0};
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = load_and_generate(&err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            assert_true(n > 20);
            break;
        }
        /* reading /proc/meminfo is the one allocation that may fail unnoticed */
        if (status != LF_OK && (status != LF_ENOMEM || err.text[0] == '\0'))
            fail_msg("allocation %ld failed: found status %d \"%s\", expected out of memory", n, (int)status,
                     err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories260k),
        cmocka_unit_test(test_llama2xs),
        cmocka_unit_test(test_cached_prefixes_change_nothing),
        cmocka_unit_test(test_sampling_is_a_function_of_the_seed),
        cmocka_unit_test(test_limits_and_cancel),
        cmocka_unit_test(test_bad_parameters_and_paths),
        cmocka_unit_test(test_weights_that_are_not_finite),
        cmocka_unit_test(test_a_model_larger_than_memory),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, write_tiny_model, remove_tiny_model);
}
