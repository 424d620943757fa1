/* lookfar serve under load: many clients at once, prompts of ten tokens to most of the context with common beginnings, every proposer,
 * clients that hang up, and a cache far too small, so that requests lose their pages and are read again. Penalties and a grammar look at
 * all that was said, whether it was said before a preemption or after. Every answer that is finished has the bytes that plain decoding alone gives. LOOKFAR_CLIENTS and LOOKFAR_SEED name another run. */
#include "testing.h"

#include "serving.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CLIENTS = TESTS_SHORT ? 24 : 64,
    CLIENTS_MAX = 512,
    KINDS = 12, /* of requests */
    PROMPT_MAX = 860,
    OUTPUT_MAX = 150,
};

/* Besides those that the server is started with. */
static const char *const ways[] = {
    "\"speculative\":{\"proposer\":\"auto\",\"budget\":64}",
    "\"speculative\":{\"proposer\":\"ngram\",\"draft_max\":5}",
    "\"speculative\":{\"proposer\":\"jacobi\"}",
    "\"speculative\":{\"proposer\":\"sparse\",\"budget\":64}",
    "\"speculative\":{\"proposer\":\"sparse\",\"budget\":64,\"drafting\":\"jacobi\",\"draft_max\":12}",
    "\"speculative\":{\"proposer\":\"sparse\",\"budget\":96,\"selection\":\"window\",\"draft_max\":3}",
    "\"speculative\":{\"proposer\":\"draft\"}",
    "\"prediction\":{\"type\":\"content\",\"content\":\"abc defghi abc defghi\"}",
    "\"speculative\":false",
};

enum { N_WAYS = sizeof ways / sizeof *ways };

typedef struct kind {
    char prompt[PROMPT_MAX + 1];
    lf_request_params params;
    const char *form; /* the grammar as a member of the request, or "" */
    char *expected;
} kind;

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Half of the kinds have penalties, two a grammar: words, and what counts its characters. */
static void set_params(kind *it, int k, uint64_t *rng)
{
    static const struct {
        const char *pattern, *form;
    } forms[] = {{"(?:[a-k]{1,7} ){2,17}\\.", "\"guided_regex\":\"(?:[a-k]{1,7} ){2,17}\\\\.\","},
                 {"[^a]{25,35}", "\"guided_regex\":\"[^a]{25,35}\","}};
    enum { N_FORMS = sizeof forms / sizeof *forms };
    lf_request_params *p = &it->params;
    lf_request_params_init(p);
    p->n_predict = 40 + (int)(rng_next(rng) % (OUTPUT_MAX - 40));
    p->temperature = k % 2 ? 0.7f : 0.0f;
    p->seed = (uint64_t)k;
    p->repeat_last_n = -1;
    it->form = "";
    if (k % 3 == 0) return;
    if (k % 3 == 1 || k / 3 >= N_FORMS) {
        p->presence_penalty = 1.5f;
        p->frequency_penalty = 0.5f;
        return;
    }
    lf_error err;
    const char *pattern = forms[k / 3].pattern;
    it->form = forms[k / 3].form;
    p->n_predict = OUTPUT_MAX; /* enough for its end */
    assert_ok(
        lf_grammar_compile(&p->grammar, serving_engine(), LF_GRAMMAR_REGEX, pattern, strlen(pattern), &err),
        &err);
}

/* Half of the prompts end so soon before a page does that the output needs another, which was not there to be promised. */
static void make_kinds(kind *kinds, uint64_t *rng)
{
    static const int lengths[KINDS] = {10, 100, 105, 300, 40, 230, 360, 860, 110, 480, 620, 95};
    for (int k = 0; k < KINDS; k++) {
        kind *it = &kinds[k];
        const int n_common = lengths[k] * 3 / 4 < 200 ? lengths[k] * 3 / 4 : 200;
        for (int i = 0; i < lengths[k]; i++)
            it->prompt[i] = "abc defghi "[i < n_common ? i % 11 : (int)(rng_next(rng) % 11)];
        it->prompt[lengths[k]] = '\0';
        set_params(it, k, rng);
        it->expected = expected_answer(it->prompt, &it->params);
    }
}

static void free_kinds(kind *kinds)
{
    for (int k = 0; k < KINDS; k++) {
        lf_grammar_free(kinds[k].params.grammar);
        free(kinds[k].expected);
    }
}

/* One client's request, of a kind; whether it wants a stream is its number's. */
static int ask(const server *s, const kind *it, const char *way, bool streams)
{
    const lf_request_params *p = &it->params;
    char body[PROMPT_MAX + 512];
    (void)snprintf(
        body, sizeof body,
        "{\"prompt\":\"%s\",\"max_tokens\":%d,\"temperature\":%g,\"seed\":%d,\"presence_penalty\":%g,"
        "\"frequency_penalty\":%g,\"stream\":%s,%s%s}",
        it->prompt, p->n_predict, (double)p->temperature, (int)p->seed, (double)p->presence_penalty,
        (double)p->frequency_penalty, streams ? "true" : "false", it->form, way);
    const int fd = connect_to(s->port);
    assert_true(send_request(fd, "POST", "/v1/completions", "", body));
    return fd;
}

/* Reads a little of an answer, or nothing, and hangs up. */
static void leave(int fd, bool streams, uint64_t *rng)
{
    answer a = {0};
    if (streams && rng_next(rng) % 2 && read_head(fd, &a))
        for (uint64_t n = rng_next(rng) % 8; n > 0 && read_chunk(fd, &a.body); n--) continue;
    free_answer(&a);
    (void)close(fd);
}

static void check_answer(int fd, const kind *it, bool streams)
{
    answer a;
    assert_true(read_answer(fd, &a));
    expect_status(&a, 200);
    if (streams) {
        stream st = parse_stream(&a);
        assert_string_equal(st.text[0].data, it->expected);
        assert_string_equal(st.finish[0], it->form[0] ? "stop" : "length");
        assert_int_equal(st.n_done, 1);
        free_stream(&st);
    } else {
        assert_string_equal(text_at(a.json, "choices.0.text"), it->expected);
    }
    free_answer(&a);
    (void)close(fd);
}

static void check_metrics(const server *s)
{
    static const char *const proposers[] = {"ngram", "jacobi", "sparse", "draft"};
    char name[128];
    wait_metric(s, "lookfar:num_requests_running", 0);
    wait_metric(s, "lookfar:num_requests_waiting", 0);
    assert_true(metric(s, "lookfar:kv_cache_usage_perc") == 0);
    for (size_t i = 0; i < sizeof proposers / sizeof *proposers; i++) {
        (void)snprintf(name, sizeof name,
                       "lookfar:spec_decode_num_accepted_tokens_total{model_name=\"tiny\",proposer=\"%s\"}",
                       proposers[i]);
        if (!(metric(s, name) > 0)) fail_msg("%s: found 0, expected some", name);
    }
}

/* Every preemption is in the trace, with a cause. */
static int count_traced(const char *path)
{
    char *trace = read_file(path, NULL);
    int n = 0;
    for (const char *at = trace; (at = strstr(at, ",\"for\":")) != NULL; at++) n++;
    free(trace);
    return n;
}

static void test_exactness_under_load(void **state)
{
    (void)state;
    static kind kinds[KINDS];
    static int fds[CLIENTS_MAX], kind_of[CLIENTS_MAX];
    const int n = (int)setting("LOOKFAR_CLIENTS", CLIENTS);
    uint64_t rng = setting("LOOKFAR_SEED", 11);
    assert_in_range(n, 1, CLIENTS_MAX);
    server s = start_server("-c", "1024", "--cache-pages", "9", "--parallel", "12", "--queue", "1000",
                            "--draft-model", serving_model(), "--trace", serving_file("trace"),
                            "--draft-window", "70", "-b", "96");
    make_kinds(kinds, &rng);
    for (int i = 0; i < n; i++) {
        kind_of[i] = (int)(rng_next(&rng) % KINDS);
        fds[i] = ask(&s, &kinds[kind_of[i]], ways[(uint64_t)i % N_WAYS], i % 3 > 0);
    }
    for (int i = 0; i < n; i++) {
        if (rng_next(&rng) % 5 == 0)
            leave(fds[i], i % 3 > 0, &rng);
        else
            check_answer(fds[i], &kinds[kind_of[i]], i % 3 > 0);
    }
    check_metrics(&s);
    const double preemptions = metric(&s, "lookfar:num_preemptions_total"),
                 hits = metric(&s, "lookfar:prefix_cache_hits_total");
    print_message("%d clients: %g preemptions, %g prompt tokens found in the cache\n", n, preemptions, hits);
    assert_true(preemptions > 0 && hits > 0);
    free_kinds(kinds);
    stop_cleanly(&s);
    assert_int_equal(count_traced(serving_file("trace")), (int)preemptions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        serving_test(test_exactness_under_load),
    };
    return cmocka_run_group_tests(tests, begin_serving, end_serving);
}
