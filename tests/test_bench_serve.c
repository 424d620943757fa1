/* lookfar bench serve: a sweep of rates over a server that it starts itself, its results, and the picture of them. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = {
    "workload",     "engine",          "proposer",         "rate",         "requests",
    "tokens",       "errors",          "ttft_p50",         "ttft_p95",     "ttft_p99",
    "tpot_p50",     "tpot_p95",        "tpot_p99",         "seconds",      "throughput",
    "goodput",      "step_seconds",    "schedule_seconds", "emit_seconds", "rounds",
    "http_seconds", "between_seconds", "server_share",
};

enum { CELLS = 6, REQUESTS = 5, PREDICT = 7 };

static void expect_cell(const json_t *cell, int i)
{
    static const char *const rates[] = {"40", "80", NULL}; /* NULL: all at once */
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (!json_object_get(cell, keys[k])) fail_msg("found no \"%s\"", keys[k]);
    assert_string_equal(string_of(cell, "workload"), "short");
    assert_string_equal(string_of(cell, "engine"), "lookfar");
    assert_string_equal(string_of(cell, "proposer"), i % 2 ? "ngram" : "none");
    if (rates[i / 2])
        assert_true(number_of(cell, "rate") == strtod(rates[i / 2], NULL));
    else
        assert_true(json_is_null(json_object_get(cell, "rate")));
    assert_int_equal(integer_of(cell, "errors"), 0);
    assert_int_equal(integer_of(cell, "tokens"), REQUESTS * PREDICT);
    assert_true(number_of(cell, "ttft_p50") > 0);
    assert_true(number_of(cell, "ttft_p50") <= number_of(cell, "ttft_p95"));
    assert_true(number_of(cell, "ttft_p95") <= number_of(cell, "ttft_p99"));
    assert_true(number_of(cell, "tpot_p50") <= number_of(cell, "tpot_p95"));
    assert_true(number_of(cell, "emit_seconds") > 0);
    assert_true(number_of(cell, "emit_seconds") + number_of(cell, "schedule_seconds") <
                number_of(cell, "step_seconds"));
}

static void test_sweep(void **state)
{
    (void)state;
    char text_path[512], results[512], picture[512], text[5001], *rest = NULL;
    int i = 0;
    for (int k = 0; k < 5000; k++) text[k] = "abc abd acb "[k % 12];
    write_file(temp_path(text_path, "novel"), text, 5000);
    result r = run_cli("bench", "serve", "-m", tiny_dir, "-f", text_path, "--workload", "short", "--rate",
                       "40,80,inf", "--proposer", "none,ngram", "--requests", "5", "-n", "7", "-c", "256",
                       "--parallel", "3", "-t", "1", "-q", "--json", temp_path(results, "serve.jsonl"));
    expect_success(&r);
    assert_non_null(strstr(r.out, "TTFT p50 ms"));
    free_result(&r);
    char *lines = read_file(results, NULL);
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), i++) {
        json_t *cell = parse_json(line);
        expect_cell(cell, i);
        json_decref(cell);
    }
    assert_int_equal(i, CELLS);
    free(lines);
    if (system("command -v gnuplot >/dev/null") != 0) return; /* NOLINT: the command is the test's own */
    r = run_cli("plot", results, "-o", temp_path(picture, "serve.svg"));
    expect_success(&r);
    free_result(&r);
    char *drawn = read_file(picture, NULL);
    assert_non_null(strstr(drawn, "ngram, all at once"));
    assert_non_null(strstr(drawn, "requests a second"));
    free(drawn);
}

static void test_nothing_to_draw(void **state)
{
    (void)state;
    static const char only[] = "{\"workload\":\"short\",\"engine\":\"lookfar\",\"proposer\":\"none\","
                               "\"rate\":null,\"ttft_p50\":1,\"throughput\":2}\n";
    char path[512];
    write_file(temp_path(path, "once.jsonl"), only, strlen(only));
    result r = run_cli("plot", path, "-o", "/dev/null/x.svg");
    expect_error(&r, (const char *const[]){"plot", NULL}, 1,
                 (const char *const[]){"found no result with a rate", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_nothing_to_draw),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
