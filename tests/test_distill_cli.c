/* lookfar distill and lookfar eval as a user runs them: files, tables, JSON, pictures, signals, mistakes. */
#include "testing.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char model[512];

/* Runs the command with these arguments; its streams are in the files out and err. Returns its status. */
static int run(const char *args)
{
    char command[4096];
    (void)snprintf(command, sizeof command, "%s %s >'%s' 2>'%s'", require_program(), args, in_temp("out"),
                   in_temp("err"));
    const int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_text(const char *file, const char *fragment)
{
    char *text = read_file(in_temp(file), NULL);
    if (!strstr(text, fragment)) fail_msg("found \"%s\", expected \"%s\" in it", text, fragment);
    free(text);
}

static void expect_ok(const char *args)
{
    if (run(args) == 0) return;
    char *text = read_file(in_temp("err"), NULL);
    fail_msg("%s: %s", args, text);
}

static void expect_mistake(const char *args, int status, const char *fragment)
{
    assert_int_equal(run(args), status);
    expect_text("err", fragment);
}

static void test_mistakes(void **state)
{
    (void)state;
    expect_mistake("distill", 2, "Usage: lookfar distill KIND");
    expect_mistake("distill melt", 2,
                   "lookfar: distill: found \"melt\", expected one of collect train run show");
    expect_mistake("distill collect -m x -o y", 2, "--prompts FILE: the prompts are missing");
    expect_mistake("distill collect -m x --prompts y", 2, "-o FILE");
    expect_mistake("distill collect --prompts x -o y", 2, "-m PATH");
    expect_mistake("distill collect -m x --prompts y -o z --block 65", 2,
                   "--block: found \"65\", expected a whole number from 2 to 64");
    expect_mistake("distill collect -m /none --prompts y -o z", 1, "/none");
    expect_mistake("distill show", 2, "FILE: the trajectories are missing");
    expect_mistake("distill show x -o y.svg", 2, "expected --record");
    expect_mistake("distill show x --record 1 -o y.gif", 2, "ends in .png or .svg");
    expect_mistake("distill show x --colour blue", 2, "expected auto, always or never");
    expect_mistake("distill show /none", 1, "/none: cannot open");
    expect_mistake("eval -m x", 2, "--domain NAME: the domain is missing");
    expect_mistake("eval -m x --domain cooking", 2,
                   "found \"cooking\", expected spider, python, gsm8k or stories");
    expect_mistake("eval -m x --domain gsm8k -n 8,99", 2, "found \"99\"");
    expect_mistake("eval -m x --domain gsm8k -n ''", 2, "expected a list");
    expect_mistake("eval -m x --domain gsm8k --split dev --data /none", 1, "expected valid or test");
}

static void test_help_is_in_the_man_page(void **state)
{
    (void)state;
    static const char *const commands[] = {"distill collect", "distill show", "eval"};
    char path[] = "docs/lookfar.1", args[64], word[64];
    if (access(path, R_OK) != 0) skip();
    char *page = read_file(path, NULL);
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(args, sizeof args, "%s --help", commands[i]);
        expect_ok(args);
        char *help = read_file(in_temp("out"), NULL);
        (void)snprintf(word, sizeof word, "Usage: lookfar %s ", commands[i]);
        assert_non_null(strstr(help, word));
        for (const char *at = help; (at = strstr(at, " --")); at += 3) {
            const size_t len = strspn(at + 3, "abcdefghijklmnopqrstuvwxyz-");
            (void)snprintf(word, sizeof word, "Fl -%.*s", (int)len, at + 3);
            if (!strstr(page, word)) fail_msg("%s: found no \"%s\"", path, word);
        }
        free(help);
    }
    free(page);
}

static void write_prompts(void)
{
    FILE *f = fopen(in_temp("prompts.jsonl"), "w");
    assert_non_null(f);
    for (int i = 0; i < 24; i++) (void)fprintf(f, "{\"who\": \"%s %d\"}\n", i % 2 ? "cat" : "little girl", i);
    assert_int_equal(fclose(f), 0);
}

static const char *collect_args(const char *out, const char *more)
{
    static char args[2048];
    (void)snprintf(
        args, sizeof args,
        "distill collect -q -t 1 -m %s --prompts %s --template 'Once there was a {who}' --max-tokens 48 "
        "-o %s %s",
        model, in_temp("prompts.jsonl"), in_temp(out), more);
    return args;
}

static json_t *read_json(const char *file)
{
    json_t *object = json_load_file(in_temp(file), JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(object);
    return object;
}

static void test_collecting_and_showing(void **state)
{
    (void)state;
    char args[2048];
    (void)snprintf(model, sizeof model, "%s", require_data("models/hf/stories260K"));
    write_prompts();
    expect_ok(collect_args("a.traj", "--json -"));
    json_t *counts = read_json("out");
    assert_int_equal(json_integer_value(json_object_get(counts, "prompts")), 24);
    assert_true(json_real_value(json_object_get(counts, "tokens_per_pass")) >= 0.9);
    json_decref(counts);
    (void)snprintf(args, sizeof args, "distill show %s", in_temp("a.traj"));
    expect_ok(args);
    expect_text("out", "tokens per pass");
    (void)snprintf(args, sizeof args, "distill show %s --record 0", in_temp("a.traj"));
    expect_ok(args);
    expect_text("out", "no mark: right");
    (void)snprintf(args, sizeof args, "distill show %s --record 0 -m %s --colour always", in_temp("a.traj"),
                   model);
    expect_ok(args);
    expect_text("out", "\033[32m");
    expect_text("out", "\xC2\xB7");
    (void)snprintf(args, sizeof args, "distill show %s --record 0 --json %s", in_temp("a.traj"),
                   in_temp("record.json"));
    expect_ok(args);
    json_t *record = read_json("record.json");
    assert_int_equal(json_array_size(json_object_get(record, "blocks")), 3);
    json_decref(record);
    (void)snprintf(args, sizeof args, "distill show %s --record 999", in_temp("a.traj"));
    expect_mistake(args, 1, "counted from 0");
}

/* Ctrl-C leaves a file that the same command goes on with. */
static void test_interrupted_collection(void **state)
{
    (void)state;
    char command[4096];
    struct stat st;
    size_t a_size, b_size;
    (void)snprintf(model, sizeof model, "%s", require_data("models/hf/stories260K"));
    write_prompts();
    expect_ok(collect_args("a.traj", "--parallel 3"));
    (void)snprintf(command, sizeof command, "exec %s %s 2>'%s'", require_program(),
                   collect_args("b.traj", "--parallel 1"), in_temp("err"));
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    /* as soon as there is a record */
    while ((stat(in_temp("b.traj"), &st) != 0 || st.st_size <= 128) && waitpid(child, NULL, WNOHANG) == 0)
        (void)usleep(1000);
    (void)kill(child, SIGINT);
    (void)waitpid(child, NULL, 0);
    expect_ok(collect_args("b.traj", "--parallel 2"));
    char *a = read_file(in_temp("a.traj"), &a_size), *b = read_file(in_temp("b.traj"), &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a, b, a_size);
    free(a);
    free(b);
}

/* A log of a distillation, whole or cut off, with and without prompts that are decoded. */
static void test_drawing_a_log(void **state)
{
    (void)state;
    static const char log[] =
        "{\"run\":{\"shape\":\"llama\",\"recipe\":\"cllm\"}}\n"
        "{\"step\":0,\"valid_loss\":6.5,\"valid_consistency\":5.9,\"valid_ar\":0.6,\"tokens_per_pass\":1.02,\"best\":true}\n"
        "{\"step\":1,\"loss\":6.7,\"consistency\":6.1,\"ar\":0.6}\n"
        "{\"step\":2,\"loss\":5.7,\"consistency\":5.2,\"ar\":0.5}\n"
        "{\"step\":2,\"valid_loss\":5.5,\"valid_consistency\":4.9,\"valid_ar\":0.6,\"tokens_per_pass\":1.3,\"best\":true}\n"
        "{\"step\":3,\"loss\":";
    char args[1024];
    const char *path = in_temp("it's.jsonl");
    write_file(path, log, strcspn(log, "\n") + 1);
    (void)snprintf(args, sizeof args, "plot \"%s\" -o %s", path, in_temp("log.svg"));
    expect_mistake(args, 1, "found no step of a distillation");
    write_file(path, log, sizeof log - 1);
    if (system("gnuplot --version >/dev/null 2>&1") != 0) return;
    expect_ok(args);
    expect_text("log.svg", "tokens per pass, held out");
    expect_text("log.svg", ">kept<");
    expect_text("log.svg", ">autoregressive, held out<");
    expect_text("log.svg", "it s.jsonl"); /* a quote would end the title */
}

static void test_evaluating(void **state)
{
    (void)state;
    char args[2048], data[512];
    (void)snprintf(model, sizeof model, "%s", require_data("models/hf/stories260K"));
    (void)snprintf(data, sizeof data, "%s", require_data("stories"));
    data[strlen(data) - strlen("/stories")] = '\0';
    (void)snprintf(
        args, sizeof args,
        "eval -q -t 1 -m %s --teacher %s --domain stories --data %s --samples 3 -n 4,8 --max-tokens 24 "
        "--json %s",
        model, model, data, in_temp("eval.jsonl"));
    expect_ok(args);
    expect_text("out", "| n = 8 |");
    expect_text("out", "| auto |");
    expect_text("out", "| n = 8 | 1.00x | 1.00x |"); /* against itself as the teacher */
    expect_text("out", "| yes |");
    static const char *const keys[] = {"model",
                                       "teacher",
                                       "domain",
                                       "n",
                                       "score",
                                       "score_teacher",
                                       "tokens_per_pass",
                                       "speedup",
                                       "samples",
                                       "fast_forwarded",
                                       "stationary",
                                       "identical",
                                       "proposer",
                                       "tokens_per_pass_teacher",
                                       "fast_forwarded_teacher",
                                       "stationary_teacher"};
    json_t *object = read_json("eval.jsonl");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!json_object_get(object, keys[i])) fail_msg("found no \"%s\"", keys[i]);
    assert_true(json_is_true(json_object_get(object, "identical")));
    assert_true(json_real_value(json_object_get(object, "agreement")) == 1.0);
    json_decref(object);
    if (system("gnuplot --version >/dev/null 2>&1") != 0) return;
    (void)snprintf(args, sizeof args, "plot %s -o %s", in_temp("eval.jsonl"), in_temp("eval.svg"));
    expect_ok(args);
    expect_text("eval.svg", "<svg");
    expect_text("eval.svg", ">auto<");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mistakes, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_help_is_in_the_man_page, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_collecting_and_showing, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_interrupted_collection, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_drawing_a_log, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_evaluating, enter_temp, leave_temp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
