/* The thread team: work between barriers is done once and seen by all, whatever the number of threads; and a thread that is not
 * worth waiting for is left out for a while. */
#include "testing.h"

#include "base/threads.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { N_ITEMS = 1000, N_PHASES = 20 };

/* Each phase adds to every item what the phase before left in its neighbour: any item done twice, missed, or read too early
 * shows in the result. */
typedef struct work {
    lf_threads *threads;
    int chunk;
    uint32_t items[N_PHASES + 1][N_ITEMS];
    atomic_int n_called;
} work;

static void work_thread(void *arg, int i_thread)
{
    work *w = arg;
    assert_true(i_thread >= 0 && i_thread < lf_threads_count(w->threads));
    atomic_fetch_add(&w->n_called, 1);
    for (int phase = 0; phase < N_PHASES; phase++) {
        for (int first; (first = lf_threads_take(w->threads, w->chunk)) < N_ITEMS;)
            for (int i = first; i < first + w->chunk && i < N_ITEMS; i++)
                w->items[phase + 1][i] += w->items[phase][i] * 3 + w->items[phase][(i + 1) % N_ITEMS];
        lf_threads_barrier(w->threads);
    }
}

static void fill(work *w, lf_threads *threads, int chunk)
{
    memset(w, 0, sizeof *w);
    w->threads = threads;
    w->chunk = chunk;
    for (uint32_t i = 0; i < N_ITEMS; i++) w->items[0][i] = i * 2654435761u;
}

static void test_work_is_done_once(void **state)
{
    (void)state;
    static work alone, w;
    lf_error err;
    fill(&alone, NULL, 1);
    for (int phase = 0; phase < N_PHASES; phase++)
        for (int i = 0; i < N_ITEMS; i++)
            alone.items[phase + 1][i] = alone.items[phase][i] * 3 + alone.items[phase][(i + 1) % N_ITEMS];
    for (int n = 1; n <= 5; n++) {
        lf_threads *threads;
        assert_ok(lf_threads_create(&threads, n, n % 2 == 0, &err), &err);
        assert_int_equal(lf_threads_count(threads), n);
        for (int run = 0; run < (TESTS_SHORT ? 20 : 200); run++) {
            fill(&w, threads, 1 + run % 7);
            (run % 3 == 0 ? lf_threads_run_all : lf_threads_run)(threads, work_thread, &w);
            assert_memory_equal(w.items, alone.items, sizeof w.items);
            assert_in_range(w.n_called, run % 3 == 0 ? n : 1, n);
        }
        lf_threads_free(threads);
    }
}

/* The last thread comes late to the barrier. */
typedef struct late {
    lf_threads *threads;
    int late_us;
    atomic_int n_called;
} late;

static void late_thread(void *arg, int i_thread)
{
    late *l = arg;
    atomic_fetch_add(&l->n_called, 1);
    if (i_thread == lf_threads_count(l->threads) - 1 && i_thread > 0) (void)usleep((useconds_t)l->late_us);
    lf_threads_barrier(l->threads);
}

static int run_late(lf_threads *threads, int late_us)
{
    late l = {.threads = threads, .late_us = late_us};
    lf_threads_run(threads, late_thread, &l);
    return l.n_called;
}

/* No time is asserted, only that it comes to pass at all. */
static void test_a_late_thread_is_left_out_and_comes_back(void **state)
{
    (void)state;
    enum { TRIES = 200 };
    lf_error err;
    for (int n = 2; n <= 3; n++) {
        lf_threads *threads;
        int tries = 0;
        assert_ok(lf_threads_create(&threads, n, false, &err), &err);
        while (run_late(threads, 3000) == n) assert_true(++tries < TRIES);
        for (tries = 0; run_late(threads, 0) < n; (void)usleep(1000)) assert_true(++tries < 10 * TRIES);
        lf_threads_free(threads);
    }
}

static void test_bad_numbers(void **state)
{
    (void)state;
    lf_error err;
    lf_threads *threads;
    assert_int_equal(lf_threads_create(&threads, 0, false, &err), LF_EINVAL);
    assert_int_equal(lf_threads_create(&threads, LF_THREADS_MAX + 1, false, &err), LF_EINVAL);
    assert_non_null(strstr(err.text, "found 257, expected 1 to 256"));
    assert_null(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_is_done_once),
        cmocka_unit_test(test_a_late_thread_is_left_out_and_comes_back),
        cmocka_unit_test(test_bad_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
