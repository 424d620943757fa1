#include "cli.h"

#include "../bench/random_model.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS_MAX = 120 };

char *cli_dir, tiny_dir[512], random_path[512], out_path[512], err_path[512];

/* ---- running the program ---- */

char *temp_path(char path[512], const char *name)
{
    (void)snprintf(path, 512, "%s/%s", cli_dir, name);
    return path;
}

void become_program(const char *const *args, const char *in_path, int out, const char *path)
{
    const char *argv[ARGS_MAX + 2] = {"lookfar"};
    for (int i = 0; args[i] && i < ARGS_MAX; i++) argv[i + 1] = args[i];
    const int in = open(in_path, O_RDONLY), err = open(err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || err < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(99);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)alarm(SECONDS_MAX); /* outlives exec: a program that hangs is killed */
    (void)execv(require_program(), (char *const *)(uintptr_t)argv);
    _exit(99);
}

void collect_result(result *r, pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    r->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    r->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    r->err = read_file(err_path, NULL);
}

result run_with(const streams *s, const char *const *args)
{
    char in_path[512] = "/dev/null";
    result r = {.code = -1};
    (void)require_program();
    if (s->in) write_file(temp_path(in_path, "stdin"), s->in, strlen(s->in));
    const char *path = s->out ? s->out : out_path;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) become_program(args, in_path, -1, path);
    collect_result(&r, pid);
    if (!s->out) r.out = read_file(out_path, &r.out_len);
    return r;
}

void free_result(result *r)
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

void expect_success(const result *r)
{
    if (r->code != 0 || strstr(r->err, "lookfar: "))
        fail_msg("exit status %d, signal %d: %s", r->code, r->signal, r->err);
}

void expect_error(result *r, const char *const *args, int code, const char *const *fragments)
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

void expect_errors(const bad_case *cases, size_t n, int code)
{
    for (size_t i = 0; i < n; i++) {
        result r = run_with(&(streams){0}, cases[i].args);
        assert_int_equal(r.out_len, 0);
        expect_error(&r, cases[i].args, code, cases[i].fragments);
    }
}

char *success_text(result r)
{
    expect_success(&r);
    assert_string_equal(r.err, ""); /* -q */
    free(r.err);
    return r.out;
}

void assert_same_text(char *a, char *b)
{
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* ---- what it wrote ---- */

const char *string_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text) fail_msg("key %s: found no string", key);
    return text;
}

json_int_t integer_of(const json_t *object, const char *key)
{
    if (!json_is_integer(json_object_get(object, key))) fail_msg("key %s: found no integer", key);
    return json_integer_value(json_object_get(object, key));
}

double number_of(const json_t *object, const char *key)
{
    if (!json_is_number(json_object_get(object, key))) fail_msg("key %s: found no number", key);
    return json_number_value(json_object_get(object, key));
}

json_t *parse_json(const char *text)
{
    json_error_t err;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    if (!root) fail_msg("%s: %s", err.text, text);
    return root;
}

/* ---- the models ---- */

int make_models(void **state)
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
    cli_dir = make_temp_dir();
    assert_int_equal(setenv("XDG_CACHE_HOME", cli_dir, 1), 0);
    (void)temp_path(out_path, "stdout");
    (void)temp_path(err_path, "stderr");
    tiny_model_write(temp_path(tiny_dir, "tiny"), TINY_VOCAB);
    assert_ok(lf_random_model_write(temp_path(random_path, "random.gguf"), &m, &err), &err);
    return 0;
}

int remove_models(void **state)
{
    (void)state;
    remove_tree(cli_dir);
    free(cli_dir);
    return 0;
}
