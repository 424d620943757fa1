/* The command as its users meet it: the real program as a child process, its exit status, what it writes where, and
 * what it says when something is wrong (one line: what, where, found, expected).
 *
 * Most tests run on a folder made here: the weights of a recorded tiny model and a tokenizer of one token for each of
 * 128 bytes, so that they need no data. The texts of real models need the data folder and are skipped without it. */
#include "testing.h"

#include "tiny_model.h"

#include "../bench/random_model.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 40, SECONDS_MAX = 120 };

static char binary[1024];     /* the program under test; empty: not built */
static char *temp_dir;        /* everything below lies in it */
static char tiny_dir[512];    /* a Hugging Face folder, complete with a tokenizer */
static char random_path[512]; /* a GGUF file with random weights and no tokenizer */
static char out_path[512], err_path[512];

/* ---- running the program ---- */

typedef struct result {
    int code;   /* exit status, or -1 when a signal ended the program */
    int signal; /* that signal, or 0 */
    char *out, *err;
    size_t out_len;
} result;

typedef struct streams {
    const char *in;  /* text for standard input, or NULL: nothing */
    const char *out; /* where standard output goes instead of into the result, or NULL */
} streams;

static char *temp_path(char path[512], const char *name)
{
    (void)snprintf(path, 512, "%s/%s", temp_dir, name);
    return path;
}

/* In the child: connects the streams and becomes the program. out is a descriptor, or -1 for the path. */
static void become_program(const char *const *args, const char *in_path, int out, const char *path)
{
    const char *argv[ARGS_MAX + 2] = {"lookfar"};
    for (int i = 0; args[i] && i < ARGS_MAX; i++) argv[i + 1] = args[i];
    const int in = open(in_path, O_RDONLY), err = open(err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || err < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(99);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)alarm(SECONDS_MAX); /* outlives exec: a program that hangs is killed */
    (void)execv(binary, (char *const *)(uintptr_t)argv);
    _exit(99);
}

static void collect(result *r, pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    r->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    r->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    r->err = read_file(err_path, NULL);
}

static void require_binary(void)
{
    if (binary[0] != '\0') return;
    print_message("skipped: the program is not built (LOOKFAR_BIN names it)\n");
    skip();
}

static result run_with(const streams *s, const char *const *args)
{
    char in_path[512] = "/dev/null";
    result r = {.code = -1};
    require_binary();
    if (s->in) write_file(temp_path(in_path, "stdin"), s->in, strlen(s->in));
    const char *path = s->out ? s->out : out_path;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) become_program(args, in_path, -1, path);
    collect(&r, pid);
    if (!s->out) r.out = read_file(out_path, &r.out_len);
    return r;
}

#define run_cli(...)        run_with(&(const streams){NULL, NULL}, (const char *const[]){__VA_ARGS__, NULL})
#define run_cli_in(in, ...) run_with(&(const streams){in, NULL}, (const char *const[]){__VA_ARGS__, NULL})

static void free_result(result *r)
{
    free(r->out);
    free(r->err);
}

static void describe(const char *const *args)
{
    print_error("lookfar");
    for (int i = 0; args[i]; i++) print_error(" %s", args[i]);
    print_error("\n");
}

/* The program succeeded; its standard error holds no error line. */
static void expect_success(const result *r)
{
    if (r->code != 0 || strstr(r->err, "lookfar: "))
        fail_msg("exit status %d, signal %d: %s", r->code, r->signal, r->err);
}

/* One error line on standard error, "lookfar: ...", with every fragment in it; takes the result. */
static void expect_error(result *r, const char *const *args, int code, const char *const *fragments)
{
    const char *end = strchr(r->err, '\n');
    bool ok = r->code == code && strncmp(r->err, "lookfar: ", 9) == 0 && end && end[1] == '\0';
    for (int i = 0; fragments[i]; i++) ok = ok && strstr(r->err, fragments[i]);
    if (!ok) {
        describe(args);
        for (int i = 0; fragments[i]; i++) print_error("expected fragment: %s\n", fragments[i]);
        fail_msg("expected exit status %d and one line; exit status %d, signal %d, standard error:\n%s", code,
                 r->code, r->signal, r->err);
    }
    free_result(r);
}

/* Arguments, and what the error line says. */
typedef struct bad_case {
    const char *args[ARGS_MAX];
    const char *fragments[5];
} bad_case;

static void expect_errors(const bad_case *cases, size_t n, int code)
{
    for (size_t i = 0; i < n; i++) {
        result r = run_with(&(streams){0}, cases[i].args);
        assert_int_equal(r.out_len, 0);
        expect_error(&r, cases[i].args, code, cases[i].fragments);
    }
}

#define EXPECT_ERRORS(cases, code) expect_errors(cases, sizeof(cases) / sizeof *(cases), code)

/* ---- the models ---- */

static int make_models(void **state)
{
    (void)state;
    lf_error err;
    const lf_random_model m = {.config = {.arch = LF_ARCH_LLAMA,
                                          .n_layers = 1,
                                          .dim = 32,
                                          .n_heads = 2,
                                          .n_kv_heads = 2,
                                          .head_dim = 16,
                                          .ffn_dim = 32,
                                          .n_vocab = 64,
                                          .n_ctx_max = 128,
                                          .norm_eps = 1e-5f,
                                          .rope_base = 10000.0,
                                          .rope_factor = 1.0},
                               .dtype = LF_DTYPE_F32,
                               .seed = 1};
    find_program(binary, sizeof binary);
    temp_dir = make_temp_dir();
    assert_int_equal(setenv("XDG_CACHE_HOME", temp_dir, 1), 0);
    (void)temp_path(out_path, "stdout");
    (void)temp_path(err_path, "stderr");
    tiny_model_write(temp_path(tiny_dir, "tiny"), TINY_VOCAB);
    assert_ok(lf_random_model_write(temp_path(random_path, "random.gguf"), &m, &err), &err);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    remove_tree(temp_dir);
    free(temp_dir);
    return 0;
}

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

/* ---- run ---- */

/* The output of a run on the tiny model, which must succeed; the caller frees it. */
#define tiny_text(in, ...)                                                                                   \
    success_text(run_cli_in(in, "run", "-m", tiny_dir, "-t", "1", "-q", "--ignore-eos", __VA_ARGS__))

static char *success_text(result r)
{
    expect_success(&r);
    assert_string_equal(r.err, ""); /* -q */
    free(r.err);
    return r.out;
}

static void assert_same_text(char *a, char *b)
{
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void test_ways_to_give_a_prompt(void **state)
{
    (void)state;
    char file[512];
    write_file(temp_path(file, "prompt"), "two\nlines\t\"", 11);
    char *text = tiny_text(NULL, "-n", "40", "-p", "two\\nlines\\t\\\"");
    assert_memory_equal(text, "two\nlines\t\"", 11);
    assert_true(strlen(text) >= 11 + 40);
    assert_string_equal(text + strlen(text) - 1, "\n");
    assert_same_text(tiny_text(NULL, "-n", "40", "-f", file), strdup(text));
    assert_same_text(tiny_text("two\nlines\t\"", "-n", "40"), strdup(text));
    assert_same_text(tiny_text("two\nlines\t\"", "-n", "40", "-f", "-"), strdup(text));
    assert_same_text(tiny_text(NULL, "-n", "40", "-p", "two\\x0alines\\x09\""), strdup(text));
    assert_same_text(tiny_text(NULL, "-n", "40", "--predict=40", "--prompt", "two\nlines\t\"", "--no-escape"),
                     strdup(text));
    assert_same_text(tiny_text(NULL, "-n", "40", "-f", file, "--no-display-prompt"), strdup(text + 11));
    free(text);
    text = tiny_text(NULL, "-n", "0", "--no-escape", "-p", "a\\nb\\q");
    assert_string_equal(text, "a\\nb\\q\n");
    free(text);
    text = tiny_text(NULL, "-n", "0", "-p", "a\\qb\\x4\\"); /* not escapes */
    assert_string_equal(text, "a\\qb\\x4\\\n");
    free(text);
}

/* A model whose embedding was padded may pick a row that is no token of its tokenizer: it has no text. */
static void test_a_padded_embedding(void **state)
{
    (void)state;
    char dir[512];
    tiny_model_write(temp_path(dir, "padded"), 97);
    result r = run_cli("run", "-m", dir, "-t", "1", "-q", "-p", "a", "-n", "300", "--temp", "5",
                       "--no-display-prompt");
    char *text = success_text(r);
    assert_in_range(strlen(text), 100, 290);
    free(text);
}

/* The same seed gives the same text at any thread count and chunk size; another seed another text. */
static void test_sampling_repeats(void **state)
{
    (void)state;
    char *text = tiny_text(NULL, "-p", "sample me", "-n", "60", "--temp", "0.9", "--seed", "7");
    assert_same_text(
        tiny_text(NULL, "-p", "sample me", "-n", "60", "--temp", "0.9", "--seed", "7", "-t", "3"),
        strdup(text));
    assert_same_text(tiny_text(NULL, "-p", "sample me", "-n", "60", "--temp", "0.9", "-s", "7", "-b", "2"),
                     strdup(text));
    char *other = tiny_text(NULL, "-p", "sample me", "-n", "60", "--temp", "0.9", "--seed", "8");
    assert_string_not_equal(other, text);
    free(other);
    other = tiny_text(NULL, "-p", "sample me", "-n", "60");
    assert_string_not_equal(other, text);
    free(other);
    free(text);
}

static const char *string_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text) fail_msg("key %s: found no string", key);
    return text;
}

static json_int_t integer_of(const json_t *object, const char *key)
{
    if (!json_is_integer(json_object_get(object, key))) fail_msg("key %s: found no integer", key);
    return json_integer_value(json_object_get(object, key));
}

static double number_of(const json_t *object, const char *key)
{
    if (!json_is_number(json_object_get(object, key))) fail_msg("key %s: found no number", key);
    return json_number_value(json_object_get(object, key));
}

static json_t *parse_json(const char *text)
{
    json_error_t err;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    if (!root) fail_msg("%s: %s", err.text, text);
    return root;
}

/* What the output may say; the tiny model has random weights and would not say it by itself. */
static void test_grammars(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"integer\",\"minimum\":10,\"maximum\":11}";
    char path[512];
    write_file(temp_path(path, "schema.json"), schema, strlen(schema));
    const struct {
        const char *option, *value, *first, *second;
    } cases[] = {
        {"--choice", "cab", "cab\n", "cab\n"},
        {"--regex", "abc{2}|ca", "abcc\n", "ca\n"},
        {"--json-schema", path, "10\n", "11\n"},
        {"--json-schema", " {\"enum\":[[1],\"x\"]}", "[1]\n", "\"x\"\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        result r = run_cli("run", "-m", tiny_dir, "-q", "-p", "abc", "--no-display-prompt", "-n", "40",
                           cases[i].option, cases[i].value);
        expect_success(&r);
        const char *said = r.out + (r.out[0] == ' '); /* JSON may begin with one */
        if (strcmp(said, cases[i].first) != 0) assert_string_equal(said, cases[i].second);
        free_result(&r);
    }
    const bad_case bad[] = {
        {{"run", "-m", tiny_dir, "-p", "a", "--regex", "("}, {"byte 0: found a group without its end"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--json-schema", "{\"not\":{}}"}, {"#: not is not supported"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--json-schema", "no-such-file"}, {"no-such-file: cannot open"}},
        {{"run", "-m", tiny_dir, "-p", "a", "--choice", "\xFF"},
         {"--choice: found bytes that are not UTF-8"}},
    };
    EXPECT_ERRORS(bad, 1);
}

static void test_run_json(void **state)
{
    (void)state;
    char path[512];
    char *text = tiny_text(NULL, "-p", "abc", "-n", "30", "--no-display-prompt");
    result r = run_cli("run", "-m", tiny_dir, "-p", "abc", "-n", "30", "--ignore-eos", "--proposer", "none",
                       "--json", "-");
    expect_success(&r);
    json_t *root = parse_json(r.out);
    assert_ptr_equal(strchr(r.out, '\n'), r.out + r.out_len - 1); /* one line */
    text[strlen(text) - 1] = '\0';
    assert_string_equal(string_of(root, "text"), text);
    assert_int_equal(json_array_size(json_object_get(root, "tokens")), 30);
    assert_int_equal(integer_of(root, "prompt_tokens"), 3);
    assert_string_equal(string_of(root, "proposer"), "none");
    assert_int_equal(integer_of(root, "passes"), 30);
    assert_int_equal(integer_of(root, "proposed"), 0);
    assert_int_equal(integer_of(root, "accepted"), 0);
    assert_true(number_of(root, "tokens_per_pass") == 1.0);
    assert_true(number_of(root, "prefill_s") > 0.0 && number_of(root, "decode_s") > 0.0);
    assert_string_equal(string_of(root, "finish_reason"), "length");
    assert_non_null(strstr(r.err, text)); /* people read the text there */
    free_result(&r);

    char *again = tiny_text(NULL, "-p", "abc", "-n", "30", "--json", temp_path(path, "run.json"));
    free(again);
    again = read_file(path, NULL);
    json_t *from_file = parse_json(again);
    assert_true(json_equal(json_object_get(root, "tokens"), json_object_get(from_file, "tokens")));
    json_decref(from_file);
    json_decref(root);
    free(again);
    free(text);
}

/* Each line is added to what was said before, and what the cache holds is not computed again. */
static void test_interactive(void **state)
{
    (void)state;
    char path[512], prompt[512];
    result r = run_cli_in("one\ntwo\n", "run", "-m", tiny_dir, "-i", "-n", "10", "--ignore-eos", "--json",
                          temp_path(path, "lines.json"));
    expect_success(&r);
    char *lines = read_file(path, NULL);
    char *second = strchr(lines, '\n');
    assert_non_null(second);
    *second++ = '\0';
    json_t *a = parse_json(lines), *b = parse_json(second);
    assert_int_equal(integer_of(a, "prompt_tokens"), 4);
    assert_int_equal(json_array_size(json_object_get(b, "tokens")), 10);
    assert_non_null(strstr(r.out, string_of(a, "text")));
    assert_non_null(strstr(r.out, string_of(b, "text")));

    (void)snprintf(prompt, sizeof prompt, "one\n%stwo\n", string_of(a, "text"));
    char *whole = tiny_text(prompt, "-n", "10", "--no-display-prompt");
    whole[strlen(whole) - 1] = '\0';
    assert_string_equal(whole, string_of(b, "text"));
    free(whole);
    json_decref(a);
    json_decref(b);
    free(lines);
    free_result(&r);

    r = run_cli_in("", "run", "-m", tiny_dir, "-i", "-q");
    expect_success(&r);
    assert_int_equal(r.out_len, 0);
    free_result(&r);
}

/* What is proposed changes the number of passes and nothing else. */
static void test_proposers(void **state)
{
    (void)state;
    static const char *const names[] = {"none", "ngram", "jacobi", "sparse"}, *const temps[] = {"0", "0.7"};
    for (size_t t = 0; t < 2; t++) {
        json_t *plain = NULL;
        for (size_t i = 0; i < 4; i++) {
            result r = run_cli("run", "-m", tiny_dir, "-t", "1", "-p", "abc abc abc", "-n", "150",
                               "--ignore-eos", "--temp", temps[t], "--proposer", names[i], "--draft-max", "5",
                               "--budget", "64", "--logprobs", "2", "--json", "-");
            expect_success(&r);
            json_t *root = parse_json(r.out);
            assert_string_equal(string_of(root, "proposer"), names[i]);
            assert_true(integer_of(root, "accepted") <= integer_of(root, "proposed"));
            assert_int_equal(integer_of(root, "passes") + integer_of(root, "accepted"), 150);
            assert_true((integer_of(root, "proposed") > 0) == (i > 0));
            assert_int_equal(json_array_size(json_object_get(root, "logprobs")), 150);
            if (!plain) plain = json_incref(root);
            assert_true(json_equal(json_object_get(root, "tokens"), json_object_get(plain, "tokens")));
            assert_true(json_equal(json_object_get(root, "logprobs"), json_object_get(plain, "logprobs")));
            json_decref(root);
            free_result(&r);
        }
        json_decref(plain);
    }
    result r = run_cli("run", "-m", tiny_dir, "-t", "1", "-p", "abc abc abc", "-n", "150", "--ignore-eos",
                       "--proposer", "ngram", "--color");
    expect_success(&r);
    assert_non_null(strstr(r.err, "guesses accepted (ngram)"));
    assert_non_null(strstr(r.out, "\033[32m"));
    free_result(&r);
}

/* Results come in the order of the input, and each is what the request alone would have given. */
/* Each line's totals are those of its requests, and each request (n) emitted what is expected. */
static void expect_trace(char *trace, const int *emitted, size_t n)
{
    static const char *const totals[] = {"proposed", "accepted", "emitted"};
    json_int_t of_request[8] = {0}, i_step = 0;
    double last = 0;
    for (const char *line = trace; *line; line = strchr(line, '\n') + 1) {
        json_t *root = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL), *seqs = json_object_get(root, "seqs"),
               *seq;
        json_int_t sums[3] = {0}, rows = 0;
        size_t i;
        json_array_foreach(seqs, i, seq)
        {
            assert_in_range(integer_of(seq, "id"), 0, n - 1);
            of_request[integer_of(seq, "id")] += integer_of(seq, "emitted");
            assert_true(integer_of(seq, "g") == 0 || strcmp(string_of(seq, "proposer"), "none") != 0);
            sums[0] += integer_of(seq, "g");
            sums[1] += integer_of(seq, "accepted");
            sums[2] += integer_of(seq, "emitted");
            rows += integer_of(seq, "rows");
        }
        assert_int_equal(json_array_size(seqs), integer_of(root, "requests"));
        for (i = 0; i < 3; i++) assert_int_equal(sums[i], integer_of(root, totals[i]));
        assert_int_equal(rows, integer_of(root, "prefill_rows") + integer_of(root, "decode_rows"));
        assert_int_equal(integer_of(root, "step"), i_step++);
        assert_true(number_of(root, "time") >= last && number_of(root, "forward_ms") > 0);
        last = number_of(root, "time");
        json_decref(root);
    }
    for (size_t i = 0; i < n; i++) assert_int_equal(of_request[i], emitted[i]);
}

static void test_many_requests(void **state)
{
    (void)state;
    static const char input[] = "{\"prompt\": \"first\", \"id\": \"a\", \"n_predict\": 40}\n\n"
                                "{\"prompt\": \"second\", \"temperature\": 0.8, \"seed\": 3}\n"
                                "{\"prompt\": \"third\", \"proposer\": \"jacobi\", \"stop\": [\"zzzzzz\"]}\n";
    static const char *const single[][8] = {
        {"-p", "first", "-n", "40"}, {"-p", "second", "--temp", "0.8", "--seed", "3"}, {"-p", "third"}};
    char path[512], trace_path[512];
    write_file(temp_path(path, "requests"), input, strlen(input));
    result r = run_cli("run", "-m", tiny_dir, "--prompts", path, "--parallel", "2", "-n", "25",
                       "--ignore-eos", "--trace", temp_path(trace_path, "trace"));
    expect_success(&r);
    char *line = r.out;
    for (size_t i = 0; i < 3; i++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        json_t *root = parse_json(line);
        line = end + 1;
        assert_int_equal(integer_of(root, "index"), i);
        assert_true((json_object_get(root, "id") != NULL) == (i == 0));
        const char *args[ARGS_MAX] = {"run", "-m", tiny_dir, "-q", "--ignore-eos", "--no-display-prompt",
                                      "-n",  "25"};
        memcpy(args + 8, single[i], sizeof single[i]);
        char *text = success_text(run_with(&(streams){0}, args));
        text[strlen(text) - 1] = '\0';
        assert_string_equal(string_of(root, "text"), text);
        free(text);
        json_decref(root);
    }
    assert_int_equal(*line, '\0');
    free_result(&r);

    char *trace = read_file(trace_path, NULL);
    expect_trace(trace, (const int[]){40, 25, 25}, 3);
    free(trace);
}

/* Both ways give each request's object; the text that the model wrote is part of the prompt, as far as the context has room. */
static void test_compare(void **state)
{
    (void)state;
    static const char *const proposers[] = {"none", "ngram"};
    result r = run_cli("run", "-m", tiny_dir, "-c", "200", "-p", "abc", "--compare", "--write", "9999",
                       "--parallel", "3", "-n", "30", "--temp", "0.6", "--seed", "5", "--proposer", "ngram",
                       "--ignore-eos", "--json", "-");
    expect_success(&r);
    assert_non_null(strstr(r.err, "3 continuations of a text of 170 tokens\n"));
    assert_non_null(strstr(r.err, ", identical: yes\n"));
    json_t *tokens[6];
    char *rest = NULL, *line = strtok_r(r.out, "\n", &rest);
    for (int i = 0; i < 6; i++, line = strtok_r(NULL, "\n", &rest)) {
        assert_non_null(line);
        json_t *root = parse_json(line);
        assert_string_equal(string_of(root, "proposer"), proposers[i / 3]);
        assert_int_equal(integer_of(root, "prompt_tokens"), 170);
        tokens[i] = json_incref(json_object_get(root, "tokens"));
        assert_int_equal(json_array_size(tokens[i]), 30);
        json_decref(root);
    }
    assert_null(line);
    for (int i = 0; i < 3; i++) assert_true(json_equal(tokens[i], tokens[3 + i]));
    assert_false(json_equal(tokens[0], tokens[1])); /* other seeds */
    for (int i = 0; i < 6; i++) json_decref(tokens[i]);
    free_result(&r);
}

/* Each prompt by a target, the model, and the model with guesses; the last two say the same, and so does a target that is the model. */
static void test_compare_models(void **state)
{
    (void)state;
    char path[512];
    static const char lines[] = "{\"prompt\": \"abcabc\", \"question\": \"What?\", \"id\": 7}\n"
                                "{\"prompt\": \"xyz\"}\n";
    const char *prompts = temp_path(path, "questions.jsonl");
    write_file(prompts, lines, sizeof lines - 1);
    for (int targets = 0; targets < 2; targets++) {
        result r = run_cli("run", "-m", tiny_dir, "--compare", "--prompts", prompts, "-n", "30", "--proposer",
                           "jacobi", "--ignore-eos", "--json", "-", targets ? "--target" : NULL, tiny_dir);
        expect_success(&r);
        assert_non_null(strstr(r.err, "1. What?\n"));
        assert_non_null(strstr(r.err, "2. xyz\n"));
        assert_non_null(strstr(r.err, "identical to its own plain output: yes\n"));
        assert_true(!!strstr(r.err, "2 of 2 outputs are the target's") == targets);
        char *rest = NULL, *line = strtok_r(r.out, "\n", &rest);
        for (int i = 0; i < 2; i++, line = strtok_r(NULL, "\n", &rest)) {
            assert_non_null(line);
            json_t *root = parse_json(line), *plain = json_object_get(root, "plain"),
                   *guessing = json_object_get(root, "guessing");
            assert_int_equal(integer_of(root, "index"), i);
            assert_int_equal(json_integer_value(json_object_get(root, "id")), i == 0 ? 7 : 0);
            assert_true(json_is_true(json_object_get(root, "identical")));
            assert_true(json_equal(json_object_get(plain, "tokens"), json_object_get(guessing, "tokens")));
            assert_int_equal(integer_of(plain, "passes"), 30);
            assert_string_equal(string_of(guessing, "proposer"), "jacobi");
            assert_true(!!json_object_get(root, "target") == targets);
            json_decref(root);
        }
        assert_null(line);
        free_result(&r);
    }
    char other[512], none[512];
    write_file(temp_path(other, "other.jsonl"), "{\"text\": \"abc\"}\n", 16);
    write_file(temp_path(none, "none.jsonl"), "", 0);
    const bad_case failures[] = {
        {{"run", "-m", tiny_dir, "--compare", "--prompts", other, "-n", "3"},
         {"prompt 1: expected a string"}},
        {{"run", "-m", tiny_dir, "--compare", "--prompts", none, "-n", "3"}, {"found no prompt"}},
        {{"run", "-m", tiny_dir, "--compare", "--prompts", prompts, "--target", "/none"}, {"/none"}}};
    expect_errors(failures, 3, 1);
    const bad_case mistakes[] = {{{"run", "-m", tiny_dir, "-p", "a", "--target", tiny_dir},
                                  {"--target: found without --compare and --prompts"}},
                                 {{"run", "-m", tiny_dir, "--compare", "--prompts", prompts, "--write", "3"},
                                  {"--write: found with --prompts"}}};
    expect_errors(mistakes, 2, 2);
}

static void test_bad_requests(void **state)
{
    (void)state;
    static const struct {
        const char *line, *fragment;
    } cases[] = {
        {"{\"prompt\": 3}", "prompt: found another type, expected a string"},
        {"{\"n_predict\": 3}", "found no prompt"},
        {"{\"prompt\": \"a\", \"max_tokens\": 3}", "found the key \"max_tokens\""},
        {"{\"prompt\": \"a\", \"n_predict\": 2.5}", "n_predict: found another type, expected a whole number"},
        {"{\"prompt\": \"a\", \"top_p\": \"1\"}", "top_p: found another type, expected a number"},
        {"{\"prompt\": \"a\", \"top_p\": 1.5}", "top_p: found 1.5, expected 0 to 1"},
        {"{\"prompt\": \"a\", \"seed\": -1}", "seed: found another type"},
        {"{\"prompt\": \"a\", \"ignore_eos\": 1}", "ignore_eos: found another type, expected true or false"},
        {"{\"prompt\": \"a\", \"stop\": [\"x\", 1]}", "stop: found another type"},
        {"{\"prompt\": \"a\", \"stop\": \"\"}", "stop string 0 is empty"},
        {"{\"prompt\": \"a\", \"proposer\": \"magic\"}", "magic"},
        {"{\"prompt\": \"\"}", "found no tokens"},
        {"[1]", "expected a JSON object"},
        {"{\"prompt\": \"a\"", "expected a JSON object"},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "expected a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char input[256];
        static const char *const args[] = {"run", "-m", tiny_dir, "--prompts", "-", "-n", "1", NULL};
        (void)snprintf(input, sizeof input, "\n{\"prompt\": \"fine\"}\n%s\n", cases[i].line);
        result r = run_with(&(streams){.in = input}, args);
        assert_int_equal(r.out_len, 0);
        expect_error(&r, args, 1, (const char *const[]){"-: line 3: ", cases[i].fragment, NULL});
    }
}

static void test_stop_text_and_bias(void **state)
{
    (void)state;
    char stop[3] = "", bias[32];
    char *text = tiny_text(NULL, "-p", "abc", "-n", "60", "--no-display-prompt");
    for (size_t i = 10; text[i + 1] && !stop[0]; i++) /* two characters to stop at */
        if (text[i] > ' ' && text[i] < 127 && text[i + 1] > ' ' && text[i + 1] < 127)
            memcpy(stop, text + i, 2);
    assert_int_equal(strlen(stop), 2);
    char *stopped = tiny_text(NULL, "-p", "abc", "-n", "60", "--no-display-prompt", "-r", "never", "-r",
                              stop);
    *strstr(text, stop) = '\0';
    stopped[strlen(stopped) - 1] = '\0';
    assert_same_text(stopped, text);

    result r = run_cli("run", "-m", tiny_dir, "-p", "abc", "-n", "1", "--ignore-eos", "--json", "-");
    json_t *root = parse_json(r.out);
    const json_int_t first = json_integer_value(json_array_get(json_object_get(root, "tokens"), 0));
    json_decref(root);
    free_result(&r);
    (void)snprintf(bias, sizeof bias, "%d-inf", (int)first);
    r = run_cli("run", "-m", tiny_dir, "-p", "abc", "-n", "50", "--ignore-eos", "--json", "-", "-l", bias);
    root = parse_json(r.out);
    for (size_t i = 0; i < 50; i++)
        assert_int_not_equal(json_integer_value(json_array_get(json_object_get(root, "tokens"), i)), first);
    json_decref(root);
    free_result(&r);
}

static void test_timings_and_quiet(void **state)
{
    (void)state;
    result r = run_cli("run", "-m", tiny_dir, "-p", "abc", "-n", "5", "-t", "2", "--cpu-mask", "scalar");
    expect_success(&r);
    assert_non_null(strstr(r.err, "load"));
    assert_non_null(strstr(r.err, "llama, scalar kernels, 2 threads"));
    assert_non_null(strstr(r.err, "3 tokens, 0 from the cache"));
    assert_null(strstr(r.err, "\r")); /* no progress line where there is no terminal */
    free_result(&r);
}

/* The path of the one file in a folder. */
static void only_file_of(char *out, size_t size, const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        if (entry->d_name[0] != '.') n += snprintf(out, size, "%s/%s", folder, entry->d_name) > 0;
    (void)closedir(d);
    assert_int_equal(n, 1);
}

static void test_dump_logits(void **state)
{
    (void)state;
    char path[512];
    size_t size;
    free(tiny_text(NULL, "-p", "abcde", "--dump-logits", temp_path(path, "logits.f32")));
    char *bytes = read_file(path, &size);
    assert_int_equal(size, 5 * TINY_VOCAB * sizeof(float));
    free(bytes);
}

/* The cost profile is measured once, kept, and measured again when what was kept is damaged or there is nowhere to keep it. */
static void test_cost_profile_is_kept(void **state)
{
    (void)state;
    char cache[512], dir[600], path[1024], *kept[3];
    assert_int_equal(mkdir(temp_path(cache, "cache"), 0700), 0);
    assert_int_equal(setenv("XDG_CACHE_HOME", cache, 1), 0);
    char *text = tiny_text(NULL, "-p", "abc abc abc", "-n", "40");
    (void)snprintf(dir, sizeof dir, "%s/lookfar", cache);
    only_file_of(path, sizeof path, dir);
    for (int i = 0; i < 3; i++) {
        kept[i] = read_file(path, NULL);
        if (i == 1) write_file(path, "damaged", 7);
        assert_same_text(tiny_text(NULL, "-p", "abc abc abc", "-n", "40"), strdup(text));
        only_file_of(path, sizeof path, dir);
    }
    assert_string_equal(kept[0], kept[1]); /* the second run wrote nothing */
    assert_string_not_equal(kept[2], "damaged");
    assert_string_not_equal(kept[2], kept[0]); /* no two measurements agree to the last bit */
    for (int i = 0; i < 3; i++) free(kept[i]);
    assert_int_equal(setenv("XDG_CACHE_HOME", "/dev/null", 1), 0);
    assert_same_text(tiny_text(NULL, "-p", "abc abc abc", "-n", "40"), text);
    assert_int_equal(setenv("XDG_CACHE_HOME", temp_dir, 1), 0);
}

/* ---- signals ---- */

/* Starts an endless run whose standard output is a pipe; returns the end to read from. */
static int start_endless_run(pid_t *pid)
{
    static const char *const args[] = {"run", "-m", tiny_dir, "-t", "1", "-p", "go", "--ignore-eos", NULL};
    int fds[2];
    require_binary();
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    *pid = fork();
    assert_true(*pid >= 0);
    if (*pid == 0) become_program(args, "/dev/null", fds[1], NULL);
    (void)close(fds[1]);
    return fds[0];
}

static void test_interrupt(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t pid;
        char chunk[4096];
        ssize_t n;
        size_t before = 0;
        result r = {0};
        const int fd = start_endless_run(&pid);
        while (before < 50 && (n = read(fd, chunk, sizeof chunk)) > 0) before += (size_t)n;
        assert_true(before >= 50);
        assert_int_equal(kill(pid, signals[i]), 0);
        char last = '\0';
        while ((n = read(fd, chunk, sizeof chunk)) > 0) last = chunk[n - 1];
        (void)close(fd);
        collect(&r, pid);
        expect_success(&r);
        assert_int_equal(last, '\n');
        assert_non_null(strstr(r.err, "finish: cancel"));
        free_result(&r);
    }
}

/* A reader that goes away ends the program as it ends any filter: by SIGPIPE, without a word. */
static void test_reader_goes_away(void **state)
{
    (void)state;
    pid_t pid;
    char byte;
    result r = {0};
    const int fd = start_endless_run(&pid);
    assert_int_equal(read(fd, &byte, 1), 1);
    (void)close(fd);
    collect(&r, pid);
    assert_int_equal(r.signal, SIGPIPE);
    assert_string_equal(r.err, "");
    free_result(&r);
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

/* What a run of `bench magicdec` on the tiny model should give, beside plain decoding: proposers, selections and drafting, in order. */
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

/* Each setting beside plain decoding, with the same output: with a selection for each list, at all of them where the draft's cache has a
 * window or is chosen, greedy and sampled. */
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

/* Another engine's plain decoding is the last result of a cell: 9 timed tokens of 2 sequences in half a second. */
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

/* Prompts as JSON lines; cells that are done are left out, the torn line of a killed run is cut off, and what is not done is added. */
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

/* ---- real models ---- */

static json_t *load_golden(const char *folder)
{
    char path[256];
    (void)snprintf(path, sizeof path, "models/hf/%s/golden.json", folder);
    json_t *golden = json_load_file(require_data(path), 0, NULL);
    assert_non_null(golden);
    return golden;
}

/* Runs the golden prompt: standard output is the golden text and a newline. */
static void expect_golden_text(const char *model, const json_t *golden, const char *level)
{
    char n[16], expected[4096];
    (void)snprintf(n, sizeof n, "%zu", json_array_size(json_object_get(golden, "greedy_ids")));
    (void)snprintf(expected, sizeof expected, "%s\n", string_of(golden, "text"));
    result r = run_cli("run", "-m", model, "-p", string_of(golden, "prompt"), "-n", n, "-q", "--ignore-eos",
                       "--no-escape", "--cache-type", "f32", "--cpu-mask", level);
    expect_success(&r);
    assert_string_equal(r.out, expected);
    free_result(&r);
}

static void test_golden_text(void **state)
{
    (void)state;
    static const char *const folders[] = {"stories260K", "llama2xs-281K"}, *const levels[] = {"scalar",
                                                                                              "native"};
    for (size_t i = 0; i < 2; i++) {
        char path[256], gguf[512];
        json_t *golden = load_golden(folders[i]);
        (void)snprintf(path, sizeof path, "models/hf/%s", folders[i]);
        for (size_t level = 0; level < 2; level++) expect_golden_text(data_path(path), golden, levels[level]);
        result r = run_cli("convert", data_path(path), temp_path(gguf, "real.gguf"));
        expect_success(&r);
        free_result(&r);
        expect_golden_text(gguf, golden, "native");
        json_decref(golden);
    }
}

static void test_golden_text_of_a_llama2c_file(void **state)
{
    (void)state;
    char gguf[512];
    json_t *golden = load_golden("stories260K");
    const char *bin = require_data("models/stories260K.bin");
    static const char *const tokenizers[] = {"models/tok512.bin", "models/tok512.model"};
    for (size_t i = 0; i < 2; i++) {
        result r = run_cli("convert", bin, temp_path(gguf, "llama2c.gguf"), "--tokenizer",
                           require_data(tokenizers[i]));
        expect_success(&r);
        free_result(&r);
        expect_golden_text(gguf, golden, "native");
    }
    json_decref(golden);
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

/* What a new user does: make install, then a program with the library, which gives the text that the command gives. */
static void test_install(void **state)
{
    (void)state;
    static const char *const files[] = {"bin/lookfar", "lib/liblookfar.a", "lib/liblookfar.so",
                                        "include/lookfar.h", "share/man/man1/lookfar.1"};
    char path[1024], root[512];
    require_binary();
    if (access("Makefile", R_OK) != 0 || getenv("LOOKFAR_BIN") || !strstr(binary, "/build/lookfar")) {
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
        cmocka_unit_test(test_ways_to_give_a_prompt),
        cmocka_unit_test(test_a_padded_embedding),
        cmocka_unit_test(test_sampling_repeats),
        cmocka_unit_test(test_grammars),
        cmocka_unit_test(test_run_json),
        cmocka_unit_test(test_interactive),
        cmocka_unit_test(test_proposers),
        cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_compare_models),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_stop_text_and_bias),
        cmocka_unit_test(test_timings_and_quiet),
        cmocka_unit_test(test_dump_logits),
        cmocka_unit_test(test_cost_profile_is_kept),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_reader_goes_away),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_bench_tokenize),
        cmocka_unit_test(test_bench_magicdec),
        cmocka_unit_test(test_bench_magicdec_peer),
        cmocka_unit_test(test_bench_magicdec_goes_on),
        cmocka_unit_test(test_bench_kernels_and_load),
        cmocka_unit_test(test_convert_and_quantize),
        cmocka_unit_test(test_golden_text),
        cmocka_unit_test(test_golden_text_of_a_llama2c_file),
        cmocka_unit_test(test_install),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
