/* lookfar serve as its clients meet it: the real program, spoken to over sockets. What it says must be what the library says; what is
 * asked wrongly or by whom may not ask is refused in OpenAI's form. */
#include "testing.h"

#include "serving.h"
#include "tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is right ---- */

/* Whole or as a stream, with candidates or without, greedy or sampled: the library's text. */
static void test_says_what_the_library_says(void **state)
{
    (void)state;
    static const char *const ways[] = {"false", "true", "{\"proposer\":\"ngram\",\"draft_max\":4}",
                                       "{\"proposer\":\"jacobi\"}",
                                       "{\"proposer\":\"sparse\",\"budget\":64}"};
    server s = start_server("--parallel", "2");
    for (size_t i = 0; i < 2 * sizeof ways / sizeof *ways; i++) {
        const float temperature = i % 2 ? 0.8f : 0.0f;
        char body[256];
        char *expected = expected_text("tell me, tell me", temperature, 7, 60);
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":\"tell me, tell me\",\"max_tokens\":60,\"temperature\":%g,\"seed\":7,"
                       "\"speculative\":%s,\"stream\":%s}",
                       (double)temperature, ways[i / 2], i / 2 % 2 ? "true" : "false");
        answer a = post(&s, "/v1/completions", body);
        expect_status(&a, 200);
        if (i / 2 % 2) {
            stream st = parse_stream(&a);
            assert_string_equal(st.text[0].data, expected);
            assert_string_equal(st.finish[0], "length");
            assert_int_equal(st.n_done, 1);
            free_stream(&st);
        } else {
            assert_string_equal(text_at(a.json, "choices.0.text"), expected);
            assert_string_equal(text_at(a.json, "choices.0.finish_reason"), "length");
            assert_string_equal(text_at(a.json, "object"), "text_completion");
            assert_int_equal(int_at(a.json, "usage.prompt_tokens"), 16);
            assert_int_equal(int_at(a.json, "usage.completion_tokens"), 60);
            assert_int_equal(int_at(a.json, "usage.total_tokens"), 76);
        }
        free_answer(&a);
        free(expected);
    }
    stop_cleanly(&s);
}

/* A stream is told of on its way, not only at its end, and says the same however long tokens may wait for each other. */
static void test_streams_go_on(void **state)
{
    (void)state;
    static const char *const delays[] = {"0", "50", "1000"};
    enum { N_PREDICT = 1900, CHUNKS = 5 }; /* of hundreds, so that a busy machine is no failure */
    char *expected = expected_text("tell me", 0.8f, 3, N_PREDICT);
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        server s = start_server("--stream-delay", delays[i]);
        answer a = post(&s, "/v1/completions",
                        "{\"prompt\":\"tell me\",\"max_tokens\":1900,\"temperature\":0.8,\"seed\":3,"
                        "\"speculative\":false,\"stream\":true}");
        expect_status(&a, 200);
        stream st = parse_stream(&a);
        assert_string_equal(st.text[0].data, expected);
        if (i == 0) assert_true(st.n_chunks >= CHUNKS);
        free_stream(&st);
        free_answer(&a);
        stop_cleanly(&s);
    }
    free(expected);
}

/* Choices come in the order of prompts, each prompt's with seeds in a row. */
static void test_many_choices(void **state)
{
    (void)state;
    server s = start_server("--parallel", "3");
    const char *body = "{\"prompt\":[\"one\",\"two\"],\"n\":3,\"max_tokens\":20,\"temperature\":1,\"seed\":5,"
                       "\"echo\":true,\"stream\":false}";
    answer whole = post(&s, "/v1/completions", body);
    expect_status(&whole, 200);
    assert_int_equal(json_array_size(at(whole.json, "choices")), 6);
    assert_int_equal(int_at(whole.json, "usage.prompt_tokens"), 6); /* each prompt once */
    lf_bytes streamed = {0};
    assert_true(lf_bytes_append(&streamed, body, strlen(body) - strlen("false}")));
    assert_true(lf_bytes_printf(&streamed, "true,\"stream_options\":{\"include_usage\":true}}"));
    answer parts = post(&s, "/v1/completions", streamed.data);
    stream st = parse_stream(&parts);
    assert_int_equal(int_at(st.usage, "prompt_tokens"), 6);
    for (int i = 0; i < 6; i++) {
        char path[32];
        const char *prompt = i < 3 ? "one" : "two";
        char *expected = expected_text(prompt, 1.0f, 5 + (uint64_t)i % 3, 20);
        (void)snprintf(path, sizeof path, "choices.%d.text", i);
        const char *text = text_at(whole.json, path);
        assert_memory_equal(text, prompt, 3);
        assert_string_equal(text + 3, expected);
        assert_string_equal(st.text[i].data, text);
        free(expected);
    }
    free_stream(&st);
    lf_bytes_free(&streamed);
    free_answer(&parts);
    free_answer(&whole);
    stop_cleanly(&s);
}

static void test_chat(void **state)
{
    (void)state;
    server s = start_server("--chat-template", "chatml");
    const char *head =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"max_completion_tokens\":12,"
        "\"temperature\":0,\"logprobs\":true,\"top_logprobs\":2";
    char body[512];
    (void)snprintf(body, sizeof body, "%s}", head);
    answer a = post(&s, "/v1/chat/completions", body);
    expect_status(&a, 200);
    assert_string_equal(text_at(a.json, "object"), "chat.completion");
    assert_string_equal(text_at(a.json, "choices.0.message.role"), "assistant");
    assert_true(json_is_null(at(a.json, "choices.0.message.refusal")));
    const json_t *content = at(a.json, "choices.0.logprobs.content");
    assert_int_equal(json_array_size(content), int_at(a.json, "usage.completion_tokens"));
    for (size_t i = 0; i < json_array_size(content); i++) { /* greedy: the likeliest is the one */
        const json_t *token = json_array_get(content, i);
        assert_true(json_number_value(at(token, "logprob")) ==
                    json_number_value(at(token, "top_logprobs.0.logprob")));
        assert_true(json_number_value(at(token, "logprob")) <= 0);
        assert_true(json_equal(at(token, "bytes"), at(token, "top_logprobs.0.bytes")));
    }
    (void)snprintf(body, sizeof body,
                   "%s,\"stream\":true,\"return_provenance\":true,\"return_progress\":true}", head);
    answer b = post(&s, "/v1/chat/completions", body);
    assert_non_null(strstr(b.body.data, "\"prompt_progress\""));
    assert_non_null(strstr(b.body.data, "\"proposed\""));
    stream st = parse_stream(&b);
    assert_string_equal(st.text[0].data, text_at(a.json, "choices.0.message.content"));
    free_stream(&st);
    free_answer(&b);
    free_answer(&a);
    stop_cleanly(&s);
}

static void test_tokens(void **state)
{
    (void)state;
    server s = start_server("-a", "tiny-model");
    answer a = post(&s, "/tokenize", "{\"content\":\"ab c\"}");
    json_t *expected = json_pack("[i,i,i,i]", 'a' - ' ', 'b' - ' ', 0, 'c' - ' ');
    assert_true(json_equal(at(a.json, "tokens"), expected));
    assert_int_equal(int_at(a.json, "count"), 4);
    free_answer(&a);
    a = post(&s, "/detokenize", "{\"tokens\":[65,66,0,67]}");
    assert_string_equal(text_at(a.json, "content"), "ab c");
    free_answer(&a);
    a = post(&s, "/v1/completions", "{\"prompt\":[65,66,0,67],\"max_tokens\":0,\"echo\":true}");
    assert_string_equal(text_at(a.json, "choices.0.text"), "ab c");
    assert_int_equal(int_at(a.json, "usage.prompt_tokens"), 4);
    free_answer(&a);
    a = post(&s, "/v1/chat/completions", CHAT("")); /* a model without a template */
    expect_status(&a, 400);
    free_answer(&a);
    a = get(&s, "/v1/models");
    assert_string_equal(text_at(a.json, "data.0.id"), "tiny-model");
    assert_int_equal(int_at(a.json, "data.0.max_model_len"), SERVING_CTX);
    free_answer(&a);
    a = get(&s, "/v1/models/tiny-model");
    expect_status(&a, 200);
    free_answer(&a);
    a = get(&s, "/");
    expect_status(&a, 200);
    assert_non_null(strstr(a.head.data, "Content-Security-Policy: default-src 'none'"));
    free_answer(&a);
    json_decref(expected);
    stop_cleanly(&s);
}

/* What lm-eval asks for: the log probability of every token of a prompt, read in pieces beside others, is the library's. */
static void test_scores_a_prompt(void **state)
{
    (void)state;
    static const char prompt[] =
        "how likely is every token of this, one after the other? quite likely, or not at all";
    enum { N = sizeof prompt - 1 };
    lf_error err;
    int32_t *ids;
    size_t n;
    char body[512];
    float *logits = calloc((size_t)N * TINY_VOCAB, sizeof *logits);
    assert_non_null(logits);
    assert_ok(lf_tokenize(serving_engine(), prompt, N, true, true, &ids, &n, &err), &err);
    assert_int_equal(n, N);
    assert_ok(lf_score(serving_engine(), ids, n, logits, &err), &err);
    server s = start_server("-b", "32", "--parallel", "4");
    for (int max_tokens = 0; max_tokens < 2; max_tokens++) {
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":[\"%s\",\"%.40s\"],\"echo\":true,\"logprobs\":1,\"max_tokens\":%d,"
                       "\"temperature\":0}",
                       prompt, prompt, max_tokens);
        answer a = post(&s, "/v1/completions", body);
        expect_status(&a, 200);
        assert_int_equal(int_at(a.json, "usage.completion_tokens"), 2 * max_tokens);
        const json_t *list = at(a.json, "choices.0.logprobs.token_logprobs"),
                     *tops = at(a.json, "choices.0.logprobs.top_logprobs");
        assert_int_equal(json_array_size(list), N + max_tokens);
        assert_int_equal(strlen(text_at(a.json, "choices.0.text")) >= N, 1);
        assert_int_equal(json_array_size(at(a.json, "choices.1.logprobs.tokens")), 40 + max_tokens);
        assert_true(json_is_null(json_array_get(list, 0)) && json_is_null(json_array_get(tops, 0)));
        for (size_t i = 1; i < N; i++) {
            const float *before = logits + (i - 1) * TINY_VOCAB;
            double sum = 0;
            int best = 0;
            for (int v = 0; v < TINY_VOCAB; v++) {
                sum += exp((double)before[v]);
                if (before[v] > before[best]) best = v;
            }
            const double found = json_number_value(json_array_get(list, i)),
                         expected = (double)before[ids[i]] - log(sum);
            if (fabs(found - expected) > 1e-4)
                fail_msg("token %zu: found %g, expected %g", i, found, expected);
            const char *key = json_object_iter_key(
                json_object_iter((json_t *)(uintptr_t)json_array_get(tops, i)));
            if (best < 95) assert_int_equal(key[0], ' ' + best);
        }
        free_answer(&a);
    }
    free(logits);
    free(ids);
    stop_cleanly(&s);
}

/* Output in a form that was asked for, the same with candidates and without. */
static void test_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\",\"schema\":{\"type\":\"object\","
        "\"properties\":{\"a\":{\"type\":\"boolean\"},\"b\":{\"enum\":[\"u\",\"v\"]}},\"required\":[\"a\",\"b\"],"
        "\"additionalProperties\":false}}}",
        "\"guided_choice\":[\"yes\",\"no\"]",
        "\"guided_regex\":\"[0-9]{3}-[0-9]{2}\"",
    };
    server s = start_server(NULL);
    for (int i = 0; i < 4; i++) {
        char *texts[2];
        for (int fast = 0; fast < 2; fast++) {
            char body[1024];
            (void)snprintf(
                body, sizeof body,
                "{\"prompt\":\"{\",\"max_tokens\":60,\"temperature\":1,\"seed\":4,\"speculative\":%s,%s}",
                fast ? "{\"proposer\":\"ngram\"}" : "false", forms[i]);
            answer a = post(&s, "/v1/completions", body);
            expect_status(&a, 200);
            texts[fast] = strdup(text_at(a.json, "choices.0.text"));
            const bool ended = strcmp(text_at(a.json, "choices.0.finish_reason"), "stop") == 0;
            if (i > 0) assert_true(ended);
            free_answer(&a);
        }
        assert_string_equal(texts[0], texts[1]);
        assert_true(i != 0 || texts[0][strspn(texts[0], " \n\t")] == '{');
        if (i == 1) {
            json_t *value = json_loads(texts[0], 0, NULL);
            assert_true(json_is_boolean(json_object_get(value, "a")));
            json_decref(value);
        }
        if (i == 2) assert_true(strcmp(texts[0], "yes") == 0 || strcmp(texts[0], "no") == 0);
        if (i == 3) assert_int_equal(strlen(texts[0]), 6);
        free(texts[0]);
        free(texts[1]);
    }
    answer a = post(&s, "/v1/completions", COMPLETION(",\"guided_regex\":\"(\""));
    expect_status(&a, 400);
    assert_string_equal(text_at(a.json, "error.param"), "response_format");
    free_answer(&a);
    stop_cleanly(&s);
}

/* A stop string split over tokens is never a part of the output. */
static void test_stop(void **state)
{
    (void)state;
    server s = start_server(NULL);
    char *expected = expected_text("go", 1.0f, 3, 80), body[256];
    for (size_t i = 0; expected[i]; i++) /* ASCII only, for JSON by hand */
        if ((unsigned char)expected[i] < ' ' || strchr("\"\\", expected[i]) ||
            (unsigned char)expected[i] >= 0x7F)
            expected[i] = '\0';
    const size_t len = strlen(expected);
    if (len >= 4) {
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":\"go\",\"max_tokens\":80,\"temperature\":1,\"seed\":3,\"stop\":[\"%s\"]}",
                       expected + len - 3);
        answer a = post(&s, "/v1/completions", body);
        assert_string_equal(text_at(a.json, "choices.0.finish_reason"), "stop");
        assert_null(strstr(text_at(a.json, "choices.0.text"), expected + len - 3));
        free_answer(&a);
    }
    free(expected);
    stop_cleanly(&s);
}

/* ---- what is wrong ---- */

/* Every mistake of a client is answered by a 4xx in OpenAI's form that names the field; harmless fields are not mistakes. */
static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
        int status;
        const char *param; /* NULL: none */
    } cases[] = {
        {"/v1/completions", "", 400, NULL},
        {"/v1/completions", "{", 400, NULL},
        {"/v1/completions", "[]", 400, NULL},
        {"/v1/completions", "{\"prompt\":\"a\",\"prompt\":\"b\"}", 400, NULL},
        {"/v1/completions", "{\"prompt\":\"\\ud800\"}", 400, NULL},
        {"/v1/completions", "{}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":\"\"}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[\"a\",1]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[[1],[\"a\"]]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[-1]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[128]}", 400, NULL},
        {"/v1/completions", COMPLETION(",\"temperature\":-1"), 400, "temperature"},
        {"/v1/completions", COMPLETION(",\"temperature\":\"hot\""), 400, "temperature"},
        {"/v1/completions", COMPLETION(",\"top_p\":1.5"), 400, "top_p"},
        {"/v1/completions", COMPLETION(",\"n\":0"), 400, "n"},
        {"/v1/completions", COMPLETION(",\"n\":129"), 400, "n"},
        {"/v1/completions", COMPLETION(",\"n\":1.5"), 400, "n"},
        {"/v1/completions", COMPLETION(",\"logprobs\":21"), 400, "logprobs"},
        {"/v1/completions", "{\"prompt\":\"a\",\"n\":128,\"logprobs\":20,\"max_tokens\":2000}", 400,
         "logprobs"},
        {"/v1/completions", COMPLETION(",\"suffix\":\"x\""), 400, "suffix"},
        {"/v1/completions", COMPLETION(",\"best_of\":2"), 400, "best_of"},
        {"/v1/completions", COMPLETION(",\"stop\":[1]"), 400, "stop"},
        {"/v1/completions", COMPLETION(",\"stop\":\"a\\u0000\""), 400, "stop"},
        {"/v1/completions", COMPLETION(",\"logit_bias\":{\"x\":1}"), 400, "logit_bias"},
        {"/v1/completions", COMPLETION(",\"logit_bias\":{\"1\":101}"), 400, "logit_bias"},
        {"/v1/completions", COMPLETION(",\"logit_bias\":{\"4000\":1}"), 400, NULL},
        {"/v1/completions", COMPLETION(",\"speculative\":{\"proposer\":\"magic\"}"), 400, NULL},
        {"/v1/completions", COMPLETION(",\"speculative\":{\"depth\":1}"), 400, "speculative"},
        {"/v1/completions", COMPLETION(",\"seed\":0.5"), 400, "seed"},
        {"/v1/completions", COMPLETION(",\"stream\":1"), 400, "stream"},
        {"/v1/completions", COMPLETION(",\"min_tokens\":3"), 400, "min_tokens"},
        {"/v1/chat/completions", "{\"messages\":[]}", 400, "messages"},
        {"/v1/chat/completions", "{\"messages\":[{\"content\":\"a\"}]}", 400, "messages"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":1}]}", 400, "messages"},
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400, "messages"},
        {"/v1/chat/completions", CHAT(",\"top_logprobs\":2"), 400, "top_logprobs"},
        {"/v1/chat/completions", CHAT(",\"tool_choice\":\"required\""), 400, "tool_choice"},
        {"/v1/chat/completions", CHAT(",\"response_format\":{\"type\":\"xml\"}"), 400, "response_format"},
        {"/v1/chat/completions", CHAT(",\"modalities\":[\"audio\"]"), 400, "modalities"},
        {"/tokenize", "{}", 400, "prompt"},
        {"/detokenize", "{\"tokens\":[1000]}", 400, NULL},
        {"/v1/moderations", "{}", 404, NULL},
        {"/v1/models", "{}", 405, NULL},
        {"/v1/completions", COMPLETION(",\"user\":5,\"metadata\":{\"a\":1},\"best_of\":1,\"typical_p\":1"),
         200, NULL},
        {"/v1/completions", COMPLETION(",\"suffix\":null,\"stop\":null,\"seed\":-3,\"top_k\":-1"), 200, NULL},
        {"/v1/chat/completions", CHAT(",\"store\":false,\"tools\":[],\"reasoning_effort\":\"low\""), 200,
         NULL},
        {"/v1/chat/completions", CHAT(",\"prediction\":{\"type\":\"content\",\"content\":\"b\"}"), 200, NULL},
    };
    server s = start_server("--max-body", "1", "--chat-template", "chatml");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = post(&s, cases[i].path, cases[i].body);
        if (a.status != cases[i].status)
            fail_msg("%s: found %d, expected %d: %s", cases[i].body, a.status, cases[i].status, a.body.data);
        if (a.status != 200) {
            const json_t *param = at(a.json, "error.param");
            (void)text_at(a.json, "error.message");
            (void)text_at(a.json, "error.type");
            (void)at(a.json, "error.code");
            if (cases[i].param
                    ? !json_is_string(param) || strcmp(json_string_value(param), cases[i].param) != 0
                    : !json_is_null(param))
                fail_msg("%s: found another field at fault: %s", cases[i].body, a.body.data);
        }
        free_answer(&a);
    }
    stop_cleanly(&s);
}

/* ---- who may ---- */

static void test_keys(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *headers;
        int status;
    } cases[] = {
        {"GET", "/health", "", 200},
        {"GET", "/", "", 200},
        {"GET", "/metrics", "", 401},
        {"GET", "/props", "", 401},
        {"GET", "/v1/models", "", 401},
        {"GET", "/v1/models", "Authorization: Bearer wrong\r\n", 401},
        {"GET", "/v1/models", "Authorization: Bearer \r\n", 401},
        {"GET", "/v1/models", "Authorization: first\r\n", 401},
        {"GET", "/v1/models", "Authorization: Bearer first\r\n", 200},
        {"GET", "/v1/models", "Authorization: bearer third\r\n", 200},
        {"GET", "/v1/models", "X-Api-Key: second\r\n", 200},
        {"GET", "/v1/models", "X-Api-Key: firstfirst\r\n", 401},
        {"GET", "/v1/models", "X-Api-Key: # no key\r\n", 401},
        {"POST", "/v1/completions", "", 401},
    };
    const char *file = serving_file("keys");
    write_file(file, "# no key\nsecond\r\n\nthird\n", 24);
    server s = start_server("--api-key", "first", "--api-key-file", file);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = call_with(&s, cases[i].method, cases[i].path, cases[i].headers,
                             cases[i].method[0] == 'P' ? COMPLETION("") : NULL);
        if (a.status != cases[i].status)
            fail_msg("%s %s: found %d, expected %d", cases[i].path, cases[i].headers, a.status,
                     cases[i].status);
        free_answer(&a);
    }
    stop_cleanly(&s);
}

/* Pages of other sites may not use the server unless they are named; programs, which send no origin, may. */
static void test_origins(void **state)
{
    (void)state;
    server s = start_server("--cors-origin", "https://good.example");
    answer a = call_with(&s, "GET", "/v1/models", "Origin: https://evil.example\r\n", NULL);
    expect_status(&a, 403);
    assert_null(strstr(a.head.data, "Access-Control"));
    free_answer(&a);
    a = call_with(&s, "GET", "/v1/models", "Origin: http://localhost\r\n", NULL); /* the page itself */
    expect_status(&a, 200);
    assert_null(strstr(a.head.data, "Access-Control"));
    free_answer(&a);
    a = call_with(&s, "GET", "/v1/models", "Origin: https://good.example\r\nX-Request-Id: mine-1\r\n", NULL);
    expect_status(&a, 200);
    assert_non_null(strstr(a.head.data, "Access-Control-Allow-Origin: https://good.example"));
    assert_non_null(strstr(a.head.data, "X-Request-Id: mine-1"));
    free_answer(&a);
    a = call_with(&s, "OPTIONS", "/v1/chat/completions", "Origin: https://good.example\r\n", NULL);
    expect_status(&a, 204);
    assert_non_null(strstr(a.head.data, "Access-Control-Allow-Headers: Authorization"));
    free_answer(&a);
    stop_cleanly(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        serving_test(test_says_what_the_library_says),
        serving_test(test_streams_go_on),
        serving_test(test_many_choices),
        serving_test(test_chat),
        serving_test(test_tokens),
        serving_test(test_scores_a_prompt),
        serving_test(test_forms),
        serving_test(test_stop),
        serving_test(test_mistakes),
        serving_test(test_keys),
        serving_test(test_origins),
    };
    return cmocka_run_group_tests(tests, begin_serving, end_serving);
}
