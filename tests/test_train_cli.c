/* `lookfar train` and `lookfar plot` as child processes: killed, interrupted and starved of disk space, a
 * run ends in the same weights as an unbroken one; a page is learnt by heart and said again; and the words
 * of the command line. */
#include "train_run_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 48 };

typedef struct child {
    pid_t pid;
    rlim_t file_bytes; /* largest file it may write, RLIM_INFINITY: any */
} child;

static void start(child *c, const char *const *args)
{
    const char *argv[ARGS_MAX + 2] = {require_program()};
    for (int i = 0; args[i] && i < ARGS_MAX; i++) argv[i + 1] = args[i];
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid > 0) return;
    const int out = open(in_temp("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err = open(in_temp("err"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct rlimit limit = {c->file_bytes, c->file_bytes};
    if (out < 0 || err < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(99);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (c->file_bytes != RLIM_INFINITY && setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(99);
    (void)alarm(100); /* outlives exec: a program that hangs is killed */
    (void)execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(99);
}

/* The exit status, or -1 when a signal ended it. */
static int finish(const child *c)
{
    int status;
    while (waitpid(c->pid, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_command(const char *const *args)
{
    child c = {.file_bytes = RLIM_INFINITY};
    start(&c, args);
    return finish(&c);
}

static void expect_said(const char *fragment)
{
    char *text = read_file(in_temp("err"), NULL);
    if (!strstr(text, fragment)) fail_msg("found \"%s\", expected \"%s\"", text, fragment);
    free(text);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define TRAIN(folder, ...)                                                                                   \
    WORDS("train", "-o", folder, "--init", "dim=32,layers=1,heads=2,kv=1,ffn=64,rope=20000", "--tokenizer",  \
          golden_path("token/plain.model"), "--data", in_temp("train.txt"), "--context", "64", "--batch",    \
          "256", "--micro", "128", "--steps", "150", "--warmup", "4", "--dtype", "f32", "-t", "1",           \
          __VA_ARGS__)

static void sleep_ms(int ms)
{
    (void)usleep((useconds_t)ms * 1000);
}

/* ---- runs that are broken off ---- */

/* kill -9 at random moments, in the middle of a checkpoint as well. */
static void test_killed_runs(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)getpid();
    int n_kills = 0, code = -1;
    (void)require_program();
    assert_int_equal(run_command(TRAIN(in_temp("a/run"), "-q")), 0);
    for (int i = 0; code != 0; i++) {
        child c = {.file_bytes = RLIM_INFINITY};
        const bool resumes = temp_has("b/run/checkpoint");
        if (resumes)
            start(&c, WORDS("train", "-o", in_temp("b/run"), "--resume"));
        else
            start(&c, TRAIN(in_temp("b/run"), "--checkpoint-every", "0"));
        /* the first is killed right after its first checkpoint, so that one is killed for sure */
        while (i == 0 && !temp_has("b/run/checkpoint")) sleep_ms(1);
        if (i > 0 && i < 12) sleep_ms(10 + (int)(rng_next(&seed) % (TESTS_SHORT ? 2000 : 120)));
        if (i < 12) (void)kill(c.pid, SIGKILL);
        code = finish(&c);
        n_kills += code == -1;
        if (code > 0) fail_msg("exit status %d: %s", code, read_file(in_temp("err"), NULL));
        assert_true(i < 13);
    }
    assert_true(n_kills > 0);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
    expect_same_train_log("a/run", "b/run");
}

/* SIGTERM: a checkpoint, a sentence about how to go on, and a status that tells a script that this is not the end. */
static void test_interrupted_run(void **state)
{
    (void)state;
    child c = {.file_bytes = RLIM_INFINITY};
    (void)require_program();
    assert_int_equal(run_command(TRAIN(in_temp("a/run"), "-q")), 0);
    start(&c, TRAIN(in_temp("b/run"), "--sample-every", "1", "--sample-tokens", "20"));
    for (int i = 0; i < 2000 && !temp_has("b/run/options.json"); i++) sleep_ms(5);
    sleep_ms(50);
    (void)kill(c.pid, SIGTERM);
    assert_int_equal(finish(&c), 3);
    assert_false(temp_has("b/run/model.gguf"));
    expect_said("--resume");
    /* --export writes the model of that moment; the run goes on from there all the same. */
    assert_int_equal(run_command(WORDS("train", "-o", in_temp("b/run"), "--resume", "--export")), 0);
    assert_true(temp_has("b/run/model.gguf"));
    assert_int_equal(run_command(WORDS("train", "-o", in_temp("b/run"), "--resume", "--sample-every", "0")),
                     0);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
}

/* No room for a checkpoint: an error, the older checkpoint whole, and with room again the same weights. */
static void test_disk_full(void **state)
{
    (void)state;
    train_run r;
    struct stat st;
    child c;
    (void)require_program();
    plan_train_run(&r, "a/run");
    expect_train_run(&r);
    plan_train_run(&r, "b/run");
    r.stop_at = 9;
    expect_train_failure(&r, LF_ECANCELED, "after step 9 of 24; the checkpoint is written");
    assert_int_equal(stat(in_temp("b/run/checkpoint"), &st), 0);
    char *before = read_file(in_temp("b/run/checkpoint"), NULL);
    c.file_bytes = (rlim_t)st.st_size - 1;
    start(&c,
          WORDS("train", "-o", in_temp("b/run"), "--resume", "--init", "dim=32,layers=1,heads=2,kv=1,ffn=64",
                "--tokenizer", golden_path("token/plain.model"), "--data", r.data_path, "--valid",
                r.valid_path, "--context", "64", "--batch", "256", "--micro", "128", "--steps", "24",
                "--warmup", "4", "-t", "1", "--lr", "0.005", "--checkpoint-every", "0"));
    assert_int_equal(finish(&c), 1);
    expect_said("checkpoint.tmp: cannot write: File too large");
    assert_false(temp_has("b/run/checkpoint.tmp"));
    size_t size;
    char *after = read_file(in_temp("b/run/checkpoint"), &size);
    assert_int_equal(size, st.st_size);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
    r.stop_at = -1;
    r.params.resume = true;
    expect_train_run(&r);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
}

/* ---- a page learnt ---- */

/* A page learnt by heart: through the command, and said again by it. */
static void test_page_by_heart(void **state)
{
    (void)state;
    static const char page[] =
        "once a fat cat had a red hat and ten tan mats and the hat was on the cat and the cat was on "
        "a mat then one old dog came in and sat on the hat of the cat";
    (void)require_program();
    write_file(in_temp("page.txt"), page, strlen(page));
    const int code = run_command(WORDS(
        "train", "-o", in_temp("run"), "--init", "dim=64,layers=2,heads=2,ffn=128", "--tokenizer",
        golden_path("token/plain.model"), "--data", in_temp("page.txt"), "--context", "256", "--batch", "256",
        "--steps", "150", "--warmup", "10", "--lr", "0.01", "-t", "1", "--valid", in_temp("page.txt")));
    if (code != 0) fail_msg("exit status %d: %s", code, read_file(in_temp("err"), NULL));
    char *log = read_train_log("run"), *loss = strstr(log, "\"valid_loss\":");
    for (char *next = loss; next; next = strstr(next + 1, "\"valid_loss\":")) loss = next;
    assert_non_null(loss);
    if (!(strtod(loss + 13, NULL) < 0.05)) fail_msg("found %.60s, expected a loss below 0.05", loss);
    free(log);
    assert_int_equal(run_command(WORDS("run", "-m", in_temp("run/model.gguf"), "-p", "once a fat", "-n",
                                       "200", "-t", "1", "-q")),
                     0);
    char *text = read_file(in_temp("out"), NULL);
    text[strlen(text) - 1] = '\0'; /* the command ends its output with a newline */
    assert_string_equal(text, page);
    free(text);
}

/* ---- the command's words ---- */

static void test_usage(void **state)
{
    (void)state;
    static const struct {
        const char *args[8];
        int code;
        const char *fragment;
    } cases[] = {
        {{"train"}, 2, "-o DIR"},
        {{"train", "-o", "x"}, 2, "--data FILE"},
        {{"train", "-o", "x", "--data", "y"}, 2, "-m PATH or --init SHAPE"},
        {{"train", "-o", "x", "--data", "y", "--init", "dim=64,size=2"}, 2, "found \"size\""},
        {{"train", "-o", "x", "--steps", "1.5"}, 2, "--steps: found \"1.5\""},
        {{"train", "-o", "x", "--steps", "2Mx"}, 2, "--steps: found \"2Mx\""},
        {{"train", "-o", "x", "--schedule", "linear"}, 2, "expected cosine, wsd or constant"},
        {{"train", "-o", "x", "--lora", "0"}, 2, "--lora"},
        {{"train", "-o", "x", "more"}, 2, "found argument \"more\""},
        {{"train", "-o", "/dev/null/x", "--resume"}, 1, "options.json"},
        {{"plot"}, 2, "LOG"},
        {{"plot", "x"}, 2, "-o FILE"},
        {{"plot", "x", "-o", "x.gif"}, 2, "ends in .png or .svg"},
        {{"plot", "/dev/null/x", "-o", "x.svg"}, 1, "cannot open"},
        {{"plot", "/dev/null", "-o", "x.svg"}, 1, "found no step"},
    };
    (void)require_program();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(run_command(cases[i].args), cases[i].code);
        expect_said(cases[i].fragment);
    }
}

static void test_plot(void **state)
{
    (void)state;
    train_run r;
    size_t size;
    (void)require_program();
    plan_train_run(&r, "it's");
    expect_train_run(&r);
    FILE *log = fopen(in_temp("it's/log.jsonl"), "a"); /* a sample may say anything */
    assert_non_null(log);
    assert_true(fputs("{\"step\":24,\"temperature\":0.8,\"sample\":\"a\\u0000b\"}\n", log) > 0);
    assert_int_equal(fclose(log), 0);
    char *path = strdup(getenv("PATH"));
    const char *const args[] = {"plot", in_temp("it's/log.jsonl"), "-o", in_temp("curve.svg"), NULL};
    assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
    const int without = run_command(args);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
    assert_int_equal(without, 1);
    expect_said("gnuplot: not found");
    if (system("command -v gnuplot >/dev/null") != 0) { /* NOLINT: the command is the test's own */
        print_message("skipped: gnuplot is not installed\n");
        skip();
    }
    assert_int_equal(run_command(args), 0);
    char *svg = read_file(in_temp("curve.svg"), &size);
    assert_non_null(strstr(svg, "<svg"));
    assert_non_null(strstr(svg, "validation"));
    assert_non_null(strstr(svg, "position in the context"));
    free(svg);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_train_temp, leave_temp)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_killed_runs),   IN_FOLDER(test_interrupted_run), IN_FOLDER(test_disk_full),
        IN_FOLDER(test_page_by_heart), IN_FOLDER(test_usage),           IN_FOLDER(test_plot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
