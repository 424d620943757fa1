/* bench/: lists, statistics, what a run measures and reports, and peers that misbehave. Times themselves are not tested;
 * that the passes are the ones promised is. */
#include "testing.h"

#include "../bench/kernels.h"
#include "../bench/load.h"
#include "../bench/peak.h"
#include "../bench/peer.h"
#include "../bench/random_model.h"
#include "../bench/report.h"
#include "../bench/rig.h"
#include "../bench/shapes.h"
#include "base/cpu.h"
#include "oom.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lists and statistics ---- */

static void test_lists(void **state)
{
    (void)state;
    lf_error err;
    bench_ints ints;
    bench_tests tests;
    bench_names names;
    assert_ok(bench_parse_ints(&ints, "0,4096,7", 0, 4096, &err), &err);
    assert_int_equal(ints.n, 3);
    assert_int_equal(ints.v[1], 4096);
    assert_ok(bench_parse_dtypes(&ints, "bf16,Q4_K", &err), &err);
    assert_int_equal(ints.n, 2);
    assert_int_equal(ints.v[1], LF_DTYPE_Q4_K);
    assert_ok(bench_parse_tests(&tests, "tg128,pp512,tr7", &err), &err);
    assert_int_equal(tests.n, 3);
    assert_int_equal(tests.v[2].kind, BENCH_TR);
    assert_int_equal(tests.v[0].kind, BENCH_TG);
    assert_int_equal(tests.v[1].n, 512);
    assert_ok(bench_parse_names(&names, "110m,/a b/c.gguf", &err), &err);
    assert_string_equal(names.v[1], "/a b/c.gguf");
    assert_ok(bench_parse_choices(&ints, "cache,memory", bench_place_names, &err), &err);
    assert_true(ints.n == 2 && ints.v[0] == BENCH_CACHE && ints.v[1] == BENCH_MEMORY);
    char name[BENCH_TEST_NAME_MAX];
    bench_test_name(name, &tests.v[0]);
    assert_string_equal(name, "tg128");
}

static void test_bad_lists(void **state)
{
    (void)state;
    lf_error err;
    bench_ints ints;
    bench_tests tests;
    bench_names names;
    const char *const bad_ints[] = {"",   ",", "1,", "1,,2", "-1",
                                    "4x", "x", " 1", "4097", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad_ints / sizeof *bad_ints; i++)
        assert_int_equal(bench_parse_ints(&ints, bad_ints[i], 0, 4096, &err), LF_EINVAL);
    assert_non_null(
        strstr(err.text, "found \"99999999999999999999\", expected whole numbers from 0 to 4096"));
    const char *const bad_tests[] = {"pp", "pp0", "tg65537", "rows4", "ppp1", "tg-1", "512"};
    for (size_t i = 0; i < sizeof bad_tests / sizeof *bad_tests; i++)
        assert_int_equal(bench_parse_tests(&tests, bad_tests[i], &err), LF_EINVAL);
    assert_int_equal(bench_parse_dtypes(&ints, "q9", &err), LF_EINVAL);
    assert_int_equal(bench_parse_choices(&ints, "cache,disk", bench_place_names, &err), LF_EINVAL);
    assert_non_null(strstr(err.text, "found \"disk\", expected memory or cache"));
    assert_int_equal(bench_parse_names(&names, "110m,", &err), LF_EINVAL);

    char text[2 * BENCH_NAME_MAX];
    for (int i = 0; i < BENCH_LIST_MAX; i++) memcpy(text + 2 * i, "1,", 2);
    text[2 * BENCH_LIST_MAX - 1] = '\0';
    assert_ok(bench_parse_ints(&ints, text, 0, 1, &err), &err);
    text[2 * BENCH_LIST_MAX - 1] = ',';
    memcpy(text + 2 * BENCH_LIST_MAX, "1", 2);
    assert_int_equal(bench_parse_ints(&ints, text, 0, 1, &err), LF_EINVAL);
    memset(text, 'x', sizeof text - 1);
    text[BENCH_NAME_MAX] = '\0';
    assert_int_equal(bench_parse_names(&names, text, &err), LF_EINVAL);
    text[BENCH_NAME_MAX - 1] = '\0';
    assert_ok(bench_parse_names(&names, text, &err), &err);
}

static void test_spread(void **state)
{
    (void)state;
    double odd[] = {5, 1, 3}, even[] = {4, 1, 2, 10}, one[] = {7};
    const bench_spread a = bench_spread_of(odd, 3), b = bench_spread_of(even, 4), c = bench_spread_of(one, 1);
    assert_true(a.median == 3 && a.min == 1 && a.max == 5);
    assert_true(b.median == 3 && b.min == 1 && b.max == 10);
    assert_true(c.median == 7 && c.min == 7 && c.max == 7);
}

static int64_t n_parameters(const lf_config *c)
{
    int64_t n = 0;
    for (int w = 0; w < LF_W_COUNT; w++) {
        int64_t n_out, n_in;
        if (!lf_weight_expected(c, (lf_weight)w)) continue;
        lf_weight_shape(c, (lf_weight)w, &n_out, &n_in);
        n += n_out * n_in * (w >= LF_W_FIRST_OF_LAYER ? c->n_layers : 1);
    }
    return n;
}

static void test_shapes_have_their_size(void **state)
{
    (void)state;
    assert_int_equal(n_parameters(bench_shape_find("110m")), 109529856);
    assert_int_equal(n_parameters(bench_shape_find("1.1b")), 1100048384); /* as TinyLlama says of itself */
    assert_null(bench_shape_find("70b"));
}

/* ---- a tiny model, and hooks that remember ---- */

enum { CELLS_MAX = 32 };

typedef struct record {
    bench_report kind;
    int n_cells, n_engines;
    bench_result cells[CELLS_MAX][2];
    json_t *json; /* array of what was reported */
    FILE *table;
    int n_asked, cancel_at; /* calls of canceled; the one that says yes, 0 for none */
} record;

static bool on_canceled(void *cookie)
{
    record *l = cookie;
    return ++l->n_asked == l->cancel_at;
}

static void on_progress(void *cookie, const char *what, double share)
{
    (void)cookie;
    assert_non_null(what);
    assert_true(share >= 0.0 && share <= 1.0);
}

static lf_status on_cell(void *cookie, const bench_result *results, int n, lf_error *err)
{
    (void)err;
    record *l = cookie;
    assert_true(l->n_cells < CELLS_MAX);
    l->n_engines = n;
    if (l->table && l->n_cells == 0) bench_report_head(l->table, l->kind, results, n);
    if (l->table) bench_report_row(l->table, l->kind, results, n);
    memcpy(l->cells[l->n_cells++], results, (size_t)n * sizeof *results);
    for (int i = 0; l->json && i < n; i++)
        assert_int_equal(json_array_append_new(l->json, bench_report_json(l->kind, &results[i])), 0);
    return LF_OK;
}

typedef struct fixture {
    char *dir, path[512];
} fixture;

static int set_up(void **state)
{
    static fixture f;
    lf_error err;
    const lf_random_model m = {.config = {.arch = LF_ARCH_LLAMA,
                                          .n_layers = 2,
                                          .dim = 64,
                                          .n_heads = 4,
                                          .n_kv_heads = 2,
                                          .head_dim = 16,
                                          .ffn_dim = 128,
                                          .n_vocab = 80,
                                          .n_ctx_max = 512,
                                          .norm_eps = 1e-5f,
                                          .rope_base = 10000.0,
                                          .rope_factor = 1.0},
                               .dtype = LF_DTYPE_Q8_0,
                               .seed = 1};
    f.dir = make_temp_dir();
    (void)snprintf(f.path, sizeof f.path, "%s/tiny.gguf", f.dir);
    assert_ok(lf_random_model_write(f.path, &m, &err), &err);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    remove_tree(f->dir);
    free(f->dir);
    return 0;
}

static bench_hooks hooks_of(record *l)
{
    return (bench_hooks){
        .canceled = on_canceled, .on_progress = on_progress, .on_cell = on_cell, .cookie = l};
}

static bench_options options_of(const fixture *f)
{
    bench_options o = {.dtypes = {1, {LF_DTYPE_BF16}},
                       .depths = {2, {0, 37}},
                       .batches = {2, {1, 3}},
                       .tests = {2, {{BENCH_PP, 20}, {BENCH_TG, 5}}},
                       .rows = {2, {4, 2}},
                       .budgets = {2, {64, 1000}},
                       .pass_rows = 16,
                       .n_threads = 2,
                       .reps = 2,
                       .kv_dtype = LF_DTYPE_BF16,
                       .cpu_mask = ~0u,
                       .dir = f->dir,
                       .probe_bytes = 1 << 22};
    o.models.n = 1;
    (void)snprintf(o.models.v[0], BENCH_NAME_MAX, "%s", f->path);
    return o;
}

/* ---- runs ---- */

static void assert_keys(const json_t *object, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!json_object_get(object, keys[i])) fail_msg("the key \"%s\" is missing", keys[i]);
}

static double number_of(const json_t *object, const char *key)
{
    assert_true(json_is_number(json_object_get(object, key)));
    return json_number_value(json_object_get(object, key));
}

static void check_decode_json(const json_t *object, const bench_result *r)
{
    static const char *const keys[] = {
        "model",   "dtype",     "engine",  "test",    "depth",   "batch", "tps",           "tps_min",
        "tps_max", "floor_tps", "threads", "kv_type", "kernels", "reps",  "bandwidth_gbs", "c2c_ns"};
    assert_keys(object, keys, sizeof keys / sizeof *keys);
    assert_true(number_of(object, "tps_min") <= number_of(object, "tps"));
    assert_true(number_of(object, "tps") <= number_of(object, "tps_max"));
    assert_true(fabs(number_of(object, "tps") * r->seconds.median - r->n_tokens) < 1e-6 * r->n_tokens);
    if (r->test.kind == BENCH_PP)
        assert_true(json_is_null(json_object_get(object, "floor_tps")));
    else
        assert_true(number_of(object, "floor_tps") > 0);
    assert_string_equal(json_string_value(json_object_get(object, "dtype")), "q8_0");
    assert_string_equal(json_string_value(json_object_get(object, "engine")), "lookfar");
}

/* Every line between the first and the end has the same number of bars, and the same length. */
static void check_table(const char *text, int n_rows)
{
    const char *line = strchr(text, '|');
    assert_non_null(line);
    const size_t length = strcspn(line, "\n");
    int n_bars = 0, n_lines = 0;
    for (size_t i = 0; i < length; i++) n_bars += line[i] == '|';
    for (; *line; line += strcspn(line, "\n") + 1, n_lines++) {
        int bars = 0;
        for (size_t i = 0; line[i] != '\n'; i++) bars += line[i] == '|';
        assert_int_equal(bars, n_bars);
        if (n_lines < 2) assert_int_equal(strcspn(line, "\n"), length);
    }
    assert_int_equal(n_lines, n_rows + 2);
}

static void test_decode(void **state)
{
    lf_error err;
    char *table = NULL;
    size_t table_len = 0;
    const bench_options o = options_of(*state);
    record l = {.kind = BENCH_DECODE, .json = json_array(), .table = open_memstream(&table, &table_len)};
    const bench_hooks hooks = hooks_of(&l);
    assert_ok(bench_run_decode(&o, &hooks, &err), &err);
    (void)fclose(l.table);
    assert_int_equal(l.n_cells, 8); /* depths, in them batches, in them tests */
    assert_int_equal(json_array_size(l.json), 8);
    for (int i = 0; i < 8; i++) {
        const bench_result *r = &l.cells[i][0];
        assert_int_equal(r->depth, i < 4 ? 0 : 37);
        assert_int_equal(r->batch, i / 2 % 2 == 0 ? 1 : 3);
        assert_int_equal(r->test.kind, i % 2 == 0 ? BENCH_PP : BENCH_TG);
        assert_int_equal(r->n_tokens, (i % 2 == 0 ? 20 : 5) * r->batch);
        assert_int_equal(r->threads, 2);
        check_decode_json(json_array_get(l.json, (size_t)i), r);
    }
    check_table(table, 8);
    free(table);
    json_decref(l.json);
}

static void test_verify(void **state)
{
    static const char *const keys[] = {"model", "dtype",   "engine",  "depth", "rows",    "seconds",
                                       "ratio", "threads", "kv_type", "reps",  "kernels", "floor_ratio"};
    lf_error err;
    bench_options o = options_of(*state);
    record l = {.kind = BENCH_VERIFY, .json = json_array()};
    const bench_hooks hooks = hooks_of(&l);
    assert_ok(bench_run_verify(&o, &hooks, &err), &err);
    assert_int_equal(l.n_cells, 4); /* depths, in them rows; the one row that ratios need is not reported */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(l.cells[i][0].test.n, i % 2 == 0 ? 4 : 2);
        assert_keys(json_array_get(l.json, (size_t)i), keys, sizeof keys / sizeof *keys);
        assert_true(l.cells[i][0].ratio > 0 && isfinite(l.cells[i][0].ratio));
        assert_true(l.cells[i][0].floor_ratio > 1 && l.cells[i][0].floor_ratio < 2);
    }
    l.n_cells = 0;
    o.rows = (bench_ints){2, {2, 1}};
    assert_ok(bench_run_verify(&o, &hooks, &err), &err);
    assert_int_equal(l.n_cells, 4);
    assert_true(l.cells[1][0].ratio == 1 && l.cells[1][0].floor_ratio == 1);
    json_decref(l.json);
}

static void test_sparse(void **state)
{
    static const char *const keys[] = {"model",   "dtype",        "depth", "batch",       "budget",
                                       "seconds", "full_seconds", "ratio", "bytes_ratio", "reps"};
    lf_error err;
    char *table = NULL;
    size_t table_len = 0;
    bench_options o = options_of(*state);
    record l = {.kind = BENCH_SPARSE, .json = json_array(), .table = open_memstream(&table, &table_len)};
    const bench_hooks hooks = hooks_of(&l);
    o.depths = (bench_ints){1, {250}};
    assert_ok(bench_run_sparse(&o, &hooks, &err), &err);
    (void)fclose(l.table);
    assert_int_equal(l.n_cells, 4); /* batches, in them budgets */
    for (int i = 0; i < 4; i++) {
        const bench_result *r = &l.cells[i][0];
        const json_t *object = json_array_get(l.json, (size_t)i);
        assert_int_equal(r->batch, i < 2 ? 1 : 3);
        assert_int_equal(r->n_tokens, r->batch);
        assert_keys(object, keys, sizeof keys / sizeof *keys);
        assert_int_equal(number_of(object, "budget"), i % 2 == 0 ? 64 : 1000);
        assert_true(fabs(r->ratio * r->base_seconds.median - r->seconds.median) < 1e-9);
        assert_true(i % 2 == 0 ? r->floor_ratio < 1 : r->floor_ratio == 1); /* 1000: all there is */
    }
    assert_true(l.cells[2][0].floor_ratio < l.cells[0][0].floor_ratio); /* more cache for the same weights */
    check_table(table, 4);
    free(table);
    json_decref(l.json);
}

/* ---- the machine and its kernels ---- */

static void test_peaks(void **state)
{
    (void)state;
    static const struct {
        unsigned flags;
        const char *f16, *bf16, *q6_k;
    } levels[] = {
        {0, "fmaf", "fmaf", "imul"},
#if defined(__x86_64__)
        {LF_CPU_AVX2, "vfmadd ymm", "vfmadd ymm", "vpmaddubsw ymm"},
        {LF_CPU_AVX2 | LF_CPU_AVX512, "vfmadd zmm", "vfmadd zmm", "vpdpbusd zmm"},
        {LF_CPU_AVX2 | LF_CPU_AVX512 | LF_CPU_AVX512BF16, "vfmadd zmm", "vdpbf16ps zmm", "vpdpbusd zmm"},
#endif
    };
    lf_error err;
    lf_threads *threads;
    assert_ok(lf_threads_create(&threads, 2, false, &err), &err);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        const unsigned flags = levels[i].flags;
        const bench_peak *bf16 = bench_peak_of(LF_DTYPE_BF16, flags),
                         *q6_k = bench_peak_of(LF_DTYPE_Q6_K, flags);
        assert_string_equal(bench_peak_of(LF_DTYPE_F16, flags)->name, levels[i].f16);
        assert_string_equal(bf16->name, levels[i].bf16);
        assert_string_equal(q6_k->name, levels[i].q6_k);
        if ((flags & lf_cpu_flags()) != flags) continue;
        assert_true(bench_peak_measure(bf16, threads) > 0);
        assert_true(bench_peak_measure(q6_k, threads) > 0);
    }
    lf_threads_free(threads);
}

typedef struct kernel_record {
    int n, n_asked, cancel_at;
    lf_status answer; /* to every result */
    bench_kernel_result results[CELLS_MAX];
} kernel_record;

static bool on_kernel_canceled(void *cookie)
{
    kernel_record *k = cookie;
    return ++k->n_asked == k->cancel_at;
}

static lf_status on_kernel(void *cookie, const bench_kernel_result *result, lf_error *err)
{
    (void)err;
    kernel_record *k = cookie;
    assert_true(k->n < CELLS_MAX);
    k->results[k->n++] = *result;
    return k->answer;
}

static lf_status run_kernels(const bench_kernel_options *o, kernel_record *k, lf_error *err)
{
    const bench_hooks hooks = {.canceled = on_kernel_canceled, .on_progress = on_progress, .cookie = k};
    return bench_run_kernels(o, &hooks, on_kernel, err);
}

static const bench_kernel_options tiny_kernels = {.kernels = {2, {BENCH_MATMUL, BENCH_ATTEND}},
                                                  .dtypes = {3, {LF_DTYPE_F32, LF_DTYPE_Q4_K, LF_DTYPE_Q8_0}},
                                                  .rows = {2, {1, 7}},
                                                  .queries = {2, {5, 1}},
                                                  .head_dims = {2, {16, 40}},
                                                  .places = {2, {BENCH_MEMORY, BENCH_CACHE}},
                                                  .n_threads = 2,
                                                  .reps = 2,
                                                  .cpu_mask = ~0u,
                                                  .memory_bytes = 1 << 20,
                                                  .cache_bytes = 1 << 16,
                                                  .probe_bytes = 1 << 20};

static void test_kernels(void **state)
{
    (void)state;
    lf_error err;
    kernel_record k = {0};
    assert_ok(run_kernels(&tiny_kernels, &k, &err), &err);
    assert_int_equal(k.n, 12 + 16); /* no cache is q4_k */
    for (int i = 0; i < k.n; i++) {
        const bench_kernel_result *r = &k.results[i];
        const bool matmul = i < 12;
        assert_int_equal(r->kernel, matmul ? BENCH_MATMUL : BENCH_ATTEND);
        assert_int_equal(r->place, i % 2 == 0 ? BENCH_MEMORY : BENCH_CACHE);
        assert_int_equal(r->rows, (i / 2 % 2 == 0) == matmul ? 1 : matmul ? 7 : 5);
        assert_int_equal(r->head_dim, matmul ? 0 : (i - 12) / 4 % 2 == 0 ? 16 : 40);
        assert_true(r->gbytes_per_s.min > 0 && r->gbytes_per_s.max >= r->gbytes_per_s.median);
        assert_true(r->roof_gflops > 0 && r->roof_gflops <= r->limit_gflops);
        assert_true(fabs(r->share * r->roof_gflops - r->gflops) < 1e-6 * r->gflops);
        /* a multiply-add for each row and element of 4 bytes; V of 40 dimensions is padded */
        if (strcmp(r->dtype, "f32") == 0 && r->head_dim != 40)
            assert_true(fabs(r->gflops - r->gbytes_per_s.median * r->rows / 2) < 1e-6 * r->gflops);
    }
    assert_string_equal(k.results[1].dtype, "f32");
    assert_string_equal(k.results[27].dtype, "q8_0");
}

static void test_kernels_of_the_lowest_level(void **state)
{
    (void)state;
    lf_error err;
    kernel_record k = {0};
    bench_kernel_options o = tiny_kernels;
    o.cpu_mask = 0;
    o.kernels = (bench_ints){1, {BENCH_ATTEND}};
    o.places.n = o.head_dims.n = o.queries.n = 1;
    assert_ok(run_kernels(&o, &k, &err), &err);
    assert_int_equal(k.n, 2);
    assert_string_equal(k.results[0].kernels, "scalar");
    assert_string_equal(k.results[0].instruction, "fmaf");
    assert_string_equal(k.results[1].instruction, "imul, fmaf");
}

static void test_kernels_that_end_early(void **state)
{
    (void)state;
    lf_error err;
    kernel_record failing = {.answer = LF_EIO}, canceled = {.cancel_at = 5};
    assert_int_equal(run_kernels(&tiny_kernels, &failing, &err), LF_EIO);
    assert_int_equal(failing.n, 1);
    assert_int_equal(run_kernels(&tiny_kernels, &canceled, &err), LF_ECANCELED);
    assert_int_equal(canceled.n, 2);
}

/* ---- loading ---- */

typedef struct load_record {
    record base; /* first: its hooks are ours */
    int n;
    bench_load_result result;
} load_record;

static lf_status on_loaded(void *cookie, const bench_load_result *result, lf_error *err)
{
    (void)err;
    load_record *l = cookie;
    l->result = *result;
    l->n++;
    return LF_OK;
}

static lf_status run_load(const bench_options *o, load_record *l, lf_error *err)
{
    const bench_hooks hooks = hooks_of(&l->base);
    return bench_run_load(o, &hooks, on_loaded, err);
}

static void test_load(void **state)
{
    lf_error err;
    load_record l = {0};
    const bench_options o = options_of(*state);
    assert_ok(run_load(&o, &l, &err), &err);
    assert_int_equal(l.n, 1);
    assert_string_equal(l.result.model, o.models.v[0]);
    assert_string_equal(l.result.dtype, "q8_0");
    assert_int_equal(l.result.threads, 2);
    /* as in test_bytes_that_must_be_read, and the embedding */
    const double layer = (2 * 4096 + 2 * 2048 + 3 * 8192) / 32.0 * 34 + 2 * 64 * 4;
    assert_true(l.result.bytes == 2 * layer + 2 * 80 * 64 / 32.0 * 34 + 64 * 4);
    assert_true(l.result.peak_bytes > l.result.bytes && l.result.seconds.min > 0);
    assert_true(l.result.gbytes_per_s > 0);
}

static void test_loads_that_fail(void **state)
{
    const fixture *f = *state;
    lf_error err = {0};
    load_record canceled = {.base = {.cancel_at = 1}}, l = {0};
    bench_options o = options_of(f);
    char path[600];
    assert_int_equal(run_load(&o, &canceled, &err), LF_ECANCELED);
    (void)snprintf(path, sizeof path, "%s/broken.gguf", f->dir);
    write_file(path, "nonsense", 8);
    (void)snprintf(o.models.v[0], BENCH_NAME_MAX, "%.500s", path);
    assert_int_equal(run_load(&o, &l, &err), LF_EFORMAT); /* what the process found, word for word */
    assert_non_null(strstr(err.text, "broken.gguf"));
    (void)snprintf(o.models.v[0], BENCH_NAME_MAX, "70b");
    assert_int_equal(run_load(&o, &l, &err), LF_EINVAL);
    assert_int_equal(l.n, 0);
}

/* The passes of each kind of test: the rig asks whether to go on before every one. */
static void test_passes_are_the_ones_promised(void **state)
{
    const fixture *f = *state;
    const struct {
        bench_test test;
        int n_seqs, n_passes;
    } cases[] = {
        {{BENCH_PP, 20}, 1, 2},   {{BENCH_PP, 16}, 1, 1},   {{BENCH_PP, 20}, 3, 4},  {{BENCH_TG, 5}, 1, 5},
        {{BENCH_TG, 5}, 3, 5},    {{BENCH_ROWS, 4}, 1, 1},  {{BENCH_ROWS, 5}, 3, 1}, {{BENCH_TP, 5}, 1, 5},
        {{BENCH_TP, 5}, 3, 5},    {{BENCH_TR, 5}, 1, 5},    {{BENCH_TR, 5}, 3, 5},   {{BENCH_VIEW, 9}, 1, 1},
        {{BENCH_VIEW, 32}, 3, 1}, {{BENCH_VIEW, 48}, 3, 1},
    };
    lf_error err;
    lf_kernels kernels;
    lf_threads *threads;
    bench_rig *rig;
    record l = {0};
    const bench_hooks hooks = hooks_of(&l);
    const bench_rig_size size = {
        .pass_rows = 16, .pass_logits = 15, .n_seqs = 3, .n_pos = 60, .view_pos = 48};
    lf_kernels_init(&kernels, lf_cpu_flags());
    assert_ok(lf_threads_create(&threads, 2, false, &err), &err);
    assert_ok(bench_rig_open(&rig, f->path, "tiny", LF_DTYPE_BF16, &size, &kernels, threads, &hooks, &err),
              &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(bench_rig_set_depth(rig, cases[i].n_seqs, 40, 20, &err), &err);
        for (int rep = 0; rep < 3; rep++) { /* a run leaves everything as it was */
            double seconds = 0;
            l.n_asked = 0;
            assert_ok(bench_rig_run(rig, &cases[i].test, &seconds, &err), &err);
            assert_int_equal(l.n_asked, cases[i].n_passes);
            assert_true(seconds > 0);
        }
    }
    bench_rig_close(rig);
    lf_threads_free(threads);
}

static void test_bytes_that_must_be_read(void **state)
{
    const fixture *f = *state;
    lf_error err;
    lf_kernels kernels;
    lf_threads *threads;
    bench_rig *rig;
    record l = {0};
    const bench_hooks hooks = hooks_of(&l);
    const bench_rig_size size = {
        .pass_rows = 16, .pass_logits = 3, .n_seqs = 3, .n_pos = 300, .view_pos = 128};
    lf_kernels_init(&kernels, 0);
    assert_ok(lf_threads_create(&threads, 1, false, &err), &err);
    assert_ok(bench_rig_open(&rig, f->path, "tiny", LF_DTYPE_BF16, &size, &kernels, threads, &hooks, &err),
              &err);
    assert_ok(bench_rig_set_depth(rig, 3, 10, 4, &err), &err);
    /* a layer: q, output 64 x 64, k, v 32 x 64, three of 128 x 64, in 34 bytes for 32; norms; the output 80 x 64 */
    const double layer = (2 * 4096 + 2 * 2048 + 3 * 8192) / 32.0 * 34 + 2 * 64 * 4;
    const double weights = 2 * layer + 80 * 64 / 32.0 * 34 + 64 * 4;
    const double position = 2 * 2 * 2 * 16 * 2; /* layers, heads, K and V, head_dim, bf16 */
    const bench_test tg = {BENCH_TG, 4}, rows = {BENCH_ROWS, 4};
    assert_true(bench_rig_bytes(rig, &tg) == 4 * weights + 3 * position * (11 + 12 + 13 + 14));
    assert_true(bench_rig_bytes(rig, &rows) == weights + 3 * position * 14);
    /* 8 tiles, of which 2 are recent: that of position 200, its 9th, and the one before */
    const bench_test view = {BENCH_VIEW, 120};
    assert_ok(bench_rig_set_depth(rig, 3, 200, 4, &err), &err);
    assert_true(bench_rig_bytes(rig, &view) == weights + 3 * position * (7 * 16 + 9));
    bench_rig_close(rig);
    lf_threads_free(threads);
}

/* ---- peers ---- */

static void test_peer_beside_us(void **state)
{
    lf_error err;
    bench_options o = options_of(*state);
    record l = {.kind = BENCH_DECODE, .json = json_array()};
    const bench_hooks hooks = hooks_of(&l);
    o.depths.n = o.batches.n = 1;
    /* answers only what it can read: the requests are part of the protocol */
    o.peer_command = "while read -r line; do case $line in"
                     " *'\"test\":\"pp20\",\"depth\":0,\"batch\":1,\"threads\":2,\"kv_type\":\"f16\"'*)"
                     " echo '{\"seconds\": 0.5, \"engine\": \"fake\"}';;"
                     " *'\"test\":\"tg5\"'*) echo '{\"seconds\": 2}';; *) echo bad;; esac; done";
    assert_ok(bench_run_decode(&o, &hooks, &err), &err);
    assert_int_equal(l.n_cells, 2);
    assert_int_equal(l.n_engines, 2);
    assert_int_equal(json_array_size(l.json), 4);
    const json_t *pp = json_array_get(l.json, 1), *tg = json_array_get(l.json, 3);
    assert_true(number_of(pp, "tps") == 40 && number_of(tg, "tps") == 2.5);
    assert_string_equal(json_string_value(json_object_get(tg, "engine")), "fake");
    assert_string_equal(json_string_value(json_object_get(tg, "kv_type")), "f16");
    assert_true(json_is_null(json_object_get(tg, "kernels")));
    json_decref(l.json);
}

static void test_peer_beside_verify(void **state)
{
    lf_error err;
    bench_options o = options_of(*state);
    record l = {.kind = BENCH_VERIFY};
    const bench_hooks hooks = hooks_of(&l);
    o.depths.n = 1;
    o.peer_command =
        "while read -r line; do line=${line#*rows}; echo '{\"seconds\": '${line%%\\\"*}'}'; done";
    assert_ok(bench_run_verify(&o, &hooks, &err), &err);
    assert_int_equal(l.n_cells, 2);
    assert_true(l.cells[0][1].seconds.min == 4 && l.cells[0][1].ratio == 4);
    assert_true(l.cells[1][1].seconds.max == 2 && l.cells[1][1].ratio == 2);
    assert_true(l.cells[1][1].floor_ratio == l.cells[1][0].floor_ratio);
}

static void test_peers_that_misbehave(void **state)
{
    static const struct {
        const char *command, *text;
        lf_status status;
    } cases[] = {
        {"exit 3", "ended with status 3", LF_EIO},
        {"no-such-program-anywhere 2>/dev/null", "ended with status 127", LF_EIO},
        {"kill -9 $$", "ended with signal 9", LF_EIO},
        {"read -r line; echo '{\"seconds\": 1}'; exit 0", "ended with status 0", LF_EIO},
        {"exec <&- >&-; sleep 60", "closed its output", LF_EIO},
        {"echo hello; sleep 60", "found \"hello\", expected a JSON object", LF_EFORMAT},
        {"echo '[]'; sleep 60", "found \"[]\"", LF_EFORMAT},
        {"echo '{\"seconds\": -1}'; sleep 60", "above 0", LF_EFORMAT},
        {"echo '{\"seconds\": \"1\"}'; sleep 60", "above 0", LF_EFORMAT},
        {"echo '{\"error\": \"no such test\"}'; sleep 60", "no such test", LF_EFORMAT},
        {"cat /dev/zero 2>/dev/null", "more than 65536 bytes", LF_EFORMAT},
    };
    bench_options o = options_of(*state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_error err = {0};
        record l = {0};
        const bench_hooks hooks = hooks_of(&l);
        o.peer_command = cases[i].command;
        assert_int_equal(bench_run_decode(&o, &hooks, &err), cases[i].status);
        if (!strstr(err.text, cases[i].text)) fail_msg("%s: %s", cases[i].command, err.text);
    }
}

/* ---- errors ---- */

static void expect_error(const bench_options *o, int cancel_at, lf_status status, const char *text)
{
    lf_error err = {0};
    record l = {.cancel_at = cancel_at};
    const bench_hooks hooks = hooks_of(&l);
    assert_int_equal(bench_run_decode(o, &hooks, &err), status);
    if (!strstr(err.text, text)) fail_msg("found \"%s\", expected \"%s\" in it", err.text, text);
}

static void test_errors(void **state)
{
    const fixture *f = *state;
    bench_options o = options_of(f);
    for (int i = 1; i < 40; i++) expect_error(&o, i, LF_ECANCELED, "");
    o.pass_rows = 2;
    expect_error(&o, 0, LF_EINVAL, "found 2, expected at least 3");
    o = options_of(f);
    o.depths = (bench_ints){1, {BENCH_DEPTH_MAX}};
    o.batches = (bench_ints){1, {1000}};
    o.pass_rows = 1000;
    expect_error(&o, 0, LF_ELIMIT, "1000 sequences");
    o = options_of(f);
    o.kv_dtype = LF_DTYPE_Q4_K;
    expect_error(&o, 0, LF_EINVAL, "found q4_k, expected");
    (void)snprintf(o.models.v[0], BENCH_NAME_MAX, "70b");
    expect_error(&o, 0, LF_EINVAL, "found \"70b\", expected 110m, 1.1b or a path");
    (void)snprintf(o.models.v[0], BENCH_NAME_MAX, "110m");
    o.dir = f->path; /* a file, not a folder */
    expect_error(&o, 0, LF_EIO, f->path);
    o.dir = "/no/such/parent";
    expect_error(&o, 0, LF_EIO, "/no/such/parent: cannot create the folder");
}

static lf_status run_one_decode(const bench_options *o, lf_error *err)
{
    record l = {0};
    const bench_hooks hooks = hooks_of(&l);
    return bench_run_decode(o, &hooks, err);
}

static lf_status run_one_sparse(const bench_options *o, lf_error *err)
{
    record l = {0};
    const bench_hooks hooks = hooks_of(&l);
    return bench_run_sparse(o, &hooks, err);
}

static lf_status run_few_kernels(const bench_options *o, lf_error *err)
{
    (void)o;
    kernel_record k = {0};
    bench_kernel_options few = tiny_kernels;
    few.dtypes.n = few.rows.n = few.queries.n = few.head_dims.n = few.places.n = few.reps = 1;
    return run_kernels(&few, &k, err);
}

static void fail_every_allocation(const bench_options *o,
                                  lf_status (*run)(const bench_options *o, lf_error *err))
{
    lf_error err;
    for (long n = 1;; n++) {
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = run(o, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            break;
        }
        if (status == LF_OK || status == LF_ENOMEM) continue; /* OK: the C library did without the memory */
        fail_msg("allocation %ld: %s", n, err.text);
    }
}

static void test_every_allocation_can_fail(void **state)
{
    oom_require();
    bench_options o = options_of(*state);
    o.depths.n = o.batches.n = o.tests.n = o.reps = o.budgets.n = 1;
    fail_every_allocation(&o, run_one_sparse);
    fail_every_allocation(&o, run_few_kernels);
    o.peer_command = "while read -r line; do echo '{\"seconds\": 1}'; done";
    fail_every_allocation(&o, run_one_decode);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_shapes_have_their_size),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_peaks),
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_kernels_of_the_lowest_level),
        cmocka_unit_test(test_kernels_that_end_early),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_loads_that_fail),
        cmocka_unit_test(test_passes_are_the_ones_promised),
        cmocka_unit_test(test_bytes_that_must_be_read),
        cmocka_unit_test(test_peer_beside_us),
        cmocka_unit_test(test_peer_beside_verify),
        cmocka_unit_test(test_peers_that_misbehave),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
