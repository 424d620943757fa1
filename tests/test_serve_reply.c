/* The JSON of answers where memory runs out over it, at whatever allocation: it is there as a whole, or not at all. */
#include "testing.h"

#include "../app/serve/reply.h"
#include "serving.h"
#include "tiny_model.h"

#include <stdlib.h>
#include <string.h>

enum { N_TOKENS = 5, N_TOP = 3, N_PROMPT = 3 };

/* ---- JSON's memory ---- */

static int i_failing = -1; /* the allocation that fails; -1: none */
static bool lasting;       /* so do all after it */
static int n_live, n_asked;

static void *make_block(size_t bytes)
{
    const int i = n_asked++;
    if (i_failing >= 0 && (i == i_failing || (lasting && i > i_failing))) return NULL;
    n_live++;
    return malloc(bytes);
}

static void free_block(void *block)
{
    n_live -= block != NULL;
    free(block);
}

/* ---- an answer ---- */

/* All tokens are parts of characters, which have names: where a name takes the place of a text that there was no memory for, that
 * cannot be told from a text that is none. */
static serve_feed feed;
static const int32_t prompt_ids[N_PROMPT] = {TINY_VOCAB - 3, TINY_VOCAB - 2, TINY_VOCAB - 1};

static void fill_feed(void)
{
    static serve_token tokens[N_TOKENS];
    static lf_logprob tops[N_TOKENS * N_TOP];
    for (int i = 0; i < N_TOKENS; i++) {
        tokens[i] = (serve_token){.id = TINY_VOCAB - 1 - i,
                                  .logprob = -0.5f * (float)i,
                                  .proposed = i % 2,
                                  .n_top = N_TOP,
                                  .len = i < 4};
        for (int k = 0; k < N_TOP; k++) tops[i * N_TOP + k] = (lf_logprob){TINY_VOCAB - 1 - i - k, -(float)k};
    }
    feed = (serve_feed){.tokens = tokens, .tops = tops, .n_tokens = N_TOKENS, .n_tops = N_TOKENS * N_TOP};
    assert_true(lf_bytes_append(&feed.text, "pqrt", 4));
}

typedef struct form {
    bool is_chat, streams, echoes;
} form;

/* Everything that an answer can have. */
static json_t *make_answer(const form *f)
{
    const serve_call call = {.is_chat = f->is_chat,
                             .params = {.logprobs = true, .n_top = N_TOP},
                             .stream = f->streams,
                             .include_usage = true,
                             .wants_ids = true,
                             .prediction = "p"};
    const serve_reply reply = {.call = &call, .engine = serving_engine(), .model = "tiny", .id = "id"};
    const lf_request_result result = {
        .prompt_tokens = 3, .output_tokens = N_TOKENS, .passes = 4, .proposed = 2};
    size_t offset = 0;
    const serve_part part = {.feed = &feed,
                             .finish_reason = "stop",
                             .echo = f->echoes ? "abc" : NULL,
                             .echo_len = 3,
                             .prompt_ids = prompt_ids,
                             .n_prompt_ids = N_PROMPT,
                             .offset = &offset};
    json_t *choice = f->streams ? serve_delta_json(&reply, &part) : serve_choice_json(&reply, &part);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "answer", serve_chunk_json(&reply, choice), "usage",
                     serve_usage_json(&reply, &result), "timings", serve_timings_json(&result), "metrics",
                     serve_speculation_json(&result), "tokens", serve_provenance_json(&feed));
}

static void test_whole_or_not_at_all(void **state)
{
    (void)state;
    static const form forms[] = {
        {true, false, false}, {true, true, false}, {false, false, true}, {false, true, false}};
    fill_feed();
    json_set_alloc_funcs(make_block, free_block);
    for (size_t i = 0; i < 2 * sizeof forms / sizeof *forms; i++) {
        lasting = i % 2;
        n_asked = 0;
        json_t *whole = make_answer(&forms[i / 2]);
        const int n_needed = n_asked, n_before = n_live;
        assert_non_null(whole);
        for (i_failing = 0; i_failing < n_needed; i_failing++) {
            n_asked = 0;
            json_t *made = make_answer(&forms[i / 2]);
            if (made && !json_equal(made, whole))
                fail_msg("without allocation %d: half an answer", i_failing);
            assert_true(made == NULL || !lasting);
            json_decref(made);
            assert_int_equal(n_live, n_before);
        }
        i_failing = -1;
        json_decref(whole);
    }
    assert_int_equal(n_live, 0);
    json_set_alloc_funcs(malloc, free);
    lf_bytes_free(&feed.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, begin_serving, end_serving);
}
