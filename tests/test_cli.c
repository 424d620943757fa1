/* The command as its users meet it: help, mistakes, inspect, convert, bench, installing. What `run` does:
 * test_cli_run. */
#include "cli.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- help and usage ---- */

/* Every long option that a --help lists is in the man page. */
static void expect_documented(const char *help)
{
    char word[64], path[] = "docs/lookfar.1";
    if (access(path, R_OK) != 0) return; /* not in the checkout */
    char *page = read_file(path, NULL);
    for (const char *at = help; (at = strstr(at, " --")); at += 3) {
        const size_t len = strspn(at + 3, "abcdefghijklmnopqrstuvwxyz-");
        (void)snprintf(word, sizeof word, "Fl -%.*s", (int)len, at + 3);
        if (!strstr(page, word)) fail_msg("%s: found no \"%s\"", path, word);
    }
    free(page);
}

static void test_help_and_version(void **state)
{
    (void)state;
    static const bad_case commands[] = {{.args = {"run", "--help"}},
                                        {.args = {"serve", "--help"}},
                                        {.args = {"bench", "serve", "--help"}},
                                        {.args = {"inspect", "--help"}},
                                        {.args = {"convert", "--help"}},
                                        {.args = {"quantize", "-h"}},
                                        {.args = {"bench", "decode", "-h"}},
                                        {.args = {"bench", "verify", "--help"}},
                                        {.args = {"bench", "sparse", "--help"}},
                                        {.args = {"bench", "kernels", "--help"}},
                                        {.args = {"bench", "load", "--help"}},
                                        {.args = {"bench", "tokenize", "--help"}},
                                        {.args = {"bench", "magicdec", "--help"}},
                                        {.args = {"bench", "acceptance", "--help"}},
                                        {.args = {"model-cost", "--help"}},
                                        {.args = {"train", "--help"}},
                                        {.args = {"distill", "train", "--help"}},
                                        {.args = {"distill", "run", "--help"}},
                                        {.args = {"plot", "--help"}}};
    char expected[64];
    result r = run_cli("--version");
    expect_success(&r);
    (void)snprintf(expected, sizeof expected, "lookfar %s\n", lf_version());
    assert_string_equal(r.out, expected);
    free_result(&r);
    r = run_cli("--help");
    expect_success(&r);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const char *const *args = commands[i].args;
        result help = run_with(&(streams){0}, args);
        expect_success(&help);
        assert_non_null(strstr(r.out, args[0]));
        (void)snprintf(expected, sizeof expected, "Usage: lookfar %s ", args[0]);
        if (!strstr(help.out, expected)) fail_msg("%s: found no \"%s\"", help.out, expected);
        expect_documented(help.out);
        free_result(&help);
    }
    free_result(&r);
}

/* No command at all is answered by the list of commands. */
static void test_missing_commands(void **state)
{
    (void)state;
    result r = run_with(&(streams){0}, (const char *const[]){NULL});
    assert_int_equal(r.code, 2);
    assert_int_equal(r.out_len, 0);
    assert_non_null(strstr(r.err, "inspect"));
    free_result(&r);
    r = run_cli("bench");
    assert_int_equal(r.code, 2);
    assert_int_equal(r.out_len, 0);
    assert_non_null(strstr(r.err, "decode"));
    free_result(&r);
}

static void test_usage_errors(void **state)
{
    (void)state;
    static const bad_case cases[] = {
        {{"frobnicate"},
         {"found command \"frobnicate\"", "run serve inspect convert quantize model-cost bench"}},
        {{"serve"}, {"serve", "-m PATH", "missing"}},
        {{"serve", "-m", tiny_dir, "--port", "70000"}, {"--port: found \"70000\"", "0 to 65535"}},
        {{"serve", "-m", tiny_dir, "--api-key-file", "/dev/null"},
         {"/dev/null: found no key", "expected one"}},
        {{"serve", "-m", tiny_dir, "--json-object"}, {"form of output", "response_format"}},
        {{"bench", "serve", "-m", "a", "-f", "b", "--rate", "0"}, {"--rate: found \"0\""}},
        {{"run"}, {"run", "-m PATH", "missing"}},
        {{"run", "-m"}, {"run: option requires an argument -- 'm'"}},
        {{"run", "-m", tiny_dir, "--frobnicate"}, {"run: unrecognized option '--frobnicate'"}},
        {{"run", "-m", tiny_dir, "-Z"}, {"run: invalid option -- 'Z'"}},
        {{"run", "-m", tiny_dir, "text"}, {"found argument \"text\"", "expected options only"}},
        {{"run", "-m", tiny_dir, "-p", "a", "-f", "b"}, {"-p, -f and --prompts: found more than one"}},
        {{"run", "-m", tiny_dir, "-n", "many"},
         {"--predict: found \"many\", expected a whole number from -1"}},
        {{"run", "-m", tiny_dir, "-n", "3.5"}, {"--predict: found \"3.5\""}},
        {{"run", "-m", tiny_dir, "-n", "-2"}, {"--predict: found \"-2\""}},
        {{"run", "-m", tiny_dir, "-n", "99999999999999999999"},
         {"--predict: found \"99999999999999999999\""}},
        {{"run", "-m", tiny_dir, "-c", ""}, {"--ctx-size: found \"\""}},
        {{"run", "-m", tiny_dir, "-t", "257"},
         {"--threads: found \"257\", expected a whole number from 0 to 256"}},
        {{"run", "-m", tiny_dir, "-b", "0"}, {"--batch-size: found \"0\", expected a whole number from 1"}},
        {{"run", "-m", tiny_dir, "--temp", "-1"}, {"--temp: found \"-1\", expected a number from 0"}},
        {{"run", "-m", tiny_dir, "--temp", "nan"}, {"--temp: found \"nan\""}},
        {{"run", "-m", tiny_dir, "--seed", "-1"}, {"--seed: found \"-1\""}},
        {{"run", "-m", tiny_dir, "--cache-type", "q9"},
         {"--cache-type: found \"q9\", expected one of f32, f16"}},
        {{"run", "-m", tiny_dir, "--weight-type", "i8"}, {"--weight-type: found \"i8\""}},
        {{"run", "-m", tiny_dir, "--cpu-mask", "sse"}, {"--cpu-mask: found \"sse\", expected scalar, avx2"}},
        {{"run", "-m", tiny_dir, "--regex", "a", "--json-object"}, {"found two, expected one"}},
        {{"run", "-m", tiny_dir, "--regex", "a", "--regex", "b"}, {"found two, expected one"}},
        {{"inspect"}, {"inspect", "-m PATH", "missing"}},
        {{"inspect", "a", "b"}, {"found argument \"b\", expected one model"}},
        {{"inspect", "a", "--parallel", "0"}, {"--parallel: found \"0\""}},
        {{"convert", "a"}, {"convert", "found 1 arguments, expected INPUT OUTPUT"}},
        {{"convert", "a", "b", "c"}, {"found argument \"c\", expected no more"}},
        {{"convert", "a", "b", "-T", "q3_k"}, {"--type: found \"q3_k\""}},
        {{"quantize", "a", "b"}, {"found 2 arguments, expected INPUT OUTPUT TYPE"}},
        {{"quantize", "a", "b", "q2"}, {"TYPE: found \"q2\", expected one of f32, f16"}},
        {{"bench", "frobnicate"}, {"bench", "\"frobnicate\"", "decode verify sparse kernels load tokenize"}},
        {{"bench", "sparse", "--budget", "0"}, {"sparse", "--budget: found \"0\""}},
        {{"bench", "sparse", "--peer", "true"}, {"sparse", "unrecognized option"}},
        {{"bench", "kernels", "--where", "disk"}, {"kernels", "--where: found \"disk\"", "memory or cache"}},
        {{"bench", "kernels", "--kernel", "matmul,"}, {"kernels", "--kernel: found \"\""}},
        {{"bench", "kernels", "--cpu-mask", "sse"}, {"kernels", "--cpu-mask: found \"sse\""}},
        {{"bench", "kernels", "x"}, {"kernels", "found argument \"x\""}},
        {{"bench", "load", "--dtype", "q9"}, {"load", "--dtype: found \"q9\""}},
        {{"bench", "load", "--reps", "0"}, {"load", "--reps: found \"0\""}},
        {{"bench", "tokenize", "-f", "x"}, {"tokenize", "expected a tokenizer"}},
        {{"bench", "tokenize", "x"}, {"tokenize", "expected --file"}},
        {{"model-cost", "--bandwidth", "1", "--gflops", "1"}, {"model-cost", "expected a model"}},
        {{"model-cost", "x"}, {"model-cost", "expected --bandwidth and --gflops"}},
        {{"bench", "magicdec", "-m", "x"}, {"magicdec", "expected --model PATH and --file FILE"}},
        {{"bench", "magicdec", "-m", "x", "-f", "y", "--prompts", "z"}, {"--file FILE or --prompts FILE"}},
        {{"bench", "magicdec", "-m", "x", "-f", "y", "--resume"}, {"--resume: found no --json FILE"}},
        {{"bench", "magicdec", "-m", "x", "-f", "y", "--proposer", "none"}, {"--proposer: found \"none\""}},
        {{"bench", "magicdec", "-m", "x", "-f", "y", "--proposer", "draft"}, {"expected --draft-model PATH"}},
        {{"bench", "magicdec", "-m", "x", "-f", "y", "--drafting", "z"}, {"--drafting: found \"z\""}},
        {{"bench", "magicdec", "-m", "x", "-f", "y", "--selection", "z"}, {"--selection: found \"z\""}},
        {{"bench", "acceptance", "-f", "x"}, {"acceptance", "expected --model PATH and --file FILE"}},
        {{"bench", "acceptance", "-m", "x", "-f", "y", "--g", "0"}, {"--g: found \"0\""}},
        {{"bench", "acceptance", "-m", "x", "-f", "y", "--temp", "0,-1"}, {"--temp: found \"-1\""}},
        {{"bench", "acceptance", "-m", "x", "-f", "y", "--temp", ""}, {"--temp: found \"\""}},
    };
    EXPECT_ERRORS(cases, 2);
}

/* ---- bad input ---- */

static void test_errors_of_paths_and_limits(void **state)
{
    (void)state;
    char empty_dir[512], in_no_dir[512], prompt_path[512];
    assert_int_equal(mkdir(temp_path(empty_dir, "empty"), 0700), 0);
    (void)temp_path(in_no_dir, "no/such/folder/file");
    char *longest = malloc(3001);
    assert_non_null(longest);
    memset(longest, 'a', 3000);
    longest[3000] = '\0';
    write_file(temp_path(prompt_path, "prompt-long"), longest, 3000);
    free(longest);
    const bad_case cases[] = {
        {{"run", "-m", in_no_dir, "-p", "a"}, {in_no_dir, "cannot open", "No such file"}},
        {{"run", "-m", empty_dir, "-p", "a"}, {"empty/config.json", "No such file"}},
        {{"run", "-m", "/dev/null", "-p", "a"}, {"/dev/null"}},
        {{"run", "-m", tiny_dir, "-f", in_no_dir}, {in_no_dir, "cannot open", "No such file"}},
        {{"run", "-m", tiny_dir, "-f", empty_dir}, {empty_dir, "cannot read", "directory"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--json", in_no_dir},
         {in_no_dir, "cannot write", "No such file"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--dump-logits", in_no_dir}, {in_no_dir, "cannot write"}},
        {{"run", "-m", tiny_dir, "-c", "2000", "-f", prompt_path}, {"prompt: found 3000 tokens", "2000"}},
        {{"run", "-m", tiny_dir, "-c", "9999999", "-p", "a"},
         {"context size: found 9999999", "at most 200000"}},
        {{"run", "-m", tiny_dir, "--prompts", in_no_dir}, {in_no_dir, "cannot open", "No such file"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--trace", in_no_dir}, {in_no_dir, "cannot write"}},
        {{"serve", "-m", tiny_dir, "--trace", in_no_dir}, {in_no_dir, "cannot write"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--chat"}, {"chat template"}},
        {{"run", "-m", tiny_dir, "--messages", in_no_dir}, {in_no_dir}},
        {{"run", "-m", tiny_dir, "-p", "a", "--prediction", in_no_dir}, {in_no_dir, "cannot open"}},
        {{"run", "-m", tiny_dir, "-p", "a", "-l", "128+1"}, {"128"}},
        {{"run", "-m", tiny_dir, "-p", ""}, {"prompt: found no tokens, expected at least 1"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--cache-type", "q4_k"}, {"KV dtype: found q4_k", "q8_0"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--weight-type", "q6_k"}, {"q6_k", "block of 256"}},
        {{"run", "-m", random_path, "-p", "a"}, {random_path, "no tokenizer"}},
        {{"inspect", in_no_dir}, {in_no_dir, "No such file"}},
        {{"inspect", tiny_dir, "--json", in_no_dir}, {in_no_dir, "cannot write"}},
        {{"convert", in_no_dir, "out.gguf"}, {in_no_dir, "No such file"}},
        {{"convert", tiny_dir, in_no_dir}, {in_no_dir, "No such file"}},
        {{"quantize", random_path, in_no_dir, "q8_0"}, {in_no_dir, "No such file"}},
        {{"bench", "decode", "--test", "tr8", "--peer", "true"}, {"tests: found tp or tr", "peer"}},
        {{"bench", "kernels", "--kernel", "attend", "--dtype", "q4_k,q6_k"}, {"dtype: found none"}},
        {{"bench", "load", "-m", "/dev/null"}, {"/dev/null", "regular file"}},
        {{"bench", "load", "-m", random_path, "--json", in_no_dir}, {in_no_dir, "cannot write"}},
        {{"model-cost", in_no_dir, "--bandwidth", "1", "--gflops", "1"}, {in_no_dir, "No such file"}},
        {{"bench", "tokenize", tiny_dir, "-f", in_no_dir}, {in_no_dir, "No such file"}},
        {{"bench", "tokenize", in_no_dir, "-f", prompt_path}, {in_no_dir, "No such file"}},
    };
    EXPECT_ERRORS(cases, 1);
}

/* Where in the file the name of a tensor record stands: the last mention is the record. */
static char *find_name(char *file, size_t size, const char *name)
{
    char *found = memmem(file, size, name, strlen(name));
    assert_non_null(found);
    return found;
}

static void test_malformed_models(void **state)
{
    (void)state;
    char truncated[512], magic[512], counts[512], type[512], nan_path[512], wordy[512];
    const uint64_t huge = UINT64_C(1) << 60;
    const uint32_t q2_k = 10;
    const float nan = NAN;
    size_t size;
    lf_gguf *g;
    lf_error err;
    char *file = read_file(random_path, &size), saved[8];

    write_file(temp_path(truncated, "truncated.gguf"), file, size / 2);
    memcpy(saved, file, 4);
    memcpy(file, "GGML", 4);
    write_file(temp_path(magic, "magic.gguf"), file, size);
    memcpy(file, saved, 4);
    memcpy(saved, file + 8, 8);
    memcpy(file + 8, &huge, 8);
    write_file(temp_path(counts, "counts.gguf"), file, size);
    memcpy(file + 8, saved, 8);

    /* name, u32 n_dims, u64 dims[2], u32 type */
    char *record = find_name(file, size, "blk.0.ffn_up.weight") + strlen("blk.0.ffn_up.weight");
    memcpy(saved, record + 20, 4);
    memcpy(record + 20, &q2_k, 4);
    write_file(temp_path(type, "type.gguf"), file, size);
    memcpy(record + 20, saved, 4);

    assert_ok(lf_gguf_parse(&g, file, size, "random", &err), &err);
    const lf_tensor_info *t = lf_gguf_find_tensor(g, "blk.0.ffn_down.weight");
    memcpy(file + ((const char *)t->data - file) + 40, &nan, 4);
    lf_gguf_close(g);
    write_file(temp_path(nan_path, "nan.gguf"), file, size);
    free(file);
    tiny_model_write(temp_path(wordy, "wordy"), TINY_VOCAB + 5);

    const bad_case cases[] = {
        {{"run", "-m", truncated, "-p", "a"}, {truncated}},
        {{"run", "-m", magic, "-p", "a"}, {magic, "GGUF"}},
        {{"run", "-m", counts, "-p", "a"}, {counts, "1152921504606846976"}},
        {{"run", "-m", type, "-p", "a"}, {type, "blk.0.ffn_up.weight", "q2_k", "supported are f32"}},
        {{"run", "-m", nan_path, "-p", "a"}, {nan_path, "blk.0.ffn_down.weight", "element 10", "not finite"}},
        {{"run", "-m", wordy, "-p", "a"}, {wordy, "133", "128"}},
        {{"inspect", truncated}, {truncated}},
        {{"inspect", magic}, {magic, "GGUF"}},
        {{"inspect", counts}, {counts}},
        {{"quantize", truncated, "out.gguf", "q8_0"}, {truncated}},
        {{"quantize", type, "out.gguf", "f16"}, {type, "blk.0.ffn_up.weight", "q2_k"}},
        {{"convert", magic, "out.gguf"}, {magic}},
    };
    EXPECT_ERRORS(cases, 1);
    assert_int_not_equal(access("out.gguf", F_OK), 0);
}

static void test_a_full_disk(void **state)
{
    (void)state;
    static const bad_case cases[] = {
        {{"run", "-m", tiny_dir, "-p", "a", "-n", "20", "-q", "--no-display-prompt", "--json", "/dev/full"},
         {"/dev/full: cannot write: No space left"}},
        {{"inspect", tiny_dir, "--json", "/dev/full"}, {"/dev/full: cannot write: No space left"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--dump-logits", "/dev/full"}, {"/dev/full: cannot write"}},
        {{"run", "-m", tiny_dir, "-p", "a", "-n", "20", "-q", "--no-display-prompt", "--trace", "/dev/full"},
         {"/dev/full: cannot write"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        result r = run_with(&(streams){0}, cases[i].args);
        expect_error(&r, cases[i].args, 1, cases[i].fragments);
    }
    static const bad_case to_stdout[] = {
        {{"run", "-m", tiny_dir, "-p", "a", "-n", "20", "-q"},
         {"standard output: cannot write: No space left"}},
        {{"run", "-m", tiny_dir, "-p", "a", "-n", "0", "-q"}, {"standard output: cannot write"}},
        {{"inspect", tiny_dir}, {"standard output: cannot write"}},
        {{"inspect", tiny_dir, "--json", "-"}, {"standard output: cannot write"}},
        {{"run", "--help"}, {"standard output: cannot write"}},
        {{"--version"}, {"standard output: cannot write"}},
    };
    for (size_t i = 0; i < sizeof to_stdout / sizeof *to_stdout; i++) {
        result r = run_with(&(streams){.out = "/dev/full"}, to_stdout[i].args);
        expect_error(&r, to_stdout[i].args, 1, to_stdout[i].fragments);
    }
}

/* ---- inspect ---- */

static void test_inspect(void **state)
{
    (void)state;
    result r = run_cli("inspect", tiny_dir, "-c", "1000", "--parallel", "3", "--cache-type", "q8_0", "--json",
                       "-");
    expect_success(&r);
    json_t *root = parse_json(r.out);
    const json_t *config = json_object_get(root, "config"), *memory = json_object_get(root, "memory");
    assert_string_equal(string_of(root, "form"), "safetensors");
    assert_string_equal(string_of(config, "arch"), "llama");
    assert_int_equal(integer_of(config, "n_ctx"), TINY_CTX);
    assert_int_equal(integer_of(config, "n_vocab"), TINY_VOCAB);
    assert_int_equal(integer_of(memory, "n_ctx"), 1000);
    assert_int_equal(integer_of(memory, "n_seqs"), 3);
    assert_string_equal(string_of(memory, "kv_type"), "q8_0");
    assert_int_equal(integer_of(memory, "total"), integer_of(memory, "weights") + integer_of(memory, "kv") +
                                                      integer_of(memory, "buffers"));
    assert_int_equal(integer_of(json_object_get(root, "tokenizer"), "n_vocab"), TINY_VOCAB);
    assert_int_equal(json_array_size(json_object_get(root, "tensors")), 21);
    json_decref(root);
    free_result(&r);

    r = run_cli("inspect", "-m", random_path);
    expect_success(&r);
    static const char *const lines[] = {"(gguf)",
                                        "model\n",
                                        "memory for 1 sequence(s) of 128 positions, cache bf16",
                                        "general.architecture",
                                        "blk.0.attn_q.weight",
                                        "[32, 32]"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(r.out, lines[i])) fail_msg("found no \"%s\" in\n%s", lines[i], r.out);
    free_result(&r);
}

/* ---- convert and quantize ---- */

/* What is measured is anybody's guess; the tokens are those of the text. */
static void test_bench_tokenize(void **state)
{
    (void)state;
    char text_path[512];
    write_file(temp_path(text_path, "text"), "abc abc abc abc\n", 16);
    result r = run_cli("bench", "tokenize", tiny_dir, "-f", text_path, "--reps", "2", "--json", "-");
    expect_success(&r);
    int n_lines = 0;
    char *rest = NULL;
    for (char *line = strtok_r(r.out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n_lines++) {
        json_t *root = parse_json(line);
        assert_string_equal(string_of(root, "tokenizer"), tiny_dir);
        assert_true(number_of(root, "bytes") == 16 >> (3 - n_lines));
        assert_true(json_real_value(json_object_get(root, "mb_per_s")) > 0);
        json_decref(root);
    }
    assert_int_equal(n_lines, 4);
    free_result(&r);
}

static void expect_keys(const json_t *object, const char *const *keys)
{
    for (; *keys; keys++)
        if (!json_object_get(object, *keys)) fail_msg("the key \"%s\" is missing", *keys);
}

/* What a run of `bench magicdec` on the tiny model should give, beside plain decoding: proposers,
 * selections and drafting, in order. */
typedef struct wanted_result {
    const char *proposer, *selection, *drafting;
} wanted_result;

static void expect_string_or_null(const json_t *root, const char *key, const char *wanted)
{
    if (wanted)
        assert_string_equal(string_of(root, key), wanted);
    else
        assert_true(json_is_null(json_object_get(root, key)));
}

static void expect_magicdec(char *lines, const wanted_result *wanted, int n, int batch)
{
    static const char *const keys[] = {
        "model",        "engine",     "task",          "context",    "budget",        "g",
        "speedup",      "latency_ms", "latency_ratio", "acceptance", "acceptance_at", "draft_share",
        "verify_share", "pick_share", "draft_bytes",   "of_best",    "gbs",           NULL};
    int i = 0;
    char *rest = NULL;
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), i++) {
        json_t *root = parse_json(line);
        assert_in_range(i, 0, n - 1);
        expect_keys(root, keys);
        assert_string_equal(string_of(root, "proposer"), wanted[i].proposer);
        expect_string_or_null(root, "selection", wanted[i].selection);
        expect_string_or_null(root, "drafting", wanted[i].drafting);
        assert_true(json_is_true(json_object_get(root, "identical")));
        assert_int_equal(integer_of(root, "batch"), batch);
        assert_true(number_of(root, "tps") > 0 && number_of(root, "tokens_per_pass") >= 1);
        assert_true((number_of(root, "draft_bytes") > 0) == (strcmp(wanted[i].proposer, "magicdec") == 0 ||
                                                             strcmp(wanted[i].proposer, "draft") == 0));
        assert_true(json_is_number(json_object_get(root, "of_best")) ==
                    (strcmp(wanted[i].proposer, "auto") == 0));
        json_decref(root);
    }
    assert_int_equal(i, n);
}

/* Each setting beside plain decoding, with the same output: with a selection for each list, at all of them
 * where the draft's cache has a window or is chosen, greedy and sampled. */
static void test_bench_magicdec(void **state)
{
    (void)state;
    static const wanted_result wanted[] = {
        {.proposer = "none"},           {"sparse", "window", "single"}, {"sparse", "window", "jacobi"},
        {"sparse", "snap", "single"},   {"sparse", "snap", "jacobi"},   {"sparse", "verify", "single"},
        {"sparse", "verify", "jacobi"}, {.proposer = "ngram"},          {"draft", NULL, "single"},
        {"draft", NULL, "jacobi"},      {.proposer = "auto"},           {"magicdec", "window", NULL},
        {"magicdec", "snap", NULL}};
    char text_path[512], text[2001];
    for (int i = 0; i < 2000; i++) text[i] = "abc abd acb "[i % 12];
    write_file(temp_path(text_path, "long-text"), text, 2000);
    for (int sampled = 0; sampled < 2; sampled++) {
        result r = run_cli("bench", "magicdec", "-m", tiny_dir, "-f", text_path, "-t", "1", "--batch", "3",
                           "--context", "230", "--proposer", "sparse,ngram,draft,auto,magicdec",
                           "--selection", "window,snap,verify", "--drafting", "single,jacobi",
                           "--draft-model", tiny_dir, "--draft-window", "60", "--budget", "77", "--g", "3",
                           "-n", "40", "--reps", "1", "--temp", sampled ? "0.5" : "0", "--json", "-");
        expect_success(&r);
        expect_magicdec(r.out, wanted, sizeof wanted / sizeof *wanted, 3);
        free_result(&r);
    }
}

/* Another engine's plain decoding is the last result of a cell: 9 timed tokens of 2 sequences in half a
 * second. */
static void test_bench_magicdec_peer(void **state)
{
    (void)state;
    char text_path[512], *last = NULL, *rest = NULL;
    int n_lines = 0;
    write_file(temp_path(text_path, "peer-text"), "abc abd acb abc abd acb abc abd acb abc abd", 43);
    result r = run_cli("bench", "magicdec", "-m", tiny_dir, "-f", text_path, "-t", "1", "--batch", "2",
                       "--context", "40", "--proposer", "ngram", "-n", "10", "--reps", "2", "--peer",
                       "while read -r line; do echo '{\"seconds\": 0.5, \"engine\": \"another\"}'; done",
                       "--json", "-");
    expect_success(&r);
    for (char *line = strtok_r(r.out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n_lines++)
        last = line;
    assert_int_equal(n_lines, 3);
    json_t *root = parse_json(last);
    assert_string_equal(string_of(root, "engine"), "another");
    assert_string_equal(string_of(root, "proposer"), "none");
    assert_true(fabs(number_of(root, "tps") - 36.0) < 1e-9);
    assert_true(fabs(number_of(root, "latency_ms") - 500.0 / 9) < 1e-9);
    json_decref(root);
    free_result(&r);
}

/* Prompts as JSON lines; cells that are done are left out, the torn line of a killed run is cut off, and
 * what is not done is added. */
static void test_bench_magicdec_goes_on(void **state)
{
    (void)state;
    static const wanted_result wanted[] = {{.proposer = "none"}, {.proposer = "ngram"}};
    char prompts[512], done[512];
    size_t size, again;
    static const char
        few[] = "{\"prompt\": \"abc abd\"}\n\n{\"prompt\": \"acb acd abc abd\"}\n",
        many[] = "{\"prompt\": \"abc abd abc abd abc\"}\n{\"prompt\": \"acb acd abc abd acb acd\"}\n";
    write_file(temp_path(prompts, "prompts"), few, strlen(few));
    (void)temp_path(done, "done.jsonl");
#define GO_ON(batches)                                                                                       \
    run_cli("bench", "magicdec", "-m", tiny_dir, "--prompts", prompts, "--task", "sql", "-t", "1",           \
            "--batch", batches, "--context", "34", "--proposer", "ngram", "-n", "5", "--reps", "1", "-q",    \
            "--json", done, "--resume")
    result r = GO_ON("1");
    expect_error(&r, (const char *const[]){"bench", "magicdec", NULL}, 1,
                 (const char *const[]){"expected at least 34, the context", NULL});
    write_file(prompts, many, strlen(many));
    r = GO_ON("1");
    expect_success(&r);
    free_result(&r);
    char *first = read_file(done, &size);
    char *lines = strdup(first);
    expect_magicdec(lines, wanted, 2, 1);
    free(lines);
    write_file(done, first, size - 5); /* the last line is torn: the cell is measured again */
    r = GO_ON("1,2");
    expect_success(&r);
    free_result(&r);
    char *second = read_file(done, &again), *line = second;
    int n_lines = 0;
    for (; (line = strchr(line, '\n')); line++) n_lines++;
    assert_int_equal(n_lines, 1 + 2 + 2);
    r = GO_ON("2,1"); /* nothing is left to do */
    expect_success(&r);
    free_result(&r);
    size_t last;
    char *third = read_file(done, &last);
    assert_int_equal(last, again);
#undef GO_ON
    free(first);
    free(second);
    free(third);
    if (system("command -v gnuplot >/dev/null") != 0) return; /* NOLINT: the command is the test's own */
    char picture[512];
    r = run_cli("plot", done, "-o", temp_path(picture, "grid.svg"));
    expect_success(&r);
    free_result(&r);
    char *drawn = read_file(picture, NULL);
    assert_non_null(strstr(drawn, "speed-up over plain decoding: ngram"));
    free(drawn);
}

/* A line for each temperature, selection and number of candidates, in order, and a picture of them. */
static void test_bench_acceptance(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "model", "task",   "temperature", "context",  "sequences",  "n_tokens",         "selection", "budget",
        "g",     "rounds", "proposed",    "accepted", "acceptance", "tokens_per_round", "attention", NULL};
    char text_path[512], results[512], picture[512], text[2001], *rest = NULL;
    int i = 0;
    for (int j = 0; j < 2000; j++) text[j] = "abc abd acb "[j % 12];
    write_file(temp_path(text_path, "accepted-text"), text, 2000);
    result r = run_cli("bench", "acceptance", "-m", tiny_dir, "-f", text_path, "--task", "it's", "-t", "1",
                       "--sequences", "2", "--context", "230", "--selection", "verify,window", "--budget",
                       "77", "--g", "1,3", "-n", "20", "--temp", "0,0.5", "-q", "--json",
                       temp_path(results, "acceptance.jsonl"));
    expect_success(&r);
    assert_non_null(strstr(r.out, "tokens/round"));
    free_result(&r);
    char *lines = read_file(results, NULL);
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), i++) {
        json_t *root = parse_json(line);
        expect_keys(root, keys);
        assert_true(number_of(root, "temperature") == (i < 4 ? 0 : 0.5));
        assert_string_equal(string_of(root, "selection"), i % 4 < 2 ? "verify" : "window");
        assert_int_equal(integer_of(root, "g"), i % 2 ? 3 : 1);
        assert_int_equal(json_array_size(json_object_get(root, "acceptance_at")), i % 2 ? 3 : 1);
        json_decref(root);
    }
    assert_int_equal(i, 8);
    free(lines);
    if (system("command -v gnuplot >/dev/null") != 0) return; /* NOLINT: the command is the test's own */
    r = run_cli("plot", results, "-o", temp_path(picture, "acceptance.svg"));
    expect_success(&r);
    free_result(&r);
    char *drawn = read_file(picture, NULL);
    assert_non_null(strstr(drawn, "it s, context 230, temperature 0.5: budget 77"));
    free(drawn);
}

static void test_bench_kernels_and_load(void **state)
{
    (void)state;
    static const char *const kernel_keys[] = {
        "kernel",      "dtype",       "rows",    "head_dim", "where",         "gbs",
        "gbs_min",     "gbs_max",     "gflops",  "share",    "bandwidth_gbs", "peak_gflops",
        "instruction", "roof_gflops", "threads", "kernels",  "reps",          NULL};
    static const char *const load_keys[] = {"model",         "dtype",   "bytes",      "seconds",
                                            "seconds_min",   "gbs",     "peak_bytes", "peak_ratio",
                                            "bandwidth_gbs", "threads", NULL};
    result r = run_cli("bench", "kernels", "--kernel", "attend", "--dtype", "q4_k,q8_0", "--queries", "3",
                       "--head-dim", "64", "--where", "cache", "--reps", "1", "--json", "-");
    expect_success(&r);
    json_t *root = parse_json(r.out); /* one line: no cache is q4_k */
    expect_keys(root, kernel_keys);
    assert_string_equal(string_of(root, "where"), "cache");
    assert_true(number_of(root, "head_dim") == 64);
    json_decref(root);
    free_result(&r);

    r = run_cli("bench", "load", "-m", random_path, "--reps", "1", "--json", "-");
    expect_success(&r);
    root = parse_json(r.out);
    expect_keys(root, load_keys);
    assert_string_equal(string_of(root, "dtype"), "f32");
    assert_non_null(strstr(r.err, random_path)); /* the table */
    json_decref(root);
    free_result(&r);
}

static void test_convert_and_quantize(void **state)
{
    (void)state;
    char gguf[512], q8[512];
    char *text = tiny_text(NULL, "-p", "abc", "-n", "50");
    result r = run_cli("convert", tiny_dir, temp_path(gguf, "tiny.gguf"), "-q");
    expect_success(&r);
    free_result(&r);
    r = run_cli("run", "-m", gguf, "-q", "--ignore-eos", "-p", "abc", "-n", "50");
    assert_same_text(success_text(r), text);

    r = run_cli("quantize", gguf, temp_path(q8, "tiny-q8_0.gguf"), "q8_0", "-q");
    expect_success(&r);
    free_result(&r);
    r = run_cli("inspect", q8, "--json", "-");
    expect_success(&r);
    assert_non_null(strstr(r.out, "\"q8_0\""));
    free_result(&r);
    r = run_cli("run", "-m", q8, "-q", "-p", "abc", "-n", "50");
    free(success_text(r));
}

/* ---- installing ---- */

/* The C program that README.md shows, NUL-terminated, malloc'ed. */
static char *readme_program(void)
{
    char *readme = read_file("README.md", NULL);
    char *begin = strstr(readme, "```c\n");
    assert_non_null(begin);
    begin += strlen("```c\n");
    char *end = strstr(begin, "```");
    assert_non_null(end);
    char *program = strndup(begin, (size_t)(end - begin));
    assert_non_null(program);
    free(readme);
    return program;
}

static void run_shell(const char *command, const char *argument)
{
    char line[2048];
    (void)snprintf(line, sizeof line, command, argument);
    (void)snprintf(line + strlen(line), sizeof line - strlen(line), " >'%s' 2>&1", out_path);
    if (system(line) != 0) fail_msg("%s: %s", line, read_file(out_path, NULL));
}

/* What a new user does: make install, then a program with the library, which gives the text that the
 * command gives. */
static void test_install(void **state)
{
    (void)state;
    static const char *const files[] = {"bin/lookfar", "lib/liblookfar.a", "lib/liblookfar.so",
                                        "include/lookfar.h", "share/man/man1/lookfar.1"};
    char path[1024], root[512];
    (void)require_program();
    if (access("Makefile", R_OK) != 0 || getenv("LOOKFAR_BIN") ||
        !strstr(require_program(), "/build/lookfar")) {
        print_message("skipped: installing is tested from the checkout, in its release variant\n");
        skip();
    }
    run_shell("make -s VARIANT=release install DESTDIR='%s' PREFIX=/usr", temp_path(root, "root"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(path, sizeof path, "%s/usr/%s", root, files[i]);
        if (access(path, R_OK) != 0) fail_msg("%s: not installed", path);
    }
    char *program = readme_program();
    (void)snprintf(path, sizeof path, "%s/own.c", root);
    write_file(path, program, strlen(program));
    free(program);
    run_shell("cd '%s' && cc -std=c11 -Wall -Wextra -Werror -Iusr/include -o own own.c -Lusr/lib -llookfar",
              root);
    run_shell("cd '%s' && LD_LIBRARY_PATH=usr/lib ./own ../tiny 'own program'", root);
    char *text = read_file(out_path, NULL);
    run_shell("cd '%s' && usr/bin/lookfar run -m ../tiny -p 'own program' -n 100 -q --no-display-prompt",
              root);
    char *expected = read_file(out_path, NULL);
    expected[strlen(expected) - 1] = '\0'; /* the command ends its output with a newline */
    assert_same_text(text, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_missing_commands),
        cmocka_unit_test(test_usage_errors),
        cmocka_unit_test(test_errors_of_paths_and_limits),
        cmocka_unit_test(test_malformed_models),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_bench_tokenize),
        cmocka_unit_test(test_bench_magicdec),
        cmocka_unit_test(test_bench_magicdec_peer),
        cmocka_unit_test(test_bench_magicdec_goes_on),
        cmocka_unit_test(test_bench_acceptance),
        cmocka_unit_test(test_bench_kernels_and_load),
        cmocka_unit_test(test_convert_and_quantize),
        cmocka_unit_test(test_install),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
