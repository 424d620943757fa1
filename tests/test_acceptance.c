/* `bench acceptance` against decoding: what the walk along a plain continuation says of rounds is what rounds do. */
#include "testing.h"

#include "../bench/acceptance.h"
#include "../bench/magicdec.h"
#include "tiny_model.h"

#include <stdio.h>
#include <string.h>

enum { RESULTS_MAX = 64, N_TOKENS = 40, CONTEXT = 230 };

typedef struct results {
    bench_acceptance_result v[RESULTS_MAX];
    int n;
    int cancel_after; /* questions; 0: never */
} results;

static bool canceled(void *cookie)
{
    results *r = cookie;
    return r->cancel_after > 0 && --r->cancel_after == 0;
}

static void ignore_progress(void *cookie, const char *what, double share)
{
    (void)cookie, (void)what, (void)share;
}

static lf_status keep(void *cookie, const bench_acceptance_result *result, lf_error *err)
{
    (void)err;
    results *r = cookie;
    assert_true(r->n < RESULTS_MAX);
    r->v[r->n++] = *result;
    return LF_OK;
}

/* What decoding gave with the same setting must be there, and the same. */
static lf_status compare(void *cookie, const bench_magicdec_result *m, lf_error *err)
{
    (void)err;
    results *r = cookie;
    int i = 0;
    assert_true(m->identical);
    if (m->setting.proposer < 0) return LF_OK;
    while (i < r->n && (r->v[i].selection != m->setting.selection || r->v[i].budget != m->setting.budget ||
                        r->v[i].g != m->setting.g || r->v[i].temperature != m->temperature))
        i++;
    if (i == r->n) fail_msg("found nothing for selection %d, g %d", (int)m->setting.selection, m->setting.g);
    const bench_acceptance_result *a = &r->v[i];
    assert_int_equal(a->rounds, m->passes);
    assert_int_equal(a->proposed, m->proposed);
    assert_int_equal(a->accepted, m->accepted);
    assert_int_equal(a->n_places, m->n_places);
    for (int p = 0; p < a->n_places; p++) assert_true(a->acceptance_at[p] == m->acceptance_at[p]);
    return LF_OK;
}

static void write_text(void)
{
    char text[2000];
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof text; i++) text[i] = "abcdefgh ijkl mn"[(i + rng_next(&state) % 5) % 16];
    write_file(in_temp("text"), text, sizeof text);
}

static bench_acceptance_options make_options(void)
{
    tiny_model_write(in_temp("model"), TINY_VOCAB);
    write_text();
    return (bench_acceptance_options){.model_path = in_temp("model"),
                                      .text_path = in_temp("text"),
                                      .task = "letters",
                                      .contexts = {.n = 1, .v = {CONTEXT}},
                                      .selections = {.n = 2, .v = {LF_SELECT_WINDOW, LF_SELECT_SNAP}},
                                      .budgets = {.n = 2, .v = {77, 128}},
                                      .gs = {.n = 3, .v = {1, 3, 7}},
                                      .n_temperatures = 2,
                                      .temperatures = {0.0f, 0.5f},
                                      .n_sequences = 1,
                                      .n_tokens = N_TOKENS,
                                      .n_threads = 1,
                                      .kv_dtype = LF_DTYPE_BF16,
                                      .cpu_mask = ~0u};
}

static bench_hooks hooks_of(results *r)
{
    return (bench_hooks){.canceled = canceled, .on_progress = ignore_progress, .cookie = r};
}

/* The settings of options, as decoding has them. */
static bench_magicdec_options decoding_of(const bench_acceptance_options *o, float temperature)
{
    bench_magicdec_options m = {.model_path = o->model_path,
                                .text_path = o->text_path,
                                .task = o->task,
                                .batches = {.n = 1, .v = {o->n_sequences}},
                                .contexts = o->contexts,
                                .n_tokens = o->n_tokens,
                                .reps = 1,
                                .n_threads = 1,
                                .temperature = temperature,
                                .kv_dtype = o->kv_dtype,
                                .cpu_mask = o->cpu_mask};
    for (int s = 0; s < o->selections.n; s++)
        for (int b = 0; b < o->budgets.n; b++)
            for (int g = 0; g < o->gs.n; g++)
                m.settings[m.n_settings++] = (bench_setting){.proposer = LF_PROPOSER_SPARSE,
                                                             .selection = (lf_selection)o->selections.v[s],
                                                             .budget = o->budgets.v[b],
                                                             .g = o->gs.v[g]};
    return m;
}

static void test_counts_are_those_of_decoding(void **state)
{
    (void)state;
    results r = {.n = 0};
    const bench_hooks hooks = hooks_of(&r);
    lf_error err;
    bench_acceptance_options o = make_options();
    o.n_sequences = 3;
    assert_ok(bench_run_acceptance(&o, &hooks, keep, &err), &err);
    assert_int_equal(r.n, 2 * 2 * 2 * 3);
    long right = 0, wrong = 0;
    for (int i = 0; i < r.n; i++) {
        right += r.v[i].accepted;
        wrong += r.v[i].proposed - r.v[i].accepted;
    }
    assert_true(right > 0 && wrong > 0); /* otherwise the comparison shows nothing */
    for (int t = 0; t < o.n_temperatures; t++) {
        const bench_magicdec_options m = decoding_of(&o, o.temperatures[t]);
        assert_ok(bench_run_magicdec(&m, &hooks, compare, &err), &err);
    }
}

/* With one sequence more, each has the rounds that it has alone: sums agree. */
static void test_sequences_do_not_meet(void **state)
{
    (void)state;
    lf_error err;
    results alone = {.n = 0}, together = {.n = 0};
    bench_acceptance_options o = make_options();
    const char *const prompts[] = {"abcdefg", "hello hello hello"};
    char text[4096] = "", lines[2][2048];
    o.selections = (bench_ints){.n = 3, .v = {LF_SELECT_WINDOW, LF_SELECT_SNAP, LF_SELECT_VERIFY}};
    o.text_path = NULL;
    o.prompts_path = in_temp("prompts");
    for (int i = 0; i < 2;
         i++) { /* each prompt is longer than the context, so that nothing comes before it */
        int len = snprintf(lines[i], sizeof lines[i], "{\"prompt\": \"");
        for (int n = 0; n < 60; n++)
            len += snprintf(lines[i] + len, sizeof lines[i] - (size_t)len, "%s%d ", prompts[i], n * n % 7);
        (void)snprintf(lines[i] + len, sizeof lines[i] - (size_t)len, "\"}\n");
        write_file(o.prompts_path, lines[i], strlen(lines[i]));
        (void)strcat(text, lines[i]);
        const bench_hooks hooks = hooks_of(&alone);
        o.temperatures[0] = o.temperatures[1] = 0.0f; /* above, the seeds are the sequences' */
        o.n_temperatures = 1;
        assert_ok(bench_run_acceptance(&o, &hooks, keep, &err), &err);
    }
    write_file(o.prompts_path, text, strlen(text));
    o.n_sequences = 2;
    const bench_hooks hooks = hooks_of(&together);
    assert_ok(bench_run_acceptance(&o, &hooks, keep, &err), &err);
    assert_int_equal(alone.n, 2 * together.n);
    for (int i = 0; i < together.n; i++) {
        const bench_acceptance_result *a = &alone.v[i], *b = &alone.v[together.n + i], *t = &together.v[i];
        assert_int_equal(t->rounds, a->rounds + b->rounds);
        assert_int_equal(t->proposed, a->proposed + b->proposed);
        assert_int_equal(t->accepted, a->accepted + b->accepted);
    }
}

/* What a number of candidates gives does not depend on which others are counted with it. */
static void test_numbers_do_not_meet(void **state)
{
    (void)state;
    lf_error err;
    results all = {.n = 0}, one = {.n = 0};
    bench_acceptance_options o = make_options();
    const bench_hooks all_hooks = hooks_of(&all), one_hooks = hooks_of(&one);
    o.selections = (bench_ints){.n = 2, .v = {LF_SELECT_VERIFY, LF_SELECT_WINDOW}};
    o.budgets.n = o.n_temperatures = 1;
    assert_ok(bench_run_acceptance(&o, &all_hooks, keep, &err), &err);
    o.gs = (bench_ints){.n = 1, .v = {7}};
    assert_ok(bench_run_acceptance(&o, &one_hooks, keep, &err), &err);
    assert_int_equal(all.n, 3 * one.n);
    for (int i = 0; i < one.n; i++) {
        const bench_acceptance_result *a = &all.v[3 * i + 2], *b = &one.v[i];
        assert_true(a->g == 7 && a->rounds == b->rounds && a->accepted == b->accepted);
        if (a->selection == LF_SELECT_VERIFY)
            assert_true(a->attention == b->attention); /* where they begin */
    }
}

/* Attention is a share; more of it falls on a larger budget, and more on tiles that are chosen by it again and again than on those chosen
 * once. A budget that no sequence exceeds has no results. */
static void test_attention(void **state)
{
    (void)state;
    lf_error err;
    results r = {.n = 0};
    const bench_hooks hooks = hooks_of(&r);
    bench_acceptance_options o = make_options();
    o.selections = (bench_ints){.n = 3, .v = {LF_SELECT_WINDOW, LF_SELECT_SNAP, LF_SELECT_VERIFY}};
    o.budgets = (bench_ints){.n = 3, .v = {96, 160, 4096}};
    o.gs = (bench_ints){.n = 1, .v = {1}};
    o.n_temperatures = 1;
    assert_ok(bench_run_acceptance(&o, &hooks, keep, &err), &err);
    assert_int_equal(r.n, 6);
    for (int i = 0; i < r.n; i++) assert_true(r.v[i].attention > 0.0 && r.v[i].attention < 1.0);
    for (int i = 0; i < r.n; i += 2) assert_true(r.v[i].attention < r.v[i + 1].attention);
    for (int i = 0; i < 2; i++)
        assert_true(r.v[i].attention < r.v[2 + i].attention && r.v[2 + i].attention < r.v[4 + i].attention);
    results most = {.n = 0};
    const bench_hooks hooks_of_most = hooks_of(&most);
    o.budgets = (bench_ints){.n = 1, .v = {224}}; /* hides one to three tiles of 15 to 17 */
    assert_ok(bench_run_acceptance(&o, &hooks_of_most, keep, &err), &err);
    for (int i = 0; i < most.n; i++) assert_true(most.v[i].attention > 0.85);
}

static void test_errors(void **state)
{
    (void)state;
    lf_error err;
    results r = {.n = 0};
    const bench_hooks hooks = hooks_of(&r);
    bench_acceptance_options o = make_options();
    for (r.cancel_after = 1; r.cancel_after < 40; r.cancel_after += 13) {
        const int after = r.cancel_after;
        assert_int_equal(bench_run_acceptance(&o, &hooks, keep, &err), LF_ECANCELED);
        r.cancel_after = after;
    }
    r.cancel_after = 0;
    o.contexts.v[0] = 100000;
    assert_int_equal(bench_run_acceptance(&o, &hooks, keep, &err), LF_EINVAL);
    assert_non_null(strstr(err.text, "expected at least 100000, the context"));
    o.model_path = in_temp("none");
    assert_int_not_equal(bench_run_acceptance(&o, &hooks, keep, &err), LF_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts_are_those_of_decoding, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_sequences_do_not_meet, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_numbers_do_not_meet, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_attention, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_errors, enter_temp, leave_temp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
