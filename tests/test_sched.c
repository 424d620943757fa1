/* The scheduler under load: outputs are those of a request alone, nobody starves, every page is accounted for, whatever is preempted or
 * shared. Its limits are in test_sched_limits. */
#include "testing.h"

#include "sched_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { OPEN_MAX = 24 };

/* ---- invariants of a step ---- */

/* A job as it was before a step. */
typedef struct before {
    const lf_job *job;
    bool active, waited;
    int len, preemptions;
    size_t n_tokens;
} before;

static int look_before(const lf_engine *e, before *jobs)
{
    int n = 0;
    for (const lf_job *job = lf_sched_first(e->sched); job; job = job->next)
        jobs[n++] = (before){.job = job,
                             .active = job->active,
                             .waited = job->reader != NULL,
                             .len = job->active ? lf_kv_seq_len(job->seq->kv) : 0,
                             .preemptions = job->preemptions,
                             .n_tokens = job->seq->tokens.len};
    return n;
}

static bool is_open(const lf_engine *e, const lf_job *job)
{
    const lf_job *other = lf_sched_first(e->sched);
    while (other && other != job) other = other->next;
    return other != NULL;
}

/* Who was admitted was not given away for it, nor were candidates: there was room for the round. */
static void check_room(const lf_engine *e, const before *jobs, int n, const lf_engine_stats *stats)
{
    bool admitted = false;
    for (int i = 0; i < n; i++)
        if (is_open(e, jobs[i].job) && !jobs[i].active)
            admitted = admitted || jobs[i].job->active || jobs[i].job->preemptions > jobs[i].preemptions;
    if (!admitted) return;
    assert_int_equal(stats_of(e).preemptions, stats->preemptions);
    assert_int_equal(stats_of(e).skipped[LF_SKIP_PAGES], stats->skipped[LF_SKIP_PAGES]);
}

/* Nobody starves: every active job that decodes got a token, unless it was preempted, which only the last ones are; the first that
 * reads moved on; and nobody was admitted past one that waited for a place. */
static void check_progress(const lf_engine *e, const before *jobs, int n)
{
    bool read = false, preempted = false, passed_over = false;
    for (int i = 0; i < n; i++) {
        const lf_job *job = jobs[i].job;
        const bool decoded = (int)jobs[i].n_tokens - jobs[i].len == 1;
        if (!is_open(e, job)) {
            read = read || (jobs[i].active && !decoded);
            continue;
        }
        if (jobs[i].active && !job->active) {
            preempted = true;
        } else if (jobs[i].active) {
            assert_false(preempted);
            if (decoded)
                assert_true(job->seq->tokens.len > jobs[i].n_tokens);
            else if (!read)
                assert_true(lf_kv_seq_len(job->seq->kv) > jobs[i].len);
            read = read || !decoded;
        } else if (job->active) {
            assert_false(passed_over);
            read = true;
        } else if (!jobs[i].waited && !job->reader) {
            passed_over = true;
        }
    }
    if (n > 0 && is_open(e, jobs[0].job)) assert_true(jobs[0].job->active);
}

/* ---- load ---- */

typedef struct client {
    lf_request *request;
    const ask *ask;
} client;

static void check_stats(const lf_engine *e, int n_finished)
{
    const lf_engine_stats s = stats_of(e);
    int64_t n = 0, proposed = 0, accepted = 0, proposed_at = 0, accepted_at = 0;
    for (int i = 0; i < LF_FINISH_COUNT; i++) n += s.finished[i];
    assert_int_equal(n, n_finished);
    assert_int_equal(s.n_proposers, LF_PROPOSER_COUNT);
    for (int i = 0; i < s.n_proposers; i++) {
        proposed += s.proposers[i].proposed;
        accepted += s.proposers[i].accepted;
        assert_string_equal(s.proposers[i].name, lf_proposer_name(i));
    }
    for (int i = 0; i < LF_DRAFT_LIMIT; i++) {
        proposed_at += s.proposed_at[i];
        accepted_at += s.accepted_at[i];
        assert_true(s.accepted_at[i] <= s.proposed_at[i]);
    }
    assert_true(proposed == proposed_at && accepted == accepted_at && proposed > 0 && accepted > 0);
    assert_int_equal(s.output_tokens, s.passes + accepted);
    assert_true(s.skipped[LF_SKIP_LAST] > 0 && s.skipped[LF_SKIP_NOTHING] > 0);
}

/* Requests come, are cancelled and freed at random over a pool that holds a fraction of what they ask for. */
static void run_load(int n_seqs, int n_pages, int n_steps, uint64_t rng, int64_t *preemptions)
{
    lf_engine_params ep = engine_params(n_seqs, n_pages);
    ep.prefill_rows = 1 + (int)(rng_next(&rng) % 40);
    lf_engine *e = open_engine(&ep);
    client clients[OPEN_MAX] = {{0}};
    before jobs[OPEN_MAX];
    int n_ended = 0, n_whole = 0;
    for (int i_step = 0; i_step < n_steps; i_step++) {
        client *c = &clients[rng_next(&rng) % OPEN_MAX];
        const uint64_t action = rng_next(&rng) % 64;
        if (!c->request && action < 40) {
            c->ask = &asks[rng_next(&rng) % N_CASES];
            lf_request_params p = request_params(c->ask, proposers[rng_next(&rng) % N_PROPOSERS]);
            p.draft_max = 1 + (int)(rng_next(&rng) % 16);
            p.drafting = rng_next(&rng) % 2 ? "jacobi" : "single";
            p.no_prefix_cache = rng_next(&rng) % 8 == 0;
            submit(&c->request, e, &p);
        } else if (c->request && action == 0) {
            lf_request_cancel(c->request);
            assert_true(lf_request_is_finished(c->request));
        }
        if (c->request && lf_request_is_finished(c->request)) {
            const bool whole = result_of(c->request).finish == LF_FINISH_LENGTH;
            check_output(c->request, c->ask, whole);
            n_whole += whole;
            n_ended++;
            lf_request_free(c->request);
            c->request = NULL;
        }
        const int n = look_before(e, jobs);
        const lf_engine_stats stats = stats_of(e);
        (void)step(e);
        check_pages(e);
        check_progress(e, jobs, n);
        check_room(e, jobs, n, &stats);
    }
    for (int i = 0; i < OPEN_MAX; i++) {
        if (!clients[i].request) continue;
        wait_for(clients[i].request);
        check_output(clients[i].request, clients[i].ask,
                     result_of(clients[i].request).finish == LF_FINISH_LENGTH);
        lf_request_free(clients[i].request);
        n_ended++;
    }
    check_stats(e, n_ended);
    assert_true(n_whole > n_steps / 100);
    *preemptions += stats_of(e).preemptions;
    assert_int_equal(stats_of(e).pages_used, 0);
    lf_engine_close(e);
}

static void test_load_changes_no_output(void **state)
{
    (void)state;
    enum { STEPS = TESTS_SHORT ? 2000 : 4000 };
    int64_t tiny = 0, small = 0, ample = 0;
    run_load(10, 6, STEPS, 1, &tiny); /* as few pages as one request may need */
    for (uint64_t seed = 2; seed < 6; seed++) run_load(4 + (int)seed * 2, 14, STEPS, seed, &small);
    run_load(8, 0, STEPS, 7, &ample);
    print_message("preemptions: %d with 6 pages, %d with 14, %d with room for all\n", (int)tiny, (int)small,
                  (int)ample);
    assert_true(tiny > 10 && small > 10);
    assert_int_equal(ample, 0);
}

/* ---- preemption ---- */

/* Three that fit as long as they are short. The first is never the one to give way. */
static void test_the_last_comer_gives_way(void **state)
{
    (void)state;
    enum { N = 3 };
    const ask *a = find_growing();
    for (int k = 0; k < 2 * N_PROPOSERS; k++) {
        const lf_engine_params ep = scarce_params(N);
        lf_engine *e = open_engine(&ep);
        lf_request *r[N];
        lf_request_params p = request_params(a, proposers[k / 2]);
        p.no_prefix_cache = k % 2;
        for (int i = 0; i < N; i++) submit(&r[i], e, &p);
        int preempted = 0, told = 0;
        while (stats_of(e).active + stats_of(e).queued > 0) {
            before jobs[N];
            bool at_border = false; /* one needs a page for its last token, not for its candidates only */
            for (int i = 0, n = look_before(e, jobs); i < n; i++)
                at_border = at_border || (jobs[i].active && jobs[i].len % LF_PAGE_POS == 0);
            const lf_step_info info = step(e);
            if (p.no_prefix_cache) assert_true(info.preempted == 0 || at_border);
            for (int i = 0; i < info.preempted; i++) {
                assert_int_equal(info.preemptions[i].id, lf_request_id(r[2]));
                assert_true(info.preemptions[i].for_id <= lf_request_id(r[2]));
                assert_true(info.preemptions[i].tokens >= a->n_prompt);
            }
            preempted += info.preempted;
            check_pages(e);
        }
        for (int i = 0; i < N; i++) {
            check_output(r[i], a, true);
            told += result_of(r[i]).preemptions;
        }
        assert_int_equal(result_of(r[0]).preemptions, 0);
        assert_int_equal(result_of(r[1]).preemptions, 0);
        assert_true(result_of(r[2]).preemptions > 0);
        assert_true(preempted == told && stats_of(e).preemptions == told);
        for (int i = 0; i < N; i++) {
            const lf_request_result result = result_of(r[i]);
            assert_true(result.ttft_seconds > 0 && result.ttft_seconds >= result.queue_seconds);
            lf_request_free(r[i]);
        }
        lf_engine_close(e);
    }
}

/* Scoring takes the pages that it needs, and leaves the outputs alone. */
static void test_scoring_makes_room(void **state)
{
    (void)state;
    enum { N = 3, N_IDS = 300 };
    static float before_load[N_IDS * N_VOCAB], under_load[N_IDS * N_VOCAB];
    lf_error err;
    const lf_engine_params ep = scarce_params(N);
    lf_engine *e = open_engine(&ep);
    const ask *a = find_growing();
    lf_request *r[N];
    int32_t ids[N_IDS];
    for (int i = 0; i < N_IDS; i++) ids[i] = i * i % N_VOCAB;
    assert_ok(lf_score(e, ids, N_IDS, before_load, &err), &err);
    for (int i = 0; i < N; i++) {
        const lf_request_params p = request_params(a, proposers[1 + i]);
        submit(&r[i], e, &p);
    }
    for (int i = 1; stats_of(e).active + stats_of(e).queued > 0; i++) {
        (void)step(e);
        if (i % 16 != 0) continue; /* who is read again after each pass never comes to its end */
        assert_ok(lf_score(e, ids, N_IDS, under_load, &err), &err);
        assert_memory_equal(before_load, under_load, sizeof before_load);
        check_pages(e);
    }
    assert_true(stats_of(e).preemptions > 2);
    for (int i = 0; i < N; i++) {
        check_output(r[i], a, true);
        lf_request_free(r[i]);
    }
    lf_engine_close(e);
}

/* ---- sharing ---- */

/* Eight answers to one prompt read it once. */
static void test_one_prompt_is_read_once(void **state)
{
    (void)state;
    enum { N = 8 };
    const ask *a = find_long();
    lf_request *r[N];
    for (int k = 0; k < N_PROPOSERS; k++) {
        const lf_engine_params ep = engine_params(N, 30); /* alone, each would need 4 to 6 */
        lf_engine *e = open_engine(&ep);
        for (int i = 0; i < N; i++) {
            const lf_request_params p = request_params(a, proposers[k]);
            submit(&r[i], e, &p);
        }
        while (!lf_request_is_finished(r[N - 1])) {
            (void)step(e);
            check_pages(e);
        }
        for (int i = 0; i < N; i++) {
            wait_for(r[i]);
            check_output(r[i], a, true);
            assert_int_equal(result_of(r[i]).cached_tokens, i == 0 ? 0 : a->n_prompt - 1);
            assert_int_equal(result_of(r[i]).preemptions, 0);
            lf_request_free(r[i]);
        }
        assert_int_equal(stats_of(e).prefill_rows, a->n_prompt);
        assert_int_equal(stats_of(e).prompt_tokens, N * a->n_prompt);
        assert_int_equal(stats_of(e).cached_tokens, (N - 1) * (a->n_prompt - 1));
        lf_engine_close(e);
    }
}

/* A beginning of a few tokens, which every text may have, is computed again: no page is copied for it, neither of another that is
 * active nor of the prefix cache. */
static void test_a_few_tokens_are_not_shared(void **state)
{
    (void)state;
    enum { N_PROMPT = 30 };
    const ask *a = find_long();
    for (int k = 0; k < 24; k++) {
        const int n_common = 1 + k / 2;
        const lf_engine_params ep = engine_params(2, 0);
        lf_engine *e = open_engine(&ep);
        lf_request *r[2];
        int32_t ids[N_PROMPT];
        lf_request_params p = request_params(a, "none");
        submit(&r[0], e, &p);
        (void)step(e);
        if (k % 2) wait_for(r[0]);
        memcpy(ids, a->prompt, sizeof ids);
        ids[n_common] = (ids[n_common] + 1) % N_VOCAB;
        p.ids = ids;
        p.n_ids = N_PROMPT;
        submit(&r[1], e, &p);
        (void)step(e);
        assert_true(r[1]->job.active);
        assert_int_equal(r[1]->job.cached_tokens, n_common < 8 ? 0 : n_common);
        for (int i = 0; i < 2; i++) lf_request_free(r[i]);
        lf_engine_close(e);
    }
}

/* One that waits for another's reading goes on when that one is cancelled, and keeps its place before those behind it. */
static void test_the_reader_may_leave(void **state)
{
    (void)state;
    const ask *a = find_long();
    const lf_engine_params ep = engine_params(2, 0);
    lf_engine *e = open_engine(&ep);
    lf_request *r[3];
    lf_request_params p = request_params(a, "none");
    submit(&r[0], e, &p);
    submit(&r[1], e, &p);
    p = request_params(&asks[0], "none");
    submit(&r[2], e, &p);
    (void)step(e);
    assert_ptr_equal(r[1]->job.reader, &r[0]->job);
    assert_false(r[2]->job.active); /* the second slot is kept */
    lf_request_cancel(r[0]);
    assert_true(lf_request_is_finished(r[0]));
    (void)step(e);
    assert_true(r[1]->job.active && r[2]->job.active);
    wait_for(r[1]);
    wait_for(r[2]);
    check_output(r[1], a, true);
    check_output(r[2], &asks[0], true);
    for (int i = 0; i < 3; i++) lf_request_free(r[i]);
    lf_engine_close(e);
}

/* What one that waits will need besides what it shares is kept from those behind it. */
static void test_the_waiting_keep_their_pages(void **state)
{
    (void)state;
    for (int n_pages = 5; n_pages <= 6; n_pages++) {
        lf_engine_params ep = engine_params(3, n_pages);
        ep.n_ctx = 4 * LF_PAGE_POS;
        lf_engine *e = open_engine(&ep);
        lf_request *r[3];
        lf_request_params p = request_params(find_long(), "none");
        p.n_ids = 300; /* three pages to be read, of which the second request shares two */
        submit(&r[0], e, &p);
        submit(&r[1], e, &p);
        p.n_ids = 10;
        p.no_prefix_cache = true;
        submit(&r[2], e, &p);
        (void)step(e);
        assert_true(r[0]->job.active && r[1]->job.reader);
        assert_int_equal(r[2]->job.active, n_pages == 6);
        for (int i = 0; i < 3; i++) lf_request_free(r[i]);
        lf_engine_close(e);
    }
}

/* ---- rows ---- */

/* While a long prompt is read, those that decode get a token in each pass, which has a bounded number of the prompt's rows; and
 * however many candidates they would like, the prompt has its share. */
static void test_neither_prompts_nor_candidates_starve_others(void **state)
{
    (void)state;
    enum { N = 6, PREFILL_ROWS = 24 };
    lf_engine_params ep = engine_params(N + 1, 0);
    ep.prefill_rows = PREFILL_ROWS;
    lf_engine *e = open_engine(&ep);
    lf_request *r[N + 1];
    ask short_ask = asks[0];
    short_ask.n_prompt = 2;
    short_ask.n_predict = OUTPUT_MAX;
    for (int i = 0; i < N; i++) {
        lf_request_params p = request_params(&short_ask, "jacobi");
        p.seed = (uint64_t)i;
        p.temperature = 1.0f;
        p.draft_max = LF_DRAFT_LIMIT;
        submit(&r[i], e, &p);
    }
    for (int i = 0; i < 3; i++) (void)step(e);
    const ask *a = find_long();
    const lf_request_params p = request_params(a, "none");
    submit(&r[N], e, &p);
    int n_passes = 0;
    for (int left = a->n_prompt; left > 0; n_passes++) {
        size_t n_before[N], n_now;
        for (int i = 0; i < N; i++) (void)lf_request_ids(r[i], &n_before[i]);
        const lf_step_info info = step(e);
        assert_int_equal(info.prefill_rows, left < PREFILL_ROWS ? left : PREFILL_ROWS);
        assert_true(info.decode_rows >= N && info.decode_rows + info.prefill_rows <= ep.batch_rows);
        assert_true(info.proposed > 0); /* candidates have what the others leave */
        for (int i = 0; i < N; i++) {
            (void)lf_request_ids(r[i], &n_now);
            assert_true(n_now > n_before[i]);
        }
        left -= info.prefill_rows;
    }
    assert_int_equal(n_passes, (a->n_prompt + PREFILL_ROWS - 1) / PREFILL_ROWS);
    for (int i = 0; i <= N; i++) lf_request_free(r[i]);
    lf_engine_close(e);
}

/* The rule of plan.h over random sequences. */
static void test_plans_keep_the_rule(void **state)
{
    (void)state;
    enum { SEQS = 12, LEN_MAX = 300 };
    static int32_t ids[LEN_MAX + LF_DRAFT_MAX];
    const lf_proposer nobody = {0};
    lf_error err;
    lf_kv_pool *pool;
    lf_kv_shape shape = {.n_layers = 1, .n_kv_heads = 1};
    lf_seq seqs[SEQS], *list[SEQS];
    uint64_t rng = 5;
    assert_true(lf_kv_layout_init(&shape.layout, LF_DTYPE_F32, 8));
    assert_ok(lf_kv_pool_create(&pool, &shape, SEQS * 3, &err), &err);
    for (int round = 0; round < (TESTS_SHORT ? 200 : 5000); round++) {
        const int n = 1 + (int)(rng_next(&rng) % SEQS);
        const lf_row_budget budget = {.rows_max = n + (int)(rng_next(&rng) % 80),
                                      .logits_max = n + (int)(rng_next(&rng) % 80),
                                      .prefill_rows = 1 + (int)(rng_next(&rng) % 50)};
        int n_decoding = 0, n_prefill = 0, n_asked = 0, n_rows = 0, n_logits = 0;
        for (int i = 0; i < n; i++) {
            lf_seq *seq = list[i] = &seqs[i];
            const int pending = rng_next(&rng) % 2 ? 1 : 1 + (int)(rng_next(&rng) % 100);
            *seq = (lf_seq){.tokens = {.data = ids, .len = (size_t)pending + rng_next(&rng) % 200},
                            .draft_max = (int)(rng_next(&rng) % 20),
                            .finished = rng_next(&rng) % 8 == 0};
            if (rng_next(&rng) % 2) seq->proposer = (lf_proposer *)(uintptr_t)&nobody;
            seq->len_max = (int)(seq->tokens.len + 1 + rng_next(&rng) % 30);
            assert_ok(lf_kv_seq_open(&seq->kv, pool, LEN_MAX, &err), &err);
            assert_ok(lf_kv_seq_reserve(seq->kv, (int)seq->tokens.len - pending, &err), &err);
            lf_kv_seq_commit(seq->kv, (int)seq->tokens.len - pending);
            if (seq->finished) continue;
            n_decoding += pending == 1;
            n_asked += pending > 1 ? pending : 0;
        }
        lf_plan_rows(list, n, &budget);
        bool cut = false;
        for (int i = 0; i < n; i++) {
            const lf_seq *seq = list[i];
            const int pending = lf_seq_n_pending(seq);
            assert_int_equal(seq->decodes, !seq->finished && pending == 1);
            if (seq->decodes || seq->finished) assert_int_equal(seq->n_rows, seq->decodes);
            if (!seq->decodes || !seq->proposer) assert_int_equal(seq->n_wanted, 0);
            assert_true(seq->n_wanted <= seq->draft_max &&
                        (int)seq->tokens.len + 1 + seq->n_wanted <= seq->len_max);
            assert_true(seq->n_rows >= 0 && seq->n_rows <= pending);
            if (!seq->decodes) n_prefill += seq->n_rows;
            if (cut && !seq->decodes) assert_int_equal(seq->n_rows, 0); /* in the order they came */
            cut = cut || (!seq->finished && seq->n_rows < pending);
            n_rows += seq->n_rows + seq->n_wanted;
            n_logits += (seq->n_rows == pending && !seq->finished) + seq->n_wanted;
        }
        int share = budget.rows_max - n_decoding;
        if (n_decoding > 0 && budget.prefill_rows < share) share = budget.prefill_rows;
        assert_int_equal(n_prefill, n_asked < share ? n_asked : share);
        assert_true(n_rows <= budget.rows_max && n_logits <= budget.logits_max);
        for (int i = 0; i < n; i++) lf_kv_seq_close(list[i]->kv);
    }
    lf_kv_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_changes_no_output),
        cmocka_unit_test(test_the_last_comer_gives_way),
        cmocka_unit_test(test_scoring_makes_room),
        cmocka_unit_test(test_one_prompt_is_read_once),
        cmocka_unit_test(test_a_few_tokens_are_not_shared),
        cmocka_unit_test(test_the_reader_may_leave),
        cmocka_unit_test(test_the_waiting_keep_their_pages),
        cmocka_unit_test(test_neither_prompts_nor_candidates_starve_others),
        cmocka_unit_test(test_plans_keep_the_rule),
    };
    return cmocka_run_group_tests(tests, begin_sched, end_sched);
}
