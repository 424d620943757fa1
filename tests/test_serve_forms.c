/* lookfar serve and 500 random schemas, many requests at once: every answer that came to its end is of its schema, and every answer
 * has the bytes of plain decoding, whatever proposed its tokens. tests/oracle/grammar.py made the schemas. */
#include "testing.h"

#include "schema_validator.h"
#include "serving.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    N_SCHEMAS = TESTS_SHORT ? 100 : 500,
    AT_ONCE = 16,
    N_PREDICT = 160,
};

/* A model with random weights never comes to an end by itself: it is led to close what is open. */
static const char closers[] = "\"]}";

static const char *const ways[] = {
    "{\"proposer\":\"ngram\"}", "{\"proposer\":\"jacobi\"}", "{\"proposer\":\"sparse\",\"budget\":64}",
    "{\"proposer\":\"draft\"}", "{\"proposer\":\"auto\"}",
};

enum { N_WAYS = sizeof ways / sizeof *ways };

typedef struct task {
    json_t *schema;
    char *plain; /* what plain decoding says; or NULL */
    bool is_whole;
} task;

static void read_schemas(task *tasks)
{
    FILE *f = fopen(golden_path("grammar/schemas.jsonl"), "r");
    char *line = NULL;
    size_t cap = 0;
    assert_non_null(f);
    for (int i = 0; i < N_SCHEMAS; i++) {
        assert_true(getline(&line, &cap, f) > 0);
        json_t *recorded = json_loads(line, 0, NULL);
        tasks[i].schema = json_incref(json_object_get(recorded, "schema"));
        assert_non_null(tasks[i].schema);
        json_decref(recorded);
    }
    free(line);
    (void)fclose(f);
}

static int ask(const server *s, int i, const json_t *schema, const char *way)
{
    json_t *bias = json_object();
    for (const char *c = closers; *c; c++) {
        char id[8];
        (void)snprintf(id, sizeof id, "%d", *c - ' ');
        assert_int_equal(json_object_set_new(bias, id, json_integer(6)), 0);
    }
    json_t *json = json_pack("{s:s, s:i, s:f, s:i, s:o, s:O, s:o}", "prompt",
                             "{\"name\": \"a\", \"ab\": [1, 2], \"is_ok\": true} {\"name\": ", "max_tokens",
                             N_PREDICT, "temperature", i % 2 ? 1.0 : 0.0, "seed", i, "logit_bias", bias,
                             "guided_json", schema, "speculative", json_loads(way, JSON_DECODE_ANY, NULL));
    char *body = json_dumps(json, JSON_COMPACT);
    assert_non_null(body);
    const int fd = connect_to(s->port);
    assert_true(send_request(fd, "POST", "/v1/completions", "", body));
    free(body);
    json_decref(json);
    return fd;
}

/* A schema that no text satisfies, or none of the characters that the tiny model has tokens for. */
static bool has_no_text(const answer *a)
{
    return (a->status == 400 && strstr(a->body.data, "no text can satisfy")) ||
           (a->status == 500 && strstr(a->body.data, "no token is allowed"));
}

/* The first answer to a task is what the second must say; what there is no text for fails twice. */
static void check_answer(int fd, int i, task *t, bool is_plain)
{
    answer a;
    assert_true(read_answer(fd, &a));
    (void)close(fd);
    if (has_no_text(&a)) {
        assert_null(t->plain);
        free_answer(&a);
        return;
    }
    expect_status(&a, 200);
    const char *text = text_at(a.json, "choices.0.text");
    if (is_plain) {
        t->plain = strdup(text);
        t->is_whole = strcmp(text_at(a.json, "choices.0.finish_reason"), "stop") == 0;
        json_t *value = t->is_whole ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        if (t->is_whole && (!value || !schema_allows(t->schema, t->schema, value)))
            fail_msg("schema %d: %s is not of it", i, text);
        json_decref(value);
    } else if (!t->plain || strcmp(text, t->plain) != 0) {
        fail_msg("schema %d, %s: found %s, expected %s", i, ways[i % N_WAYS], text,
                 t->plain ? t->plain : "a refusal");
    }
    free_answer(&a);
}

static void run_tasks(const server *s, task *tasks, bool is_plain)
{
    int fds[AT_ONCE];
    for (int begin = 0; begin < N_SCHEMAS; begin += AT_ONCE) {
        const int n = N_SCHEMAS - begin < AT_ONCE ? N_SCHEMAS - begin : AT_ONCE;
        for (int k = 0; k < n; k++)
            fds[k] = ask(s, begin + k, tasks[begin + k].schema,
                         is_plain ? "false" : ways[(begin + k) % N_WAYS]);
        for (int k = 0; k < n; k++) check_answer(fds[k], begin + k, &tasks[begin + k], is_plain);
    }
}

static void test_schemas(void **state)
{
    (void)state;
    static task tasks[N_SCHEMAS];
    int n_whole = 0, n_without = 0;
    read_schemas(tasks);
    server s = start_server("-c", "512", "--parallel", "16", "--draft-model", serving_model());
    run_tasks(&s, tasks, true);
    run_tasks(&s, tasks, false);
    for (int i = 0; i < N_SCHEMAS; i++) {
        n_whole += tasks[i].is_whole;
        n_without += tasks[i].plain == NULL;
        json_decref(tasks[i].schema);
        free(tasks[i].plain);
    }
    print_message(
        "%d schemas: %d answers came to their end, %d schemas have none; %g of %g candidates accepted\n",
        N_SCHEMAS, n_whole, n_without, metric(&s, "lookfar:spec_decode_num_accepted_tokens_total"),
        metric(&s, "lookfar:spec_decode_num_draft_tokens_total"));
    assert_true(n_whole > N_SCHEMAS * 2 / 3 && n_without < N_SCHEMAS / 4);
    assert_true(metric(&s, "lookfar:spec_decode_num_accepted_tokens_total") > 0);
    stop_cleanly(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        serving_test(test_schemas),
    };
    return cmocka_run_group_tests(tests, begin_serving, end_serving);
}
