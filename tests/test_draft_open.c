/* Engines with a smaller model that drafts: what it takes is told, what cannot draft is refused, and every allocation may fail. */
#include "draft_fixture.h"

#include "file_tools.h"
#include "oom.h"

#include <stdlib.h>
#include <string.h>

static void test_memory_is_told(void **state)
{
    (void)state;
    lf_engine_info with = {.size = sizeof with}, target = with, alone = with;
    size_t page_bytes;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_models[OTHER], 4);
    lf_engine_get_info(e, &with);
    assert_true(lf_kv_page_bytes(&e->draft.shape, &page_bytes));
    assert_int_equal(lf_kv_pool_n_pages(e->draft.pool), 4 * lf_draft_pages(WINDOW, N_CTX));
    lf_engine_close(e);
    e = open_drafting_engine(draft_models[OTHER], NULL, 4);
    lf_engine_get_info(e, &alone);
    lf_engine_close(e);
    e = open_drafting_engine(draft_models[TARGET], NULL, 4);
    lf_engine_get_info(e, &target);
    lf_engine_close(e);
    assert_int_equal(with.draft_window, WINDOW);
    assert_int_equal(with.draft_bytes, alone.weight_bytes + alone.buffer_bytes +
                                           4u * (unsigned)lf_draft_pages(WINDOW, N_CTX) * page_bytes);
    assert_int_equal(target.draft_bytes, 0);
    assert_int_equal(target.draft_window, 0);
    assert_int_equal(with.weight_bytes + with.kv_bytes + with.buffer_bytes,
                     target.weight_bytes + target.kv_bytes + target.buffer_bytes);
}

/* What both models' passes cost is kept together, for engines with the same two. */
static void test_a_profile_is_of_both_models(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_models[OTHER], 2),
              *same = open_drafting_engine(draft_models[TARGET], draft_models[OTHER], 2),
              *alone = open_drafting_engine(draft_models[TARGET], NULL, 2), *wide;
    lf_engine_params wider = draft_engine_params(draft_models[TARGET], draft_models[OTHER], 2);
    char *text, *of_one, *again;
    wider.draft_window = WINDOW + 1;
    assert_ok(lf_engine_open(&wide, &wider, &err), &err);
    assert_ok(lf_engine_get_profile(e, &text, &err), &err);
    assert_ok(lf_engine_get_profile(alone, &of_one, &err), &err);
    assert_true(lf_cost_is_known(&e->cost) && lf_cost_is_known(&e->draft.cost));
    assert_false(lf_engine_set_profile(alone, text));
    assert_false(lf_engine_set_profile(wide, text));
    assert_false(lf_engine_set_profile(same, of_one));
    for (size_t n = strlen(text); n-- > 0;) { /* cut anywhere, also between the models */
        char *cut = strndup(text, n);
        assert_false(lf_engine_set_profile(same, cut));
        free(cut);
    }
    assert_false(lf_cost_is_known(&same->cost) || lf_cost_is_known(&same->draft.cost));
    assert_true(lf_engine_set_profile(same, text));
    assert_ok(lf_engine_get_profile(same, &again, &err), &err); /* nothing is measured: the same bits */
    assert_string_equal(again, text);
    free(text);
    free(of_one);
    free(again);
    lf_engine_close(e);
    lf_engine_close(same);
    lf_engine_close(alone);
    lf_engine_close(wide);
}

static void test_what_cannot_draft_is_refused(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e;
    lf_engine_params p = draft_engine_params(draft_models[TARGET], draft_models[STRANGE], 1);
    assert_error(lf_engine_open(&e, &p, &err), LF_EINVAL, &err,
                 "found an embedding of 41 rows, expected the 40 of ");
    p = draft_engine_params(draft_models[TARGET], draft_models[SHORT], 1);
    p.draft_window = 114; /* 256 positions, less sinks, rolling and candidates */
    assert_error(lf_engine_open(&e, &p, &err), LF_ELIMIT, &err,
                 "draft window: found 114, expected at most 113, for the context of ");
    p.draft_window = -1;
    assert_error(lf_engine_open(&e, &p, &err), LF_EINVAL, &err, "draft window: found -1");
    p.draft_window = 0;
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    assert_int_equal(e->info.draft_window, 113);
    lf_engine_close(e);
    p.n_ctx = p.draft_window = 200; /* all that there is, is within its context */
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    lf_engine_close(e);
    p.draft_path = in_temp("none.gguf");
    assert_error(lf_engine_open(&e, &p, &err), LF_EIO, &err, "none.gguf");
}

static lf_tokenizer *load_tokenizer(const char *json)
{
    lf_error err;
    lf_tokenizer *t;
    write_file(in_temp("tokenizer.json"), json, strlen(json));
    assert_ok(lf_tokenizer_from_file(&t, in_temp("tokenizer.json"), &err), &err);
    return t;
}

static void test_vocabularies_are_compared(void **state)
{
    (void)state;
#define JSON(vocab, added)                                                                                   \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[]},\"added_tokens\":[" added "]}"
#define ADDED(special) "{\"id\":2,\"content\":\"c\",\"special\":" special "}"
    static const struct {
        const char *json, *fragment;
    } cases[] = {
        {JSON("\"a\":0,\"b\":1,\"c\":2", ADDED("true")), NULL},
        {JSON("\"a\":0,\"b\":1", ""), "DRAFT: found a vocabulary of 2 tokens, expected the 3 of TARGET"},
        {JSON("\"a\":0,\"\\n\\u00e9\":1,\"c\":2", ADDED("true")),
         "DRAFT: token 1: found \"\\x0A\\xC3\\xA9\", expected \"b\", as in TARGET"},
        {JSON("\"a\":0,\"bb\":1,\"c\":2", ADDED("true")), "token 1: found \"bb\", expected \"b\""},
        {JSON("\"a\":0,\"b\":1,\"c\":2", ADDED("false")),
         "token 2, \"c\": found its type user-defined, expected control"},
    };
#undef JSON
#undef ADDED
    lf_tokenizer *target = load_tokenizer(cases[0].json);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_error err = {0};
        lf_tokenizer *t = load_tokenizer(cases[i].json);
        const lf_status status = lf_tokenizer_check_same(target, "TARGET", t, "DRAFT", &err);
        assert_int_equal(status, cases[i].fragment ? LF_EINVAL : LF_OK);
        if (cases[i].fragment && !strstr(err.text, cases[i].fragment))
            fail_msg("'%s' lacks '%s'", err.text, cases[i].fragment);
        lf_tokenizer_free(t);
    }
    lf_tokenizer_free(target);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    oom_require();
    for (int k = 0; k < 2; k++) {
        bool all_succeeded = false;
        long n = 1, n_failed = 0;
        for (; !all_succeeded; n++) {
            lf_error err;
            lf_engine *e;
            int32_t ids[30];
            const long live = oom_live();
            const lf_engine_params ep = draft_engine_params(draft_models[TARGET], draft_models[OTHER], 2);
            lf_request_params p = draft_request_params(ids, 30, 10);
            p.proposer = k == 0 ? "draft" : "auto";
            p.drafting = "jacobi";
            oom_fail_at(n);
            lf_status status = lf_engine_open(&e, &ep, &err);
            if (status == LF_OK) status = lf_generate(e, &p, NULL, &err);
            all_succeeded = oom_count() < n;
            oom_off();
            lf_engine_close(e);
            assert_int_equal(oom_live(), live);
            /* some do without what they do not get, as reading how much memory is free */
            if (status != LF_OK && (all_succeeded || status != LF_ENOMEM))
                fail_msg("allocation %ld: %s", n, err.text);
            n_failed += status != LF_OK;
        }
        assert_true(n_failed > n * 9 / 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_told),
        cmocka_unit_test(test_a_profile_is_of_both_models),
        cmocka_unit_test(test_what_cannot_draft_is_refused),
        cmocka_unit_test(test_vocabularies_are_compared),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, begin_drafts, leave_temp);
}
