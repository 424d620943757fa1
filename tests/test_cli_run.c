/* `lookfar run` as its users meet it: prompts, texts, results, signals. The texts of real models need the
 * data folder and are skipped without it. */
#include "cli.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- run ---- */

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

/* A cache that holds one of them at its end: who came last gives way, and the trace says to whom. */
static void test_preempted_requests(void **state)
{
    (void)state;
    char input[1024] = "", path[512], trace_path[512];
    int n_preempted = 0;
    for (int i = 0; i < 3; i++)
        (void)snprintf(input + strlen(input), sizeof input - strlen(input),
                       "{\"prompt\": \"%0100d\", \"proposer\": \"none\"}\n", i);
    write_file(temp_path(path, "requests"), input, strlen(input));
    result r = run_cli("run", "-m", tiny_dir, "--prompts", path, "--parallel", "3", "-n", "100", "-c", "256",
                       "--cache-pages", "3", "--ignore-eos", "--trace", temp_path(trace_path, "trace"));
    expect_success(&r);
    free_result(&r);
    char *trace = read_file(trace_path, NULL);
    for (const char *line = trace; *line; line = strchr(line, '\n') + 1) {
        json_t *root = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL), *one;
        size_t i;
        json_array_foreach(json_object_get(root, "preempted"), i, one)
        {
            assert_true(integer_of(one, "id") >= integer_of(one, "for"));
            assert_in_range(integer_of(one, "tokens"), 100, 200);
            n_preempted++;
        }
        json_decref(root);
    }
    assert_true(n_preempted > 0);
    free(trace);
}

/* A message, a list of them and a request of OpenAI's are put to the model as the template says. */
static void test_chat(void **state)
{
    (void)state;
    static const char template[] = "{{ messages[0].content }}!";
    static const char list[] = "[{\"role\": \"user\", \"content\": \"hello\\n\"}]";
    static const char request[] = "{\"model\": \"any\", \"messages\": [{\"role\": \"user\", \"content\": "
                                  "[{\"type\": \"text\", \"text\": \"hello\\n\"}]}]}";
    char list_path[512], request_path[512], template_path[512];
    write_file(temp_path(list_path, "list"), list, strlen(list));
    write_file(temp_path(request_path, "request"), request, strlen(request));
    char *plain = tiny_text(NULL, "-p", "<|im_start|>user\\nhello\\n<|im_end|>\\n<|im_start|>assistant\\n",
                            "-n", "30", "--no-display-prompt");
    char *texts[] = {tiny_text(NULL, "--chat-template", "chatml", "-p", "hello\\n", "-n", "30"),
                     tiny_text("hello\n", "--chat-template", "chatml", "-n", "30"),
                     tiny_text(NULL, "--chat-template", "chatml", "--messages", list_path, "-n", "30"),
                     tiny_text(NULL, "--chat-template", "chatml", "--messages", request_path, "-n", "30")};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_string_equal(texts[i], plain);
        free(texts[i]);
    }
    free(plain);
    write_file(temp_path(template_path, "template"), template, strlen(template));
    plain = tiny_text(NULL, "-p", "hello!", "-n", "30", "--no-display-prompt");
    char *own = tiny_text(NULL, "--chat-template", template_path, "-p", "hello", "-n", "30");
    assert_string_equal(own, plain);
    free(own);
    free(plain);
}

/* Both ways give each request's object; the text that the model wrote is part of the prompt, as far as the
 * context has room. */
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

/* The cost profile is measured once, kept, and measured again when what was kept is damaged or there is
 * nowhere to keep it. */
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
    assert_int_equal(setenv("XDG_CACHE_HOME", cli_dir, 1), 0);
}

/* ---- signals ---- */

/* Starts an endless run whose standard output is a pipe; returns the end to read from. */
static int start_endless_run(pid_t *pid)
{
    static const char *const args[] = {"run", "-m", tiny_dir, "-t", "1", "-p", "go", "--ignore-eos", NULL};
    int fds[2];
    (void)require_program();
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
        collect_result(&r, pid);
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
    collect_result(&r, pid);
    assert_int_equal(r.signal, SIGPIPE);
    assert_string_equal(r.err, "");
    free_result(&r);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_to_give_a_prompt),
        cmocka_unit_test(test_a_padded_embedding),
        cmocka_unit_test(test_sampling_repeats),
        cmocka_unit_test(test_grammars),
        cmocka_unit_test(test_run_json),
        cmocka_unit_test(test_interactive),
        cmocka_unit_test(test_proposers),
        cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_preempted_requests),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_compare_models),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_stop_text_and_bias),
        cmocka_unit_test(test_timings_and_quiet),
        cmocka_unit_test(test_dump_logits),
        cmocka_unit_test(test_cost_profile_is_kept),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_reader_goes_away),
        cmocka_unit_test(test_golden_text),
        cmocka_unit_test(test_golden_text_of_a_llama2c_file),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
