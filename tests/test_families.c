/* Every family of models against transformers: logits within 2e-4 of the largest, greedy ids equal. The models and the
 * reference results are under golden/families, made by oracle/families.py; its README says what each covers. */
#include "testing.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const families[] = {"llama2", "llama3",    "llama3.1", "llama3.2", "llama2-32k", "mistral",
                                       "yi",     "tinyllama", "smollm2",  "qwen2",    "qwen2.5",    "qwen3"};

typedef struct golden {
    json_t *json;
    int n_vocab;
    int32_t prompt[64], greedy[64], long_prompt[256];
    size_t n_prompt, n_greedy, n_long;
} golden;

static size_t read_ids(int32_t *out, size_t max, const json_t *array)
{
    const size_t n = json_array_size(array);
    assert_true(n <= max);
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return n;
}

static void read_golden(golden *g, const char *family)
{
    char path[256];
    (void)snprintf(path, sizeof path, "families/%s/golden.json", family);
    g->json = json_load_file(golden_path(path), 0, NULL);
    assert_non_null(g->json);
    g->n_vocab = (int)json_integer_value(json_object_get(g->json, "vocab_size"));
    g->n_prompt = read_ids(g->prompt, 64, json_object_get(g->json, "prompt_ids"));
    g->n_greedy = read_ids(g->greedy, 64, json_object_get(g->json, "greedy_ids"));
    g->n_long = read_ids(g->long_prompt, 256, json_object_get(g->json, "long_prompt_ids"));
}

static lf_engine *open_family(const char *family, const char *level, lf_dtype kv_dtype)
{
    char path[256];
    lf_engine_params params;
    lf_engine *engine;
    lf_error err;
    (void)snprintf(path, sizeof path, "families/%s", family);
    lf_engine_params_init(&params);
    params.model_path = golden_path(path);
    params.n_ctx = 256;
    params.kv_dtype = kv_dtype;
    params.weight_dtype = LF_DTYPE_F32;
    params.batch_rows = 40;
    assert_true(lf_cpu_mask_parse(level, &params.cpu_mask));
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    return engine;
}

/* Largest difference over largest magnitude. */
static double relative_error(const float *found, const float *expected, size_t n)
{
    double difference = 0, magnitude = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(fabs((double)found[i] - (double)expected[i]) <= difference))
            difference = fabs((double)found[i] - (double)expected[i]);
        if (fabs((double)expected[i]) > magnitude) magnitude = fabs((double)expected[i]);
    }
    return difference / magnitude;
}

static void check_logits(lf_engine *engine, const golden *g, const char *family, const int32_t *ids, size_t n,
                         const char *file, size_t n_compared)
{
    char path[256];
    size_t bytes;
    lf_error err;
    (void)snprintf(path, sizeof path, "families/%s/%s", family, file);
    char *expected = read_file(golden_path(path), &bytes);
    const size_t n_logits = n_compared * (size_t)g->n_vocab;
    assert_int_equal(bytes, n_logits * sizeof(float));
    float *logits = calloc(n * (size_t)g->n_vocab, sizeof *logits);
    assert_non_null(logits);
    assert_ok(lf_score(engine, ids, n, logits, &err), &err);
    const double error = relative_error(logits + (n - n_compared) * (size_t)g->n_vocab,
                                        (const float *)(void *)expected, n_logits);
    if (!(error < 2e-4)) fail_msg("%s: %s: relative error %g, expected below 2e-4", family, file, error);
    free(logits);
    free(expected);
}

typedef struct collected {
    int32_t ids[64];
    size_t n;
} collected;

static bool collect(void *cookie, const lf_token *token)
{
    collected *c = cookie;
    if (token->id >= 0) c->ids[c->n++] = token->id;
    return true;
}

static void check_greedy(lf_engine *engine, const golden *g, const char *family)
{
    lf_error err;
    collected found = {.n = 0};
    lf_request_params params;
    lf_request_params_init(&params);
    params.ids = g->prompt;
    params.n_ids = g->n_prompt;
    params.n_predict = (int)g->n_greedy;
    params.ignore_eos = true;
    params.on_token = collect;
    params.cookie = &found;
    assert_ok(lf_generate(engine, &params, NULL, &err), &err);
    assert_int_equal(found.n, g->n_greedy);
    for (size_t i = 0; i < found.n; i++)
        if (found.ids[i] != g->greedy[i])
            fail_msg("%s: greedy id %zu: found %d, expected %d", family, i, (int)found.ids[i],
                     (int)g->greedy[i]);
}

static void check_level(const char *level)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        golden g;
        read_golden(&g, families[i]);
        lf_engine *engine = open_family(families[i], level, LF_DTYPE_F32);
        check_logits(engine, &g, families[i], g.prompt, g.n_prompt, "logits.f32", g.n_prompt);
        if (g.n_long) check_logits(engine, &g, families[i], g.long_prompt, g.n_long, "long_logits.f32", 1);
        check_greedy(engine, &g, families[i]);
        lf_engine_close(engine);
        json_decref(g.json);
    }
}

static void test_scalar(void **state)
{
    (void)state;
    check_level("scalar");
}

static void test_avx2(void **state)
{
    (void)state;
    check_level("avx2");
}

static void test_native(void **state)
{
    (void)state;
    check_level("native");
}

/* The narrower caches stay near the reference: a wrong layout would not. */
static void test_cache_types_stay_near(void **state)
{
    (void)state;
    const struct {
        lf_dtype dtype;
        double tolerance;
    } caches[] = {{LF_DTYPE_F16, 5e-3}, {LF_DTYPE_BF16, 0.1}, {LF_DTYPE_Q8_0, 0.1}};
    lf_error err;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        golden g;
        char path[256];
        read_golden(&g, families[i]);
        (void)snprintf(path, sizeof path, "families/%s/logits.f32", families[i]);
        char *expected = read_file(golden_path(path), NULL);
        const size_t n = g.n_prompt * (size_t)g.n_vocab;
        float *logits = calloc(n, sizeof *logits);
        for (size_t k = 0; k < sizeof caches / sizeof *caches; k++) {
            lf_engine *engine = open_family(families[i], "native", caches[k].dtype);
            assert_ok(lf_score(engine, g.prompt, g.n_prompt, logits, &err), &err);
            const double error = relative_error(logits, (const float *)(void *)expected, n);
            if (!(error < caches[k].tolerance))
                fail_msg("%s: cache %s: relative error %g", families[i], lf_dtype_name(caches[k].dtype),
                         error);
            lf_engine_close(engine);
        }
        free(logits);
        free(expected);
        json_decref(g.json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_native),
        cmocka_unit_test(test_cache_types_stay_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
