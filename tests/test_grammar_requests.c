/* Requests with grammars: the output is of the grammar, ends with it, and is the same whatever is proposed and whoever is in the
 * batch. */
#include "testing.h"

#include "schema_validator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_PREDICT = 60, N_PROMPT = 150 };

static const struct {
    lf_grammar_kind kind;
    const char *text;
} grammars[] = {
    {LF_GRAMMAR_JSON_OBJECT, ""},
    {LF_GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"age\":{\"type\":\"integer\","
     "\"minimum\":1,\"maximum\":120},\"likes\":{\"type\":\"array\",\"items\":{\"enum\":[\"tea\",\"toys\",\"cake\"]},"
     "\"maxItems\":4}},\"required\":[\"name\",\"likes\"],\"additionalProperties\":false}"},
    {LF_GRAMMAR_REGEX, "(?:[A-Z][a-z]+ ){2,6}(?:sat|ran) down\\."},
    {LF_GRAMMAR_CHOICE,
     "[\"once upon a time there was a dog\", \"once upon a time there was a cat\", \"no\"]"},
};
enum { N_GRAMMARS = sizeof grammars / sizeof *grammars };

static lf_engine *open_engine(void)
{
    lf_engine_params params;
    lf_engine *engine;
    lf_error err;
    lf_engine_params_init(&params);
    params.model_path = require_data("models/hf/stories260K");
    params.n_ctx = 400;
    params.n_seqs = N_GRAMMARS;
    params.n_threads = 1;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    return engine;
}

static lf_grammar *must_compile(lf_engine *engine, int i)
{
    lf_error err;
    lf_grammar *g;
    assert_ok(
        lf_grammar_compile(&g, engine, grammars[i].kind, grammars[i].text, strlen(grammars[i].text), &err),
        &err);
    return g;
}

/* Long enough for sparse drafts, and with repetitions for n-grams. */
static void make_prompt(int32_t ids[N_PROMPT], lf_engine *engine)
{
    static const char text[] =
        "{\"name\": \"Lily\", \"likes\": [\"tea\", \"toys\"]} Once upon a time there was a dog. ";
    int32_t *period;
    size_t n;
    lf_error err;
    assert_ok(lf_tokenize(engine, text, strlen(text), true, false, &period, &n, &err), &err);
    for (size_t i = 0; i < N_PROMPT; i++) ids[i] = period[i % n];
    free(period);
}

typedef struct output {
    int32_t ids[N_PREDICT];
    size_t n;
    char text[800];
    lf_finish finish;
} output;

/* Decodes a request for each grammar, all of them together or one by one. */
static void run(output outs[N_GRAMMARS], lf_engine *engine, lf_grammar *const *shared,
                lf_request_params params, bool together)
{
    lf_request *requests[N_GRAMMARS];
    lf_error err;
    for (int i = 0; i < N_GRAMMARS; i++) {
        params.grammar = shared[i];
        assert_ok(lf_request_submit(&requests[i], engine, &params, &err), &err);
        if (!together) assert_ok(lf_request_wait(requests[i], &err), &err);
    }
    for (int i = 0; i < N_GRAMMARS; i++) {
        lf_request_result result = {.size = sizeof result};
        size_t len;
        assert_ok(lf_request_wait(requests[i], &err), &err);
        lf_request_get_result(requests[i], &result);
        outs[i] = (output){.finish = result.finish};
        const int32_t *ids = lf_request_ids(requests[i], &outs[i].n);
        memcpy(outs[i].ids, ids, outs[i].n * sizeof *ids);
        const char *text = lf_request_text(requests[i], &len);
        assert_true(len < sizeof outs[i].text);
        memcpy(outs[i].text, text, len);
        lf_request_free(requests[i]);
    }
}

static void check_output(int i, const output *o)
{
    if (o->finish != LF_FINISH_STOP) {
        assert_int_equal(o->finish, LF_FINISH_LENGTH);
        return;
    }
    if (grammars[i].kind == LF_GRAMMAR_CHOICE) assert_non_null(strstr(grammars[i].text, o->text));
    if (grammars[i].kind == LF_GRAMMAR_REGEX) assert_non_null(strstr(o->text, " down."));
    if (grammars[i].kind == LF_GRAMMAR_JSON_OBJECT || grammars[i].kind == LF_GRAMMAR_JSON_SCHEMA) {
        json_t *schema = json_loads(grammars[i].text, 0, NULL), *value = json_loads(o->text, 0, NULL);
        if (!value || (schema && !schema_allows(schema, schema, value))) fail_msg("found %s", o->text);
        json_decref(schema);
        json_decref(value);
    }
}

static void test_outputs_do_not_depend_on_the_proposer(void **state)
{
    (void)state;
    static const char *const proposers[] = {"ngram", "jacobi", "sparse", "auto"};
    lf_engine *engine = open_engine();
    lf_grammar *shared[N_GRAMMARS];
    int32_t ids[N_PROMPT];
    int n_complete = 0;
    make_prompt(ids, engine);
    for (int i = 0; i < N_GRAMMARS; i++) shared[i] = must_compile(engine, i);
    for (int setting = 0; setting < (TESTS_SHORT ? 2 : 5); setting++) {
        lf_request_params params;
        output plain[N_GRAMMARS], outs[N_GRAMMARS];
        lf_request_params_init(&params);
        params.ids = ids;
        params.n_ids = N_PROMPT;
        params.n_predict = N_PREDICT;
        params.temperature = 0.5f * (float)setting;
        params.seed = 100 + (uint64_t)setting;
        params.sparse_budget = 64;
        run(plain, engine, shared, params, false);
        for (int i = 0; i < N_GRAMMARS; i++) {
            check_output(i, &plain[i]);
            n_complete += plain[i].finish == LF_FINISH_STOP;
        }
        for (size_t p = 0; p < sizeof proposers / sizeof *proposers; p++)
            for (int width = -4; width <= 16; width += 5) { /* less than 1: as many as pay */
                params.proposer = proposers[p];
                params.draft_max = width > 0 ? width : -1;
                run(outs, engine, shared, params, width % 2);
                for (int i = 0; i < N_GRAMMARS; i++)
                    if (memcmp(&outs[i], &plain[i], sizeof outs[i]) != 0)
                        fail_msg("grammar %d, %s, width %d: found %s, expected %s", i, proposers[p], width,
                                 outs[i].text, plain[i].text);
            }
    }
    assert_true(n_complete >= 6);
    for (int i = 0; i < N_GRAMMARS; i++) lf_grammar_free(shared[i]);
    lf_engine_close(engine);
}

/* The caller gives its reference back while the request still needs the grammar; the end comes with the last character, without an
 * end-of-sequence token. */
static void test_the_request_keeps_its_grammar(void **state)
{
    (void)state;
    lf_engine *engine = open_engine();
    lf_request_params params;
    lf_request *request;
    lf_request_result result = {.size = sizeof result};
    lf_error err;
    int32_t ids[N_PROMPT];
    size_t n, len;
    make_prompt(ids, engine);
    lf_request_params_init(&params);
    params.ids = ids;
    params.n_ids = N_PROMPT;
    params.grammar = must_compile(engine, 3);
    assert_ok(lf_request_submit(&request, engine, &params, &err), &err);
    lf_grammar_free(params.grammar);
    assert_ok(lf_request_wait(request, &err), &err);
    lf_request_get_result(request, &result);
    assert_int_equal(result.finish, LF_FINISH_STOP);
    (void)lf_request_ids(request, &n);
    assert_int_equal(result.passes, n); /* none for the end */
    (void)lf_request_text(request, &len);
    assert_true(len > 0);
    lf_engine_close(engine);
    lf_request_free(request);
}

static void check_refused(lf_engine *engine, const lf_request_params *params, const char *fragment)
{
    lf_request *request;
    lf_error err;
    lf_status status = lf_request_submit(&request, engine, params, &err);
    if (status == LF_OK) status = lf_request_wait(request, &err);
    assert_int_not_equal(status, LF_OK);
    if (!strstr(err.text, fragment)) fail_msg("found %s, expected %s", err.text, fragment);
    lf_request_free(request);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    lf_engine *engine = open_engine(), *other = open_engine();
    lf_engine_info info = {.size = sizeof info};
    lf_request_params params;
    lf_grammar *g = must_compile(engine, 3);
    lf_bias bias[512];
    lf_error err;
    int32_t ids[N_PROMPT];
    make_prompt(ids, engine);
    lf_request_params_init(&params);
    params.ids = ids;
    params.n_ids = 10;
    params.grammar = g;
    check_refused(other, &params, "grammar: found one of another engine");
    params.ignore_eos = true;
    check_refused(engine, &params, "ignore_eos: found with a grammar");
    params.ignore_eos = false;
    lf_engine_get_info(engine, &info);
    assert_int_equal(info.n_vocab, 512);
    for (int i = 0; i < 512; i++) bias[i] = (lf_bias){i, -INFINITY};
    params.bias = bias;
    params.n_bias = 512;
    check_refused(engine, &params, "or no token is allowed that has one");
    assert_int_equal(lf_grammar_compile(&params.grammar, engine, LF_GRAMMAR_REGEX, "(", 1, &err), LF_EINVAL);
    assert_null(params.grammar);
    lf_grammar_free(g);
    lf_engine_close(engine);
    lf_engine_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_do_not_depend_on_the_proposer),
        cmocka_unit_test(test_the_request_keeps_its_grammar),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
