/* The scheduler at its limits: callbacks that meddle, requests that are cancelled, queues and caches that are too small, memory that
 * fails at every allocation; and what it costs. */
#include "testing.h"

#include "oom.h"
#include "sched_fixture.h"

#include <stdlib.h>
#include <string.h>

/* ---- callbacks ---- */

typedef struct meddler {
    lf_engine *engine;
    lf_request **victims; /* (3) one to cancel, one to free, one to submit */
    int n_calls;
} meddler;

static bool refuse_calls(void *cookie, const lf_token *token)
{
    (void)cookie, (void)token;
    fail_msg("a freed request was called back");
    return true;
}

static void meddle(meddler *m)
{
    if (m->n_calls++ != 3) return;
    lf_request_cancel(m->victims[0]);
    m->victims[1]->on_token = refuse_calls;
    lf_request_free(m->victims[1]);
    m->victims[1] = NULL;
    const lf_request_params p = request_params(&asks[3], "auto");
    submit(&m->victims[2], m->engine, &p);
}

static bool meddle_token(void *cookie, const lf_token *token)
{
    (void)token;
    meddle(cookie);
    return true;
}

static bool meddle_prefill(void *cookie, int done, int total)
{
    (void)done, (void)total;
    meddle(cookie);
    return true;
}

/* A callback, in the middle of a pass and after one, may cancel, free and submit others, before and behind itself, active and
 * waiting. The first `auto` of an engine measures passes: not within one. */
static void test_callbacks_may_meddle(void **state)
{
    (void)state;
    for (int place = 0; place < 3; place++)
        for (int in_prefill = 0; in_prefill < 2; in_prefill++)
            for (int n_seqs = 1; n_seqs <= 3; n_seqs++) {
                const long live = oom_live();
                const lf_engine_params ep = engine_params(n_seqs, 0);
                lf_engine *e = open_engine(&ep);
                lf_request *victims[3] = {NULL}, *own = NULL;
                meddler m = {.engine = e, .victims = victims};
                const ask *a = find_long();
                for (int i = 0, victim = 0; i < 3; i++) {
                    const lf_request_params other = request_params(&asks[4 + i], "jacobi");
                    lf_request_params p = request_params(a, "none");
                    if (in_prefill)
                        p.on_prefill = meddle_prefill;
                    else
                        p.on_token = meddle_token;
                    p.cookie = &m;
                    submit(i == place ? &own : &victims[victim++], e, i == place ? &p : &other);
                }
                while (!lf_request_is_finished(own)) {
                    (void)step(e);
                    check_pages(e);
                }
                check_output(own, a, true);
                assert_true(m.n_calls > 3);
                assert_true(lf_request_is_finished(victims[0]));
                wait_for(victims[2]);
                check_output(victims[2], &asks[3], true);
                check_pages(e);
                lf_request_free(own);
                lf_request_free(victims[0]);
                lf_request_free(victims[2]);
                lf_engine_close(e);
                assert_int_equal(oom_live(), live);
            }
}

/* Cancelling ends a request at once between passes, while it waits, reads and decodes, and gives its pages back. */
static void test_cancel_is_immediate(void **state)
{
    (void)state;
    const ask *a = find_long();
    const lf_engine_params ep = engine_params(1, 0);
    lf_engine *e = open_engine(&ep);
    for (int n_steps = 0; n_steps < 12; n_steps++) {
        lf_request *r[2];
        lf_request_params p = request_params(a, "sparse");
        p.no_prefix_cache = true;
        submit(&r[0], e, &p);
        submit(&r[1], e, &p);
        for (int i = 0; i < n_steps; i++) (void)step(e);
        for (int i = 0; i < 2; i++) {
            lf_request_cancel(r[i]);
            assert_int_equal(result_of(r[i]).finish, LF_FINISH_CANCEL);
        }
        assert_int_equal(stats_of(e).pages_used, 0);
        lf_request_free(r[0]);
        lf_request_free(r[1]);
    }
    assert_int_equal(stats_of(e).finished[LF_FINISH_CANCEL], 24);
    lf_engine_close(e);
}

static void expect_refused(const lf_engine_params *p, lf_status status, const char *fragment)
{
    lf_error err;
    lf_engine *e;
    assert_int_equal(lf_engine_open(&e, p, &err), status);
    assert_null(e);
    if (!strstr(err.text, fragment)) fail_msg("found \"%s\", expected \"%s\"", err.text, fragment);
}

static void test_limits(void **state)
{
    (void)state;
    lf_error err;
    lf_request *r[5];
    lf_engine_info info = {.size = sizeof info};
    lf_engine_params p = engine_params(2, 5);
    expect_refused(&p, LF_ELIMIT, "cache: found 5 pages of 128 positions, a context of 600 needs 6");
    p.n_pages = 1;
    expect_refused(&p, LF_EINVAL, "cache: found 1 pages, expected 0, or 2 to");
    p.n_pages = -1;
    expect_refused(&p, LF_EINVAL, "cache: found -1 pages");
    p.n_pages = 0;
    p.prefill_rows = 65;
    expect_refused(&p, LF_EINVAL, "rows of prompts: found 65, expected 0 to the batch size, 64");
    p.prefill_rows = 0;
    p.queue_max = -1;
    expect_refused(&p, LF_EINVAL, "queue: found -1");
    /* without a context asked for, it is what the pages hold */
    p.n_pages = 3;
    p.n_ctx = 0;
    p.queue_max = 2;
    lf_engine *e = open_engine(&p);
    lf_engine_get_info(e, &info);
    assert_int_equal(info.n_ctx, 256);
    assert_int_equal(info.n_pages, 3);
    lf_request_params rp = request_params(find_long(), "none");
    assert_int_equal(lf_request_submit(&r[0], e, &rp, &err), LF_ELIMIT);
    assert_non_null(strstr(err.text, "expected at most 256, the context"));
    rp.n_ids = 256; /* all of it */
    submit(&r[0], e, &rp);
    wait_for(r[0]);
    assert_int_equal(result_of(r[0]).output_tokens, 1);
    lf_request_free(r[0]);
    /* two are decoded and two wait; a place in the queue is free again when one has ended */
    rp.n_ids = 20;
    for (int i = 0; i < 4; i++) submit(&r[i], e, &rp);
    assert_int_equal(lf_request_submit(&r[4], e, &rp, &err), LF_ELIMIT);
    assert_null(r[4]);
    assert_non_null(strstr(err.text, "queue: "));
    (void)step(e);
    assert_int_equal(lf_request_submit(&r[4], e, &rp, &err), LF_ELIMIT);
    lf_request_cancel(r[0]);
    submit(&r[4], e, &rp);
    for (int i = 0; i < 5; i++) lf_request_free(r[i]);
    lf_engine_close(e);
    assert_string_equal(lf_skip_name(LF_SKIP_CONTROLLER), "controller");
    assert_string_equal(lf_skip_name((lf_skip)99), "unknown");
}

/* Whatever allocation fails, in admission, in being admitted again after a preemption, in opening a proposer: that request ends, the
 * others have their output, and the engine goes on. */
static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    enum { N = 3 };
    oom_require();
    const lf_engine_params ep = scarce_params(N);
    const ask *a = find_growing();
    for (int k = 0; k < N_PROPOSERS; k++) {
        const lf_request_params p = request_params(a, proposers[k]);
        bool all_succeeded = false;
        for (long n_fail = 1; !all_succeeded; n_fail++) {
            lf_error err;
            bool busy = true;
            lf_request *r[N], *again;
            int n_failed = 0;
            const long live = oom_live();
            lf_engine *e = open_engine(&ep);
            for (int i = 0; i < N; i++) submit(&r[i], e, &p);
            oom_fail_at(n_fail);
            while (busy)
                if (lf_engine_step(e, &busy, NULL, &err) != LF_OK) break;
            all_succeeded = oom_count() < n_fail;
            oom_off();
            assert_false(busy);
            check_pages(e);
            for (int i = 0; i < N; i++) {
                const bool whole = lf_request_wait(r[i], &err) == LF_OK;
                if (!whole) assert_int_equal(err.status, LF_ENOMEM);
                check_output(r[i], a, whole);
                n_failed += !whole;
                lf_request_free(r[i]);
            }
            assert_int_equal(n_failed, !all_succeeded);
            submit(&again, e, &p);
            wait_for(again);
            check_output(again, a, true);
            lf_request_free(again);
            lf_engine_close(e);
            assert_int_equal(oom_live(), live);
        }
    }
}

/* ---- what it costs ---- */

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Printed, not judged: a pass of 256 sequences without the arithmetic. */
static void test_overhead(void **state)
{
    (void)state;
    enum { N = TESTS_SHORT ? 32 : 256, STEPS = 100 };
    lf_request *r[N], *queued[N];
    lf_engine_params ep = engine_params(N, 0);
    ep.batch_rows = 2 * N;
    lf_engine *e = open_engine(&ep);
    for (int i = 0; i < 2 * N; i++) {
        lf_request_params p = request_params(&asks[i % N_CASES], "none");
        p.n_predict = STEPS + 100;
        p.ignore_eos = true;
        submit(i < N ? &r[i] : &queued[i - N], e, &p);
    }
    while (step(e).prefill_rows > 0 || stats_of(e).active < N) {
    }
    double seconds[STEPS];
    for (int i = 0; i < STEPS; i++) {
        const double so_far = stats_of(e).schedule_seconds;
        (void)step(e);
        seconds[i] = stats_of(e).schedule_seconds - so_far;
    }
    qsort(seconds, STEPS, sizeof *seconds, compare_seconds);
    print_message("scheduling a step of %d sequences, %d queued: %.1f us in the middle, %.1f at most\n",
                  stats_of(e).active, stats_of(e).queued, seconds[STEPS / 2] * 1e6, seconds[STEPS - 1] * 1e6);
    assert_int_equal(stats_of(e).active, N);
    for (int i = 0; i < N; i++) {
        lf_request_free(r[i]);
        lf_request_free(queued[i]);
    }
    lf_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callbacks_may_meddle),
        cmocka_unit_test(test_cancel_is_immediate),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_overhead),
    };
    return cmocka_run_group_tests(tests, begin_sched, end_sched);
}
