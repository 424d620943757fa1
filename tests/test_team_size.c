/* How many threads short runs take (src/base/team_size.h), with runs whose time is made up: what is faster is found, what changes is
 * followed, and comparing costs next to nothing. */
#include "testing.h"

#include "base/team_size.h"

#include <stdlib.h>

/* A machine: a run on n threads takes work / n, and `barriers` where there is more than one. */
typedef struct machine {
    int64_t work, barriers;
    int noise;     /* percent by which a run may take longer */
    int disturbed; /* one run in so many takes 20 times as long; 0: none */
    unsigned rng;
} machine;

static int64_t run(machine *m, int n, int kind)
{
    m->rng = m->rng * 1103515245u + 12345u;
    int64_t ns = m->work * (2 + kind) / 2 / n + (n > 1 ? m->barriers * n / 2 : 0);
    if (m->noise > 0) ns += ns * (int64_t)(m->rng >> 8) % m->noise / 100;
    if (m->disturbed > 0 && (m->rng >> 16) % (unsigned)m->disturbed == 0) ns *= 20;
    return ns;
}

/* The time of so many runs. */
static double run_many(lf_team_size *s, machine *m, int n_max, int n_runs)
{
    double sum = 0.0;
    for (int i = 0; i < n_runs; i++) {
        const int kind = i / 3 % 2; /* the second has half as much work again */
        const int n = lf_team_size_next(s, n_max, kind);
        assert_in_range(n, 1, n_max);
        const int64_t ns = run(m, n, kind);
        lf_team_size_observe(s, n_max, kind, ns);
        sum += (double)ns;
    }
    return sum;
}

/* What a run of each kind takes on n threads, undisturbed. */
static double both(const machine *m, int n)
{
    machine quiet = {.work = m->work, .barriers = m->barriers};
    return (double)(run(&quiet, n, 0) + run(&quiet, n, 1));
}

static int best(const machine *m, int n_max)
{
    int found = 1;
    for (int n = 2; n <= n_max; n *= 2)
        if (both(m, n) < both(m, found)) found = n;
    return found;
}

static void test_finds_what_is_faster(void **state)
{
    (void)state;
    static const int64_t barriers[] = {0, 10000, 40000, 90000};
    for (int n_max = 1; n_max <= 16; n_max *= 2)
        for (int i = 0; i < 4; i++)
            for (int noise = 0; noise <= 20; noise += 20) {
                machine m = {.work = 120000,
                             .barriers = barriers[i],
                             .noise = noise,
                             .disturbed = noise ? 50 : 0,
                             .rng = 7};
                lf_team_size s = {0};
                run_many(&s, &m, n_max, 3000);
                /* no worse than a tenth: less is not looked for */
                if (both(&m, s.n) > 1.12 * both(&m, best(&m, n_max)))
                    fail_msg("%d threads at most, barriers %d, noise %d: found %d, expected %d", n_max,
                             (int)m.barriers, noise, s.n, best(&m, n_max));
            }
}

/* Soon enough for the short measurement with which an engine starts. */
static void test_finds_soon(void **state)
{
    (void)state;
    machine m = {.work = 80000, .barriers = 100000};
    lf_team_size s = {0};
    run_many(&s, &m, 2, 24);
    assert_int_equal(s.n, 1);
}

static void test_follows(void **state)
{
    (void)state;
    machine m = {.work = 120000, .barriers = 5000, .noise = 10, .rng = 3};
    lf_team_size s = {0};
    run_many(&s, &m, 2, 2000);
    assert_int_equal(s.n, 2);
    m.barriers = 90000;
    run_many(&s, &m, 2, 4000);
    assert_int_equal(s.n, 1);
    m.barriers = 5000;
    run_many(&s, &m, 2, 4000);
    assert_int_equal(s.n, 2);
}

static void test_costs_little(void **state)
{
    (void)state;
    static const int64_t barriers[] = {0, 20000, 61000, 200000};
    for (int i = 0; i < 4; i++) {
        machine m = {.work = 120000, .barriers = barriers[i]};
        lf_team_size s = {0};
        run_many(&s, &m, 2, 2000);
        const double least = both(&m, best(&m, 2)) * 25000, taken = run_many(&s, &m, 2, 50000);
        assert_true(taken < 1.012 * least);
    }
}

/* Long runs have nothing to win, and one comparison would cost much. */
static void test_leaves_long_runs_alone(void **state)
{
    (void)state;
    machine m = {.work = 40000000, .barriers = 20000}, brief = {.work = 80000, .barriers = 100000};
    lf_team_size s = {0};
    for (int i = 0; i < 1000; i++) {
        /* though short ones, which one thread does faster, come between */
        const int kind = i % 8 == 0, n = lf_team_size_next(&s, 2, kind);
        if (kind == 1) assert_int_equal(n, 2);
        lf_team_size_observe(&s, 2, kind, run(kind == 1 ? &m : &brief, n, 0));
    }
    assert_int_equal(s.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_what_is_faster),
        cmocka_unit_test(test_finds_soon),
        cmocka_unit_test(test_follows),
        cmocka_unit_test(test_costs_little),
        cmocka_unit_test(test_leaves_long_runs_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
